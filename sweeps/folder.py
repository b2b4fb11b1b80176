"""A sweep's folder: ``manifest.json`` says what belongs in it, ``data/`` holds the blocks.

The manifest holds the text of the sweep file, and of every earlier one that the folder was run
with: what each of them adds is cut into blocks of its own, so a sweep that grows keeps its blocks,
and one that was cut off goes on with the blocks that it would have had. Nothing in the folder
depends on when or how often it was run.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import sdpo_jax
from sdpo_jax import Plan, Progress
from sdpo_jax.grid import compiled_ahead, compiler_options
from sdpo_jax.plan import Chunk
from sdpo_jax.train import Program
from sweeps import blocks, provenance, sweepfile
from sweeps.blocks import DamagedBlock
from sweeps.sweepfile import Sweep
from sweeps.writing import check_writable, locked, remove_partial_files, write_atomically

MANIFEST = "manifest.json"
DATA = "data"
_FORMAT = 1

# A block is a fraction of a second's work at the paper's sizes: little is lost with it, and the
# disk is not the bottleneck.
_BLOCK_WORK = 4096 * 6 * 8 * 32 * 300
_MOST_RUNS = 4096
_MOST_BYTES = 2**25


class NoSweep(ValueError):
    """There is no sweep, or none that can be used, in a folder."""


class OtherFingerprint(ValueError):
    """The folder was computed by other code, versions, device or block width."""


@dataclass(frozen=True, eq=False)
class Task:
    """A block that belongs in a folder.

    Attributes:
        identity: its id, and the name of its file.
        plan: whose runs.
        chunk: which of them.
        keys: ``[n, 2]``, their keys.
    """

    identity: str
    plan: Plan
    chunk: Chunk
    keys: np.ndarray


def tasks_of(plan: Plan, known: set[bytes]) -> Iterator[Task]:
    """The blocks of a plan's runs that are not ``known``; adds their keys to it."""
    for group in plan.groups:
        keys = blocks.run_keys(plan, group)
        new = []
        for place, key in enumerate(map(bytes, keys)):
            if key not in known:
                known.add(key)
                new.append(place)
        size = block_runs(group.program, plan)
        for start in range(0, len(new), size):
            places = np.asarray(new[start : start + size])
            part = keys[places]
            yield Task(blocks.block_id(part), plan, Chunk(group, places), part)


