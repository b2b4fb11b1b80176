"""The study's tables, from saved results only. Intervals are 95% over evaluation seeds, paired.

What a run ends with is the mean over its last steps (``Plan.window``). ``optimality`` is the reward
on a scale from the uniform policy (0) to the best answer (1) of each seed's problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import xarray as xr

from sdpo_jax.in_context import METHODS, Pretraining
from sweeps import statistics
from sweeps.in_context.experiments import last_kind, league_name, network_name, scaled
from sweeps.in_context.plan import CONTENDERS, GROUPS, MAIN, REFERENCE, Plan
from sweeps.in_context.trials import heard
from sweeps.statistics import Interval

Results = Mapping[str, xr.Dataset]
Row = dict[str, Any]


def plan_of(description: Mapping[str, Any]) -> Plan:
    """The plan that a manifest describes."""
    values: dict[str, Any] = {}
    for field in fields(Plan):
        value = description[field.name]
        if field.name.endswith("pretraining"):
            value = Pretraining(**{**value, "checkpoints": tuple(value["checkpoints"])})
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return Plan(**values)


def ends(interval: Interval, name: str) -> Row:
    """An interval as three columns."""
    return {
        name: float(interval.estimate),
        f"{name}_low": float(interval.low),
        f"{name}_high": float(interval.high),
    }


def at_end(plan: Plan, data: xr.Dataset, curve: str = "reward") -> np.ndarray:
    """The mean of a curve over the last steps, the seed in the last axis."""
    return data[curve].isel(step=slice(-plan.window, None)).mean("step").values.astype(float)


def at_start(data: xr.Dataset, curve: str = "reward") -> np.ndarray:
    """A curve before the first step, the seed in the last axis."""
    return data[curve].isel(step=0).values.astype(float)


def of(plan: Plan, results: Results, name: str, kind: str) -> xr.Dataset:
    """A contender's evaluation under a kind of feedback."""
    return results[league_name(name)].sel({"kind": heard(plan, name, kind)})


def best_of(plan: Plan, results: Results, names: Iterable[str], kind: str) -> str:
    """Who of several came out best in tuning, under a kind of feedback."""
    present = [name for name in names if name in plan.contenders]
    return max(present, key=lambda name: float(of(plan, results, name, kind).tuned_reward))


def group(plan: Plan, told: str) -> tuple[str, ...]:
    """The contenders that are told the same."""
    return tuple(name for name in plan.contenders if CONTENDERS[name].told == told)


def optimality(results: Results, reward: np.ndarray) -> np.ndarray:
    """``(R - R_uniform) / (R_best - R_uniform)``, seed by seed."""
    uniform, best = results["range"].uniform.values, results["range"].best.values
    return (reward - uniform) / (best - uniform)


def league_rows(plan: Plan, results: Results) -> list[Row]:
    """Every contender under every kind of feedback, group by group, the best first."""
    rows = []
    for kind in plan.kinds:
        other = at_end(plan, of(plan, results, REFERENCE, kind))
        for name in plan.contenders:
            data = of(plan, results, name, kind)
            reward, entropy = at_end(plan, data), at_end(plan, data, "entropy")
            place = int(data.best_setting)
            rate = float(data.learning_rate.values[place])
            rates = CONTENDERS[name].rates
            rows.append(
                {
                    "told": CONTENDERS[name].told,
                    "feedback": kind,
                    "contender": name,
                    "label": METHODS[name].label,
                    **ends(statistics.mean(reward), "reward"),
                    **ends(statistics.mean(optimality(results, reward)), "optimality"),
                    **ends(statistics.paired_difference(reward, other), "ahead_of_grpo"),
                    **ends(statistics.mean(entropy), "entropy"),
                    "drift": float(np.nanmean(data["drift"].values[:, -plan.every :])),
                    "setting": str(data.setting.values[place]),
                    "rate_at_an_end": rate in (rates[0], rates[-1]),
                    "tuned_reward": float(data.tuned_reward),
                    "reward_queries": plan.steps * plan.rollouts,
                    "seeds": plan.seeds,
                }
            )
    rows.sort(
        key=lambda r: (GROUPS.index(r["told"]), plan.kinds.index(r["feedback"]), -r["reward"])
    )
    return rows


def curves_rows(plan: Plan, results: Results) -> list[Row]:
    """Every contender's reward and entropy on the way, under every kind of feedback."""
    rows = []
    for kind in plan.kinds:
        for name in plan.contenders:
            data = of(plan, results, name, kind)
            for step in (*range(0, plan.steps, plan.every), plan.steps - 1):
                at = data.isel(step=step)
                rows.append(
                    {
                        "contender": name,
                        "label": METHODS[name].label,
                        "feedback": kind,
                        "step": step,
                        **ends(statistics.mean(at.reward.values.astype(float)), "reward"),
                        **ends(statistics.mean(at.entropy.values.astype(float)), "entropy"),
                        "seeds": plan.seeds,
                    }
                )
    return rows


