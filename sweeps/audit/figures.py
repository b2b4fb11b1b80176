"""The audit's figures, from saved results: means with 95% intervals.

Colours say what an algorithm is told, markers tell the algorithms of a panel apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sdpo_jax.oracles.judges import BIASES
from sweeps import statistics
from sweeps.audit import analysis
from sweeps.audit.analysis import Results, Row
from sweeps.audit.contenders import CONTENDERS
from sweeps.report.drawing import FOLDER, save
from sweeps.report.style import INK, RC

WIDTH = 7.2

# Okabe and Ito's, by what a contender is told.
GROUP_COLOURS = {
    "feedback": "#D55E00",
    "reward of any sequence": "#009E73",
    "knowledge table": "#0072B2",
    "solution": "#CC79A7",
}
_MARKERS = "os^DvP*X<>ph"
_SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")


def _pattern(place: int) -> str:
    """Dashed where the colours begin again."""
    return "-" if place < len(_SERIES) else "--"


DPI = 150


@dataclass(frozen=True)
class Entry:
    """How to draw a figure, and what to say below it."""

    draw: Callable[[Results], Figure]
    title: str
    caption: str


def _interval(ax: Axes, x: Any, y: float, row: Row, name: str, colour: str, **style: Any) -> None:
    ax.plot([row[f"{name}_low"], row[f"{name}_high"]], [y, y], color=colour, linewidth=2.2)
    ax.plot([x], [y], color=colour, linestyle="none", **{"marker": "o", "markersize": 4.5, **style})


def league(results: Results) -> Figure:
    """Every contender in its group: how far from the uniform policy to the best sequence."""
    rows = analysis.league_rows(results)
    oracle, noise = analysis.source_oracle(results)
    shown = []
    for group in GROUP_COLOURS:
        mine = [r for r in rows if r["group"] == group and r["oracle"] == oracle]
        wanted = [r for r in mine if np.isclose(r["noise"], noise)] or mine
        shown += sorted(wanted, key=lambda r: -r["optimality"])
    figure = Figure(figsize=(WIDTH, 1.1 + 0.21 * len(shown)))
    ax = figure.subplots()
    for place, row in enumerate(shown):
        colour = GROUP_COLOURS[row["group"]]
        _interval(ax, row["optimality"], place, row, "optimality", colour)
    ax.set_yticks(range(len(shown)), [r["label"] for r in shown])
    for tick, row in zip(ax.get_yticklabels(), shown, strict=True):
        tick.set_color(GROUP_COLOURS[row["group"]])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlabel("Reward, 0 uniform policy to 1 best sequence")
    handles = [
        Line2D([], [], color=colour, marker="o", label=f"told: {group}")
        for group, colour in GROUP_COLOURS.items()
        if any(r["group"] == group for r in shown)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def rates(results: Results) -> Figure:
    """Reward over learning rates, each algorithm's other knobs at their best for each rate."""
    oracle, noise = analysis.source_oracle(results)
    data = analysis.tuning(results)
    figure = Figure(figsize=(WIDTH, 4.0))
    axes = figure.subplots(1, 2, sharey=True)
    groups = (("feedback", "Told the feedback"), ("knowledge table", "Told a table (knowledge 1)"))
    for ax, (group, title) in zip(axes, groups, strict=True):
        names = [
            n for n in dict.fromkeys(data.contender.values.tolist()) if CONTENDERS[n].group == group
        ]
        if group == "knowledge table":
            kept = ("sdpo", "sdpo_reverse", "sdpo_jsd", "sdpo_forward_trust", "sdpo_jsd_ema_top_k",
                    "distillation", "hybrid", "sdpo_entropy")  # fmt: skip
            names = [n for n in names if n in kept]
        for place, name in enumerate(names):
            rows = analysis.sensitivity(results, name, oracle, noise)
            colour = _SERIES[place % len(_SERIES)]
            x = [r["learning_rate"] for r in rows]
            ax.plot(x, [r["reward"] for r in rows], color=colour, marker=_MARKERS[place],
                    markersize=3.5, linewidth=1.2, linestyle=_pattern(place),
                    label=CONTENDERS[name].label)  # fmt: skip
            low, high = ([r[f"reward_{end}"] for r in rows] for end in ("low", "high"))
            ax.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
        ax.set_xscale("log")
        ax.axvline(0.02, color=INK, linewidth=0.8, linestyle=":")
        ax.set_title(title)
        ax.set_xlabel("Learning rate (dotted: the paper's)")
        handles, labels = ax.get_legend_handles_labels()
        place = "outside lower left" if ax is axes[0] else "outside lower right"
        figure.legend(handles, labels, loc=place, fontsize=7, ncols=2)
    axes[0].set_ylabel("Final reward (tuning seeds)")
    return figure