def block_runs(program: Program, plan: Plan) -> int:
    """How many runs a block file of a program holds: a multiple of what is computed at a time."""
    sizes = program.sizes
    work = sizes.length * sizes.vocab_size * sizes.rollouts * sizes.steps
    points = -(-sizes.steps // program.record_every) * len(program.record)
    room = _MOST_BYTES // (4 * (points + sizes.length * sizes.vocab_size * plan.logits + 16))
    runs = min(_BLOCK_WORK // work, _MOST_RUNS, room)
    return max(1, runs // plan.width) * plan.width


def fingerprint(width: int) -> dict[str, Any]:
    """What a run's bits depend on besides its own numbers."""
    device = provenance.device()
    return {
        "versions": provenance.versions(),
        "device": {name: device[name] for name in ("platform", "kind", "processor")},
        "compiler": compiler_options(),
        "block_width": width,
        "source": provenance.library_digest(),
    }


def digest(found: dict[str, Any]) -> str:
    """A fingerprint in 16 letters."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Survey:
    """What is in a folder.

    Attributes:
        done: ids of the blocks that are there and whole.
        damaged: by id, what is wrong with a block that is there.
        missing: ids of the blocks that are not.
        other: ids of the blocks that another fingerprint computed and that do not count.
    """

    done: frozenset[str]
    damaged: dict[str, str]
    missing: frozenset[str]
    other: frozenset[str]


class Blocks:
    """The block files of some tasks in one folder."""

    def __init__(self, data: Path, tasks: list[Task], accepted: list[str]):
        """
        Args:
            data: the folder of the files.
            tasks: what belongs there.
            accepted: digests of the fingerprints whose blocks count.
        """
        self.data = data
        self.tasks = tasks
        self.accepted = accepted

    def path(self, identity: str) -> Path:
        """The file of a block."""
        return self.data / f"{identity}{blocks.SUFFIX}"

    def read(self, identity: str) -> blocks.Block:
        """A block, checked. Raises as ``blocks.read``."""
        return blocks.read(self.path(identity), identity)

    def survey(self) -> Survey:
        """Look at every file and check all its bytes."""
        done, damaged, missing, other = set(), {}, set(), set()
        for task in self.tasks:
            try:
                block = self.read(task.identity)
            except FileNotFoundError:
                missing.add(task.identity)
            except DamagedBlock as error:
                damaged[task.identity] = str(error)
            else:
                (done if block.fingerprint in self.accepted else other).add(task.identity)
        return Survey(frozenset(done), damaged, frozenset(missing), frozenset(other))

    def absent(self) -> int:
        """How many runs have no file; a look at the folder, not into the files."""
        gone = [task for task in self.tasks if not self.path(task.identity).is_file()]
        return sum(len(task.keys) for task in gone)

    def compute(
        self,
        wanted: set[str],
        progress: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        """Compute the blocks with these ids, and write each as soon as it is done.

        Raises:
            OSError: a block can't be written; those before it are kept.
        """
        todo = [task for task in self.tasks if task.identity in wanted]
        total = sum(len(task.keys) for task in todo)
        before = 0
        plans = {id(task.plan): task.plan for task in todo}
        # The groups of the first plan are compiled where they are computed.
        later = {
            id(task.chunk.group): (task.plan, task.chunk.group)
            for task in todo
            if task.plan is not todo[0].plan
        }
        with compiled_ahead(list(later.values())):
            for key, plan in plans.items():
                mine = {id(task.chunk): task for task in todo if id(task.plan) == key}

                def report(told: Progress, before: int = before) -> None:
                    if progress is not None:
                        done = before + told.done
                        progress(Progress(told.kind, told.label, done, total, told.seconds))

                chunks = [task.chunk for task in mine.values()]
                for chunk, arrays in sdpo_jax.compute(plan, chunks, progress=report, stop=stop):
                    identity = mine[id(chunk)].identity
                    label = chunk.group.label
                    blocks.write(self.path(identity), identity, self.accepted[-1], label, arrays)
                before += sum(len(chunk.places) for chunk in chunks)
                if stop is not None and stop():
                    return

    @functools.cached_property
    def index(self) -> dict[bytes, tuple[int, int]]:
        """By run key: which task, and the row in its block."""
        return {
            key: (number, row)
            for number, task in enumerate(self.tasks)
            for row, key in enumerate(map(bytes, task.keys))
        }

    def places(self, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
        """For each run of a plan the number of its task and the row in its block, ``[runs]``."""
        number = np.empty(plan.total, np.int64)
        row = np.empty(plan.total, np.int64)
        for group in plan.groups:
            found = [self.index[key] for key in map(bytes, blocks.run_keys(plan, group))]
            number[group.runs], row[group.runs] = np.asarray(found).T
        return number, row


@dataclass(frozen=True)
class Manifest:
    """What belongs in a folder.

    Attributes:
        name: of the sweep.
        fingerprints: what computed the blocks that count; the last one computes what is missing.
        texts: the sweep files that the folder was run with, in the order of the first time.
        current: which of them it holds.
    """

    name: str
    fingerprints: tuple[dict[str, Any], ...]
    texts: tuple[str, ...]
    current: int = 0

    @property
    def text(self) -> str:
        """The sweep file that the folder holds."""
        return self.texts[self.current]

    def write(self, folder: Path) -> None:
        """Write it, atomically."""
        content = {
            "format": _FORMAT,
            "name": self.name,
            "fingerprints": list(self.fingerprints),
            "sweeps": list(self.texts),
            "current": self.current,
        }
        content["checksum"] = _checksum(content)
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_atomically(folder / MANIFEST, lambda path: path.write_bytes(text.encode("utf-8")))

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read it.

        Raises:
            NoSweep: there is none, it is damaged, or it is of something else.
        """
        path = folder / MANIFEST
        again = f"allowed: `python -m sweeps run FILE --out {folder}`"
        try:
            content = json.loads(path.read_bytes())
            told = content.pop("checksum")
            whole = told == _checksum(content)
        except FileNotFoundError:
            raise NoSweep(f"{folder}: no sweep there; {again}") from None
        except (ValueError, KeyError, AttributeError, TypeError):
            raise NoSweep(f"{path}: damaged; {again}, which keeps every whole block") from None
        if not whole:
            raise NoSweep(f"{path}: damaged; {again}, which keeps every whole block")
        if content["format"] != _FORMAT:
            raise NoSweep(f"{path}: format {content['format']}; allowed: {_FORMAT}")
        fingerprints, texts = tuple(content["fingerprints"]), tuple(content["sweeps"])
        return cls(content["name"], fingerprints, texts, content["current"])


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_sweep(folder: Path) -> bool:
    """Whether a folder's manifest is a sweep's, whole or damaged, and not a reproduction's."""
    try:
        return "sweeps" in json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return (folder / DATA).is_dir() and any((folder / DATA).glob(f"*{blocks.SUFFIX}"))


class Folder:
    """A sweep in a folder, as its manifest describes it."""

    def __init__(self, path: Path, manifest: Manifest):
        self.path = path
        self.manifest = manifest
        sweeps = [sweepfile.parse(text, manifest.name) for text in manifest.texts]
        self.sweep: Sweep = sweeps[manifest.current]
        known: set[bytes] = set()
        tasks = [
            task for sweep in sweeps for plan in sweep.plans.values()
            for task in tasks_of(plan, known)
        ]  # fmt: skip
        accepted = [digest(found) for found in manifest.fingerprints]
        whole = Blocks(path / DATA, tasks, accepted)
        # Blocks that only an earlier sweep asked for are left alone.
        if len(sweeps) > 1:
            asked = {
                number for plan in self.sweep.plans.values() for number in whole.places(plan)[0]
            }
            tasks = [task for number, task in enumerate(tasks) if number in asked]
            whole = Blocks(path / DATA, tasks, accepted)
        self.blocks = whole

    @classmethod
    def open(cls, path: Path) -> Folder:
        """The sweep in a folder.

        Raises:
            NoSweep: there is none that can be used.
        """
        return cls(path, Manifest.read(path))

    @property
    def runs(self) -> int:
        """How many different runs the sweep has, those of blocks shared with other sweeps too."""
        return sum(len(task.keys) for task in self.blocks.tasks)


def claim(path: Path, sweep: Sweep, on_change: str) -> Folder:
    """Make a folder this sweep's, or go on with what is there. The caller holds the lock.

    Args:
        path: the folder.
        sweep: what it is to hold.
        on_change: what to do where another fingerprint computed what is there: ``"refuse"``,
            ``"keep"`` (its blocks count) or ``"redo"`` (they are computed again).

    Raises:
        ValueError: a folder of something else.
        OtherFingerprint: as said, with what differs.
    """
    widths = {plan.width for plan in sweep.plans.values()}
    now = fingerprint(max(widths))
    found = None
    try:
        found = manifest = Manifest.read(path)
    except NoSweep:
        strangers = [each.name for each in path.iterdir() if not each.name.startswith(".")]
        if strangers and not is_sweep(path):
            raise ValueError(
                f"--out: {path} is not empty ({strangers[0]}) and holds no sweep; "
                "allowed: an empty or new folder, or an earlier sweep's"
            ) from None
        manifest = Manifest(sweep.name, (now,), (sweep.text,))
    kept = manifest.fingerprints
    if on_change == "redo":
        kept = (now,)
    elif kept[-1] != now:
        if on_change == "refuse":
            raise OtherFingerprint(
                f"{path}: computed with other {differences(kept[-1], now)}; allowed: "
                "--on-change keep (go on; old and new runs differ in their last bits), or "
                "--on-change redo (compute all again)"
            )
        # The last one computes what is missing.
        kept = (*(each for each in kept if each != now), now)
    texts = manifest.texts
    if sweep.text not in texts:
        texts = (*texts, sweep.text)
    wanted = Manifest(manifest.name, kept, texts, texts.index(sweep.text))
    if wanted != found:
        wanted.write(path)
    return Folder(path, wanted)


def differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What differs between two fingerprints, in words."""
    found = []
    for name in new:
        if old.get(name) == new[name]:
            continue
        if isinstance(new[name], dict):
            before = old.get(name) or {}
            found += [
                f"{key} ({before.get(key)}, now {value})"
                for key, value in new[name].items()
                if before.get(key) != value
            ]
        elif name == "source":
            found.append("code of sdpo_jax")
        else:
            found.append(f"{name} ({old.get(name)}, now {new[name]})")
    return ", ".join(found)


def run(
    path: Path,
    sweep: Sweep,
    *,
    on_change: str = "refuse",
    progress: Callable[[Progress], None] | None = None,
    surveyed: Callable[[Folder, Survey], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Folder:
    """Run what is missing of a sweep in a folder.

    Args:
        path: the folder; made if there is none.
        sweep: from ``sweepfile``.
        on_change: as for ``claim``.
        progress: told of each piece of work.
        surveyed: told what is there before anything is computed.
        stop: once true, what is under way is finished and the rest left.

    Raises:
        Busy: another process is at work there.
        ValueError: as for ``claim``, or a folder that can't be written.
        OSError: the disk is full, or a file can't be written.
    """
    check_writable(path, "--out")
    with locked(path):
        remove_partial_files(path)
        remove_partial_files(path / DATA)
        folder = claim(path, sweep, on_change)
        survey = folder.blocks.survey()
        if surveyed is not None:
            surveyed(folder, survey)
        wanted = survey.missing | survey.other | set(survey.damaged)
        folder.blocks.compute(set(wanted), progress, stop)
    return folder
