"""What computed, and may compute, the blocks of a folder: fingerprints that are alike.

The manifest names the fingerprints that a folder was begun and gone on with. Those of other
machines that are alike one of them stand beside the data, each in a file that is named by its
content, so that no two writers can disagree.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sweeps.store.fingerprints import OtherFingerprint, alike, differences, digest, processor_of
from sweeps.store.places import DATA, FINGERPRINTS
from sweeps.system.reading import read_json
from sweeps.system.writing import write_atomically


class Makers:
    """The fingerprints whose blocks count in a folder."""

    def __init__(self, path: Path, known: Iterable[Mapping[str, Any]]):
        """
        Args:
            path: the folder.
            known: those that its manifest names.
        """
        self.path = path
        self._own = [dict(each) for each in known]
        # By digest.
        self.found: dict[str, dict[str, Any]] = {digest(each): each for each in self._own}
        self._others: list[str] = []
        self.look()

    def look(self) -> None:
        """Read again what other machines have left."""
        for place in sorted((self.path / DATA / FINGERPRINTS).glob("[!.]*.json")):
            try:
                content = read_json(place)
            except (ValueError, OSError):
                continue  # What it computed does not count then, and is computed again.
            if not isinstance(content, dict) or digest(content) != place.stem:
                continue
            if place.stem not in self.found and self._alike(content):
                self._others.append(place.stem)
                self.found[place.stem] = content

    @property
    def accepted(self) -> list[str]:
        """Their digests; the manifest's last one is the last."""
        return [*self._others, *(digest(each) for each in self._own)]

    def admit(self, now: Mapping[str, Any]) -> str:
        """Let blocks count that this fingerprint computes; its digest.

        Raises:
            OtherFingerprint: it differs in more than the name of the processor, with what differs.
        """
        if not self._alike(now):
            raise OtherFingerprint(
                f"{self.path}: computed with other {differences(self._own[-1], now)}; allowed: the "
                "same as there, on processors with the same instruction set"
            )
        name = digest(now)
        if name not in self.found:
            text = json.dumps(now, indent=2, ensure_ascii=False) + "\n"
            path = self.path / DATA / FINGERPRINTS / f"{name}.json"
            write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
            self._others.append(name)
            self.found[name] = dict(now)
        return name

    def _alike(self, now: Mapping[str, Any]) -> bool:
        return any(alike(now, each) for each in self._own)


def forget(path: Path) -> None:
    """Remove what other machines have left in a folder."""
    shutil.rmtree(path / DATA / FINGERPRINTS, ignore_errors=True)


def tell(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Say that a folder that one processor began goes on on another that is alike."""
    print(
        f"{path}: begun on {processor_of(before)}, goes on on {processor_of(now)}: the same "
        "instruction set, so blocks of both count; `status` says how many",
        file=sys.stderr,
    )
