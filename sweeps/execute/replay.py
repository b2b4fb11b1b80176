"""One run of a sweep again, alone: the same bits, and every metric at every step."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import sdpo_jax
from sdpo_jax import Plan
from sdpo_jax.grid import Chunk
from sdpo_jax.train import chosen_metrics
from sweeps.store.folder import Folder
from sweeps.store.labelled import grid_name
from sweeps.store.manifest import saved_sweep
from sweeps.system.writing import write_atomically

FOLDER = "replays"


@dataclass(frozen=True)
class Replay:
    """A run done again.

    Attributes:
        coordinates: the run's labels.
        same: whether every number that was saved came out again, bit for bit.
        differing: the variables of which that is not so.
        curves_same: whether the run with full curves, which is another program, agrees too.
        curves: by metric ``[steps]``.
        path: the file with the curves.
    """

    coordinates: dict[str, Any]
    same: bool
    differing: tuple[str, ...]
    curves_same: bool
    curves: dict[str, np.ndarray]
    path: Path


def replay(directory: Path, run: str, grid: str | None = None) -> Replay:
    """Train one run again and compare it with what is saved.

    Args:
        directory: the sweep's folder.
        run: its number in the grid, in row-major order, or its labels as ``axis=value,...``; an
            axis of one value may be left out.
        grid: which grid; may be left out where there is one.

    Raises:
        ValueError: no such run, or several.
        NoSweep: there is none, or it needs what is not registered here.
    """
    folder = Folder.open(directory)
    name = grid_name(folder, grid)
    # Read again: a folder opens without the code of parts that its sweep names.
    plan = saved_sweep(directory).plans[name]
    number = find(plan, run)
    group, place = plan.trained_as(number)
    task, row = (int(each[number]) for each in folder.blocks.places(plan))
    identity = folder.blocks.tasks[task].identity
    if not folder.blocks.counts(identity):
        raise ValueError(f"run: {run} is not done; allowed: one that is (see `status`)")
    saved = folder.blocks.read(identity).arrays
    chunk = Chunk(group, np.array([place]))
    ((_, again),) = sdpo_jax.compute(plan, [chunk], workers=1)
    differing = [each for each in saved if saved[each][row].tobytes() != again[each][0].tobytes()]
    metrics = tuple(chosen_metrics(group.program))
    full = replace(group, program=replace(group.program, record=metrics, record_every=1))
    ((_, curves),) = sdpo_jax.compute(plan, [Chunk(full, np.array([place]))], workers=1)
    path = directory / FOLDER / f"{name}-{number}.csv"
    found = {each: curves[f"{each}_curve"][0] for each in metrics}
    lines = [",".join(("step", *metrics))]
    for step, values in enumerate(zip(*found.values(), strict=True)):
        lines.append(",".join((str(step), *(f"{value:.9g}" for value in values))))
    text = "\n".join(lines) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    kept = [each for each in saved if each in curves and not each.endswith("_curve")]
    return Replay(
        plan.coordinates(number),
        not differing,
        tuple(differing),
        all(saved[each][row].tobytes() == curves[each][0].tobytes() for each in kept),
        found,
        path,
    )


def find(plan: Plan, run: str) -> int:
    """The number of a run given by number or by labels.

    Raises:
        ValueError: no such run, or several.
    """
    if run.isdigit():
        plan.coordinates(int(run))
        return int(run)
    mask = np.ones(plan.shape, bool)
    axes = {name: (i, axis) for i, axis in enumerate(plan.axes) for name in axis.labels}
    # A label may hold commas: a name begins only after one, and only where an axis has it.
    names = "|".join(map(re.escape, axes))
    parts = re.split(rf",(?=\s*(?:{names})\s*=)", run) if axes else [run]
    while parts:
        name = parts[0].partition("=")[0].strip()
        if name not in axes:
            raise _no_axis(name, axes)
        dimension, axis = axes[name]
        value, hits = "", np.zeros(0, bool)
        # And it may hold what looks like the next name: the longest text that is a label.
        for size in range(len(parts), 0, -1):
            value = ",".join(parts[:size]).partition("=")[2].strip()
            hits = _hits(axis.labels[name], value)
            if hits.any():
                break
        else:
            first, _, rest = value.partition(",")
            if "=" in rest and _hits(axis.labels[name], first.strip()).any():
                raise _no_axis(rest.partition("=")[0].strip(), axes)
            shown = ", ".join(map(str, list(axis.labels[name])[:20]))
            raise ValueError(f"run: {name}={value}; allowed: {shown}")
        parts = parts[size:]
        shape = [1] * len(plan.axes)
        shape[dimension] = -1
        mask &= hits.reshape(shape)
    found = np.flatnonzero(mask.reshape(-1))
    if found.size != 1:
        raise ValueError(
            f"run: {run} is {found.size} runs; allowed: one (name more of {', '.join(axes)})"
        )
    return int(found[0])


def _no_axis(name: str, axes: Iterable[str]) -> ValueError:
    return ValueError(f"run: {name!r}; allowed: a number, or {'=..., '.join(axes)}=...")


def _hits(labels: Iterable[Any], text: str) -> np.ndarray:
    return np.array([_same(label, text) for label in labels])


def _same(label: Any, text: str) -> bool:
    if isinstance(label, str):
        return label == text
    try:
        return float(text) == float(label)
    except ValueError:
        return False
