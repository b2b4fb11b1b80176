"""The paper reproduced, and sweeps in general: runs the library, stores results, reads them.

>>> import sweeps
>>> data = sweeps.run({"noise": [0.0, 0.3], "seed": range(64)}, "results/noise")  # doctest: +SKIP
>>> data = sweeps.open("results/noise")  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from sdpo_jax.grid import Progress


def open(
    directory: str | os.PathLike[str], grid: str | None = None, lazy: bool | None = None
) -> xr.Dataset:
    """The results of a sweep as a labelled data set; see ``sweeps.opening.open_sweep``."""
    from sweeps.opening import open_sweep

    return open_sweep(directory, grid, lazy)


def join(directories: Iterable[str | os.PathLike[str]], grid: str | None = None) -> xr.Dataset:
    """The results of several sweeps as one data set; see ``sweeps.joining.join_sweeps``."""
    from sweeps.joining import join_sweeps

    return join_sweeps(directories, grid)


def run(
    sweep: Mapping[str, Any] | str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    base: Mapping[str, Any] | None = None,
    title: str = "",
    on_change: str = "refuse",
    progress: Callable[[Progress], None] | None = None,
    client: Any = None,
) -> xr.Dataset | dict[str, xr.Dataset]:
    """Run a sweep into a folder, or go on with it; see ``sweeps.from_python.run_sweep``."""
    from sweeps.from_python import run_sweep

    return run_sweep(
        sweep, out, base=base, title=title, on_change=on_change, progress=progress, client=client
    )
