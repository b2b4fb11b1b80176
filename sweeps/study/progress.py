"""What the studies have in common: a folder to go on in, and blocks kept until a part is saved.

A study is the reproduction, the audit, the laboratory's or the calibration. Its parts are saved as
data sets under ``OUT/data``; what a part has trained so far is kept as blocks under ``OUT/data/
blocks``, so that whoever is stopped or killed goes on from the last block.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sdpo_jax import Plan
from sdpo_jax.grid import default_block_width
from sweeps import provenance
from sweeps.store import blocks, datasets, folder
from sweeps.store.blocks import DamagedBlock, Layout
from sweeps.store.folder import Blocks, clear_partial_files, tasks_of
from sweeps.store.kinds import Kind
from sweeps.store.labelled import FINISHED, of_plan
from sweeps.system.interrupts import Control, Stopped
from sweeps.system.writing import remove_partial_files

_BLOCKS = "blocks"


@dataclass(frozen=True)
class Trainer:
    """Computes what a part of a study asks for, and keeps each block as soon as it is done.

    Attributes:
        folder: of the blocks.
        fingerprint: digest of what computes.
        control: whom to tell and to ask.
        there: told the number of runs that are there before a plan is begun.
        done: told the number of runs after each piece.
        workers: as for ``run_grid``.
    """

    folder: Path
    fingerprint: str
    control: Control = Control()  # noqa: RUF009
    there: Callable[[int], None] = lambda runs: None
    done: Callable[[int], None] = lambda runs: None
    workers: int | None = None

    def train(self, plan: Plan) -> xr.Dataset:
        """The outcome of a plan, as ``run_grid``'s.

        Raises:
            Stopped: there was a wish to stop before the end.
            OSError: a block can't be written.
        """
        mine = Blocks(self.folder, list(tasks_of(plan)), [self.fingerprint])
        done = mine.survey().done
        self.there(sum(len(task.keys) for task in mine.tasks if task.identity in done))
        wanted = {task.identity for task in mine.tasks} - done
        mine.compute(wanted, self.control, self.workers)
        if mine.absent():
            raise Stopped
        return of_plan(plan, mine, lazy=False).drop_vars(FINISHED)

    def kept(
        self,
        given: Mapping[str, Any],
        label: str,
        layout: Layout,
        runs: int,
        compute: Callable[[], Mapping[str, np.ndarray]],
    ) -> Mapping[str, np.ndarray]:
        """The arrays of a block of another program than a plan's.

        Args:
            given: all that decides the outcome beside what computes it, as JSON.
            label: for readers.
            layout: what a block holds.
            runs: how many it holds.
            compute: by variable ``[runs, ...]``; called where the block is not there.

        Raises:
            Stopped: there was a wish to stop before the block was begun.
            OSError: it can't be written.
        """
        text = json.dumps(given, sort_keys=True, allow_nan=False).encode()
        name = hashlib.blake2b(text, digest_size=16).hexdigest()
        path = self.folder / f"{name}{blocks.SUFFIX}"
        try:
            found = blocks.read(path, name, layout, runs)
            if found.fingerprint == self.fingerprint:
                return found.arrays
        except (FileNotFoundError, DamagedBlock):
            pass
        if self.control.stop():
            raise Stopped
        arrays = compute()
        self.control.check()
        self.folder.mkdir(parents=True, exist_ok=True)
        blocks.write(path, name, self.fingerprint, label, arrays)
        self.done(runs)
        return arrays


def fingerprint(source: str) -> dict[str, Any]:
    """What a study's bits depend on beside its plan.

    Args:
        source: digest of the code that decides them.
    """
    return {**folder.fingerprint(default_block_width()), "source": source}


# Entries of a manifest that say what computes.
_COMPUTES = (
    *("versions", "device", "compiler", "runtime", "instructions", "flags", "settings"),
    *("block_width", "source"),
)


def computed_with(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The fingerprint in a manifest. Raises ``KeyError`` where it has none."""
    return {name: manifest[name] for name in _COMPUTES}


