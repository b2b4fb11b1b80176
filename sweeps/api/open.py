"""What ``sweeps.open`` does: the results in a folder, whichever command wrote them."""

from __future__ import annotations

import os
from pathlib import Path

import xarray as xr

from sdpo_jax.engine.checks import shown
from sweeps.store import datasets, kinds
from sweeps.store.folder import Folder
from sweeps.store.labelled import grid_name, of_grid
from sweeps.store.manifest import data_sets


def open_sweep(
    directory: str | os.PathLike[str], grid: str | None = None, lazy: bool | None = None
) -> xr.Dataset:
    """The results of a sweep, finished or not, with its axes as named coordinates.

    Args:
        directory: what ``python -m sweeps run`` wrote; or ``reproduce``, ``audit``, ``in_context``
            or ``calibrate``, whose data sets are named as grids are, and come as they were saved.
        grid: which grid; may be left out where there is one.
        lazy: whether arrays are read from the disk only as far as they are looked at; by default
            where they are large. Every block is checked when it is first read.

    Returns:
        As ``run_grid``, and ``finished``: whether a run is done. Where it is not, its numbers are
        NaN and its ``finite_steps`` -1.

    Raises:
        NoSweep: there is no sweep in the folder.
        ValueError: no path, several grids and none named, or an unknown one.
        DamagedBlock: bytes of a block changed; ``python -m sweeps resume`` repairs it.
    """
    if not isinstance(directory, (str, os.PathLike)):
        raise ValueError(f"directory: {shown(directory)}; allowed: the path of a folder")
    path = Path(directory)
    made = kinds.find(path)
    names = [] if made is None else data_sets(made)
    if made is not None and names:
        if (len(names) > 1 and grid is None) or (grid is not None and grid not in names):
            raise ValueError(f"grid: {grid!r}; allowed: {', '.join(names)}")
        name = names[0] if grid is None else grid
        if made.kind is kinds.CALIBRATION:
            from sweeps.calibration.saved import load

            return load(made, name, lazy)
        return datasets.load(path, name)
    folder = Folder.open(path)
    return of_grid(folder, grid_name(folder, grid), lazy)