def crossover(results: Results) -> Figure:
    """SDPO's lead over the best that is told only the feedback, against its teacher's knowledge."""
    data = results["league_crossover"]
    kinds = list(dict.fromkeys(data.oracle.values.tolist()))
    figure = Figure(figsize=(WIDTH, 2.9))
    axes = np.atleast_1d(figure.subplots(1, len(kinds), sharey=True))
    for ax, kind in zip(axes, kinds, strict=True):
        ax.axhline(0, color=INK, linewidth=0.8)
        for place, noise in enumerate(np.unique(data.noise.values)):
            knowledge, gaps, _ = analysis.gaps_of(results, kind, float(noise))
            interval = statistics.mean(gaps)
            colour = _SERIES[place]
            ax.plot(knowledge, interval.estimate, color=colour, marker=_MARKERS[place],
                    markersize=3.5, linewidth=1.3, label=f"noise {noise:g}")  # fmt: skip
            ax.fill_between(
                knowledge, interval.low, interval.high, color=colour, alpha=0.2, linewidth=0
            )
        ax.set_title(kind)
        ax.set_xlabel("Knowledge")
    axes[0].set_ylabel("SDPO less the best\ntold only the feedback")
    axes[-1].legend(loc="lower right")
    return figure


def frontier(results: Results) -> Figure:
    """The most reward at an entropy, of each variant."""
    rows = analysis.frontier_rows(results)
    levels = sorted({r["knowledge"] for r in rows})
    figure = Figure(figsize=(WIDTH, 3.9))
    axes = np.atleast_1d(figure.subplots(1, len(levels), sharey=True, sharex=True))
    names = list(dict.fromkeys(r["contender"] for r in rows))
    for ax, level in zip(axes, levels, strict=True):
        for place, name in enumerate(names):
            mine = [r for r in rows if r["contender"] == name and r["knowledge"] == level]
            mine.sort(key=lambda r: r["entropy"])
            colour = _SERIES[place % len(_SERIES)]
            ax.errorbar(
                [r["entropy"] for r in mine],
                [r["reward"] for r in mine],
                xerr=[[r["entropy"] - r["entropy_low"] for r in mine],
                      [r["entropy_high"] - r["entropy"] for r in mine]],
                yerr=[[r["reward"] - r["reward_low"] for r in mine],
                      [r["reward_high"] - r["reward"] for r in mine]],
                color=colour, marker=_MARKERS[place], markersize=3.5, linewidth=1.1,
                linestyle=_pattern(place), elinewidth=0.7, label=CONTENDERS[name].label,
            )  # fmt: skip
        ax.set_title(f"knowledge {level:g}")
        ax.set_xlabel("Entropy (nats)")
    axes[0].set_ylabel("Final reward")
    handles, labels = axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7.5)
    return figure


