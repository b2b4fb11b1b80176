"""What trains the runs of a part of a study: each block is kept until the part is saved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sdpo_jax import Plan
from sweeps.execute import threads
from sweeps.store import blocks
from sweeps.store.blocks import DamagedBlock, Layout
from sweeps.store.labelled import FINISHED, of_plan
from sweeps.store.tasks import Blocks, tasks_of
from sweeps.system.interrupts import Control, Stopped


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
        threads.compute(mine, wanted, self.control, self.workers)
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
