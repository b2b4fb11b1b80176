"""The paper's experiments and their controls, as data, and how they are run.

Each experiment is one grid and becomes one data set (``sweeps.store``). All of them record the
same curves, so that experiments that differ only in numbers share their compiled programs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import sdpo_jax
from sdpo_jax import POLICIES, PROBLEMS, Config, Metric, Plan, Sizes, View, oracles, teachers
from sdpo_jax.algorithm import numbers_of
from sdpo_jax.engine.streams import Stream, stream
from sdpo_jax.program import algorithm_of
from sweeps.study import landscape

ALGORITHMS = ("sdpo", "reinforce", "advantage_weighted")
BASELINES = ("reinforce", "advantage_weighted")
FEEDBACK = ("binary", "ordinal", "continuous", "critique")
NOISE = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
HYBRID_NOISE = 0.2
HYBRID_FEEDBACK = ("continuous", "critique")
LEARNING_RATES = (0.005, 0.02, 0.08, 0.32, 1.28, 5.12, 20.48, 81.92)
KNOWLEDGE = (0.0, 0.25, 0.5, 0.75, 1.0)
KL_WEIGHTS = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
MATCHED_EVERY = 20

SIZES = Sizes()

_SCALARS = ("reward", "credit", "entropy")
_CURVES = ("reward", "entropy")


@dataclass(frozen=True)
class Grid:
    """What one call of ``run_grid`` takes, but for the seeds.

    Attributes:
        axes: the grid's axes.
        config: the engine's numbers that the axes do not vary.
        numbers: the parts' own, where they are not at their defaults.
        metrics: what is measured.
        record: metrics whose curves are recorded.
        record_every: steps between two points of a curve.
    """

    axes: Mapping[str, Any]
    config: Config = field(default_factory=Config)
    numbers: Mapping[str, float] = field(default_factory=dict)
    metrics: tuple[str | tuple[str, Metric], ...] = _SCALARS
    record: tuple[str, ...] = _CURVES
    record_every: int = 1

    def runs(self, seeds: int) -> int:
        """How many training runs the grid has."""
        return seeds * math.prod(len(values) for values in self.axes.values())

    def plan(self, seeds: int) -> Plan:
        """The grid over seeds 0 to ``seeds - 1``, laid out."""
        return sdpo_jax.plan_grid(
            {**self.axes, "seed": range(seeds)},
            config=self.config,
            numbers=self.numbers,
            sizes=SIZES,
            metrics=self.metrics,
            record=self.record,
            record_every=self.record_every,
            logits=True,
        )


@dataclass(frozen=True)
class Experiment:
    """One or more grids that become one data set.

    Attributes:
        title: what it is for, a short phrase.
        grids: what is trained.
        finish: from the grids' outcomes to the data set that is saved.
    """

    title: str
    grids: tuple[Grid, ...]
    finish: Callable[..., xr.Dataset]

    def runs(self, seeds: int) -> int:
        """How many training runs the experiment has."""
        return sum(grid.runs(seeds) for grid in self.grids)


def experiments(base: Mapping[str, float] | None = None) -> dict[str, Experiment]:
    """The paper's four sets (the multi-seed one is ``algorithms`` at continuous) and the
    controls.

    Args:
        base: by name other numbers than the defaults, the engine's or the parts' own, where an
            experiment does not set them itself.
    """
    found = _experiments()
    if base is None:
        return found
    return {name: _based(experiment, base) for name, experiment in found.items()}


def _based(experiment: Experiment, base: Mapping[str, float]) -> Experiment:
    defaults = dataclasses.asdict(Config())
    shared = {name: value for name, value in base.items() if name in defaults}
    own = {name: value for name, value in base.items() if name not in defaults}

    def onto(config: Config) -> Config:
        given = dataclasses.asdict(config)
        kept = {name: value for name, value in given.items() if value != defaults[name]}
        return Config(**{**shared, **kept})

    grids = tuple(
        dataclasses.replace(grid, config=onto(grid.config), numbers={**own, **grid.numbers})
        for grid in experiment.grids
    )
    # The range of rewards is that of problems of the defaults.
    finish = _with_curves if experiment.finish is _with_optimality else experiment.finish
    return dataclasses.replace(experiment, grids=grids, finish=finish)


def _experiments() -> dict[str, Experiment]:
    continuous = oracles.continuous()
    silent = dataclasses.replace(continuous, gain=np.float32(0), base=np.float32(1))
    readings = {name: oracles.critique(name) for name in oracles.READINGS}
    noisy = Config(noise=HYBRID_NOISE)
    return {
        "algorithms": Experiment(
            "algorithms x feedback types",
            (Grid({"algorithm": ALGORITHMS, "oracle": FEEDBACK}),),
            _with_optimality,
        ),
        "noise": Experiment(
            "noise levels x algorithms",
            (Grid({"algorithm": ALGORITHMS, "noise": NOISE}),),
            _scalars,
        ),
        "hybrid": Experiment(
            "hybrid, SDPO and REINFORCE at noise 0.2",
            (
                Grid(
                    {"algorithm": ("hybrid",), "oracle": HYBRID_FEEDBACK},
                    config=noisy,
                    metrics=(*_SCALARS, "weight", "divergence"),
                    record=("reward", "weight", "divergence"),
                ),
                Grid({"algorithm": ("sdpo", "reinforce"), "oracle": HYBRID_FEEDBACK}, config=noisy),
            ),
            _hybrid,
        ),
        "flipped": Experiment(
            "control: the baselines' sign turned round",
            (Grid({"algorithm": BASELINES}, config=Config(sign=-1.0)),),
            _scalars,
        ),
        "learning_rate": Experiment(
            "control: learning rates",
            (Grid({"algorithm": ALGORITHMS, "learning_rate": LEARNING_RATES}),),
            _scalars,
        ),
        "knowledge": Experiment(
            "control: the teacher's knowledge", (Grid({"knowledge": KNOWLEDGE}),), _scalars
        ),
        "no_feedback": Experiment(
            "control: an oracle that says nothing",
            (Grid({"oracle": {"silent": silent}}),),
            lambda data: _scalars(data.isel(oracle=0, drop=True)),
        ),
        "kl_weight": Experiment(
            "control: KL weights", (Grid({"kl_weight": KL_WEIGHTS}),), _scalars
        ),
        "reading": Experiment(
            "control: the critique's readings",
            (Grid({"oracle": {"continuous": continuous, **readings}}),),
            _readings,
        ),
        "matched": Experiment(
            "control: each oracle's credit at one and the same policy",
            (
                Grid(
                    {"algorithm": ("sdpo",)},
                    metrics=tuple((name, _matched(name)) for name in FEEDBACK),
                    record=FEEDBACK,
                    record_every=MATCHED_EVERY,
                ),
            ),
            _matched_data,
        ),
        "on_feedback": Experiment(
            "control: baselines that learn from the feedback",
            (
                Grid(
                    {"algorithm": BASELINES, "noise": NOISE},
                    config=Config(learn_from_feedback=1.0),
                ),
            ),
            _scalars,
        ),
    }


def constants(base: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Every number that the experiments are made of, for the manifest."""
    base = {} if base is None else base

    def numbers_at(defaults: Mapping[str, float]) -> dict[str, float]:
        return {name: float(base.get(name, value)) for name, value in defaults.items()}

    def own(part: Any) -> dict[str, float]:
        return numbers_at({name: number.default for name, number in part.numbers.items()})

    return {
        "config": numbers_at(dataclasses.asdict(Config())),
        "problem": own(PROBLEMS["bigram"]),
        "policy": own(POLICIES["factored"]),
        "numbers": {
            algorithm: {name: number.default for name, number in numbers.items()}
            for algorithm in (*ALGORITHMS, "hybrid")
            if (numbers := numbers_of(algorithm_of(algorithm)))
        },
        "sizes": dataclasses.asdict(SIZES),
        "noise_levels": list(NOISE),
        "hybrid_noise": HYBRID_NOISE,
        "learning_rates": list(LEARNING_RATES),
        "knowledge": list(KNOWLEDGE),
        "kl_weights": list(KL_WEIGHTS),
    }


