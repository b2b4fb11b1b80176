"""A sweep's folder: ``manifest.json`` says what belongs in it, ``data/`` holds the blocks.

The manifest holds the text of the sweep file, and of every earlier one that the folder was run
with: what each of them adds is cut into blocks of its own, so a sweep that grows keeps its blocks,
and one that was cut off goes on with the blocks that it would have had. Nothing in the folder
depends on when or how often it was run.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import sdpo_jax
from sdpo_jax import Plan, Program, Progress
from sdpo_jax.grid import Chunk, compiled_ahead
from sweeps import provenance
from sweeps.file import parts, sweepfile
from sweeps.file.sweepfile import Sweep
from sweeps.store import blocks, kinds
from sweeps.store.blocks import DamagedBlock, Layout
from sweeps.store.kinds import MANIFEST
from sweeps.system.interrupts import Control
from sweeps.system.reading import read_json
from sweeps.system.writing import (
    Busy,
    check_writable,
    locked,
    make_room,
    remove_partial_files,
    write_atomically,
)

DATA = "data"
# Under ``data``: what other machines computed with, beside the manifest's fingerprints.
FINGERPRINTS = "fingerprints"
# And which process has which block under way.
CLAIMS = "claims"
_FORMAT = 1
# What ``render``, ``replay`` and ``export`` write beside the data.
_MADE = ("tables", "figures", "replays", "export")
# Parts of every fingerprint.
_ALWAYS = {"versions", "device", "block_width", "source"}
# The part of a fingerprint that names what is in a registry and is not the library's.
REGISTERED = "registered"
KNOWN = "known"

# A block is a fraction of a second's work at the paper's sizes: little is lost with it, and the
# disk is not the bottleneck.
_BLOCK_WORK = 4096 * 6 * 8 * 32 * 300
_MOST_RUNS = 4096
_MOST_BYTES = 2**25


class NoSweep(ValueError):
    """There is no sweep, or none that can be used, in a folder."""


class OtherFingerprint(ValueError):
    """The folder was computed by other code, versions, device or block width."""


class Executor(Protocol):
    """Where blocks are computed, other than by threads of this process."""

    def fingerprint(self, sweep: Sweep, stop: Callable[[], bool]) -> dict[str, Any]:
        """What computes there; as ``fingerprint``. Raises ``Stopped`` once ``stop`` is true."""
        ...

    def compute(self, folder: Folder, wanted: set[str], control: Control) -> None:
        """Compute blocks of a folder; arguments and errors as for ``Blocks.compute``."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """A block that belongs in a folder.

    Attributes:
        identity: its id, and the name of its file.
        plan: whose runs.
        chunk: which of them.
        keys: ``[n, 2]``, their keys.
        layout: what the file holds of each.
    """

    identity: str
    plan: Plan
    chunk: Chunk
    keys: np.ndarray
    layout: Layout


def tasks_of(plan: Plan, known: blocks.Known | None = None) -> Iterator[Task]:
    """The blocks of a plan's runs that are not ``known``; adds their keys to it."""
    known = blocks.Known() if known is None else known
    layout = blocks.layout_of(plan)
    for group in plan.groups:
        keys = blocks.run_keys(plan, group)
        new = known.add(keys)
        keys = keys if len(new) == len(keys) else keys[new]
        size = block_runs(group.program, plan)
        for start in range(0, len(new), size):
            places, part = new[start : start + size], keys[start : start + size]
            yield Task(blocks.block_id(part), plan, Chunk(group, places), part, layout)


