"""A sweep in numbers: each cell over its seeds, and each pair of algorithms compared within seeds.

Rows are dicts from column to value. Runs that are not done or broke down are left out of the
estimates and counted in every row.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from sweeps import statistics
from sweeps.report.health import broken_runs, collapsed_runs, finished_runs
from sweeps.statistics import Interval

Row = dict[str, Any]

SEED = "seed"
ALGORITHM = "algorithm"
# How columns begin that hold what goes with the one and the other algorithm of a pair.
OF_TWO = ("first_", "second_")
# Fewer seeds than this have no bootstrap interval.
LEAST = 5
# Pairs of a zip beyond which nobody reads them all.
_MOST_PAIRS = 200
# Resamples of a cell: enough for ends to two digits.
_RESAMPLES = 1_000


def metrics_of(data: xr.Dataset) -> list[str]:
    """The metrics of a data set, in order."""
    return [str(name) for name in data.data_vars if f"{name}_mean" in data]


def cells(data: xr.Dataset) -> tuple[list[str], list[dict[str, Any]], np.ndarray]:
    """The cells of a grid: the axes that name them, their labels, and which runs they hold.

    Returns:
        The axes' names; for each cell its labels; and ``[cells, seeds]``, indices into the runs in
        row-major order.
    """
    grid_dims = list(data["finite_steps"].dims)
    seeds = [dim for dim in grid_dims if dim == SEED]
    others = [dim for dim in grid_dims if dim != SEED]
    runs = np.arange(data["finite_steps"].size).reshape(data["finite_steps"].shape)
    array = xr.DataArray(runs, dims=grid_dims).transpose(*others, *seeds)
    shape = tuple(data.sizes[dim] for dim in others)
    names = [
        str(name)
        for dim in others
        for name, coordinate in data.coords.items()
        if coordinate.dims == (dim,)
    ]
    labels = []
    for place in np.ndindex(*shape):
        at = dict(zip(others, place, strict=True))
        labels.append({name: data[name].values[at[data[name].dims[0]]].item() for name in names})
    return names, labels, array.values.reshape(len(labels), -1)


def summary_rows(data: xr.Dataset) -> Iterator[Row]:
    """For each cell and metric: mean, median and interquartile mean with 95% intervals."""
    names, labels, runs = cells(data)
    dims = data["finite_steps"].dims
    broken = broken_runs(data).reshape(-1)[runs]
    done = finished_runs(data).reshape(-1)[runs]
    collapsed = collapsed_runs(data).reshape(-1)[runs]
    for metric in metrics_of(data):
        values = data[metric].transpose(*dims).values.reshape(-1)[runs].astype(np.float64)
        usable = done & ~broken & np.isfinite(values)
        # Whole cells at once; those that lack a run one by one.
        whole = usable.all(axis=1)
        found: dict[int, dict[str, Interval]] = {}
        count = values.shape[1]
        if whole.any() and count > 1:
            several = _intervals(values[whole])
            for position, cell in enumerate(np.flatnonzero(whole).tolist()):
                found[cell] = {name: each[position] for name, each in several.items()}
        for cell, label in enumerate(labels):
            good = values[cell][usable[cell]]
            if cell not in found and good.size > 1:
                found[cell] = _intervals(good)
            row: Row = {name: label[name] for name in names}
            row |= {
                "metric": metric,
                "seeds": int(good.size),
                "unfinished": int((~done[cell]).sum()),
                "not_finite": int(broken[cell].sum()),
                "collapsed": int(collapsed[cell].sum()),
            }
            row |= _columns(found.get(cell), good)
            yield row


def _intervals(values: np.ndarray) -> dict[str, Interval]:
    found = {"mean": statistics.mean(values)}
    if values.shape[-1] >= LEAST:
        found["median"] = statistics.bootstrap(values, np.median, resamples=_RESAMPLES)
        found["iqm"] = statistics.interquartile_mean(values, resamples=_RESAMPLES)
    return found


def _columns(found: dict[str, Interval] | None, good: np.ndarray) -> Row:
    row: Row = {}
    for name in ("mean", "median", "iqm"):
        each = (found or {}).get(name)
        alone = float(good[0]) if good.size == 1 and name == "mean" else None
        row[name] = alone if each is None else float(each.estimate)
        row[f"{name}_low"] = None if each is None else float(each.low)
        row[f"{name}_high"] = None if each is None else float(each.high)
    return row


def comparison_rows(data: xr.Dataset, metric: str = "reward") -> list[Row]:
    """Every two algorithms in every other cell: paired difference, improvement, Holm's p value.

    Algorithms of a zip are compared as they stand there, each with what goes with it, which
    ``first_NAME`` and ``second_NAME`` say. Of a zip with more than ``_MOST_PAIRS`` pairs of
    different algorithms none are.

    Empty where no axis has several algorithms, or fewer than five seeds.
    """
    if ALGORITHM not in data.coords or SEED not in data.dims or metric not in data:
        return []
    names, labels, runs = cells(data)
    if ALGORITHM not in names:
        return []
    broken = broken_runs(data).reshape(-1)
    done = finished_runs(data).reshape(-1)
    dims = data["finite_steps"].dims
    values = data[metric].transpose(*dims).values.reshape(-1).astype(np.float64)
    # Which differences are rounding depends on the type that the metric was computed in.
    kind = data[metric].dtype
    zipped = data[ALGORITHM].dims
    rest = [name for name in names if data[name].dims != zipped]
    beside = [name for name in names if data[name].dims == zipped and name != ALGORITHM]
    by_cell: dict[tuple, list[tuple[Row, np.ndarray]]] = {}
    for label, mine in zip(labels, runs, strict=True):
        by_cell.setdefault(tuple(label[n] for n in rest), []).append((label, mine))
    good = done & ~broken & np.isfinite(values)
    rows: list[Row] = []
    for place, settings in by_cell.items():
        pairs = [
            pair
            for pair in itertools.combinations(settings, 2)
            if pair[0][0][ALGORITHM] != pair[1][0][ALGORITHM]
        ]
        if beside and len(pairs) > _MOST_PAIRS:
            continue
        for (first, a), (second, b) in pairs:
            both = good[a] & good[b]
            if both.sum() < LEAST:
                continue
            x, y = values[a[both]], values[b[both]]
            difference = statistics.paired_difference(x, y)
            better = statistics.probability_of_improvement(x, y)
            rows.append(
                {
                    **dict(zip(rest, place, strict=True)),
                    "metric": metric,
                    "first": first[ALGORITHM],
                    **{f"{OF_TWO[0]}{name}": first[name] for name in beside},
                    "second": second[ALGORITHM],
                    **{f"{OF_TWO[1]}{name}": second[name] for name in beside},
                    "seeds": int(both.sum()),
                    "difference": float(difference.estimate),
                    "difference_low": float(difference.low),
                    "difference_high": float(difference.high),
                    "improvement": float(better.estimate),
                    "improvement_low": float(better.low),
                    "improvement_high": float(better.high),
                    "p": float(statistics.paired_p_value(x.astype(kind), y.astype(kind))),
                }
            )
    for row, corrected in zip(rows, statistics.holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = float(corrected)
    return rows
