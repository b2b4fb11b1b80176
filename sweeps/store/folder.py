"""A sweep's folder: ``manifest.json`` says what belongs in it, ``data/`` holds the blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeps.file import parts
from sweeps.file.sweep import Sweep
from sweeps.store import blocks
from sweeps.store.makers import Makers
from sweeps.store.manifest import Manifest, parsed
from sweeps.store.places import DATA
from sweeps.store.tasks import Blocks, tasks_of


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
            self._makers = Makers(path, manifest.fingerprints)
            accepted = self._makers.accepted
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
        name = self._makers.admit(now)
        if name not in self.blocks.accepted:
            self.blocks.accepted.append(name)
        self.blocks.maker = name

    @property
    def fingerprints(self) -> dict[str, dict[str, Any]]:
        """By digest those whose blocks count."""
        return self._makers.found

    @property
    def runs(self) -> int:
        """How many different runs the sweep has, those of blocks shared with other sweeps too."""
        return sum(len(task.keys) for task in self.blocks.tasks)
