"""The audit's tables, from saved results only. Intervals are 95% over evaluation seeds, paired.

Every row names the cell it is about. ``optimality`` is the reward on a scale from the uniform
policy (0) to the best sequence (1) of each seed's problem.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from sweeps import statistics
from sweeps.audit.contenders import CONTENDERS
from sweeps.audit.experiments import KNOBS, league, tuning
from sweeps.audit.plan import REFERENCE_NOISE
from sweeps.statistics import Interval

Results = Mapping[str, xr.Dataset]
Row = dict[str, Any]

BASELINE = "reinforce"
RESAMPLES = 2000


def ends(interval: Interval, name: str = "reward") -> Row:
    """An interval as three columns."""
    return {
        name: float(interval.estimate),
        f"{name}_low": float(interval.low),
        f"{name}_high": float(interval.high),
    }


def cell(data: xr.Dataset, contender: str, oracle: str, noise: float, knowledge: float = 1.0):
    """The one cell of these coordinates.

    Raises:
        KeyError: there is none.
    """
    found = np.flatnonzero(
        (data.contender.values == contender)
        & (data.oracle.values == oracle)
        & np.isclose(data.noise.values, noise)
        & np.isclose(data.knowledge.values, knowledge)
    )
    if len(found) != 1:
        raise KeyError(f"{contender}, {oracle}, noise {noise}, knowledge {knowledge}: no cell")
    return data.isel(cell=int(found[0]))


def has_cell(data: xr.Dataset, *where: Any) -> bool:
    """Whether ``cell`` finds one."""
    try:
        cell(data, *where)
    except KeyError:
        return False
    return True


def setting_text(at: Any) -> str:
    """The tuned learning rate and knobs of a cell."""
    knobs = [f"{name} {float(at[name]):g}" for name in KNOBS if np.isfinite(float(at[name]))]
    return ", ".join([f"lr {float(at['learning_rate']):g}", *knobs])


def improvement(first: np.ndarray, second: np.ndarray) -> Interval:
    """Share of seeds in which the first is ahead of the second (a draw counts half)."""
    return statistics.proportion((first > second) + 0.5 * (first == second))


def optimality(reward: np.ndarray, uniform: np.ndarray, best: np.ndarray) -> np.ndarray:
    """``(R - R_uniform) / (R_best - R_uniform)``, seed by seed."""
    return (reward - uniform) / (best - uniform)


def tuning_rows(results: Results) -> list[Row]:
    """Every setting that was tried, with its mean reward over tuning seeds."""
    data = tuning(results)
    names = ("contender", "oracle", "noise", "knowledge", "learning_rate", *KNOBS)
    rows = []
    for place in range(data.sizes["trial"]):
        at = data.isel(trial=place)
        row = {
            name: str(at[name].values) if name in ("contender", "oracle") else float(at[name])
            for name in (*names, "reward", "ci_low", "ci_high")
        }
        row |= {name: None for name in KNOBS if np.isnan(row[name])}
        rows.append({**row, "seeds": int(at["seeds"])})
    return rows


def sensitivity(results: Results, contender: str, oracle: str, noise: float) -> list[Row]:
    """Reward over learning rates, the knobs at their best for each, on tuning seeds."""
    data = tuning(results)
    mine = (
        (data.contender.values == contender)
        & (data.oracle.values == oracle)
        & np.isclose(data.noise.values, noise)
        & np.isclose(data.knowledge.values, 1.0)
    )
    at = data.isel(trial=np.flatnonzero(mine))
    rows = []
    for rate in np.unique(at.learning_rate.values):
        here = at.isel(trial=np.flatnonzero(at.learning_rate.values == rate))
        top = here.isel(trial=int(here.reward.values.argmax()))
        rows.append(
            {
                "learning_rate": float(rate),
                "reward": float(top.reward),
                "reward_low": float(top.ci_low),
                "reward_high": float(top.ci_high),
            }
        )
    return rows


def league_rows(results: Results) -> list[Row]:
    """The league, group by group and cell by cell, the best first."""
    data = league(results)
    span = results["range"]
    uniform, best = span.uniform.values, span.best.values
    steps = int(span.attrs["steps"])
    rows = []
    for place in range(data.sizes["cell"]):
        at = data.isel(cell=place)
        name, oracle = str(at.contender.values), str(at.oracle.values)
        noise, knowledge = float(at.noise), float(at.knowledge)
        if name == "sdpo" and not np.isclose(knowledge, 1.0):
            continue
        reward = at.reward.values.astype(float)
        row: Row = {
            "group": CONTENDERS[name].group,
            "oracle": oracle,
            "noise": noise,
            "contender": name,
            "label": CONTENDERS[name].label,
            **ends(statistics.mean(reward)),
            **ends(statistics.mean(optimality(reward, uniform, best)), "optimality"),
            "entropy": float(at.entropy.mean()),
            "credit": float(at.credit.mean()),
            "queries": float(at.queries_mean.mean()) * steps,
        }
        if name != BASELINE and has_cell(data, BASELINE, oracle, noise):
            other = cell(data, BASELINE, oracle, noise).reward.values.astype(float)
            row |= ends(improvement(reward, other), "ahead_of_reinforce")
        else:
            row |= dict.fromkeys(f"ahead_of_reinforce{end}" for end in ("", "_low", "_high"))
        row |= {
            "setting": setting_text(at),
            "tuned_reward": float(at.tuned_reward),
            "edge_gain": float(at.edge_gain),
            "seeds": data.sizes["seed"],
        }
        rows.append(row)
    order = list(dict.fromkeys(contender.group for contender in CONTENDERS.values()))
    rows.sort(key=lambda r: (order.index(r["group"]), r["oracle"], r["noise"], -r["reward"]))
    return rows


def best_of_feedback(results: Results, oracle: str, noise: float) -> str:
    """Who, of those told only the feedback, came out best in tuning."""
    data = tuning(results)
    heard = "continuous" if oracle == "critique" else oracle
    mine = (data.oracle.values == heard) & np.isclose(data.noise.values, noise)
    mine &= np.array([CONTENDERS[str(n)].group == "feedback" for n in data.contender.values])
    at = data.isel(trial=np.flatnonzero(mine))
    return str(at.contender.values[int(at.reward.values.argmax())])


def crossing(knowledge: np.ndarray, gaps: np.ndarray) -> float:
    """The knowledge from which on the gap stays above 0, between grid points in a straight line.

    Args:
        knowledge: ``[K]``, ascending.
        gaps: ``[K]``, the first's reward less the second's.

    Returns:
        The lowest knowledge where the gap is above 0 everywhere; infinity where it is not above 0
        at the highest.

    Raises:
        Undefined: a gap that is not finite, which is neither above nor below 0.
    """
    if not np.all(np.isfinite(gaps)):
        raise statistics.Undefined("gaps: not finite; allowed: finite numbers")
    behind = np.flatnonzero(gaps <= 0)
    if not behind.size:
        return float(knowledge[0])
    last = behind[-1]
    if last == len(gaps) - 1:
        return float("inf")
    share = -gaps[last] / (gaps[last + 1] - gaps[last])
    return float(knowledge[last] + share * (knowledge[last + 1] - knowledge[last]))


def gaps_of(results: Results, oracle: str, noise: float) -> tuple[np.ndarray, np.ndarray, str]:
    """SDPO's reward less that of the best who is told only the feedback.

    Returns:
        knowledge ``[K]``, gaps ``[K, seeds]``, and the name of that best one.
    """
    data = league(results)
    name = best_of_feedback(results, oracle, noise)
    heard = "continuous" if oracle == "critique" else oracle
    other = cell(data, name, heard, noise).reward.values.astype(float)
    knowledge = np.unique(results["league_crossover"].knowledge.values)
    mine = [cell(data, "sdpo", oracle, noise, k).reward.values.astype(float) for k in knowledge]
    return knowledge, np.stack(mine) - other, name


def crossover_rows(results: Results) -> list[Row]:
    """The knowledge at which SDPO overtakes, per oracle and noise, with an interval.

    The interval is an expanded percentile bootstrap over whole seeds (``statistics.bootstrap``).
    """
    data = results["league_crossover"]
    rows = []
    for oracle in dict.fromkeys(data.oracle.values.tolist()):
        for noise in np.unique(data.noise.values):
            knowledge, gaps, name = gaps_of(results, oracle, float(noise))
            draws = np.random.default_rng(0).integers(
                gaps.shape[1], size=(RESAMPLES, gaps.shape[1])
            )
            found = np.array([crossing(knowledge, gaps[:, d].mean(1)) for d in draws])
            tail = statistics.expanded_tail(gaps.shape[1])
            low, high = np.quantile(found, [tail, 1 - tail], method="nearest")
            none, full = statistics.mean(gaps[0]), statistics.mean(gaps[-1])
            rows.append(
                {
                    "oracle": oracle,
                    "noise": float(noise),
                    "best_told_feedback": name,
                    "crossover": crossing(knowledge, gaps.mean(1)),
                    "crossover_low": float(low),
                    "crossover_high": float(high),
                    **ends(none, "gap_at_none"),
                    **ends(full, "gap_at_full"),
                    "seeds": gaps.shape[1],
                }
            )
    return rows


def bias_rows(results: Results) -> list[Row]:
    """What each judge costs, and what plain noise of the same mean square error would."""
    data = results["biases"]
    rows = []
    for name in data.contender.values:
        at = data.sel({"contender": name})
        fair = at.sel({"judge": "none 0"}).reward.values.astype(float)
        errors = np.sqrt(at.noise_feedback_error_mean.values.astype(float).mean(-1))
        ladder = at.noise_reward.values.astype(float)
        for label in data.judge.values:
            if label == "none 0":
                continue
            judged = at.sel({"judge": label})
            reward = judged.reward.values.astype(float)
            error = float(np.sqrt(judged.feedback_error_mean.values.astype(float).mean()))
            # Between two noise levels of the ladder, in a straight line; beyond it, its end.
            place = int(np.clip(np.searchsorted(errors, error) - 1, 0, len(errors) - 2))
            share = (error - errors[place]) / (errors[place + 1] - errors[place])
            share = float(np.clip(share, 0.0, 1.0))
            noisy = (1 - share) * ladder[place] + share * ladder[place + 1]
            rows.append(
                {
                    "contender": str(name),
                    "bias": str(judged.bias.values),
                    "strength": float(judged.strength),
                    **ends(statistics.mean(reward)),
                    **ends(statistics.paired_difference(fair, reward), "loss"),
                    "feedback_error": error,
                    **ends(statistics.paired_difference(noisy, reward), "loss_beyond_noise"),
                    "seeds": len(reward),
                }
            )
    return rows


def frontier_rows(results: Results) -> list[Row]:
    """Reward and entropy of each variant at each floor of entropy."""
    data = results["frontier"]
    rows = []
    for place in range(data.sizes["point"]):
        at = data.isel(point=place)
        rows.append(
            {
                "contender": str(at.contender.values),
                "knowledge": float(at.knowledge),
                "floor": float(at.floor),
                **ends(statistics.mean(at.reward.values)),
                **ends(statistics.mean(at.entropy.values), "entropy"),
                "setting": f"lr {float(at.learning_rate):g}, "
                f"{at.knob.values!s} {float(at.value):g}",
                "seeds": data.sizes["seed"],
            }
        )
    return rows


def scaling_rows(results: Results) -> list[Row]:
    """Reward and optimality at each length and vocabulary."""
    data = results["scaling"]
    rows = []
    for place in range(data.sizes["cell"]):
        at = data.isel(cell=place)
        length, vocab_size = int(at.length), int(at.vocab_size)
        shape = f"{length}_{vocab_size}"
        reward = at.reward.values.astype(float)
        scaled = optimality(reward, data[f"uniform_{shape}"].values, data[f"best_{shape}"].values)
        rows.append(
            {
                "length": length,
                "vocab_size": vocab_size,
                "contender": str(at.contender.values),
                "knowledge": float(at.knowledge),
                **ends(statistics.mean(reward)),
                **ends(statistics.mean(scaled), "optimality"),
                "entropy": float(at.entropy.mean()),
                "setting": setting_text(at),
                "tuned_reward": float(at.tuned_reward),
                "edge_gain": float(at.edge_gain),
                "seeds": data.sizes["seed"],
            }
        )
    return rows


def credit_rows(results: Results) -> list[Row]:
    """Credit correlation of each algorithm's direction at one and the same policies."""
    data = results["credit"]
    return [
        {
            "contender": str(name),
            "policy": str(policy),
            **ends(statistics.mean(at.sel({"against": "exact advantage"})), "exact_credit"),
            **ends(statistics.mean(at.sel({"against": "token quality"})), "credit"),
            "seeds": data.sizes["seed"],
        }
        for name in data.contender.values
        for policy in data.policy.values
        for at in [data.credit.sel({"contender": name, "policy": policy})]
    ]


def source_oracle(results: Results) -> tuple[str, float]:
    """The oracle and noise that the figures and verdicts look at first."""
    oracles = results["league_crossover"].oracle.values.tolist()
    return ("continuous" if "continuous" in oracles else oracles[0]), REFERENCE_NOISE


TABLES: dict[str, Callable[[Results], list[Row]]] = {
    "league": league_rows,
    "crossover": crossover_rows,
    "biases": bias_rows,
    "frontier": frontier_rows,
    "scaling": scaling_rows,
    "credit": credit_rows,
    "tuning": tuning_rows,
}
