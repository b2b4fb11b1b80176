"""Each algorithm at its best setting: chosen on one half of the seeds, judged on the other.

What an algorithm can choose (its learning rate, its own numbers) is a setting. What a run is given
(the feedback, its noise, the size of the problem) is a condition, and each condition has its best
settings. The best of several settings on the seeds that chose it looks better than it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from sdpo_jax import ALGORITHMS
from sdpo_jax.algorithm import numbers_of
from sweeps import statistics
from sweeps.report import views
from sweeps.report.health import broken_runs, finished_runs
from sweeps.report.summary import ALGORITHM, LEAST, SEED, Row, cells
from sweeps.report.views import CONDITION, STEP
from sweeps.statistics import Floats, Interval

# What an algorithm can choose, beside the numbers of its own.
_SETTINGS = {
    "optimizer", "learning_rate", "kl_weight", "feedback_strength", "epochs", "samples", "teachers",
    "top_k",
}  # fmt: skip
# With more algorithms than this only the best is compared with each of the others.
_ALL_PAIRS = 5
# Scores at which a profile is drawn.
_SCORES = 101


@dataclass(frozen=True)
class Best:
    """The best setting of an algorithm under a condition.

    Attributes:
        condition: by axis what is given.
        algorithm: its name; ``None`` where the grid has no axis of algorithms.
        setting: by axis what was chosen.
        tried: how many settings it was chosen from.
        chosen_by: its mean on the seeds that chose it.
        cell: its place among ``summary.cells``.
        values: of the seeds that judge it; NaN of runs that are left out.
    """

    condition: dict[str, Any]
    algorithm: str | None
    setting: dict[str, Any]
    tried: int
    chosen_by: float
    cell: int
    values: Floats

    @property
    def panel(self) -> str:
        """The condition for readers."""
        return ", ".join(
            f"{views.heading(name)} {views.value_name(name, value)}"
            for name, value in self.condition.items()
        )


@dataclass(frozen=True)
class Chosen:
    """All of them.

    Attributes:
        metric: by whose mean they were chosen.
        best: of each condition and algorithm, in the order of the grid.
        judges: places of the seeds that judge.
        apart: whether other seeds chose than judge; where there is nothing to choose, all judge.
    """

    metric: str
    best: tuple[Best, ...]
    judges: np.ndarray
    apart: bool

    @property
    def algorithms(self) -> list[str]:
        """The algorithms, in the order of the grid."""
        return [name for name in dict.fromkeys(each.algorithm for each in self.best) if name]

    @property
    def panels(self) -> list[str]:
        """The conditions, in the order of the grid."""
        return list(dict.fromkeys(each.panel for each in self.best))

    @property
    def choice(self) -> bool:
        """Whether any algorithm had more than one setting."""
        return any(each.tried > 1 for each in self.best)


def best_settings(data: xr.Dataset, metric: str = "reward") -> Chosen | None:
    """The best setting of each algorithm by the mean of a metric.

    Where an algorithm has several settings and there are ten seeds or more, every second seed
    chooses and the others judge; with fewer, the same seeds do both. A setting with a run that was
    not finite comes after all that have none.

    Args:
        data: as ``sweeps.open`` gives it.
        metric: the higher the better.

    Returns:
        The settings, without those of which no run is done; ``None`` where the metric is not
        there, or nothing but the seed varies.
    """
    if metric not in data or not views.axes_of(data):
        return None
    names, labels, runs = cells(data)
    dims = data["finite_steps"].dims
    values = data[metric].transpose(*dims).values.reshape(-1).astype(np.float64)[runs]
    broken = broken_runs(data).reshape(-1)[runs]
    good = finished_runs(data).reshape(-1)[runs] & ~broken & np.isfinite(values)
    values = np.where(good, values, np.nan)
    settings = {name for name in names if _is_setting(data, name)}
    groups: dict[tuple, list[int]] = {}
    for cell, label in enumerate(labels):
        key = tuple(label[name] for name in names if name not in settings)
        if good[cell].any():
            groups.setdefault(key, []).append(cell)
    choice = any(len(group) > 1 for group in groups.values())
    seeds = np.arange(values.shape[-1])
    apart = choice and len(seeds) >= 2 * LEAST
    choosers, judges = (seeds[::2], seeds[1::2]) if apart else (seeds, seeds)

    def score(cell: int) -> tuple[bool, float]:
        some = values[cell, choosers]
        some = some[np.isfinite(some)]
        return not broken[cell].any(), float(some.mean()) if some.size else -np.inf

    found = []
    for group in groups.values():
        cell = max(group, key=score)
        label = labels[cell]
        found.append(
            Best(
                {n: label[n] for n in names if n not in settings and n != ALGORITHM},
                label.get(ALGORITHM),
                {n: label[n] for n in names if n in settings},
                len(group),
                score(cell)[1],
                cell,
                values[cell, judges],
            )
        )
    order = list(dict.fromkeys(each.panel for each in found))
    found.sort(key=lambda each: order.index(each.panel))
    return Chosen(metric, tuple(found), judges, apart) if found else None


def _is_setting(data: xr.Dataset, name: str) -> bool:
    if name in _SETTINGS:
        return True
    names = data[ALGORITHM].values.ravel().tolist() if ALGORITHM in data.coords else []
    names = names or [data.attrs.get(ALGORITHM)]
    # A number that is not known to be an algorithm's may be the problem's: the best of those would
    # be the easiest problem.
    return any(name in numbers_of(ALGORITHMS[each]) for each in names if each in ALGORITHMS)


def rows(chosen: Chosen) -> list[Row]:
    """A row for each best setting: what was chosen from how many, and its mean with interval."""
    found: list[Row] = []
    for each in chosen.best:
        row: Row = dict(each.condition)
        if each.algorithm is not None:
            row[ALGORITHM] = each.algorithm
        centre, low, high, count = (one.item() for one in views.means(each.values))
        several = count > 1
        found.append(
            {
                **row,
                **each.setting,
                "metric": chosen.metric,
                "tried": each.tried,
                "seeds": count,
                "mean": centre if count else None,
                "mean_low": low if several else None,
                "mean_high": high if several else None,
            }
        )
    return found


def curve_rows(data: xr.Dataset, chosen: Chosen, metric: str) -> list[Row]:
    """The recorded curve of a metric at each best setting, over the seeds that judge it.

    Rows are as those of ``views.rows``; the condition stands in one column.
    """
    dims = [str(dim) for dim in data["finite_steps"].dims]
    others = [dim for dim in dims if dim != SEED]
    broken = xr.DataArray(broken_runs(data), dims=dims)
    shape = tuple(data.sizes[dim] for dim in others)
    steps = data[STEP].values.tolist()
    found: list[Row] = []
    for each in chosen.best:
        at: dict[Any, Any] = {
            dim: int(place)
            for dim, place in zip(others, np.unravel_index(each.cell, shape), strict=True)
        }
        if SEED in dims:
            at[SEED] = chosen.judges
        part = data[f"{metric}_curve"].isel(at).load().where(~broken.isel(at))
        part = part.transpose(STEP, ...)
        values = part.values.astype(np.float64).reshape(len(steps), -1)
        for step, centre, low, high, count in zip(steps, *views.means(values), strict=True):
            if count:
                found.append(
                    {
                        CONDITION: each.panel,
                        ALGORITHM: each.algorithm,
                        STEP: step,
                        "metric": metric,
                        "seeds": int(count),
                        "mean": float(centre),
                        "mean_low": float(low) if count > 1 else None,
                        "mean_high": float(high) if count > 1 else None,
                    }
                )
    return found


def profiles(chosen: Chosen) -> dict[str, dict[str, tuple[Floats, Interval]]]:
    """Performance profiles: the share of runs above each score, by condition and algorithm.

    As in Agarwal et al. (2021), "Deep reinforcement learning at the edge of the statistical
    precipice"; the seed is the unit, and the interval of a share is Wilson's.

    Returns:
        By condition and algorithm the scores and shares; empty for fewer than two algorithms, and
        without those that have fewer than five seeds.
    """
    found: dict[str, dict[str, tuple[Floats, Interval]]] = {}
    if len(chosen.algorithms) < 2:
        return found
    for panel in chosen.panels:
        mine = {b.algorithm: b.values[np.isfinite(b.values)] for b in _in(chosen, panel)}
        mine = {name: values for name, values in mine.items() if values.size >= LEAST}
        if len(mine) < 2:
            continue
        every = np.concatenate(list(mine.values()))
        room = 0.02 * (np.ptp(every) or 1.0)
        scores = np.linspace(every.min() - room, every.max() + room, _SCORES)
        found[panel] = {
            str(name): (scores, statistics.proportion(values > scores[:, None]))
            for name, values in mine.items()
        }
    return found


def improvements(chosen: Chosen) -> list[Row]:
    """The probability of improvement between algorithms at their best, under each condition.

    All pairs of up to five algorithms; of more, the one that the choosing seeds rank first with
    each of the others.
    """
    found: list[Row] = []
    for panel in chosen.panels:
        mine = [each for each in _in(chosen, panel) if each.algorithm is not None]
        pairs = list(itertools.combinations(mine, 2))
        if len(mine) > _ALL_PAIRS:
            first = max(mine, key=lambda each: each.chosen_by)
            pairs = [(first, each) for each in mine if each is not first]
        for a, b in pairs:
            both = np.isfinite(a.values) & np.isfinite(b.values)
            if both.sum() < LEAST:
                continue
            better = statistics.probability_of_improvement(a.values[both], b.values[both])
            found.append(
                {
                    **a.condition,
                    "metric": chosen.metric,
                    "first": a.algorithm,
                    "second": b.algorithm,
                    "seeds": int(both.sum()),
                    "improvement": float(better.estimate),
                    "improvement_low": float(better.low),
                    "improvement_high": float(better.high),
                }
            )
    return found


def by_panel(chosen: Chosen, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of ``improvements`` by the condition that they are of."""
    found: dict[str, list[Row]] = {}
    for panel in chosen.panels:
        condition = next(iter(_in(chosen, panel))).condition
        mine = [r for r in rows if all(r[name] == value for name, value in condition.items())]
        if mine:
            found[panel] = mine
    return found


def _in(chosen: Chosen, panel: str) -> list[Best]:
    return [each for each in chosen.best if each.panel == panel]
