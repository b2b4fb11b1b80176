"""Results of several folders as one data set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from sdpo_jax.engine.checks import shown
from sdpo_jax.program import FINITE_STEPS
from sweeps.api.open import open_sweep
from sweeps.store.labelled import FINISHED

# Attributes that say nothing of the runs.
_OF_FOLDERS = ("sweep", "title", "block_width")


def join_sweeps(
    directories: Iterable[str | os.PathLike[str]], grid: str | None = None
) -> xr.Dataset:
    """The results of several sweeps along the axes in which they differ.

    A number or name that is one value in each folder, and not the same in all, becomes an axis. Of
    a run that several folders have, the first one counts that has finished it.

    Args:
        directories: the folders, in memory as a whole.
        grid: which grid of each; may be left out where each has one.

    Returns:
        As ``sweeps.open``. Where no folder has a run, it is unfinished.

    Raises:
        ValueError: no folder, or folders that can't be joined, with what differs.
    """
    if isinstance(directories, (str, bytes, os.PathLike)) or not isinstance(directories, Iterable):
        raise ValueError(f"directories: {shown(directories)}; allowed: a list of folders")
    places = list(directories)
    if not places:
        raise ValueError("directories: none; allowed: one or more folders")
    parts = {str(place): open_sweep(place, grid, lazy=False) for place in places}
    for name, data in parts.items():
        if FINISHED not in data:
            raise ValueError(
                f"{name}: no sweep; allowed: folders that `python -m sweeps run` wrote"
            )
    names = {n: None for data in parts.values() for n in (*data.dims, *data.attrs)}
    for name in names:
        if name not in _OF_FOLDERS:
            parts = _aligned(str(name), parts)
    joined: xr.Dataset | None = None
    for data in map(_masked, parts.values()):
        joined = data if joined is None else joined.combine_first(data)
    assert joined is not None
    first = next(iter(parts.values()))
    order = [*first[FINITE_STEPS].dims]
    joined = joined.transpose(*order, ...)
    joined[FINISHED] = joined[FINISHED].fillna(0).astype(bool)
    joined[FINITE_STEPS] = joined[FINITE_STEPS].fillna(-1).astype(np.int32)
    for name, variable in joined.variables.items():
        variable.attrs = next(d[name].attrs for d in parts.values() if name in d.variables)
    common = {k: v for k, v in first.attrs.items() if k not in _OF_FOLDERS}
    joined.attrs = common | {"sweep": ", ".join(data.attrs["sweep"] for data in parts.values())}
    return joined


def _aligned(name: str, parts: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """The data sets with a name as an axis of all of them, if it is one of any, or differs."""
    found = {place: _values(name, data) for place, data in parts.items()}
    if not any(name in data.dims for data in parts.values()):
        there = [value for value in found.values() if value is not None]
        if all(value == there[0] for value in there):
            return {place: data.assign_attrs({name: there[0][0]}) for place, data in parts.items()}
    aligned = {}
    for place, data in parts.items():
        if found[place] is None:
            others = "; ".join(f"{other} has {v}" for other, v in found.items() if v is not None)
            raise ValueError(f"{place}: no {name}, and {others}; allowed: one value for all")
        if name not in data.dims:
            expanded = data.drop_vars(name, errors="ignore").expand_dims({name: found[place]})
            attrs = {key: value for key, value in data.attrs.items() if key != name}
            data = expanded.drop_attrs(deep=False).assign_attrs(attrs)
        elif name not in data.coords and found[place] != next(iter(found.values())):
            raise ValueError(f"{place}: other axes along {name}; allowed: the same in all folders")
        aligned[place] = data
    return aligned


def _values(name: str, data: xr.Dataset) -> list[Any] | None:
    """What a data set has of an axis, or the one value; ``None`` where it has none."""
    if name in data.coords:
        return data[name].values.tolist()
    if name in data.dims:
        # Zipped: what varies along it.
        return [(str(n), *c.values.tolist()) for n, c in data.coords.items() if c.dims == (name,)]
    return [data.attrs[name]] if name in data.attrs else None


def _masked(data: xr.Dataset) -> xr.Dataset:
    """Whatever is not finished is missing."""
    finished = data[FINISHED]
    return data.assign({name: values.where(finished) for name, values in data.data_vars.items()})
