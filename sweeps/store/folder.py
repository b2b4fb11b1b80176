"""A sweep's folder: ``manifest.json`` says what belongs in it, ``data/`` holds the blocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sweeps.file import parts
from sweeps.file.sweep import Sweep
from sweeps.store import blocks
from sweeps.store.fingerprints import OtherFingerprint, alike, differences, digest
from sweeps.store.manifest import Manifest, parsed
from sweeps.store.places import DATA, FINGERPRINTS
from sweeps.store.tasks import Blocks, tasks_of
from sweeps.system.reading import read_json
from sweeps.system.writing import write_atomically


class Folder:
    """A sweep in a folder, as its manifest describes it."""

    def __init__(self, path: Path, manifest: Manifest):
        self.path = path
        self.manifest = manifest
        with parts.stand_ins(manifest.registered):
            sweeps = [parsed(path, manifest, text) for text in manifest.texts]
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
