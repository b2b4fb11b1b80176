"""What trains the runs of a part of a study: each block is kept until the part is saved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sdpo_jax import Plan, Progress
from sweeps.execute import threads
from sweeps.execute.executors import Call
from sweeps.store import blocks
from sweeps.store.blocks import DamagedBlock, Layout
from sweeps.store.labelled import FINISHED, of_plan
from sweeps.store.makers import Makers
from sweeps.store.tasks import Blocks, tasks_of
from sweeps.study import elsewhere
from sweeps.study.progress import Begun
from sweeps.system.interrupts import Control, Stopped


@dataclass(frozen=True)
class Wanted:
    """A block of another program than a plan's.

    Attributes:
        given: all that decides the outcome beside what computes it, as JSON.
        arguments: of the function that computes it.
    """

    given: Mapping[str, Any]
    arguments: tuple[Any, ...]

    @property
    def name(self) -> str:
        """Of the block."""
        text = json.dumps(self.given, sort_keys=True, allow_nan=False).encode()
        return hashlib.blake2b(text, digest_size=16).hexdigest()


@dataclass(frozen=True)
class Trainer:
    """Computes what a part of a study asks for, and keeps each block as soon as it is done.

    Attributes:
        begun: the study.
        folder: of the blocks.
        control: whom to tell and to ask.
        there: told the number of runs that are there before a plan is begun.
        done: told the number of runs after each piece.
        workers: as for ``run_grid``.
    """

    begun: Begun
    folder: Path
    control: Control = Control()  # noqa: RUF009
    there: Callable[[int], None] = lambda runs: None
    done: Callable[[int], None] = lambda runs: None
    workers: int | None = None

    @classmethod
    def by_hand(cls, folder: Path, fingerprint: str) -> Trainer:
        """A trainer of no study, for a script.

        Args:
            folder: of the blocks; made if there is none.
            fingerprint: says what computes. Blocks of another one are computed again.
        """
        return cls(Begun(folder, {}, Makers(folder, []), fingerprint, lambda: fingerprint), folder)

    def train(self, plan: Plan) -> xr.Dataset:
        """The outcome of a plan, as ``run_grid``'s.

        Raises:
            Stopped: there was a wish to stop before the end.
            OSError: a block can't be written.
        """
        mine = Blocks(self.folder, list(tasks_of(plan)), self.begun.accepted)
        done = mine.survey().done
        self.there(sum(len(task.keys) for task in mine.tasks if task.identity in done))
        wanted = {task.identity for task in mine.tasks} - done
        self.compute(mine, wanted)
        if mine.absent():
            raise Stopped
        return of_plan(plan, mine, lazy=False).drop_vars(FINISHED)

    def compute(self, mine: Blocks, wanted: set[str]) -> None:
        """Compute blocks of plans, here or where the study's executor says.

        Raises:
            OSError: a block can't be written.
            Lost: the executor can't be reached any more; what was saved is kept.
        """
        if not wanted:
            return
        if self.begun.executor is None:
            threads.compute(mine, wanted, self.control, self.workers)
            return
        # All of them, in order: a run that two of them ask for is in the first one's blocks.
        plans = {id(task.plan): task.plan for task in mine.tasks}
        packed = elsewhere.packed(list(plans.values()))
        todo = [task for task in mine.tasks if task.identity in wanted]
        self._elsewhere(
            (
                Call(
                    task.identity,
                    task.chunk.group.label,
                    len(task.keys),
                    elsewhere.train,
                    (self.begun.place(self.folder), packed, task.identity),
                )
                for task in todo
            ),
            sum(len(task.keys) for task in todo),
            self.control,
        )
        mine.accepted[:] = self.begun.accepted

    def _elsewhere(self, calls: Iterable[Call], runs: int, control: Control) -> None:
        assert self.begun.executor is not None
        control.check()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.begun.executor.compute(calls, runs, control, str(self.begun.out))

    def kept(
        self,
        wanted: Sequence[Wanted],
        label: str,
        layout: Layout,
        runs: int,
        compute: Callable[..., Mapping[str, np.ndarray]],
    ) -> list[Mapping[str, np.ndarray]]:
        """The arrays of blocks of another program than a plan's.

        Args:
            wanted: the blocks.
            label: of the program, for readers.
            layout: what each block holds.
            runs: how many each holds.
            compute: a function of a module: by variable ``[runs, ...]``; called with the arguments
                of each block that is not there.

        Raises:
            Stopped: there was a wish to stop before the last block was begun.
            OSError: one can't be written.
            Lost: the executor can't be reached any more; what was saved is kept.
        """
        found = {each.name: self._there(each.name, layout, runs) for each in wanted}
        # Each once, where two are the same.
        left = {each.name: each for each in wanted if found[each.name] is None}
        if self.begun.executor is not None and left:
            calls = (
                Call(
                    *(name, label, runs, elsewhere.keep),
                    (self.begun.place(self.folder), name, label, compute, each.arguments),
                )
                for name, each in left.items()
            )

            def told(what: Progress) -> None:
                self.done(runs)
                self.control.progress(what)

            control = Control(told, self.control.stop, self.control.check)
            self._elsewhere(calls, runs * len(left), control)
            found |= {name: self._there(name, layout, runs) for name in left}
            if any(found[name] is None for name in left):
                raise Stopped
            left = {}
        for name, each in left.items():
            if self.control.stop():
                raise Stopped
            arrays = compute(*each.arguments)
            self.control.check()
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{name}{blocks.SUFFIX}"
            blocks.write(path, name, self.begun.maker, label, arrays)
            found[name] = arrays
            self.done(runs)
        return [arrays for each in wanted if (arrays := found[each.name]) is not None]

    def _there(self, name: str, layout: Layout, runs: int) -> Mapping[str, np.ndarray] | None:
        """A block's arrays; ``None`` where it is not there, not whole, or does not count."""
        try:
            found = blocks.read(self.folder / f"{name}{blocks.SUFFIX}", name, layout, runs)
        except (FileNotFoundError, DamagedBlock):
            return None
        return found.arrays if found.fingerprint in self.begun.accepted else None
