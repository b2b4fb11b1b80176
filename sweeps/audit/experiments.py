"""The audit's experiments: each runs its trials side by side and becomes one or two data sets.

``league`` also holds the crossover: SDPO at every knowledge in the cells of those who are told only
the feedback. ``biases`` and ``credit`` take over the settings that ``league`` found.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import sdpo_jax
from sdpo_jax import ORACLES, Config, Oracle, Program, problems
from sdpo_jax.metrics import credit_correlation
from sweeps.audit import trials
from sweeps.audit.contenders import CONTENDERS, Contender
from sweeps.audit.plan import REFERENCE_NOISE, Plan
from sweeps.audit.trials import Cell, Outcome, Row, Trainer
from sweeps.study import landscape

Saved = dict[str, xr.Dataset]
FRONTIER_RATES = 8
LEAGUE = ("told_feedback", "told_rewards", "told_tables", "crossover")
KNOBS = tuple(sorted({name for contender in CONTENDERS.values() for name in contender.knobs}))
CREDIT_STEPS = 30


def oracles(names: Sequence[str]) -> dict[str, Oracle]:
    """Oracles of the registry by name."""
    return {name: ORACLES[name]() for name in names}


def _league(plan: Plan, cells: Mapping[str, Sequence[Cell]], part: str, trainer: Trainer) -> Saved:
    """Contenders in their cells, tuned there and evaluated."""
    given = oracles(plan.oracles)

    def one(name: str) -> Outcome:
        return trials.trial(
            trainer,
            CONTENDERS[name],
            cells[name],
            settings=plan.settings,
            tuning=plan.tuning,
            seeds=plan.evaluation,
            sizes=plan.sizes,
            oracles=given,
        )

    outcomes = _side_by_side(one, list(cells))
    return {f"league_{part}": _evaluated(outcomes), f"tuning_{part}": _tuned(outcomes)}


def told_feedback(plan: Plan, saved: Mapping[str, xr.Dataset], trainer: Trainer) -> Saved:
    """Those who are told the feedback only, under every oracle and noise."""
    told = [name for name in plan.oracles if name != "critique"]
    cells = [Cell(f, n) for f, n in itertools.product(told, plan.noise)]
    return _league(plan, dict.fromkeys(plan.feedback_only, cells), "told_feedback", trainer)


def told_rewards(plan: Plan, saved: Mapping[str, xr.Dataset], trainer: Trainer) -> Saved:
    """Those who are told the reward of any sequence, or the solution."""
    cells = {name: [Cell()] for name in plan.reward_models}
    cells |= {name: [Cell("continuous", REFERENCE_NOISE)] for name in plan.solved}
    return _league(plan, cells, "told_rewards", trainer)


def told_tables(plan: Plan, saved: Mapping[str, xr.Dataset], trainer: Trainer) -> Saved:
    """Those who are told a table, all of it true; SDPO is in ``crossover``."""
    cells = [Cell(f, REFERENCE_NOISE) for f in plan.taught_oracles]
    taught = [name for name in plan.taught if name != "sdpo"]
    return _league(plan, dict.fromkeys(taught, cells), "told_tables", trainer)


def crossover(plan: Plan, saved: Mapping[str, xr.Dataset], trainer: Trainer) -> Saved:
    """SDPO at every knowledge, under every oracle and noise."""
    cells = [
        Cell(f, n, k) for f, n, k in itertools.product(plan.oracles, plan.noise, plan.knowledge)
    ]
    # A task to each oracle, so that all cores have work.
    given = oracles(plan.oracles)

    def one(oracle: str) -> Outcome:
        return trials.trial(
            trainer,
            CONTENDERS["sdpo"],
            [cell for cell in cells if cell.oracle == oracle],
            settings=plan.settings,
            tuning=plan.tuning,
            seeds=plan.evaluation,
            sizes=plan.sizes,
            oracles=given,
        )

    outcomes = _side_by_side(one, list(plan.oracles)[::-1])
    return {"league_crossover": _evaluated(outcomes), "tuning_crossover": _tuned(outcomes)}


def biases(plan: Plan, saved: Mapping[str, xr.Dataset], trainer: Trainer) -> Saved:
    """Judges of growing bias, other sources of the score, and plain noise, without tuning anew."""
    judged = {
        f"{name} {strength:g}": sdpo_jax.judged(None, **{name: strength})
        for name, strength in itertools.product(plan.biases, plan.strengths)
        if strength > 0
    }
    judged["none 0"] = sdpo_jax.judged()
    judged |= {f"{name} 1": ORACLES[name]() for name in plan.sources}

    def one(name: str) -> dict[str, np.ndarray]:
        contender = CONTENDERS[name]
        setting = _setting_of(league(saved), contender, plan)
        axes = {key: [value] for key, value in setting.items()}
        kept = ("reward", "entropy", "feedback_error_mean")
        biased = trials.train(
            trainer,
            contender,
            {**axes, "noise": [REFERENCE_NOISE]},
            plan.evaluation,
            plan.sizes,
            judged,
        )
        plain = trials.train(
            trainer,
            contender,
            {**axes, "noise": list(plan.bias_noise)},
            plan.evaluation,
            plan.sizes,
            oracles(["continuous"]),
        )
        trainer.done((len(judged) + len(plan.bias_noise)) * plan.seeds)
        return {
            **{key: biased[key].values.reshape(len(judged), -1) for key in kept},
            **{f"noise_{key}": plain[key].values.reshape(len(plan.bias_noise), -1) for key in kept},
        }

    found = _side_by_side(one, list(plan.bias_contenders))
    variables = {
        key: (
            ("contender", "noise" if key.startswith("noise_") else "judge", "seed"),
            np.stack([values[key] for values in found.values()]),
        )
        for key in next(iter(found.values()))
    }
    names, strengths = zip(*(label.rsplit(" ", 1) for label in judged), strict=True)
    data = xr.Dataset(
        variables,
        {
            "contender": list(found),
            "judge": list(judged),
            "noise": list(plan.bias_noise),
            "seed": plan.evaluation,
        },
    )
    return {
        "biases": data.assign_coords(
            bias=("judge", list(names)), strength=("judge", [float(s) for s in strengths])
        )
    }


def frontier(plan: Plan, saved: Mapping[str, xr.Dataset], trainer: Trainer) -> Saved:
    """The largest reward with at least so much entropy, of each variant as its knob is swept.

    For each floor of entropy the setting is the one that, on the tuning seeds, has the largest
    reward among those whose mean entropy reaches the floor.
    """
    given = oracles(["continuous"])
    cells = [Cell("continuous", REFERENCE_NOISE, k) for k in plan.frontier_knowledge]

    def one(name: str) -> list[dict[str, Any]]:
        contender = CONTENDERS[name]
        knob, values = plan.frontier[name]
        rates = replace(contender, knobs={}).axes(FRONTIER_RATES)
        axes = {**rates, knob: list(values)}
        # Nobody who is told no table needs more than one of its fidelities.
        mine = cells if contender.group == "knowledge table" else cells[-1:]
        rows = trials.tune(trainer, contender, mine, axes, plan.tuning, plan.sizes, given)
        trainer.done(len(rows) * plan.tuning_seeds)
        found = []
        for cell, floor in itertools.product(mine, plan.floors):
            reaching = [
                row
                for row in rows
                if row["knowledge"] == cell.knowledge and row["entropy"] >= floor
            ]
            if not reaching:
                continue
            chosen = max(reaching, key=lambda row: row["reward"])
            setting = {key: chosen[key] for key in axes}
            values_of = trials.evaluate(
                trainer, contender, cell, setting, plan.evaluation, plan.sizes, given
            )
            trainer.done(plan.seeds)
            found.append({"floor": floor, "knowledge": cell.knowledge, "knob": knob,
                          "value": setting[knob], "learning_rate": setting["learning_rate"],
                          **values_of})  # fmt: skip
        return found

    points = [
        {"contender": name, **point}
        for name, each in _side_by_side(one, list(plan.frontier)).items()
        for point in each
    ]
    plain = ("contender", "floor", "knowledge", "knob", "value", "learning_rate")
    coordinates = {name: ("point", [point[name] for point in points]) for name in plain}
    return {
        "frontier": xr.Dataset(
            {
                name: (("point", "seed"), np.stack([point[name] for point in points]))
                for name in ("reward", "entropy")
            },
            {**coordinates, "seed": plan.evaluation},
        )
    }


def scaling(plan: Plan, saved: Mapping[str, xr.Dataset], trainer: Trainer) -> Saved:
    """The comparison at other lengths and vocabularies, each contender tuned at each."""
    given = oracles(["continuous"])
    tasks = list(itertools.product(plan.scaling, plan.scaling_contenders))

    def one(task: tuple[tuple[int, int], str]) -> Outcome:
        (length, vocab_size), name = task
        contender = CONTENDERS[name]
        knowledge = plan.scaling_knowledge if contender.group == "knowledge table" else (1.0,)
        return trials.trial(
            trainer,
            contender,
            [Cell("continuous", REFERENCE_NOISE, k) for k in knowledge],
            settings=plan.scaling_settings,
            tuning=plan.tuning,
            seeds=plan.evaluation,
            sizes=replace(plan.sizes, length=length, vocab_size=vocab_size),
            oracles=given,
        )

    # The largest first: they take the longest.
    found = _side_by_side(one, tasks[::-1])
    of_cell = [shape for shape, name in tasks for _ in found[shape, name].chosen]
    data = _evaluated({task: found[task] for task in tasks}).assign_coords(
        length=("cell", [length for length, _ in of_cell]),
        vocab_size=("cell", [vocab_size for _, vocab_size in of_cell]),
    )
    for length, vocab_size in plan.scaling:
        sizes = replace(plan.sizes, length=length, vocab_size=vocab_size)
        uniform, best = landscape.reward_range(plan.evaluation, sizes)
        data[f"uniform_{length}_{vocab_size}"] = ("seed", uniform)
        data[f"best_{length}_{vocab_size}"] = ("seed", best)
    return {"scaling": data}


def credit(plan: Plan, saved: Mapping[str, xr.Dataset], trainer: Trainer) -> Saved:
    """Each algorithm's direction at one and the same policies, beside the exact advantage.

    The policies are those that RLOO has at the start, after a third and at the end of training, at
    the learning rate that it was found best at. At each, every algorithm takes ``CREDIT_STEPS``
    steps that move nothing, so that what it learns beside the policy has time to; correlations are
    means over the last third of them.
    """
    seeds = np.asarray(plan.evaluation[: plan.credit_seeds], dtype=np.uint32).view(np.int32)
    guide = plan.feedback_only[0] if "rloo" not in plan.feedback_only else "rloo"
    snapshots = _snapshots(plan, saved, CONTENDERS[guide], seeds)
    parts = np.split(np.arange(len(seeds)), max(1, len(seeds) // 16))

    @jax.jit
    def advantage_of(logits: jax.Array, seeds: jax.Array) -> jax.Array:
        problem = landscape.sample(seeds, plan.sizes)
        return problems.token_advantage(problem, jax.nn.softmax(logits, axis=1))

    advantages = [
        np.concatenate([advantage_of(policy[..., part], seeds[part]) for part in parts], axis=-1)
        for policy in snapshots.values()
    ]

    def one(name: str) -> np.ndarray:
        contender = CONTENDERS[name]
        setting = _setting_of(league(saved), contender, plan)
        del setting["learning_rate"]
        shared, own = trials.split(setting)
        shared |= {"learning_rate": 0.0, "kl_weight": 0.0, "noise": REFERENCE_NOISE}
        config = Config(learn_from_feedback=1.0, **shared)
        sizes = replace(plan.sizes, epochs=contender.epochs)
        program = Program(contender.algorithm, sizes, metrics=("reward",))

        @jax.jit
        def measure(logits: jax.Array, advantage: jax.Array, seeds: jax.Array) -> jax.Array:
            setting, state = sdpo_jax.init(seeds, program, config, numbers=own)
            state = state._replace(params=logits)

            def body(state: Any, index: jax.Array) -> tuple[Any, jax.Array]:
                state, view = sdpo_jax.step(program, setting, state, index)
                exact = credit_correlation(view.direction, advantage)
                own = credit_correlation(view.direction, setting.problem.quality)
                return state, jnp.stack((exact, own))

            _, found = jax.lax.scan(body, state, jnp.arange(CREDIT_STEPS))
            return found[-CREDIT_STEPS // 3 :].mean(0)

        blocks = [
            np.concatenate(
                [
                    np.asarray(measure(policy[..., part], exact[..., part], seeds[part]))
                    for part in parts
                ],
                axis=-1,
            )
            for policy, exact in zip(snapshots.values(), advantages, strict=True)
        ]
        trainer.done(len(seeds) * len(snapshots))
        return np.stack(blocks)

    found = _side_by_side(one, list(plan.credit))
    return {
        "credit": xr.Dataset(
            {
                "credit": (
                    ("contender", "policy", "against", "seed"),
                    np.stack(list(found.values())),
                )
            },
            {
                "contender": list(found),
                "policy": list(snapshots),
                "against": ["exact advantage", "token quality"],
                "seed": seeds.astype(np.int32),
            },
        )
    }


def span(plan: Plan, saved: Mapping[str, xr.Dataset], trainer: Trainer) -> Saved:
    """What the uniform policy and the best sequence get, for the scale of the league."""
    uniform, best = landscape.reward_range(plan.evaluation, plan.sizes)
    trainer.done(0)
    data = xr.Dataset({"uniform": ("seed", uniform), "best": ("seed", best)})
    return {"range": data.assign_attrs(steps=plan.sizes.steps)}


EXPERIMENTS: dict[str, Callable[[Plan, Mapping[str, xr.Dataset], Trainer], Saved]] = {
    "range": span,
    "told_feedback": told_feedback,
    "told_rewards": told_rewards,
    "told_tables": told_tables,
    "crossover": crossover,
    "biases": biases,
    "frontier": frontier,
    "scaling": scaling,
    "credit": credit,
}


def league(saved: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """All evaluated contenders and cells."""
    return xr.concat([saved[f"league_{part}"] for part in LEAGUE], dim="cell")


def tuning(saved: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """All settings that were tried."""
    return xr.concat([saved[f"tuning_{part}"] for part in LEAGUE], dim="trial")


def _side_by_side(function: Callable[[Any], Any], tasks: Sequence[Any]) -> dict[Any, Any]:
    """``function`` of each task, a task to a core; compilation and training both let others run."""
    import os

    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    with ThreadPoolExecutor(workers) as pool:
        futures = {task: pool.submit(function, task) for task in tasks}
        try:
            return {task: future.result() for task, future in futures.items()}
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _evaluated(outcomes: Mapping[Any, Outcome]) -> xr.Dataset:
    """Evaluations and the settings they were made with, along ``cell``."""
    chosen: list[Row] = [row for outcome in outcomes.values() for row in outcome.chosen]
    columns = {
        name: ("cell", [row[name] for row in chosen])
        for name in ("contender", "oracle", "noise", "knowledge", "learning_rate")
    }
    columns["edge_gain"] = ("cell", [row["edge_gain"] for row in chosen])
    columns["tuned_reward"] = ("cell", [row["reward"] for row in chosen])
    for name in KNOBS:
        columns[name] = ("cell", [row.get(name, np.nan) for row in chosen])
    first = next(iter(outcomes.values())).evaluated
    variables: dict[str, Any] = {}
    for name in first:
        values = np.stack([v for outcome in outcomes.values() for v in outcome.evaluated[name]])
        if name.endswith("_curve"):
            count = values.shape[-1]
            variables[name] = (("cell", "point"), values.mean(-1))
            error = values.std(-1, ddof=1) / np.sqrt(count)
            variables[f"{name}_error"] = (("cell", "point"), error)
        else:
            variables[name] = (("cell", "seed"), values)
    seeds = next(iter(first.values()))[0].shape[-1]
    return xr.Dataset(variables, {**columns, "seed": range(seeds)})


def _tuned(outcomes: Mapping[str, Outcome]) -> xr.Dataset:
    """Every setting that was tried, along ``trial``."""
    rows = [row for outcome in outcomes.values() for row in outcome.tuning]
    missing: dict[str, Any] = dict.fromkeys(KNOBS, np.nan)
    full = [{**missing, **row} for row in rows]
    return xr.Dataset({name: ("trial", [row[name] for row in full]) for name in full[0]})


def _setting_of(league: xr.Dataset, contender: Contender, plan: Plan) -> dict[str, float]:
    """The setting found best in the plain cell of continuous feedback, or the only one there is."""
    mine = league.isel(cell=league.contender.values == contender.name)
    wanted = (
        (mine.oracle.values == "continuous")
        & np.isclose(mine.noise.values, REFERENCE_NOISE)
        & np.isclose(mine.knowledge.values, 1.0)
    )
    place = int(np.argmax(wanted)) if wanted.any() else 0
    at = mine.isel(cell=place)
    return {name: float(at[name]) for name in ("learning_rate", *contender.knobs)}


def _snapshots(
    plan: Plan, saved: Mapping[str, xr.Dataset], guide: Contender, seeds: np.ndarray
) -> dict[str, np.ndarray]:
    """Logits ``[T, V, seeds]`` at the start, after a third and at the end of a guide's training."""
    setting = _setting_of(league(saved), guide, plan)
    shared, own = trials.split(setting)
    config = Config(learn_from_feedback=1.0, noise=REFERENCE_NOISE, **shared)
    found = {}
    for label, steps in (("first policy", 0), ("a third on", plan.sizes.steps // 3),
                         ("trained", plan.sizes.steps)):  # fmt: skip
        sizes = replace(plan.sizes, steps=max(steps, 1), final_window=1)
        program = Program(guide.algorithm, sizes, metrics=("reward",))
        if steps:
            found[label] = np.asarray(
                jax.jit(
                    lambda program=program: (
                        sdpo_jax.train(seeds, program, config, numbers=own).logits
                    )
                )()
            )
        else:
            _, state = sdpo_jax.init(seeds, program, config, numbers=own)
            found[label] = np.asarray(state.params)
    return found
