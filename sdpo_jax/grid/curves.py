"""Curves over an axis, summed up as they come instead of kept: memory does not grow with the runs.

Means and standard deviations are sums in float64, added in one order whatever computes the runs.
Quantiles come from counts of the values between a metric's bounds, to ``1 / BINS`` of their range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdpo_jax.config import as_numbers
from sdpo_jax.engine.checks import shown
from sdpo_jax.grid.plan import Plan
from sdpo_jax.metrics import Metric
from sdpo_jax.program import chosen_metrics

BINS = 1000

# Runs that are added at a time, whatever the number of devices: it decides the last bits.
RUNS_AT_A_TIME = 8192

_MOST_BYTES = 2**30

Variables = dict[str, tuple[tuple[str, ...], np.ndarray]]


@dataclass
class _Sums:
    """Of one metric: everything ``[cells, points]``, the counts ``[cells, points, BINS]``.

    Attributes:
        bounds: the ends of the counts' range.
        count: finite values.
        total: their sum.
        squares: the sum of their squares.
        counts: how many lie in each part of the range; ``None`` where no quantile is wanted.
    """

    bounds: tuple[float, float] | None
    count: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    counts: np.ndarray | None


def check_quantiles(quantiles: Any) -> None:
    """Check the quantiles that are asked for.

    Raises:
        ValueError: no sequence of different numbers in [0, 1], in one line.
    """
    refused = isinstance(quantiles, (str, bytes, bytearray, set, dict))
    numbers = None if refused else as_numbers(quantiles)
    if numbers is not None and numbers.size == 0:
        return
    if numbers is None or numbers.ndim != 1:
        raise ValueError(f"quantiles: {shown(quantiles)}; allowed: a sequence of numbers, 0 to 1")
    for number in numbers.tolist():
        if not 0 <= number <= 1:
            raise ValueError(f"quantiles: {number!r}; allowed: 0 to 1")
    if len(set(numbers.tolist())) < numbers.size:
        raise ValueError(f"quantiles: {shown(quantiles)}; allowed: each once")


class CurvesOver:
    """The recorded curves of a plan over one of its dimensions."""

    def __init__(self, plan: Plan, dimension: str, quantiles: Sequence[float]):
        """
        Args:
            plan: what is trained.
            dimension: which of its dimensions goes.
            quantiles: in [0, 1]; of metrics that have bounds.

        Raises:
            ValueError: no such dimension, no recorded curve, a number that is no quantile, or
                counts that would fill the memory.
        """
        dimensions = [axis.dimension for axis in plan.axes]
        if not isinstance(dimension, str) or dimension not in dimensions:
            allowed = ", ".join(dimensions)
            raise ValueError(f"curves_over: {shown(dimension)}; allowed: one of the axes {allowed}")
        if not plan.base.record:
            raise ValueError(f"curves_over: {dimension!r}; allowed: with curves that are recorded")
        check_quantiles(quantiles)
        self._shape = plan.shape
        self._gone = dimensions.index(dimension)
        self._left = [i for i in range(len(dimensions)) if i != self._gone]
        self._dimensions = tuple(dimensions[i] for i in self._left)
        self._quantiles = np.asarray(quantiles, float)
        cells = int(np.prod([plan.shape[i] for i in self._left], dtype=np.int64))
        points = -(-plan.base.sizes.steps // plan.base.record_every)
        metrics = chosen_metrics(plan.base)
        bounds = {
            name: _bounds(plan, metrics[name]) if len(quantiles) else None
            for name in plan.base.record
        }
        size = sum(each is not None for each in bounds.values()) * cells * points * BINS * 4
        if size > _MOST_BYTES:
            raise ValueError(
                f"quantiles: counts of {cells:,} cells at {points} steps would take "
                f"{size / 2**30:.1f} GiB; allowed: up to {_MOST_BYTES / 2**30:.0f} GiB (a larger "
                "record_every, fewer curves or cells), or no quantiles"
            )
        self._sums = {
            name: _Sums(
                each,
                np.zeros((cells, points), np.int64),
                np.zeros((cells, points)),
                np.zeros((cells, points)),
                None if each is None else np.zeros((cells, points, BINS), np.uint32),
            )
            for name, each in bounds.items()
        }

    def take(self, runs: np.ndarray, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Add the curves of some runs.

        Args:
            runs: ``[n]``, their places in the grid.
            arrays: by variable ``[n, ...]``.

        Returns:
            ``arrays`` without the curves.
        """
        places = np.unravel_index(runs, self._shape)
        shape = tuple(self._shape[i] for i in self._left)
        cells = (
            np.ravel_multi_index(tuple(places[i] for i in self._left), shape)
            if shape
            else np.zeros(len(runs), np.int64)
        )
        order = np.argsort(cells, kind="stable")
        cells = cells[order]
        starts = np.flatnonzero(np.concatenate(([True], cells[1:] != cells[:-1])))
        rest = dict(arrays)
        for name, sums in self._sums.items():
            _add(sums, cells, starts, rest.pop(f"{name}_curve")[order])
        return rest

    def variables(self) -> Variables:
        """By name the dimensions and values of all statistics, with ``step`` behind the axes."""
        found: Variables = {}
        dims = (*self._dimensions, "step")
        for name, sums in self._sums.items():
            shape = (*(self._shape[i] for i in self._left), sums.count.shape[1])
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = sums.total / sums.count
                spread = (sums.squares - sums.count * mean**2) / (sums.count - 1)
            deviation = np.sqrt(np.maximum(spread, 0.0))
            found[f"{name}_curve"] = (dims, mean.reshape(shape))
            found[f"{name}_curve_sd"] = (dims, deviation.reshape(shape))
            found[f"{name}_curve_count"] = (dims, sums.count.reshape(shape))
            if sums.counts is not None and sums.bounds is not None:
                values = _quantiles(sums.counts, sums.bounds, self._quantiles)
                found[f"{name}_curve_quantile"] = (
                    (*dims, "quantile"),
                    values.reshape(*shape, len(self._quantiles)),
                )
        return found


