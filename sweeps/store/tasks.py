"""The blocks that belong in a folder: how runs are cut into them, and which are there."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdpo_jax import Plan
from sdpo_jax.grid import Chunk, Group
from sweeps.store import blocks
from sweeps.store.blocks import DamagedBlock, Layout

# A block is a fraction of a second's work at the paper's sizes: little is lost with it, and the
# disk is not the bottleneck.
_BLOCK_WORK = 4096 * 6 * 8 * 32 * 300
_MOST_RUNS = 4096
_MOST_BYTES = 2**25


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
        size = block_runs(group, plan)
        for start in range(0, len(new), size):
            places, part = new[start : start + size], keys[start : start + size]
            yield Task(blocks.block_id(part), plan, Chunk(group, places), part, layout)


def block_runs(group: Group, plan: Plan) -> int:
    """How many runs a block file of a program holds: a multiple of what is computed at a time."""
    program, sizes = group.program, group.program.sizes
    work = sizes.length * sizes.vocab_size * sizes.rollouts * sizes.steps
    points = -(-sizes.steps // program.record_every) * len(program.record)
    room = _MOST_BYTES // (4 * (points + sizes.length * sizes.vocab_size * plan.logits + 16))
    runs = min(_BLOCK_WORK // work, _MOST_RUNS, room)
    return max(1, runs // group.width) * group.width


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