def biases(results: Results) -> Figure:
    """What each bias costs at growing strength, beside plain noise of the same error."""
    rows = analysis.bias_rows(results)
    found = dict.fromkeys(r["bias"] for r in rows)
    grown = [bias for bias in found if bias in BIASES]
    columns = min(4, len(grown))
    lines = -(-len(grown) // columns)
    figure = Figure(figsize=(WIDTH, 1.0 + 1.75 * lines))
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    names = list(dict.fromkeys(r["contender"] for r in rows))
    for ax in axes.flat[len(grown) :]:
        ax.set_visible(False)
    for place, bias in enumerate(grown):
        ax = axes.flat[place]
        ax.axhline(0, color=INK, linewidth=0.8)
        for index, name in enumerate(names):
            mine = [r for r in rows if r["contender"] == name and r["bias"] == bias]
            x = [0.0] + [r["strength"] for r in mine]
            colour = _SERIES[index]
            for end, alpha in (("", 1.0),):
                ax.plot(x, [0.0] + [-r[f"loss{end}"] for r in mine], color=colour, alpha=alpha,
                        marker=_MARKERS[index], markersize=3, linewidth=1.2,
                        label=CONTENDERS[name].label)  # fmt: skip
            low = [0.0] + [-r["loss_high"] for r in mine]
            high = [0.0] + [-r["loss_low"] for r in mine]
            ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        ax.set_title(bias.replace("_", " "), fontsize=9)
    for ax in axes[:, 0]:
        ax.set_ylabel("Change of reward")
    for ax in axes[-1]:
        ax.set_xlabel("Strength")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return figure


def scaling(results: Results) -> Figure:
    """How far to the best sequence at other lengths and vocabularies."""
    rows = analysis.scaling_rows(results)
    shapes = list(dict.fromkeys((r["length"], r["vocab_size"]) for r in rows))
    figure = Figure(figsize=(WIDTH, 3.2))
    ax = figure.subplots()
    lines = list(dict.fromkeys((r["contender"], r["knowledge"]) for r in rows))
    for place, (name, knowledge) in enumerate(lines):
        mine = [r for r in rows if (r["contender"], r["knowledge"]) == (name, knowledge)]
        at = np.array([shapes.index((r["length"], r["vocab_size"])) for r in mine])
        x = at + 0.09 * (place - (len(lines) - 1) / 2)
        low, high = (np.array([r[f"optimality_{end}"] for r in mine]) for end in ("low", "high"))
        label = CONTENDERS[name].label
        if CONTENDERS[name].group == "knowledge table":
            label += f", knowledge {knowledge:g}"
        ax.vlines(x, low, high, color=_SERIES[place], linewidth=2)
        ax.plot(x, [r["optimality"] for r in mine], color=_SERIES[place], marker=_MARKERS[place],
                markersize=5, linestyle="none", label=label)  # fmt: skip
    ax.set_xticks(range(len(shapes)), [f"T={t}, V={v}" for t, v in shapes])
    ax.set_ylabel("Reward, 0 uniform to 1 best")
    ax.grid(False, axis="x")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def credit(results: Results) -> Figure:
    """Each direction's correlation with the exact advantage, at one and the same policies."""
    rows = analysis.credit_rows(results)
    policies = list(dict.fromkeys(r["policy"] for r in rows))
    names = list(dict.fromkeys(r["contender"] for r in rows))
    figure = Figure(figsize=(WIDTH, 1.3 + 0.22 * len(names)))
    axes = figure.subplots(1, len(policies), sharey=True, sharex=True)
    for ax, policy in zip(axes, policies, strict=True):
        ax.axvline(0, color=INK, linewidth=0.8)
        for place, name in enumerate(names):
            row = next(r for r in rows if (r["contender"], r["policy"]) == (name, policy))
            colour = GROUP_COLOURS[CONTENDERS[name].group]
            _interval(ax, row["exact_credit"], place, row, "exact_credit", colour)
            _interval(ax, row["credit"], place + 0.28, row, "credit", colour,
                      markerfacecolor="white", markersize=3.5)  # fmt: skip
        ax.set_title(policy)
    axes[0].set_yticks(range(len(names)), [CONTENDERS[n].label for n in names])
    axes[0].invert_yaxis()
    axes[len(axes) // 2].set_xlabel("Credit correlation with the exact advantage (hollow: with q)")
    return figure


def cost(results: Results) -> Figure:
    """Reward against what it took: rewards asked for, on a common axis."""
    rows = analysis.league_rows(results)
    oracle, noise = analysis.source_oracle(results)
    data = analysis.league(results)
    figure = Figure(figsize=(WIDTH, 3.2))
    ax = figure.subplots()
    names = [n for n in ("reinforce", "grpo", "ppo", "dpo", "sdft", "scar", "process_reward",
                         "dense_reward", "rlhf", "sdpo")
             if any(r["contender"] == n for r in rows)]  # fmt: skip
    steps = int(results["range"].attrs["steps"])
    for place, name in enumerate(names):
        found = [r for r in rows if r["contender"] == name and r["oracle"] == oracle]
        row = next((r for r in found if np.isclose(r["noise"], noise)), found[0])
        at = analysis.cell(data, name, oracle, row["noise"])
        curve, error = at.reward_curve.values, at.reward_curve_error.values
        asked = row["queries"] / steps * (1 + np.arange(len(curve)) * steps / len(curve))
        colour = _SERIES[place % len(_SERIES)]
        ax.plot(asked, curve, color=colour, marker=_MARKERS[place], markevery=6, markersize=4,
                linewidth=1.2, linestyle=_pattern(place),
                label=CONTENDERS[name].label)  # fmt: skip
        ax.fill_between(asked, curve - 1.96 * error, curve + 1.96 * error, color=colour, alpha=0.15,
                        linewidth=0)  # fmt: skip
    ax.set_xscale("log")
    ax.set_xlabel("Times that the reward or the oracle was asked")
    ax.set_ylabel("Mean reward")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure


FIGURES: Mapping[str, Entry] = {
    "league": Entry(
        league,
        "The league",
        "Final reward on the scale from the uniform policy to the best sequence; continuous "
        "feedback with noise 0.2 (those told the reward of any sequence: without noise). Colours "
        "are groups: only contenders of one colour are told the same. Each at the best of equally "
        "many settings, found on other seeds.",
    ),
    "rates": Entry(
        rates,
        "Learning-rate sensitivity",
        "Final reward over learning rates on the tuning seeds, each algorithm's own knob at its "
        "best for each rate; continuous feedback, noise 0.2.",
    ),
    "crossover": Entry(
        crossover,
        "What SDPO's teacher must know",
        "SDPO's final reward less that of the best algorithm told only the feedback, against the "
        "correlation of the teacher's table with q. Both tuned in every cell. Above 0 SDPO wins.",
    ),
    "credit": Entry(
        credit,
        "Credit at the same policies",
        "Correlation of a step's direction with the exact advantage of the reward (filled) and "
        "with token quality, its part that the paper measures (hollow), at the same three policies "
        "for all algorithms.",
    ),
    "frontier": Entry(
        frontier,
        "Reward against diversity",
        "The most reward at a floor of entropy, each variant's knob and learning rate swept, "
        "chosen on tuning seeds; continuous feedback, noise 0.2. Both are means over the last "
        "steps of training, as in every table here. The panels of teachers are told four tables "
        "where the others are told one, which is more wherever knowledge is below 1.",
    ),
    "biases": Entry(
        biases,
        "Judges with a bias",
        "Change of final reward as a judge's bias grows, settings as tuned for a fair judge; "
        "continuous feedback, noise 0.2.",
    ),
    "cost": Entry(
        cost,
        "Reward against cost",
        "Mean reward over training against how often the reward or the oracle was asked; noise "
        "0.2, but for those told the reward of any sequence. PPO asks at every fourth step; exact "
        "Shapley values ask for 2^T rewards a rollout, an exact process reward for all sequences "
        "a step.",
    ),
    "scaling": Entry(
        scaling,
        "Longer sequences, larger vocabularies",
        "Final reward on the scale from the uniform policy to the best sequence, each contender "
        "tuned at each size; continuous feedback, noise 0.2.",
    ),
}


def write_figures(results: Results, out: Path) -> list[Path]:
    """Write every figure as ``OUT/figures/NAME.png`` and ``.svg``; return the paths."""
    paths = []
    for name, entry in FIGURES.items():
        with matplotlib.style.context(["default", RC]):
            figure = entry.draw(results)
        salt = f"audit-{name}"
        paths += save(name, figure, out / FOLDER, entry.title, salt=salt, dpi=DPI)
    return paths