def _scalars(data: xr.Dataset) -> xr.Dataset:
    return data[list(_SCALARS)]


def _with_curves(data: xr.Dataset) -> xr.Dataset:
    return data[[*_SCALARS, *(f"{name}_curve" for name in _CURVES)]]


def _with_optimality(data: xr.Dataset) -> xr.Dataset:
    """The curves too, and how far the reward came from the uniform policy's to the best."""
    kept = _with_curves(data)
    uniform, best = landscape.reward_range(data.seed.values, SIZES)
    optimality = (kept.reward - xr.DataArray(uniform, dims="seed")) / (
        xr.DataArray(best, dims="seed") - xr.DataArray(uniform, dims="seed")
    )
    optimality.attrs["long_name"] = "reward, 0 uniform policy to 1 best sequence"
    return kept.assign(optimality=optimality.astype(np.float32))


def _hybrid(hybrid: xr.Dataset, parents: xr.Dataset) -> xr.Dataset:
    both = xr.concat(
        [data[[*_SCALARS, "reward_curve"]] for data in (hybrid, parents)], dim="algorithm"
    )
    alone = hybrid.sel({"algorithm": "hybrid"}, drop=True)
    weight = hybrid[["weight", "weight_mean"]].reindex({"algorithm": both["algorithm"]})
    return both.assign(
        alpha=weight["weight"],
        alpha_mean=weight["weight_mean"],
        alpha_curve=alone["weight_curve"],
        divergence_curve=alone["divergence_curve"],
    )


def _readings(data: xr.Dataset) -> xr.Dataset:
    difference = abs(data.logits - data.logits.sel({"oracle": "continuous"}))
    kept = _scalars(data).assign(max_logit_difference=difference.max(("position", "token")))
    return kept.rename(oracle="reading")


def _matched(name: str) -> Metric:
    """Credit of SDPO's direction under an oracle, at the policy and the rollouts of the run."""
    oracle = sdpo_jax.ORACLES[name]()

    def measure(view: View) -> jax.Array:
        runs = view.reward.shape[1:]
        strength = jnp.broadcast_to(jnp.asarray(view.config.feedback_strength), runs)
        assert view.knowledge is not None
        levels = teachers.prepare(oracle, strength, view.knowledge, nodes=0)
        seen = oracles.noisy_reward(view.reward, jnp.zeros_like(view.reward))
        teacher = teachers.teach(
            oracle,
            levels,
            view.config,
            view.knowledge,
            view.policy,
            view.tokens,
            seen,
            oracles.feedback(oracle, seen),
            stream(view.seed, Stream.HINTS),
            view.step,
        )
        pull = view.config.kl_weight * (view.policy.probs - view.reference.probs)
        direction = teacher.mean - view.policy.probs - pull
        return sdpo_jax.credit_correlation(direction, view.problem.quality)

    return Metric(
        measure, f"credit correlation under {name} feedback", costly=True, needs_quality=True
    )


def _matched_data(data: xr.Dataset) -> xr.Dataset:
    data = data.isel(algorithm=0, drop=True)
    credit = xr.concat([data[f"{name}_curve"] for name in FEEDBACK], dim="oracle")
    credit = credit.assign_coords(oracle=list(FEEDBACK)).transpose("oracle", "step", "seed")
    return credit.rename("credit").to_dataset()
