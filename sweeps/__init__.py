"""The paper reproduced, and sweeps in general: runs the library, stores results, reads them.

>>> import sweeps
>>> data = sweeps.open("results/learning-rate")  # doctest: +SKIP
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr


def open(
    directory: str | os.PathLike[str], grid: str | None = None, lazy: bool | None = None
) -> xr.Dataset:
    """The results of a sweep as a labelled data set; see ``sweeps.opening.open_sweep``."""
    from sweeps.opening import open_sweep

    return open_sweep(directory, grid, lazy)
