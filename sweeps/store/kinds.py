"""Folders that other commands than ``run`` make: what a folder holds, and how it is made again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.store.places import MANIFEST
from sweeps.system.reading import read_json

# Where a study that is made of reproductions keeps them.
INNER = "settings"


@dataclass(frozen=True)
class Kind:
    """What a command makes a folder of.

    Attributes:
        command: its name.
        called: what it makes, with its article.
        entry: of the manifest, by which a folder is known.
        number: the option that says how large it is.
        page: what there is to look at in the end.
    """

    command: str
    called: str
    entry: str
    number: str
    page: str

    @property
    def noun(self) -> str:
        """What it makes, without an article."""
        return self.called.partition(" ")[2]


REPRODUCTION = Kind("reproduce", "a reproduction", "constants", "seeds", "report.html")
AUDIT = Kind("audit", "an audit", "plan", "seeds", "audit.html")
IN_CONTEXT = Kind("in_context", "a study of networks", "in_context", "seeds", "in_context.html")
CALIBRATION = Kind("calibrate", "a calibration", "calibration", "problems", "calibration.md")
POSTERIOR = Kind("posterior", "a study of the posterior", "posterior", "seeds", "posterior.md")
KINDS = (REPRODUCTION, AUDIT, IN_CONTEXT, POSTERIOR, CALIBRATION)


@dataclass(frozen=True)
class Made:
    """A folder of such a command.

    Attributes:
        folder: its path.
        kind: what made it.
        manifest: what it says of itself; of a calibration that has none, of what is known.
    """

    folder: Path
    kind: Kind
    manifest: Mapping[str, Any]

    @property
    def size(self) -> int | None:
        """How many seeds or problems; ``None`` where it does not say."""
        inner = self.manifest.get(self.kind.entry)
        for place in (inner, self.manifest):
            size = place.get(self.kind.number) if isinstance(place, Mapping) else None
            if type(size) is int:
                return size
        return None

    @property
    def arguments(self) -> list[str]:
        """Of the command that makes it again, or goes on."""
        if "--quick" in str(self.manifest.get("command")).split():
            size = ["--quick"]
        else:
            size = [] if self.size is None else [f"--{self.kind.number}", str(self.size)]
        inner = self.manifest.get(self.kind.entry)
        source = inner.get("calibration") if isinstance(inner, Mapping) else None
        given = ["--calibration", source] if isinstance(source, str) else []
        return [self.kind.command, *size, *given, "--out", str(self.folder)]

    @property
    def again(self) -> str:
        """That command, for readers."""
        return f"`{shlex.join(['python', '-m', 'sweeps', *self.arguments])}`"

    def __str__(self) -> str:
        return f"{self.kind.called}" + (
            "" if self.size is None else f" of {self.size} {self.kind.number}"
        )


def names_in(manifest: Mapping[str, Any], entry: str) -> list[str]:
    """The names that a manifest lists under an entry; none where it does not."""
    found = manifest.get(entry)
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def made_of(folder: Path, content: Any) -> Made | None:
    """What a folder is by the content of its manifest; ``None`` where that is a sweep's or none."""
    if not isinstance(content, dict) or "sweeps" in content or "finished" not in content:
        return None
    kind = next((each for each in KINDS if each.entry in content), None)
    return None if kind is None else Made(folder, kind, content)


def find(folder: Path) -> Made | None:
    """What a folder is; ``None`` where it is a sweep's, or nobody's."""
    try:
        return made_of(folder, read_json(folder / MANIFEST))
    except FileNotFoundError:
        return _calibration(folder)
    except ValueError:
        return None


def _calibration(folder: Path) -> Made | None:
    """A calibration that was finished before calibrations had manifests."""
    try:
        made = read_json(folder / "calibration.json")["made"]
        found = {"command": made["command"], CALIBRATION.number: made[CALIBRATION.number]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Made(folder, CALIBRATION, found)
