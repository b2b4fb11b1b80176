"""What a folder says that it holds: ``manifest.json``, kept twice.

The manifest holds the text of the sweep file, and of every earlier one that the folder was run
with: what each of them adds is cut into blocks of its own, so a sweep that grows keeps its blocks,
and one that was cut off goes on with the blocks that it would have had. Nothing in the folder
depends on when or how often it was run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sweeps.file import mistakes, parts, sweepfile
from sweeps.file.sweep import Sweep
from sweeps.store import blocks, kinds
from sweeps.store.fingerprints import ALWAYS, KNOWN, REGISTERED
from sweeps.store.places import DATA, MADE, MANIFEST
from sweeps.system.reading import read_json
from sweeps.system.writing import make_room, write_atomically

_FORMAT = 1


class NoSweep(ValueError):
    """There is no sweep, or none that can be used, in a folder."""


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
        if not holds_blocks(folder):
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
                and all(isinstance(each, dict) and set(each) >= ALWAYS for each in fingerprints)
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
            with parts.stand_ins(self.registered):
                for text in self.texts:
                    parsed(folder, self, text)
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


def holds_blocks(folder: Path) -> bool:
    return (folder / DATA).is_dir() and any((folder / DATA).glob(f"*{blocks.SUFFIX}"))


def is_sweep(folder: Path) -> bool:
    """Whether a folder's manifest is a sweep's, whole or damaged, and not something else's."""
    try:
        content = read_json(folder / MANIFEST)
    except FileNotFoundError:
        if (folder / DATA / MANIFEST).is_file():
            return True
        # Blocks and nothing that a sweep does not make: others keep blocks too.
        mine = {MANIFEST, DATA, *MADE, "report.html"}
        found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        return holds_blocks(folder) and found <= mine
    except ValueError:
        return holds_blocks(folder)
    if isinstance(content, dict) and "sweeps" in content:
        return True
    return kinds.made_of(folder, content) is None and holds_blocks(folder)


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
        return kinds.names_in(made.manifest, "parts") if holds_blocks(made.folder) else []
    return sorted(path.stem for path in (made.folder / DATA).glob("[!.]*.nc"))


def saved_sweep(path: Path) -> Sweep:
    """The sweep in a folder, to go on with.

    Raises:
        NoSweep: there is none, or it needs what is not registered here.
    """
    manifest = Manifest.read(path)
    return parsed(path, manifest, manifest.text)


def parsed(path: Path, manifest: Manifest, text: str) -> Sweep:
    try:
        return sweepfile.parse(text, manifest.name, str(path))
    except mistakes.SweepError as error:
        first = str(error.mistakes[0]).splitlines()[0]
        first = first if len(first) <= 160 else first[:157] + "..."
        raise NoSweep(
            f"{path / MANIFEST}: the sweep file in it can't be run ({first}); allowed: {_NOT_READ}"
        ) from None


_NOT_READ = (
    "`python -m sweeps run FILE --out` the same folder, or, of an algorithm, metric or optimizer "
    "that is not known here, the code that registers it"
)
