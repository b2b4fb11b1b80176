"""How many runs of a data set are done, broke down or collapsed; part of every summary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from sdpo_jax.program import FINITE_STEPS

# Final entropy below which a policy says the same whatever is drawn (nats a position).
COLLAPSED = 0.01


@dataclass(frozen=True)
class Health:
    """Counts of runs.

    Attributes:
        runs: all of them.
        unfinished: not computed yet.
        broken: with a number that was not finite at some step.
        first_step: the earliest step at which that happened; ``None`` where it did not.
        collapsed: whose policy ended almost without entropy; ``None`` where it was not measured.
    """

    runs: int
    unfinished: int
    broken: int
    first_step: int | None
    collapsed: int | None

    def __str__(self) -> str:
        parts = [f"{self.runs:,} runs", f"{self.unfinished:,} unfinished"]
        where = "" if self.first_step is None else f", the first at step {self.first_step}"
        parts.append(f"{self.broken:,} not finite{where}")
        if self.collapsed is not None:
            parts.append(f"{self.collapsed:,} collapsed (entropy below {COLLAPSED} nats)")
        return "; ".join(parts)


def health(data: xr.Dataset) -> Health:
    """Count what went wrong in a data set of ``run_grid`` or ``sweeps.open``."""
    steps = data[FINITE_STEPS]
    done = finished_runs(data)
    broken = broken_runs(data)
    first = steps.values[broken]
    return Health(
        done.size,
        int((~done).sum()),
        int(broken.sum()),
        int(first.min()) if first.size else None,
        int(collapsed_runs(data).sum()) if "entropy" in data else None,
    )


def finished_runs(data: xr.Dataset) -> np.ndarray:
    """Which runs are done, in the shape of the grid."""
    shape = data[FINITE_STEPS].shape
    return data["finished"].values if "finished" in data else np.ones(shape, bool)


def collapsed_runs(data: xr.Dataset) -> np.ndarray:
    """Which runs ended almost without entropy, in the shape of the grid; none, if unmeasured."""
    dims = data[FINITE_STEPS].dims
    if "entropy" not in data:
        return np.zeros(data[FINITE_STEPS].shape, bool)
    # NaN, of runs that are not done or broke down, is not below anything.
    return data["entropy"].transpose(*dims).values < COLLAPSED


def broken_runs(data: xr.Dataset) -> np.ndarray:
    """Which runs are done and had a number that was not finite, in the shape of the grid."""
    steps = data[FINITE_STEPS]
    done = finished_runs(data)
    if "steps" in data.coords:
        asked = xr.broadcast(data["steps"], steps)[0].transpose(*steps.dims).values
    else:
        asked = np.full(steps.shape, data.attrs["steps"])
    return done & (steps.values < asked)
