"""The arrays of a grid as a labelled Dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sdpo_jax.grid.plan import Plan
from sdpo_jax.program import FINITE_STEPS, chosen_metrics

if TYPE_CHECKING:
    import xarray as xr


def prepare() -> None:
    """Import what ``label`` needs, which takes seconds."""
    import xarray as xr

    # The first variable imports whatever else may hold one's values, Dask for one.
    xr.Variable((), 0)


def label(plan: Plan, outcome: Mapping[str, Any]) -> xr.Dataset:
    """The Dataset of ``run_grid``.

    Args:
        plan: from ``plan_grid``.
        outcome: by variable ``[runs, ...]``, or ``[*plan.shape, ...]``, which may then be a lazy
            array of xarray's.
    """
    import xarray as xr
    from xarray.core.indexing import ExplicitlyIndexed, LazilyIndexedArray, MemoryCachedArray

    def shaped(array: Any) -> Any:
        if isinstance(array, ExplicitlyIndexed):
            return MemoryCachedArray(LazilyIndexedArray(array))
        return array.reshape((*plan.shape, *array.shape[1:]))

    dims = tuple(axis.dimension for axis in plan.axes)
    described = describe(plan)
    variables = {
        name: (
            (*dims, *described[name][0]),
            shaped(array),
            described[name][1],
        )
        for name, array in outcome.items()
    }
    coordinates: dict[str, Any] = {
        name: ((axis.dimension,), _coordinate(labels), attributes_of(plan.titles[name]))
        for axis in plan.axes
        for name, labels in axis.labels.items()
    }
    if plan.base.record:
        steps = np.arange(0, plan.base.sizes.steps, plan.base.record_every)
        coordinates["step"] = (("step",), steps, attributes_of(plan.titles["step"]))
    widths = plan.widths
    attributes = {**plan.held, "block_width": widths[0] if len(widths) == 1 else widths}
    data = xr.Dataset(variables, coordinates, attributes)
    zipped = [name for axis in plan.axes for name in axis.labels if name != axis.dimension]
    for name in zipped:
        data = data.set_xindex(name)
    return data


def describe(plan: Plan) -> dict[str, tuple[tuple[str, ...], dict[str, str]]]:
    """By variable of the outcome: its dimensions behind the plan's, and its attributes."""
    chosen = chosen_metrics(plan.base)
    found: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {}
    for name, metric in chosen.items():
        found[name] = ((), attributes_of(metric.title))
        found[f"{name}_mean"] = ((), attributes_of(metric.title, ", mean over steps"))
    for name in plan.base.record:
        found[f"{name}_curve"] = (("step",), attributes_of(chosen[name].title))
    if plan.logits:
        found["logits"] = (("position", "token"), attributes_of("logits after the last step"))
    found[FINITE_STEPS] = ((), attributes_of("steps before the first non-finite number"))
    return found


def _coordinate(labels: Any) -> Any:
    import pandas as pd

    if isinstance(labels, range | np.ndarray):
        # Of millions of seeds xarray would make a copy, and of a range an array.
        return pd.Index(labels, copy=False)
    return list(labels)


def attributes_of(title: str, more: str = "") -> dict[str, str]:
    """Long name and unit; a unit stands in brackets at the end of a title."""
    name, _, unit = title.partition(" (")
    return {"long_name": name + more, "units": unit.rstrip(")") or "1"}
