"""How far a study is: a folder to go on in, whose manifest says which parts are finished.

A study is the reproduction, the audit, the laboratory's or the calibration. Its parts are saved as
data sets under ``OUT/data``; what a part has trained so far is kept as blocks under ``OUT/data/
blocks``, so that whoever is stopped or killed goes on from the last block.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from sweeps.execute.executors import Executor
from sweeps.provenance import sources
from sweeps.store import datasets, makers, places
from sweeps.store.fingerprints import alike, digest
from sweeps.store.kinds import INNER, Kind
from sweeps.store.makers import Makers
from sweeps.store.places import clear_partial_files
from sweeps.study import progress
from sweeps.study.elsewhere import Place, computed_with, fingerprint_here
from sweeps.system.writing import remove_partial_files

_BLOCKS = "blocks"


@dataclass(frozen=True)
class Begun:
    """A study that a folder was made, or gone on with.

    Attributes:
        out: its folder.
        manifest: changed as parts are finished.
        makers: what computed, and may compute, its blocks.
        maker: digest of what computes them here.
        source: a function of a module: digest of the code that decides the study's numbers.
        executor: where blocks are computed; by threads of this process if ``None``.
    """

    out: Path
    manifest: dict[str, Any]
    makers: Makers
    maker: str
    source: Callable[[], str]
    executor: Executor | None = None

    @property
    def accepted(self) -> list[str]:
        """Digests of what may have computed a block that counts."""
        if self.executor is not None:
            self.makers.look()
        others = [each for each in self.makers.accepted if each != self.maker]
        # What computes here stands last.
        return [*others, self.maker]

    def place(self, folder: Path) -> Place:
        """Where blocks belong, for another process."""
        first = digest(computed_with(self.manifest))
        return Place(str(self.out.absolute()), str(folder.absolute()), first, self.source)


def begin(
    out: Path,
    kind: Kind,
    description: Mapping[str, Any],
    source: Callable[[], str],
    command: str,
    parts: Iterable[str],
    spent: Mapping[str, float] | None = None,
    ignored: Iterable[str] = (),
    executor: Executor | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Begun:
    """Make a folder a study's, or go on with it; its manifest is written. Whoever calls holds the
    lock.

    Args:
        out: an empty or new folder, or one of the same study.
        kind: of the study.
        description: entries of the manifest that say what is run.
        source: a function of a module: digest of the code that decides the study's numbers. Data
            of other code, versions or instruction sets have other bits: all parts are run again.
            Another processor of the same instruction set is told, and goes on.
        command: how the caller was started.
        parts: the names of all parts.
        spent: the parts of the time that it takes; any, if not given.
        ignored: files that may be there without a manifest.
        executor: where blocks are computed; by threads of this process by default.
        stop: once true, nobody is waited for.

    Raises:
        ValueError: a folder that holds something else, in one line.
        Lost: the executor can't be reached.
        Stopped: ``stop`` was true before it answered.
    """
    if executor is None:
        now = fingerprint_here(source)
    else:
        now = executor.ask(stop, fingerprint_here, source)
    manifest = claim(out, kind, description, now, spent, ignored)
    first = computed_with(manifest)
    clear_partial_files(out)
    for place in (blocks_folder(out), *blocks_folder(out).glob("*/")):
        remove_partial_files(place)
    manifest |= {"command": command, "commit": sources.commit(), "parts": list(parts)}
    # Before the first block, so that the folder is known for what it is.
    datasets.write_manifest(out, manifest)
    found = Makers(out, [first])
    if now != first:
        makers.tell(out, first, now)
    return Begun(out, manifest, found, found.admit(now), source, executor)


def claim(
    out: Path,
    kind: Kind,
    description: Mapping[str, Any],
    computes: Mapping[str, Any],
    spent: Mapping[str, float] | None = None,
    ignored: Iterable[str] = (),
) -> dict[str, Any]:
    """The manifest to go on from, once it is sure that a folder is not something else's.

    Args:
        computes: what computes here, ``fingerprint``.

    Other arguments and errors as for ``begin``.
    """
    description = progress.plain(dict(description))
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
    # A page alone, as in a clone of the repository, may be of an older description. It is made
    # again, unless fewer or more runs were asked for than it is of.
    page_only = not any((out / name).is_dir() for name in (places.DATA, INNER))
    if page_only and _counts(found, description) == _counts(description, description):
        return fresh
    for key, value in description.items():
        if found.get(key) != value:
            raise ValueError(
                f"--out: {out} holds another {kind.noun} ({_difference(key, found, value)}); "
                f"{allowed} of the same"
            )
    before = {key: found.get(key) for key in computes}
    if not alike(before, computes):
        return fresh
    # What is not as it is written here is not believed: its parts are run again.
    if not progress.is_progress(found, set(spent) if spent else None):
        return fresh
    # The first one stays: the others stand beside the data.
    return {**fresh, **before, "finished": found["finished"], "wall_time": found["wall_time"]}


def _counts(manifest: Mapping[str, Any], description: Mapping[str, Any]) -> dict[str, Any]:
    """How many runs each entry of a description asks for, as a manifest has it."""
    flat: dict[str, Any] = {}
    for key in description:
        value = manifest.get(key)
        entries = value.items() if isinstance(value, Mapping) else [(key, value)]
        flat |= {name: each for name, each in entries if name in ("seeds", "problems")}
    return flat


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
    place = out / places.DATA / _BLOCKS
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


def is_progress(manifest: Mapping[str, Any], parts: set[str] | None = None) -> bool:
    """Whether a manifest's ``finished`` and ``wall_time`` are what a command wrote.

    Args:
        manifest: what was read.
        parts: the parts of the time; ``None`` where any will do.
    """
    finished, spent = manifest.get("finished"), manifest.get("wall_time")
    return (
        isinstance(finished, list)
        and all(isinstance(name, str) for name in finished)
        and isinstance(spent, dict)
        and (parts is None or set(spent) == parts)
        and all(type(seconds) in (int, float) for seconds in spent.values())
    )


def plain(value: Any) -> Any:
    """Tuples as lists, as JSON will have them."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
