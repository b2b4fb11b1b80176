"""Tuning on tuning seeds, then evaluation of what came out best on seeds that tuning never saw.

A cell is what a contender is confronted with: an oracle, a noise, a knowledge, sizes. In each cell
a contender tries all of its settings on the tuning seeds, and the one with the largest mean final
reward is trained once more on the evaluation seeds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr

import sdpo_jax
from sdpo_jax import Config, Metric, Oracle, Sizes, View
from sdpo_jax.config import CONFIG_FIELDS
from sdpo_jax.engine import lanes
from sweeps import statistics
from sweeps.audit.contenders import Contender
from sweeps.audit.plan import TEACHER_NODES
from sweeps.study.trainer import Trainer

Row = dict[str, Any]

# Steps between two points of the recorded curves.
EVERY = 10


def _error_of_feedback(view: View) -> Any:
    difference = view.feedback - view.reward
    return lanes.mean(difference * difference, 0)


METRICS: tuple[str | tuple[str, Metric], ...] = (
    *("reward", "credit", "queries"),
    # Of the same last steps as the reward: a policy that changes at the end must not be credited
    # with the reward that it had before and the entropy that it has after.
    ("entropy", replace(sdpo_jax.METRICS["entropy"], windowed=True)),
    ("feedback_error", Metric(_error_of_feedback, "mean square error of the feedback")),
)
RECORD = ("reward", "entropy")


@dataclass(frozen=True)
class Cell:
    """What a contender is confronted with.

    Attributes:
        oracle: label of the oracle.
        noise: sigma.
        knowledge: rho.
    """

    oracle: str = "continuous"
    noise: float = 0.0
    knowledge: float = 1.0


@dataclass
class Outcome:
    """Of one contender in some cells.

    Attributes:
        tuning: one row for each cell and setting.
        chosen: one row for each cell: the setting with the best mean on the tuning seeds.
        evaluated: by metric ``[cells, seeds]``; curves ``[cells, points]`` (means over seeds).
    """

    tuning: list[Row] = field(default_factory=list)
    chosen: list[Row] = field(default_factory=list)
    evaluated: dict[str, list[np.ndarray]] = field(default_factory=dict)


def train(
    trainer: Trainer,
    contender: Contender,
    axes: Mapping[str, Any],
    seeds: Sequence[int],
    sizes: Sizes,
    oracles: Mapping[str, Oracle],
    config: Config | None = None,
) -> xr.Dataset:
    """Train a contender on a grid; it learns from the feedback, whatever that is."""
    config = Config() if config is None else config
    plan = sdpo_jax.plan_grid(
        {
            "algorithm": [contender.algorithm],
            "oracle": dict(oracles),
            **axes,
            "seed": list(seeds),
        },
        config=replace(config, learn_from_feedback=1.0),
        sizes=replace(sizes, epochs=contender.epochs),
        metrics=METRICS,
        record=RECORD,
        record_every=EVERY,
        teacher_nodes=TEACHER_NODES,
    )
    return trainer.train(plan).isel(algorithm=0, drop=True)


def split(setting: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """A setting's numbers of ``Config``, and those of the algorithm's own."""
    shared = {name: value for name, value in setting.items() if name in CONFIG_FIELDS}
    return shared, {name: value for name, value in setting.items() if name not in shared}


def tune(
    trainer: Trainer,
    contender: Contender,
    cells: Sequence[Cell],
    settings: Mapping[str, Sequence[float]],
    seeds: Sequence[int],
    sizes: Sizes,
    oracles: Mapping[str, Oracle],
) -> list[Row]:
    """Mean final reward of every setting in every cell over tuning seeds, with its interval."""
    axes = {
        "noise": sorted({cell.noise for cell in cells}),
        "knowledge": sorted({cell.knowledge for cell in cells}),
        **settings,
    }
    wanted = {name: oracles[name] for name in dict.fromkeys(cell.oracle for cell in cells)}
    data = train(trainer, contender, axes, seeds, sizes, wanted)
    rows = []
    for cell in cells:
        at = data.sel(oracle=cell.oracle, noise=cell.noise, knowledge=cell.knowledge)
        for values in itertools.product(*settings.values()):
            setting = dict(zip(settings, values, strict=True))
            picked = at.sel(setting)
            interval = statistics.mean(picked.reward.values)
            rows.append(
                {
                    "contender": contender.name,
                    "oracle": cell.oracle,
                    "noise": cell.noise,
                    "knowledge": cell.knowledge,
                    **setting,
                    "reward": float(interval.estimate),
                    "ci_low": float(interval.low),
                    "ci_high": float(interval.high),
                    "entropy": float(picked.entropy.mean()),
                    "seeds": len(seeds),
                }
            )
    return rows


def best(rows: Sequence[Row], settings: Mapping[str, Sequence[float]]) -> Row:
    """The row of the largest reward, and what that owes to an end of a range.

    ``edge_gain`` is how much more reward it has than the best row of which no setting is the
    smallest or the largest tried: 0 where it is that row, NaN where there is none. A flat optimum
    may lie at an end at no gain; a large gain says that the range was too narrow.
    """
    row = max(rows, key=lambda each: each["reward"])
    inside = [
        each["reward"]
        for each in rows
        if all(
            len(values) == 1 or min(values) < each[name] < max(values)
            for name, values in settings.items()
        )
    ]
    return {**row, "edge_gain": row["reward"] - max(inside) if inside else math.nan}


def evaluate(
    trainer: Trainer,
    contender: Contender,
    cell: Cell,
    setting: Mapping[str, float],
    seeds: Sequence[int],
    sizes: Sizes,
    oracles: Mapping[str, Oracle],
) -> dict[str, np.ndarray]:
    """A setting on the evaluation seeds: final values ``[seeds]``, curves ``[points, seeds]``."""
    axes = {
        "noise": [cell.noise],
        "knowledge": [cell.knowledge],
        **{name: [value] for name, value in setting.items()},
    }
    data = train(trainer, contender, axes, seeds, sizes, {cell.oracle: oracles[cell.oracle]})
    kept = ("reward", "credit", "entropy", "queries_mean", "feedback_error_mean")
    values: dict[str, np.ndarray] = {name: data[name].values.reshape(len(seeds)) for name in kept}
    for name in RECORD:
        values[f"{name}_curve"] = data[f"{name}_curve"].values.reshape(len(seeds), -1).T
    return values


def trial(
    trainer: Trainer,
    contender: Contender,
    cells: Sequence[Cell],
    *,
    settings: int,
    tuning: Sequence[int],
    seeds: Sequence[int],
    sizes: Sizes,
    oracles: Mapping[str, Oracle],
) -> Outcome:
    """Tune a contender in each cell, and evaluate what came out best.

    Args:
        trainer: what trains them.
        contender: who.
        cells: where; tuning trains the product of their coordinates.
        settings: how many settings are tried in each cell.
        tuning: seeds that settings are chosen on.
        seeds: seeds that the chosen ones are judged on.
        sizes: of the problems.
        oracles: by the cells' labels.
    """
    axes = contender.axes(settings)
    outcome = Outcome(tuning=tune(trainer, contender, cells, axes, tuning, sizes, oracles))
    trainer.done(len(outcome.tuning) * len(tuning))
    for place, cell in enumerate(cells):
        rows = outcome.tuning[place * settings : (place + 1) * settings]
        chosen = best(rows, axes)
        outcome.chosen.append(chosen)
        setting = {name: chosen[name] for name in axes}
        found = evaluate(trainer, contender, cell, setting, seeds, sizes, oracles)
        for name, values in found.items():
            outcome.evaluated.setdefault(name, []).append(values)
        trainer.done(len(seeds))
    return outcome