def block_runs(program: Program, plan: Plan) -> int:
    """How many runs a block file of a program holds: a multiple of what is computed at a time."""
    sizes = program.sizes
    work = sizes.length * sizes.vocab_size * sizes.rollouts * sizes.steps
    points = -(-sizes.steps // program.record_every) * len(program.record)
    room = _MOST_BYTES // (4 * (points + sizes.length * sizes.vocab_size * plan.logits + 16))
    runs = min(_BLOCK_WORK // work, _MOST_RUNS, room)
    return max(1, runs // plan.width) * plan.width


def fingerprint(
    width: int, plans: Iterable[Plan] = (), named: Iterable[str] = ()
) -> dict[str, Any]:
    """What a run's bits depend on besides its own numbers.

    Args:
        width: of a block.
        plans: whose algorithms, metrics and optimisers count too, as far as they are not the
            library's, which the digest of its code holds.
        named: ``Sweep.named``; they count too.
    """
    device = provenance.device()
    found = {
        "versions": provenance.versions(),
        "device": {name: device[name] for name in ("platform", "kind", "processor")},
        **provenance.compilation(),
        "block_width": width,
        "source": provenance.library_digest(),
    }
    own = parts.of_plans(plans, named)
    if not own:
        return found
    known = parts.known_of(own)
    return found | {
        REGISTERED: {name: provenance.source_of(each) for name, each in own.items()},
        **({KNOWN: known} if known else {}),
    }


def fingerprint_of(sweep: Sweep) -> dict[str, Any]:
    """What this process would compute a sweep with."""
    plans = sweep.plans.values()
    return fingerprint(max(plan.width for plan in plans), plans, sweep.named)


def digest(found: Mapping[str, Any]) -> str:
    """A fingerprint in 16 letters."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


def alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two fingerprints differ in no more than the name of the processor.

    The same versions, code and settings compile the same program for the same instruction set, so
    processors of several kinds may work on one sweep. That they round alike is their makers' word:
    which runs came from which is kept.
    """

    def nameless(found: Mapping[str, Any]) -> Any:
        device = found.get("device")
        rest = {k: v for k, v in device.items() if k != "processor"} if device else device
        return {**found, "device": rest}

    return nameless(one) == nameless(other)


def processor_of(found: Mapping[str, Any]) -> str:
    """The processor that a fingerprint names."""
    device = found.get("device")
    return str(device.get("processor", _UNKNOWN)) if isinstance(device, dict) else _UNKNOWN


@dataclass(frozen=True)
class Survey:
    """What is in a folder.

    Attributes:
        done: ids of the blocks that are there and whole.
        damaged: by id, what is wrong with a block that is there.
        missing: ids of the blocks that are not.
        other: ids of the blocks that another fingerprint computed and that do not count.
        makers: of the blocks that are done, by id the digest of what computed it.
        size: bytes of the blocks that are whole.
    """

    done: frozenset[str]
    damaged: dict[str, str]
    missing: frozenset[str]
    other: frozenset[str]
    makers: Mapping[str, str]
    size: int


class Blocks:
    """The block files of some tasks in one folder."""

    def __init__(self, data: Path, tasks: list[Task], accepted: list[str]):
        """
        Args:
            data: the folder of the files.
            tasks: what belongs there.
            accepted: digests of the fingerprints whose blocks count; the last one computes what is
                missing, where nothing else is said.
        """
        self.data = data
        self.tasks = tasks
        self.accepted = accepted
        self.maker = accepted[-1]
        self.by_id = {task.identity: task for task in tasks}

    def path(self, identity: str) -> Path:
        """The file of a block."""
        return self.data / f"{identity}{blocks.SUFFIX}"

    def read(self, identity: str) -> blocks.Block:
        """A block, checked. Raises as ``blocks.read``."""
        task = self.by_id[identity]
        return blocks.read(self.path(identity), identity, task.layout, len(task.keys))

    def counts(self, identity: str) -> bool:
        """Whether a block is there that an accepted fingerprint computed.

        Raises:
            DamagedBlock: what is there does not say whose it is. The rest of it is not looked at.
        """
        path = self.path(identity)
        if not os.path.lexists(path):
            return False
        # A block that is not whole must not pass for another fingerprint's.
        return (
            blocks.maker(path) in self.accepted or self.read(identity).fingerprint in self.accepted
        )

    def survey(self) -> Survey:
        """Look at every file and check all its bytes."""
        done, damaged, missing, other, makers = set(), {}, set(), set(), {}
        size = 0
        for task in self.tasks:
            try:
                block = self.read(task.identity)
            except FileNotFoundError:
                missing.add(task.identity)
            except DamagedBlock as error:
                damaged[task.identity] = str(error)
            else:
                size += block.size
                if block.fingerprint in self.accepted:
                    done.add(task.identity)
                    makers[task.identity] = block.fingerprint
                else:
                    other.add(task.identity)
        return Survey(frozenset(done), damaged, frozenset(missing), frozenset(other), makers, size)

    def is_there(self, identity: str) -> bool:
        """Whether a block is there and counts, by its first bytes."""
        try:
            return self.counts(identity)
        except (FileNotFoundError, DamagedBlock):
            return False

    def is_whole(self, identity: str) -> bool:
        """Whether a block is there, all its bytes right, and counts."""
        try:
            return self.read(identity).fingerprint in self.accepted
        except (FileNotFoundError, DamagedBlock):
            return False

    def absent(self) -> int:
        """How many runs have no file; a look at the folder, not into the files."""
        gone = [task for task in self.tasks if not self.path(task.identity).is_file()]
        return sum(len(task.keys) for task in gone)

    def compute(
        self,
        wanted: set[str],
        control: Control = Control(),  # noqa: B008
        workers: int | None = None,
    ) -> None:
        """Compute the blocks with these ids, and write each as soon as it is done.

        Args:
            wanted: the ids.
            control: whom to tell and to ask.
            workers: as for ``run_grid``.

        Raises:
            OSError: a block can't be written; those before it are kept.
        """
        todo = [task for task in self.tasks if task.identity in wanted]
        if not todo:
            return
        control.check()
        self.data.mkdir(parents=True, exist_ok=True)
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
                    done = before + told.done
                    control.progress(Progress(told.kind, told.label, done, total, told.seconds))

                chunks = [task.chunk for task in mine.values()]
                for chunk, arrays in sdpo_jax.compute(
                    plan, chunks, workers=workers, progress=report, stop=control.stop
                ):
                    identity = mine[id(chunk)].identity
                    label = chunk.group.label
                    control.check()
                    blocks.write(self.path(identity), identity, self.maker, label, arrays)
                before += sum(len(chunk.places) for chunk in chunks)
                if control.stop():
                    return

    @functools.cached_property
    def index(self) -> blocks.Keys:
        """Of all runs, block by block."""
        none = np.empty((0, 2), np.uint64)
        return blocks.Keys(np.concatenate([none, *(task.keys for task in self.tasks)]))

    @functools.cached_property
    def _begins(self) -> np.ndarray:
        """The place of each block's first run in ``index``, ``[tasks]``."""
        sizes = np.array([0, *(len(task.keys) for task in self.tasks)])
        return sizes.cumsum()[:-1]

    def places(self, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
        """For each run of a plan the number of its task and the row in its block, ``[runs]``."""
        number = np.empty(plan.total, np.int64)
        row = np.empty(plan.total, np.int64)
        for group in plan.groups:
            place = self.index.find(blocks.run_keys(plan, group))
            assert (place >= 0).all(), "a plan of other runs than these blocks hold"
            which = np.searchsorted(self._begins, place, side="right") - 1
            found = {"number": which, "row": place - self._begins[which]}
            runs, at = group.everywhere(group.runs, found)
            number[runs], row[runs] = at["number"], at["row"]
        return number, row


@dataclass(frozen=True)
class Manifest:
    """What belongs in a folder.

    It is kept twice, so that one that is damaged can be made again: without the texts of earlier
    sweep files the blocks of a sweep that grew would not be found.

    Attributes:
        name: of the sweep.
        fingerprints: what computed the blocks that count; the last one computes what is missing.
        texts: the sweep files that the folder was run with, in the order of the first time.
        current: which of them it holds.
        damage: what is wrong with one of its two files; empty if nothing is.
    """

    name: str
    fingerprints: tuple[dict[str, Any], ...]
    texts: tuple[str, ...]
    current: int = 0
    damage: str = field(default="", compare=False)

    @property
    def text(self) -> str:
        """The sweep file that the folder holds."""
        return self.texts[self.current]

    @property
    def registered(self) -> dict[str, parts.Known]:
        """What the sweep takes from registries and the library does not have, by ``KIND NAME``."""
        found: dict[str, parts.Known] = {}
        for fingerprint in self.fingerprints:
            names, known = (fingerprint.get(key, {}) for key in (REGISTERED, KNOWN))
            if isinstance(names, dict) and isinstance(known, dict):
                found |= {name: parts.Known.of_record(known.get(name)) for name in names}
        return found

    def write(self, folder: Path) -> None:
        """Write it and its copy, each atomically."""
        content = {
            "format": _FORMAT,
            "name": self.name,
            "fingerprints": list(self.fingerprints),
            "sweeps": list(self.texts),
            "current": self.current,
        }
        content["checksum"] = _checksum(content)
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        data = text.encode("utf-8")
        for path in (folder / MANIFEST, folder / DATA / MANIFEST):
            make_room(path)
            write_atomically(path, lambda temporary: temporary.write_bytes(data))

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read it, or its copy.

        Raises:
            NoSweep: there is none, both are damaged, or it is of something else.
        """
        path, copy = folder / MANIFEST, folder / DATA / MANIFEST
        try:
            content = read_json(path)
        except FileNotFoundError:
            content, problem = None, "missing"
        except ValueError:
            content, problem = None, "damaged"
        else:
            made = kinds.made_of(folder, content)
            if made is not None:
                raise NoSweep(made_by_another(made))
            manifest = cls._checked(path, content)
            damage = "" if manifest is None else manifest._of_copy(copy)
            # Where they differ, the one counts whose sweep files can be read.
            if manifest is not None and (not damage or manifest._can_be_read(folder)):
                return replace(manifest, damage=damage)
            problem = "damaged"
        try:
            manifest = cls._checked(copy, read_json(copy))
        except FileNotFoundError:
            manifest = None
        except ValueError:
            manifest = None
            problem = "damaged"
        if manifest is not None:
            return replace(manifest, damage=f"{path}: {problem}")
        again = f"allowed: `python -m sweeps run FILE --out {shlex.quote(str(folder))}`"
        if problem == "missing" and not is_sweep(folder):
            made = kinds.find(folder)
            if made is not None:
                raise NoSweep(made_by_another(made))
            if not folder.is_dir():
                what = "not a folder" if os.path.lexists(folder) else "no such folder"
                wanted = "allowed: a folder that `python -m sweeps run FILE --out` wrote"
                raise NoSweep(f"{folder}: {what}, and so no sweep there; {wanted}")
            used = any(folder.glob("[!.]*"))
            wanted = "allowed: a folder that `python -m sweeps run` wrote"
            raise NoSweep(f"{folder}: no sweep there; {wanted if used else again}")
        if not _holds_blocks(folder):
            raise NoSweep(
                f"{path}: damaged, and no blocks there; allowed: a new folder, or this one emptied"
            )
        raise NoSweep(f"{path}: {problem}; {again}, which keeps every whole block that it asks for")

    @classmethod
    def _checked(cls, path: Path, content: Any) -> Manifest | None:
        """The manifest of a file's content, or ``None`` where that is none.

        Raises:
            NoSweep: of a later format.
        """
        try:
            content = dict(content)
            told = content.pop("checksum")
            if told != _checksum(content):
                return None
            version = content["format"]
            if type(version) is int and _FORMAT < version < 1000:
                raise NoSweep(f"{path}: format {version}; allowed: {_FORMAT}")
            if type(version) is not int or version != _FORMAT:
                return None
            name, current = content["name"], content["current"]
            fingerprints, texts = content["fingerprints"], content["sweeps"]
            fine = (
                isinstance(name, str)
                and name.isprintable()
                and bool(name)
                and type(current) is int
                and isinstance(fingerprints, list)
                and bool(fingerprints)
                and all(isinstance(each, dict) and set(each) >= _ALWAYS for each in fingerprints)
                and isinstance(texts, list)
                and all(isinstance(each, str) for each in texts)
                and 0 <= current < len(texts)
            )
        except (TypeError, ValueError, KeyError, RecursionError) as error:
            if isinstance(error, NoSweep):
                raise
            return None
        return cls(name, tuple(fingerprints), tuple(texts), current) if fine else None

    def _can_be_read(self, folder: Path) -> bool:
        try:
            Folder(folder, self)
        except NoSweep:
            return False
        return True

    def _of_copy(self, path: Path) -> str:
        """What is wrong with the copy, if there is one."""
        try:
            same = self._checked(path, read_json(path)) == self
        except FileNotFoundError:
            return ""
        except ValueError:
            same = False
        return "" if same else f"{path}: damaged"


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _holds_blocks(folder: Path) -> bool:
    return (folder / DATA).is_dir() and any((folder / DATA).glob(f"*{blocks.SUFFIX}"))


def is_sweep(folder: Path) -> bool:
    """Whether a folder's manifest is a sweep's, whole or damaged, and not something else's."""
    try:
        content = read_json(folder / MANIFEST)
    except FileNotFoundError:
        if (folder / DATA / MANIFEST).is_file():
            return True
        # Blocks and nothing that a sweep does not make: others keep blocks too.
        mine = {MANIFEST, DATA, *_MADE, "report.html"}
        found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        return _holds_blocks(folder) and found <= mine
    except ValueError:
        return _holds_blocks(folder)
    if isinstance(content, dict) and "sweeps" in content:
        return True
    return kinds.made_of(folder, content) is None and _holds_blocks(folder)


def made_by_another(made: kinds.Made) -> str:
    """What a folder is that is not a sweep's, and what can be done with it, in a line."""
    names = data_sets(made)
    if not names:
        return (
            f"{made.folder}: {made} without its data, not a sweep; allowed: to look at its "
            f"tables and pages, or to make it again with {made.again}"
        )
    place = shlex.quote(str(made.folder))
    return (
        f"{made.folder}: {made}, not a sweep; allowed: `python -m sweeps render {place}`, "
        f"{made.again} to go on, or in Python sweeps.open({str(made.folder)!r}, NAME) with NAME "
        f"one of {', '.join(names)}"
    )


def data_sets(made: kinds.Made) -> list[str]:
    """The data sets of a folder of another kind that can be opened."""
    if made.kind is kinds.CALIBRATION:
        # Its grids are read from blocks, as those of a sweep are.
        return kinds.names_in(made.manifest, "parts") if _holds_blocks(made.folder) else []
    return sorted(path.stem for path in (made.folder / DATA).glob("[!.]*.nc"))


class Folder:
    """A sweep in a folder, as its manifest describes it."""

    def __init__(self, path: Path, manifest: Manifest):
        self.path = path
        self.manifest = manifest
        with parts.stand_ins(manifest.registered):
            sweeps = [_parsed(path, manifest, text) for text in manifest.texts]
            self.sweep: Sweep = sweeps[manifest.current]
            known = blocks.Known()
            tasks = [
                task for sweep in sweeps for plan in sweep.plans.values()
                for task in tasks_of(plan, known)
            ]  # fmt: skip
            self.fingerprints = {digest(found): found for found in manifest.fingerprints}
            accepted = [*_of_other_machines(path, self.fingerprints), *self.fingerprints]
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

    def admit(self, now: dict[str, Any]) -> None:
        """Let blocks count that this fingerprint computes, beside the manifest's.

        Raises:
            OtherFingerprint: it differs in more than the name of the processor, with what differs.
        """
        known = list(self.fingerprints.values())
        if not any(alike(now, each) for each in known):
            raise OtherFingerprint(
                f"{self.path}: computed with other {differences(known[-1], now)}; allowed: the "
                "same as there, on processors with the same instruction set"
            )
        name = digest(now)
        if name not in self.blocks.accepted:
            text = json.dumps(now, indent=2, ensure_ascii=False) + "\n"
            path = self.path / DATA / FINGERPRINTS / f"{name}.json"
            write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
            self.blocks.accepted.append(name)
            self.fingerprints[name] = now
        self.blocks.maker = name

    @property
    def runs(self) -> int:
        """How many different runs the sweep has, those of blocks shared with other sweeps too."""
        return sum(len(task.keys) for task in self.blocks.tasks)


def _of_other_machines(path: Path, known: dict[str, dict[str, Any]]) -> list[str]:
    """Digests of the fingerprints that are alike one of the known and were admitted beside them.

    They are added to the known. Each is named by its content, so no two writers can disagree.
    """
    found = []
    ours = list(known.values())
    for place in sorted((path / DATA / FINGERPRINTS).glob("[!.]*.json")):
        try:
            content = read_json(place)
        except (ValueError, OSError):
            continue  # What it computed does not count then, and is computed again.
        if not isinstance(content, dict) or digest(content) != place.stem:
            continue
        if place.stem not in known and any(alike(content, each) for each in ours):
            found.append(place.stem)
            known[place.stem] = content
    return found


def saved_sweep(path: Path) -> Sweep:
    """The sweep in a folder, to go on with.

    Raises:
        NoSweep: there is none, or it needs what is not registered here.
    """
    manifest = Manifest.read(path)
    return _parsed(path, manifest, manifest.text)


def _parsed(path: Path, manifest: Manifest, text: str) -> Sweep:
    try:
        return sweepfile.parse(text, manifest.name, str(path))
    except sweepfile.SweepError as error:
        first = str(error.mistakes[0]).splitlines()[0]
        first = first if len(first) <= 160 else first[:157] + "..."
        raise NoSweep(
            f"{path / MANIFEST}: the sweep file in it can't be run ({first}); allowed: {_NOT_READ}"
        ) from None


def claim(path: Path, sweep: Sweep, on_change: str, now: dict[str, Any] | None = None) -> Folder:
    """Make a folder this sweep's, or go on with what is there. The caller holds the lock.

    Args:
        path: the folder.
        sweep: what it is to hold.
        on_change: what to do where another fingerprint computed what is there: ``"refuse"``,
            ``"keep"`` (its blocks count) or ``"redo"`` (they are computed again). Another processor
            with the same instruction set is told, and goes on.
        now: the fingerprint of what will compute; this process's by default.

    Raises:
        ValueError: a folder of something else, or of another sweep: one of another name, none of
            whose runs are there.
        OtherFingerprint: as said, with what differs. Where nothing is computed yet, nothing can.
    """
    data = path / DATA
    if data.exists() and not data.is_dir():
        raise ValueError(f"--out: {data} is not a folder; allowed: a folder, or none")
    now = fingerprint_of(sweep) if now is None else now
    found = None
    try:
        found = manifest = Manifest.read(path)
    except NoSweep as error:
        strangers = [each.name for each in path.iterdir() if not each.name.startswith(".")]
        if strangers and not is_sweep(path):
            if MANIFEST in strangers:
                raise ValueError(f"--out: {error}") from None
            raise ValueError(
                f"--out: {path} is not empty ({strangers[0]}) and holds no sweep; "
                "allowed: an empty or new folder, or an earlier sweep's"
            ) from None
        manifest = Manifest(sweep.name, (now,), (sweep.text,))
    if found is not None:
        _check_same(path, found, sweep)
    kept = manifest.fingerprints
    if on_change == "redo" or not _holds_blocks(path):
        kept = (now,)
        shutil.rmtree(data / FINGERPRINTS, ignore_errors=True)
    elif kept[-1] != now:
        if alike(kept[-1], now):
            print(
                f"{path}: begun on {processor_of(kept[-1])}, goes on on {processor_of(now)}: the "
                "same instruction set, so blocks of both count; `status` says how many",
                file=sys.stderr,
            )
        elif on_change == "refuse":
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
    try:
        folder = Folder(path, wanted)
    except NoSweep as error:
        print(f"{error}; left out", file=sys.stderr)
        wanted = Manifest(manifest.name, kept, (sweep.text,))
        folder = Folder(path, wanted)
    if wanted != found or manifest.damage or not (data / MANIFEST).is_file():
        if manifest.damage:
            print(f"{manifest.damage}; made again from the other", file=sys.stderr)
        wanted.write(path)
    return folder


def _check_same(path: Path, manifest: Manifest, sweep: Sweep) -> None:
    """See that a sweep is the one in a folder, or has grown out of it.

    Raises:
        ValueError: it is another one.
    """
    if sweep.text in manifest.texts or sweep.name == manifest.name:
        return
    try:
        there = Folder(path, manifest).blocks.index
    except NoSweep:
        return  # Its file can't be run here; that is told where it is left out.
    for plan in sweep.plans.values():
        for group in plan.groups:
            if (there.find(blocks.run_keys(plan, group)) >= 0).any():
                return
    raise ValueError(
        f"--out: {path} holds the sweep {manifest.name!r}, which shares no run with "
        f"{sweep.name!r}; allowed: another folder, or a file named {manifest.name}.toml, which "
        "adds to what is there"
    )


def adopt(path: Path) -> None:
    """Let a folder in which nothing is computed yet be computed by what this process has.

    It may have been prepared on another machine, or with other code. Where somebody is at work,
    it stays as it is.

    Raises:
        NoSweep: there is no sweep in the folder.
    """
    if _adopted(path) is None:
        return
    with contextlib.suppress(Busy), locked(path):
        wanted = _adopted(path)
        if wanted is not None:
            shutil.rmtree(path / DATA / FINGERPRINTS, ignore_errors=True)
            wanted.write(path)


def _adopted(path: Path) -> Manifest | None:
    """The manifest as this process would write it; ``None`` where it is to stay."""
    if _holds_blocks(path):
        return None
    manifest = Manifest.read(path)
    with parts.stand_ins(manifest.registered):
        sweep = _parsed(path, manifest, manifest.text)
    now = fingerprint_of(sweep)
    if any(alike(now, each) for each in manifest.fingerprints):
        return None
    return replace(manifest, fingerprints=(now,))


# What parts of a fingerprint are called, where the name alone does not say it.
_CALLED = {
    "source": "code of sdpo_jax",
    "flags": "XLA_FLAGS",
    "compiler": "compiler option",
    "settings": "setting",
    "instructions": "instruction set",
    "runtime": "version of the platform",
    "block_width": "block width",
}
_UNKNOWN = "not recorded"
_NOT_READ = (
    "`python -m sweeps run FILE --out` the same folder, or, of an algorithm, metric or optimizer "
    "that is not known here, the code that registers it"
)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs between two fingerprints, in words; also what the old one does not say."""
    found = []
    for name in [*new, *(each for each in old if each not in new)]:
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        called = _CALLED.get(name, name)
        if name not in old and name not in (REGISTERED, KNOWN):
            found.append(f"{called} ({_UNKNOWN}, now {_brief(now)})")
        elif isinstance(before or {}, dict) and isinstance(now or {}, dict):
            before, now = before or {}, now or {}
            word = f"{called} " if name in ("flags", "compiler", "settings") else ""
            changed = [key for key in [*now, *(k for k in before if k not in now)]
                       if before.get(key) != now.get(key)]  # fmt: skip
            found += [
                f"{word}{key} ({_brief(before.get(key))}, now {_brief(now.get(key))})"
                for key in changed
            ]
        elif name == "source":
            found.append(called)
        elif name == "instructions":
            found.append(f"{called} ({_sets(before, now)})")
        else:
            found.append(f"{called} ({_brief(before)}, now {_brief(now)})")
    return ", ".join(found)


def _sets(before: Any, now: Any) -> str:
    """Two instruction sets by what only one of them has."""
    old, new = (set(str(each or "").split()) for each in (before, now))
    gone, more = " ".join(sorted(old - new)), " ".join(sorted(new - old))
    return "; ".join(
        f"{word} {names}" for word, names in (("now without", gone), ("now with", more)) if names
    )


def _brief(value: Any) -> str:
    """A value in a line."""
    if isinstance(value, dict):
        value = " ".join(f"{key}={each}" for key, each in value.items())
    text = "none" if value is None or value == "" else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


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
        now = None if executor is None else executor.fingerprint(sweep, stop)
        folder = claim(path, sweep, on_change, now)
        # Not before the folder is known to be a sweep's.
        clear_partial_files(path)
        # Nobody shares the folder now, so nobody has a block of it.
        shutil.rmtree(path / DATA / CLAIMS, ignore_errors=True)
        survey = folder.blocks.survey()
        surveyed(folder, survey)
        wanted = survey.missing | survey.other | set(survey.damaged)
        if executor is None:
            folder.blocks.compute(set(wanted), control)
        elif wanted:
            held.check()
            folder.blocks.data.mkdir(parents=True, exist_ok=True)
            executor.compute(folder, set(wanted), control)
    return folder


def prepare(path: Path, sweep: Sweep, on_change: str = "refuse") -> Folder:
    """Make a folder this sweep's and compute nothing. Arguments and errors as for ``run``."""
    check_writable(path, "--out")
    with locked(path):
        return claim(path, sweep, on_change)


def clear_partial_files(folder: Path) -> None:
    """Remove what writes that were killed left in a folder of results and in its own folders."""
    remove_partial_files(folder, *(folder / name for name in (DATA, *_MADE)))
