"""Saved runs as labelled data, read from the blocks when it is asked for."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from sdpo_jax import Plan
from sdpo_jax.grid import label
from sweeps.file import parts
from sweeps.store import blocks as files
from sweeps.store.blocks import layout_of
from sweeps.store.folder import Folder
from sweeps.store.tasks import Blocks

# Below this a data set is read into memory at once.
SMALL = 2**26
# Blocks that a lazy data set keeps in memory.
_KEPT_BLOCKS = 8
FINISHED = "finished"


def grid_name(folder: Folder, grid: str | None) -> str:
    """The grid that is meant.

    Raises:
        ValueError: several grids and none named, or an unknown one.
    """
    names = list(folder.sweep.grids)
    if grid is None and len(names) == 1:
        return names[0]
    if grid not in names:
        raise ValueError(f"grid: {grid!r}; allowed: {', '.join(names)}")
    return grid


def of_grid(
    folder: Folder, grid: str, lazy: bool | None = None, done: Collection[str] | None = None
) -> xr.Dataset:
    """One grid of a folder. Arguments and errors as for ``open_sweep`` and ``of_plan``."""
    plan = folder.sweep.plans[grid]
    with parts.stand_ins(folder.manifest.registered):
        data = of_plan(plan, folder.blocks, lazy, done)
    data.attrs["sweep"] = folder.sweep.name
    title = folder.sweep.grids[grid].title or folder.sweep.title
    return data.assign_attrs(title=title) if title else data


def of_plan(
    plan: Plan, blocks: Blocks, lazy: bool | None = None, done: Collection[str] | None = None
) -> xr.Dataset:
    """The runs of a plan from the blocks that hold them.

    Args:
        plan: which.
        blocks: of them.
        lazy: as for ``open_sweep``.
        done: ids of the blocks that are there; looked for, if not given.
    """
    number, row = blocks.places(plan)
    # Not those of a fingerprint that is being replaced: old and new runs would be mixed.
    counts = blocks.counts if done is None else done.__contains__
    there = np.array([counts(task.identity) for task in blocks.tasks])
    source = _Source(blocks, number, row, there)
    outcome: dict[str, Any] = {
        name: _Lazy(source, name, plan.shape, extra, np.dtype(kind))
        for name, (extra, kind) in layout_of(plan).items()
    }
    size = sum(array.dtype.itemsize * int(np.prod(array.shape)) for array in outcome.values())
    data = label(plan, outcome)
    finished = there[number].reshape(plan.shape)
    dims = tuple(axis.dimension for axis in plan.axes)
    data[FINISHED] = (dims, finished, {"long_name": "whether the run is done", "units": "1"})
    return data.load() if not (size > SMALL if lazy is None else lazy) else data


class _Source:
    """Rows of blocks; the last few blocks are kept. It can be pickled, without those."""

    def __init__(self, blocks: Blocks, number: np.ndarray, row: np.ndarray, there: np.ndarray):
        # Plain data only, and a path that holds elsewhere, so that another process can read on.
        self.paths = [blocks.path(task.identity).absolute() for task in blocks.tasks]
        self.layouts = [(task.layout, len(task.keys)) for task in blocks.tasks]
        self.number, self.row, self.there = number, row, there
        self.read = lru_cache(_KEPT_BLOCKS)(self._read)

    def _read(self, number: int) -> dict[str, np.ndarray]:
        path = self.paths[number]
        return files.read(path, path.stem, *self.layouts[number]).arrays

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "read"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.read = lru_cache(_KEPT_BLOCKS)(self._read)

    def rows(self, name: str, runs: np.ndarray, extra: tuple[int, ...], dtype: Any) -> np.ndarray:
        """``[n, *extra]``: one variable of some runs."""
        fill = np.nan if dtype.kind == "f" else -1
        found = np.full((len(runs), *extra), fill, dtype)
        numbers = self.number[runs]
        for number in np.unique(numbers):
            if self.there[number]:
                mine = numbers == number
                array = self.read(int(number))[name]
                found[mine] = array[self.row[runs[mine]]]
        return found


class _Lazy(BackendArray):
    """One variable of a plan, read when it is indexed."""

    def __init__(
        self, source: _Source, name: str, grid: tuple[int, ...], extra: tuple[int, ...], dtype: Any
    ):
        self.source, self.name, self.grid, self.extra = source, name, grid, extra
        self.shape = (*grid, *extra)
        self.dtype = dtype

    def __getitem__(self, key: Any) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._get
        )

    def _get(self, key: tuple[Any, ...]) -> np.ndarray:
        front, back = key[: len(self.grid)], key[len(self.grid) :]
        chosen = [np.arange(size)[part] for size, part in zip(self.grid, front, strict=True)]
        kept = tuple(np.size(c) for c in chosen if np.ndim(c))
        mesh = np.ix_(*map(np.atleast_1d, chosen))
        runs = np.ravel_multi_index(mesh, self.grid).reshape(-1) if self.grid else np.zeros(1, int)
        found = self.source.rows(self.name, runs, self.extra, self.dtype)
        # One axis after another: several lists at once would mean points to numpy.
        for axis in reversed(range(len(back))):
            found = found[(slice(None),) * (axis + 1) + (back[axis],)]
        return found.reshape((*kept, *found.shape[1:]))