def tuning_rows(plan: Plan, results: Results) -> list[Row]:
    """Every setting that was tried, with its mean reward over tuning seeds."""
    rows = []
    for name in plan.contenders:
        data = results[league_name(name)]
        for kind in data.kind.values:
            at = data.sel({"kind": kind})
            for place, setting in enumerate(at.setting.values):
                tried = at.tried_reward.values[place]
                rows.append(
                    {
                        "contender": name,
                        "feedback": str(kind),
                        "setting": str(setting),
                        "reward": float(tried.mean()),
                        "chosen": place == int(at.best_setting),
                        "tuning_seeds": len(tried),
                    }
                )
    return rows


def networks_rows(plan: Plan, results: Results) -> list[Row]:
    """What each checkpoint of each network reads out of its context."""
    rows = []
    for count in plan.attempts:
        data = results[network_name(count)]
        for place, steps in enumerate(data.checkpoint.values):
            at = data.isel(checkpoint=place)
            rows.append(
                {
                    "attempts": count,
                    "pretraining_steps": int(steps),
                    **{
                        f"saved_{kind}": float(at.skill.sel(kind=kind)) for kind in data.kind.values
                    },
                    "without_context": float(at.without),
                }
            )
    return rows


def skill_rows(plan: Plan, results: Results) -> list[Row]:
    """Final reward from every checkpoint of pretraining, against its skill."""
    kind = last_kind(plan)
    network = results[network_name(plan.attempts[0])]
    rows = []
    for name in scaled(plan):
        data = results[f"skill_{name}"]
        other = at_end(plan, results[f"skill_{REFERENCE}"])
        for place, steps in enumerate(network.checkpoint.values):
            reward = at_end(plan, data)[place]
            gain = reward - at_start(data)[place]
            rows.append(
                {
                    "contender": name,
                    "label": METHODS[name].label,
                    "feedback": kind,
                    "pretraining_steps": int(steps),
                    "skill": float(network.skill.sel(kind=kind).values[place]),
                    **ends(statistics.mean(reward), "reward"),
                    **ends(statistics.mean(gain), "gain"),
                    **ends(statistics.paired_difference(reward, other[place]), "ahead_of_grpo"),
                    "seeds": plan.seeds,
                }
            )
    return rows


def strength_rows(plan: Plan, results: Results) -> list[Row]:
    """The composed teacher's strength: reward and entropy at the end."""
    return _over(plan, results["strength"], "strength")


def attempts_rows(plan: Plan, results: Results) -> list[Row]:
    """How many attempts a context holds: reward and entropy at the end."""
    kind = last_kind(plan)
    rows = _over(plan, results["attempts"], "attempts")
    for row in rows:
        network = results[network_name(int(row["attempts"]))]
        row["skill"] = float(network.skill.sel(kind=kind).values[-1])
    return rows


def _over(plan: Plan, data: xr.Dataset, axis: str) -> list[Row]:
    reward, entropy = (at_end(plan, data, each) for each in ("reward", "entropy"))
    return [
        {
            "contender": MAIN,
            "feedback": last_kind(plan),
            axis: float(value),
            **ends(statistics.mean(reward[place]), "reward"),
            **ends(statistics.mean(entropy[place]), "entropy"),
            "seeds": plan.seeds,
        }
        for place, value in enumerate(data[axis].values)
    ]


def credit_rows(plan: Plan, results: Results) -> list[Row]:
    """Exact credit and alignment of each method at the same policies, on the small world."""
    rows = []
    for name in plan.credit:
        data = results[f"credit_{name}"]
        for policy in data.policy.values:
            for kind in data.kind.values:
                at = data.sel({"policy": policy, "kind": kind})
                rows.append(
                    {
                        "contender": name,
                        "label": METHODS[name].label,
                        "policy": str(policy),
                        "feedback": str(kind),
                        **ends(statistics.mean(at.credit.values), "credit"),
                        **ends(statistics.mean(at.alignment.values), "alignment"),
                        "seeds": plan.seeds,
                    }
                )
    return rows


def teacher_rows(plan: Plan, results: Results) -> list[Row]:
    """What a teacher knows along the way: its own answers, and the nats that it saves."""
    rows = []
    for name in plan.watched:
        data = results[f"watched_{name}"]
        for step in range(0, plan.steps, plan.every):
            at = data.isel(step=step)
            rows.append(
                {
                    "contender": name,
                    "label": METHODS[name].label,
                    "feedback": heard(plan, name, last_kind(plan)),
                    "step": step,
                    **{
                        each: float(at[each].mean())
                        for each in (
                            *("reward", "teacher_reward", "teacher_saves", "gap"),
                            *("entropy", "drift"),
                        )
                    },
                }
            )
    return rows


TABLES: dict[str, Callable[[Plan, Results], list[Row]]] = {
    "league": league_rows,
    "curves": curves_rows,
    "networks": networks_rows,
    "skill": skill_rows,
    "strength": strength_rows,
    "attempts": attempts_rows,
    "credit": credit_rows,
    "teachers": teacher_rows,
    "tuning": tuning_rows,
}