def begin(
    out: Path,
    kind: Kind,
    description: Mapping[str, Any],
    computes: Mapping[str, Any],
    command: str,
    parts: Iterable[str],
    spent: Mapping[str, float] | None = None,
    ignored: Iterable[str] = (),
) -> dict[str, Any]:
    """Make a folder a study's, or go on with it: the manifest, which is written. Whoever calls
    holds the lock.

    Args:
        out: an empty or new folder, or one of the same study.
        kind: of the study.
        description: entries of the manifest that say what is run.
        computes: those that say what computes it, ``fingerprint``. Data of other code, versions or
            devices have other bits: all parts are run again.
        command: how the caller was started.
        parts: the names of all parts.
        spent: the parts of the time that it takes; any, if not given.
        ignored: files that may be there without a manifest.

    Raises:
        ValueError: a folder that holds something else, in one line.
    """
    manifest = claim(out, kind, description, computes, spent, ignored)
    clear_partial_files(out)
    for place in (blocks_folder(out), *blocks_folder(out).glob("*/")):
        remove_partial_files(place)
    manifest |= {"command": command, "commit": provenance.commit(), "parts": list(parts)}
    # Before the first block, so that the folder is known for what it is.
    datasets.write_manifest(out, manifest)
    return manifest


def claim(
    out: Path,
    kind: Kind,
    description: Mapping[str, Any],
    computes: Mapping[str, Any],
    spent: Mapping[str, float] | None = None,
    ignored: Iterable[str] = (),
) -> dict[str, Any]:
    """The manifest to go on from, once it is sure that a folder is not something else's.

    Arguments and errors as for ``begin``.
    """
    description = datasets.plain(dict(description))
    fresh: dict[str, Any] = {
        "finished": [],
        "wall_time": dict(spent or {}),
        **description,
        **computes,
    }
    there = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    if there <= {*ignored}:
        return fresh
    allowed = f"allowed: an empty or new folder, or an earlier {kind.noun}"
    try:
        found = datasets.read_manifest(out)
    except datasets.MissingResults:
        other = min(there - {*ignored})
        raise ValueError(
            f"--out: {out} is not empty ({other}) and has no manifest.json; {allowed}"
        ) from None
    except ValueError as error:
        raise ValueError(f"--out: {error}; {allowed}") from None
    if kind.entry not in found:
        raise ValueError(f"--out: {out} holds something else; {allowed}")
    for key, value in description.items():
        if found.get(key) != value:
            raise ValueError(
                f"--out: {out} holds another {kind.noun} ({_difference(key, found, value)}); "
                f"{allowed} of the same"
            )
    if any(found.get(key) != value for key, value in computes.items()):
        return fresh
    # What is not as it is written here is not believed: its parts are run again.
    if not datasets.is_progress(found, set(spent) if spent else None):
        return fresh
    return {**fresh, "finished": found["finished"], "wall_time": found["wall_time"]}


def _difference(key: str, found: Mapping[str, Any], value: Any) -> str:
    if not isinstance(value, dict):
        return f"{key} {found.get(key)}, asked for {value}"
    before = found.get(key)
    inner = {} if not isinstance(before, dict) else before
    for name, each in value.items():
        if inner.get(name) != each and not isinstance(each, (dict, list)):
            return f"{name} {inner.get(name)}, asked for {each}"
    return f"other {key}"


def blocks_folder(out: Path, part: str | None = None) -> Path:
    """Where what is trained is kept until the part that it belongs to is saved.

    Args:
        out: the study's folder.
        part: its name, where several are under way at a time.
    """
    place = out / datasets.DATA_FOLDER / _BLOCKS
    return place if part is None else place / part


def save(
    out: Path, manifest: dict[str, Any], part: str, data: Mapping[str, xr.Dataset], kept: Path
) -> None:
    """Save a part, note it in the manifest, and let go of its blocks.

    Args:
        out: the study's folder.
        manifest: changed.
        part: its name.
        data: its data sets by name.
        kept: the folder of its blocks.
    """
    for name, each in data.items():
        datasets.save(out, name, each)
    if part not in manifest["finished"]:
        manifest["finished"].append(part)
    datasets.write_manifest(out, manifest)
    shutil.rmtree(kept, ignore_errors=True)


def saved(
    out: Path, manifest: Mapping[str, Any], names: Callable[[str], Iterable[str]]
) -> set[str]:
    """The parts that a manifest calls finished and whose data can be read.

    Args:
        out: the study's folder.
        manifest: of it.
        names: the data sets that a part may be; one of them says that it is there.
    """
    return {
        part
        for part in manifest["finished"]
        if any(datasets.is_saved(out, name) for name in names(part))
    }