def _bounds(plan: Plan, metric: Metric) -> tuple[float, float] | None:
    """The widest of a metric's bounds at any size of the plan."""
    bounds = metric.bounds
    if bounds is None:
        return None
    lows, highs = zip(*(bounds(group.program.sizes) for group in plan.groups), strict=True)
    return min(lows), max(highs)


def _add(sums: _Sums, cells: np.ndarray, starts: np.ndarray, curves: np.ndarray) -> None:
    """Add curves ``[n, points]`` of sorted cells, each of which begins at one of ``starts``."""
    finite = np.isfinite(curves)
    values = np.where(finite, curves, 0).astype(np.float64)
    which = cells[starts]
    sums.count[which] += np.add.reduceat(finite, starts, axis=0, dtype=np.int64)
    sums.total[which] += np.add.reduceat(values, starts, axis=0)
    sums.squares[which] += np.add.reduceat(values * values, starts, axis=0)
    if sums.counts is None or sums.bounds is None:
        return
    low, high = sums.bounds
    part = ((values - low) * (BINS / (high - low))).astype(np.int64).clip(0, BINS - 1)
    points = curves.shape[1]
    place = (cells[:, None] * points + np.arange(points)) * BINS + part
    np.add.at(sums.counts.reshape(-1), place[finite], np.uint32(1))


def _quantiles(
    counts: np.ndarray, bounds: tuple[float, float], quantiles: np.ndarray
) -> np.ndarray:
    """From counts ``[cells, points, BINS]``: ``[cells, points, quantiles]``, NaN where none is."""
    low, high = bounds
    found = np.full((*counts.shape[:2], len(quantiles)), np.nan)
    for cell, at in enumerate(counts):
        upto = np.cumsum(at, axis=-1, dtype=np.int64)
        for number, quantile in enumerate(quantiles):
            wanted = quantile * upto[:, -1]
            part = np.minimum((upto < wanted[:, None]).sum(-1), BINS - 1)
            # Of a part without a value only 0 and 1 can ask: their nearest one that has some.
            part = np.maximum(part, (at > 0).argmax(-1))
            inside = np.take_along_axis(at, part[:, None], -1)[:, 0].astype(float)
            before = np.take_along_axis(upto, part[:, None], -1)[:, 0] - inside
            with np.errstate(invalid="ignore", divide="ignore"):
                share = np.clip((wanted - before) / inside, 0.0, 1.0)
            found[cell, :, number] = low + (part + share) * (high - low) / BINS
    return found


def attributes(name: str, of: Mapping[str, str]) -> dict[str, Any]:
    """The attributes of one of ``variables``, from those of the curve itself."""
    kinds = {
        "_curve": "mean",
        "_curve_sd": "standard deviation",
        "_curve_count": "finite values",
        "_curve_quantile": "quantiles",
    }
    kind = kinds[name[name.rindex("_curve") :]]
    units = "1" if kind == "finite values" else of["units"]
    return {"long_name": f"{of['long_name']}, {kind} over runs", "units": units}
