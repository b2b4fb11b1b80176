"""A sweep run in a folder: what is missing of it is computed by an executor."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from sdpo_jax import Progress
from sweeps.execute import threads, worker
from sweeps.execute.executors import Executor
from sweeps.file.sweep import Sweep
from sweeps.store.folder import Folder
from sweeps.store.ownership import claim
from sweeps.store.places import CLAIMS, DATA, clear_partial_files
from sweeps.store.tasks import Survey
from sweeps.system.interrupts import Control
from sweeps.system.writing import check_writable, locked


def run(
    path: Path,
    sweep: Sweep,
    *,
    on_change: str = "refuse",
    progress: Callable[[Progress], None] = lambda told: None,
    surveyed: Callable[[Folder, Survey], None] = lambda folder, survey: None,
    stop: Callable[[], bool] = lambda: False,
    executor: Executor | None = None,
) -> Folder:
    """Run what is missing of a sweep in a folder.

    Args:
        path: the folder; made if there is none.
        sweep: from ``sweepfile``.
        on_change: as for ``claim``.
        progress: told of each piece of work.
        surveyed: told what is there before anything is computed.
        stop: once true, what is under way is finished and the rest left.
        executor: where blocks are computed; by threads of this process by default.

    Raises:
        Busy: another process is at work there.
        Moved: the folder was moved or removed meanwhile.
        Stopped: ``stop`` was true before anything was begun.
        ValueError: as for ``claim``, or a folder that can't be written.
        OSError: the disk is full, or a file can't be written.
    """
    check_writable(path, "--out")
    with locked(path) as held:
        control = Control(progress, stop, held.check)
        now = None
        if executor is not None:
            now = executor.ask(stop, worker.fingerprint_here, sweep.text, sweep.name)
        folder = claim(path, sweep, on_change, now)
        # Not before the folder is known to be a sweep's.
        clear_partial_files(path)
        # Nobody shares the folder now, so nobody has a block of it.
        shutil.rmtree(path / DATA / CLAIMS, ignore_errors=True)
        survey = folder.blocks.survey()
        surveyed(folder, survey)
        wanted = survey.missing | survey.other | set(survey.damaged)
        if executor is None:
            threads.compute(folder.blocks, set(wanted), control)
        elif wanted:
            held.check()
            folder.blocks.data.mkdir(parents=True, exist_ok=True)
            runs = sum(len(folder.blocks.by_id[each].keys) for each in wanted)
            executor.compute(worker.calls(folder, wanted), runs, control, str(folder.path))
    return folder


def prepare(path: Path, sweep: Sweep, on_change: str = "refuse") -> Folder:
    """Make a folder this sweep's and compute nothing. Arguments and errors as for ``run``."""
    check_writable(path, "--out")
    with locked(path):
        return claim(path, sweep, on_change)
