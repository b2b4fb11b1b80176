"""One process of several that work on a sweep: of a job array, or begun by hand."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from sdpo_jax import Progress
from sdpo_jax.grid import default_workers
from sweeps.execute import threads
from sweeps.execute.claims import Claims
from sweeps.store.fingerprints import fingerprint_of
from sweeps.store.folder import Folder
from sweeps.store.manifest import Manifest
from sweeps.store.ownership import adopt
from sweeps.store.places import CLAIMS, DATA, clear_partial_files
from sweeps.store.tasks import Task
from sweeps.system.interrupts import Control
from sweeps.system.writing import check_writable, locked

# Blocks that are taken at a time, for each worker: programs are then begun less often.
_TAKEN = 4
# Seconds between two looks at blocks that others have.
_PAUSE = 1.0

_SHARD = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass
class Outcome:
    """What became of a process's part of a sweep.

    Attributes:
        folder: the sweep.
        runs: of its part.
        done: of those, the runs that are saved.
        given_up: the blocks that were left alone, and how many processes each of them ended.
    """

    folder: Folder
    runs: int
    done: int = 0
    given_up: dict[str, int] = field(default_factory=dict)


def part_of(text: str) -> tuple[int, int]:
    """``3/64`` as the third of 64 parts.

    Raises:
        ValueError: no such text, in one line.
    """
    found = _SHARD.fullmatch(text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"--shard: {text[:40]!r}; allowed: I/N, from 1/N to N/N")
    return int(found[1]), int(found[2])


def work(
    path: Path,
    shard: tuple[int, int] | None = None,
    *,
    progress: Callable[[Progress], None] = lambda told: None,
    begun: Callable[[Outcome], None] = lambda outcome: None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Compute blocks of a folder that nobody has, until none is left.

    Blocks that others have under way are waited for: where such a process ends before its block is
    done, the block is computed here.

    Args:
        path: the folder.
        shard: ``(i, n)``: no more than every n-th block, from the i-th on.
        progress: told of each piece of work.
        begun: told what there is to do.
        stop: once true, what is under way is finished and the rest left.

    Raises:
        NoSweep: no sweep in the folder.
        OtherFingerprint: this machine would compute other bits than are there, with what differs.
        Busy: ``run`` or ``resume`` is at work there.
        OSError: a block can't be written; those before it are kept.
    """
    # Before anything is made there.
    Manifest.read(path)
    check_writable(path, "DIR")
    adopt(path)
    with locked(path, shared=True) as held:
        folder = Folder.open(path)
        folder.admit(fingerprint_of(folder.sweep))
        clear_partial_files(path)
        tasks = folder.blocks.tasks
        mine = tasks if shard is None else tasks[shard[0] - 1 :: shard[1]]
        outcome = Outcome(folder, sum(len(task.keys) for task in mine))
        begun(outcome)
        # Of others' blocks every process would read all bytes: there the first line has to do.
        whole = folder.blocks.is_there if shard is None else folder.blocks.is_whole
        with Claims(path / DATA / CLAIMS) as claims:
            left = deque(mine)
            while left and not stop():
                taken, others = _take(folder, claims, left, outcome, whole)
                if taken:
                    control = Control(progress, stop, held.check)
                    _compute(folder, claims, taken, outcome, control)
                elif others and not stop():
                    time.sleep(_PAUSE)
                left.extend(others)
            outcome.given_up = claims.given_up
    return outcome


def _take(
    folder: Folder,
    claims: Claims,
    left: deque[Task],
    outcome: Outcome,
    whole: Callable[[str], bool],
) -> tuple[list[Task], list[Task]]:
    """Claim some blocks, or one that a process ended on; the rest is returned apart."""
    most = _TAKEN * default_workers()
    taken: list[Task] = []
    others: list[Task] = []
    while left and len(taken) < most:
        task = left.popleft()
        if whole(task.identity):
            claims.clear(task.identity)
            outcome.done += len(task.keys)
        elif claims.take(task.identity):
            # Somebody may have finished it between the two looks.
            if whole(task.identity):
                claims.release(task.identity)
                outcome.done += len(task.keys)
            else:
                taken.append(task)
        elif task.identity not in claims.given_up:
            others.append(task)
    for task in [] if taken else [task for task in others if task.identity in claims.suspects]:
        if claims.take(task.identity, suspect=True):
            others.remove(task)
            return [task], others
    return taken, others


def _compute(
    folder: Folder,
    claims: Claims,
    taken: list[Task],
    outcome: Outcome,
    control: Control,
) -> None:
    def report(told: Progress) -> None:
        done = outcome.done + told.done
        control.progress(Progress(told.kind, told.label, done, outcome.runs, told.seconds))

    names = {task.identity for task in taken}
    try:
        threads.compute(folder.blocks, names, replace(control, progress=report))
    finally:
        for name in names:
            claims.release(name)
    # Those that a wish to stop has left are not there.
    saved = (task for task in taken if folder.blocks.is_whole(task.identity))
    outcome.done += sum(len(task.keys) for task in saved)
