"""What a sweep would take: runs, programs, blocks, time, memory and disk, before it is run."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

import sdpo_jax
from sdpo_jax.grid import Chunk, Group, default_workers, output_bytes
from sweeps.file.sweep import Sweep
from sweeps.store.blocks import Known
from sweeps.store.tasks import Task, tasks_of


@dataclass(frozen=True)
class Estimate:
    """What a sweep would take.

    Attributes:
        runs: training runs; the same one in two grids counts once.
        programs: what has to be compiled.
        blocks: files.
        disk: bytes of the blocks.
        memory: bytes that a run of the sweep needs, beside the process itself.
        opened: bytes of all its results in memory at once.
        measured: the programs of which a block was timed.
        compile: seconds of compilation; the others are taken to be alike.
        train: seconds of training on all workers.
    """

    runs: int
    programs: int
    blocks: int
    disk: int
    memory: int
    opened: int
    measured: int
    compile: float
    train: float


def estimate(sweep: Sweep, budget: float = 20.0, missing: set[str] | None = None) -> Estimate:
    """Time a block of the programs with the most work, and reckon the rest from their sizes.

    Args:
        sweep: from ``sweepfile``.
        budget: seconds after which no further program is timed; at least one is.
        missing: ids of the blocks to run; all by default.
    """
    known = Known()
    tasks = [task for plan in sweep.plans.values() for task in tasks_of(plan, known)]
    if missing is not None:
        tasks = [task for task in tasks if task.identity in missing]
    by_group: dict[int, list[Task]] = {}
    for task in tasks:
        by_group.setdefault(id(task.chunk.group), []).append(task)
    programs = {
        key: sum(len(task.keys) for task in mine) * _cost(mine[0].chunk.group)
        for key, mine in by_group.items()
    }
    workers = default_workers()
    seconds: dict[int, float] = {}
    compiling: list[float] = []
    begun = time.perf_counter()
    for key in sorted(programs, key=lambda each: -programs[each]):
        if seconds and time.perf_counter() - begun > budget:
            break
        task = by_group[key][0]
        compiled, each = _time(task)
        compiling.append(compiled)
        seconds[key] = each
    # Seconds of one unit of work, for programs that were not timed.
    rate = sum(each / _cost(by_group[key][0].chunk.group) for key, each in seconds.items()) / max(
        len(seconds), 1
    )
    train = 0.0
    disk = memory = opened = 0
    for key, mine in by_group.items():
        group, plan = mine[0].chunk.group, mine[0].plan
        each = seconds.get(key, rate * _cost(group))
        run_bytes = output_bytes(plan, group)
        for task in mine:
            train += -(-len(task.keys) // group.width) * group.width * each / workers
            disk += len(task.keys) * run_bytes + _HEADER
            memory = max(memory, 2 * len(task.keys) * run_bytes)
        opened += sum(len(task.keys) for task in mine) * run_bytes
    mean_compile = float(np.mean(compiling)) if compiling else 0.0
    return Estimate(
        runs=sum(len(task.keys) for task in tasks),
        programs=len(by_group),
        blocks=len(tasks),
        disk=disk,
        memory=memory,
        opened=opened,
        measured=len(seconds),
        compile=mean_compile * len(by_group) / min(workers, max(len(by_group), 1)),
        train=train,
    )


# Bytes of a block beside its arrays.
_HEADER = 600


# Blocks of runs that are timed: enough that a call's own cost does not count.
_TIMED_BLOCKS = 4


def _cost(group: Group) -> int:
    sizes = group.program.sizes
    return sizes.length * sizes.vocab_size * sizes.rollouts * sizes.steps


def _time(task: Task) -> tuple[float, float]:
    """Seconds of compilation, and seconds a run on one worker."""
    width = _TIMED_BLOCKS * task.chunk.group.width
    chunk = Chunk(task.chunk.group, np.resize(task.chunk.places, width))
    told: list[sdpo_jax.Progress] = []
    for _ in range(2):
        for _ in sdpo_jax.compute(task.plan, [chunk], workers=1, progress=told.append):
            pass
    compiled = next(each.seconds for each in told if each.kind == "compile")
    return compiled, told[-1].seconds / width
