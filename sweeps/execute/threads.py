"""Blocks computed by threads of this process."""

from __future__ import annotations

import sdpo_jax
from sdpo_jax import Progress
from sdpo_jax.grid import compiled_ahead
from sweeps.store import blocks as files
from sweeps.store.tasks import Blocks
from sweeps.system.interrupts import Control


def compute(
    blocks: Blocks,
    wanted: set[str],
    control: Control = Control(),  # noqa: B008
    workers: int | None = None,
) -> None:
    """Compute blocks by threads of this process, and write each as soon as it is done.

    Args:
        blocks: of a folder.
        wanted: the ids of those to compute.
        control: whom to tell and to ask.
        workers: as for ``run_grid``.

    Raises:
        OSError: a block can't be written; those before it are kept.
    """
    todo = [task for task in blocks.tasks if task.identity in wanted]
    if not todo:
        return
    control.check()
    blocks.data.mkdir(parents=True, exist_ok=True)
    total = sum(len(task.keys) for task in todo)
    before = 0
    plans = {id(task.plan): task.plan for task in todo}
    # The groups of the first plan are compiled where they are computed.
    later = {
        id(task.chunk.group): (task.plan, task.chunk.group)
        for task in todo
        if task.plan is not todo[0].plan
    }
    with compiled_ahead(list(later.values())):
        for key, plan in plans.items():
            mine = {id(task.chunk): task for task in todo if id(task.plan) == key}

            def report(told: Progress, before: int = before) -> None:
                done = before + told.done
                control.progress(Progress(told.kind, told.label, done, total, told.seconds))

            chunks = [task.chunk for task in mine.values()]
            for chunk, arrays in sdpo_jax.compute(
                plan, chunks, workers=workers, progress=report, stop=control.stop
            ):
                identity = mine[id(chunk)].identity
                label = chunk.group.label
                control.check()
                files.write(blocks.path(identity), identity, blocks.maker, label, arrays)
            before += sum(len(chunk.places) for chunk in chunks)
            if control.stop():
                return
