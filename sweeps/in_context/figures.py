"""The study's figures, from saved results: means with 95% intervals over seeds.

Colours say what a method is told, as in the audit; where a panel holds teachers, they tell those
apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sdpo_jax.in_context import METHODS
from sdpo_jax.in_context.methods import READ, SCORE, SOLUTION
from sweeps import statistics
from sweeps.in_context import analysis
from sweeps.in_context.analysis import Results, of
from sweeps.in_context.experiments import POLICIES, last_kind
from sweeps.in_context.plan import CONTENDERS, GROUPS, MAIN, REFERENCE, Plan
from sweeps.report.drawing import FOLDER, save
from sweeps.report.style import INK, RC

WIDTH = 7.2
DPI = 150

GROUP_COLOURS = {SCORE: "#D55E00", READ: "#0072B2", SOLUTION: "#CC79A7"}
GROUP_LABELS = {
    SCORE: "told the score",
    READ: "reads the feedback in context",
    SOLUTION: "reads the solution",
}

# Colour and line of the methods that stand for their kind.
_LOOKS = {
    "grpo": ("#D55E00", "--"),
    "ppo": ("#E69F00", "--"),
    "sdpo_live_forward": ("#56B4E9", "-"),
    "sdpo_ema_forward": ("#56B4E9", "-."),
    "sdpo_frozen_forward": ("#999999", "-"),
    "sdpo_composed_forward": ("#0072B2", "-"),
    "grpo_sdpo": ("#009E73", "-."),
    "sdft": ("#000000", ":"),
    "opsd": ("#CC79A7", "--"),
}


@dataclass(frozen=True)
class Entry:
    """How to draw a figure, and what to say below it."""

    draw: Callable[[Plan, Results], Figure]
    title: str
    caption: str


def _shown(plan: Plan, names: Any = _LOOKS) -> list[str]:
    return [name for name in names if name in plan.contenders]


def _band(ax: Axes, x: Any, values: np.ndarray, name: str, **more: Any) -> None:
    """The mean over seeds ``[points, seeds]`` with its interval."""
    colour, line = _LOOKS[name]
    found = statistics.mean(values)
    ax.plot(x, found.estimate, color=colour, linestyle=line, label=METHODS[name].label, **more)
    ax.fill_between(x, found.low, found.high, color=colour, alpha=0.15, linewidth=0)


def league(plan: Plan, results: Results) -> Figure:
    """Every contender's final reward, a panel for each kind of feedback."""
    rows = analysis.league_rows(plan, results)
    last = [row for row in rows if row["feedback"] == last_kind(plan)]
    order = [row["contender"] for row in last]
    figure = Figure(figsize=(WIDTH, 1.3 + 0.22 * len(order)))
    axes = np.atleast_1d(figure.subplots(1, len(plan.kinds), sharey=True, sharex=True))
    for ax, kind in zip(axes, plan.kinds, strict=True):
        for row in (row for row in rows if row["feedback"] == kind):
            place, colour = order.index(row["contender"]), GROUP_COLOURS[row["told"]]
            ends = [row["optimality_low"], row["optimality_high"]]
            ax.plot(ends, [place, place], color=colour, linewidth=2.2)
            ax.plot([row["optimality"]], [place], color=colour, marker="o", markersize=4.5)
        ax.set_title(f"{kind.capitalize()} feedback")
    axes[0].set_yticks(range(len(order)), [METHODS[name].label for name in order])
    for tick, name in zip(axes[0].get_yticklabels(), order, strict=True):
        tick.set_color(GROUP_COLOURS[CONTENDERS[name].told])
    axes[0].set_ylim(len(order) - 0.4, -0.6)
    figure.supxlabel("Final reward, 0 uniform policy to 1 best answer", fontsize=9.5, color=INK)
    handles = [
        Line2D([], [], color=GROUP_COLOURS[told], marker="o", label=GROUP_LABELS[told])
        for told in GROUPS
        if any(CONTENDERS[name].told == told for name in order)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def curves(plan: Plan, results: Results) -> Figure:
    """Reward against steps."""
    figure = Figure(figsize=(WIDTH, 3.3))
    axes = np.atleast_1d(figure.subplots(1, len(plan.kinds), sharey=True))
    for ax, kind in zip(axes, plan.kinds, strict=True):
        for name in _shown(plan):
            _band(ax, np.arange(plan.steps), of(plan, results, name, kind).reward.values.T, name)
        ax.set_title(f"{kind.capitalize()} feedback")
        ax.set_xlabel("Step")
    axes[0].set_ylabel("Reward")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def frontier(plan: Plan, results: Results) -> Figure:
    """Reward against entropy, along training."""
    figure = Figure(figsize=(WIDTH, 3.5))
    axes = np.atleast_1d(figure.subplots(1, len(plan.kinds), sharey=True, sharex=True))
    for ax, kind in zip(axes, plan.kinds, strict=True):
        for name in _shown(plan):
            data = of(plan, results, name, kind).mean("seed")
            colour, line = _LOOKS[name]
            ax.plot(data.entropy, data.reward, color=colour, linestyle=line,
                    label=METHODS[name].label)  # fmt: skip
            ax.plot(data.entropy[-1:], data.reward[-1:], color=colour, marker="o", markersize=4)
        ax.set_title(f"{kind.capitalize()} feedback")
        ax.set_xlabel("Entropy, nats a token")
    axes[0].invert_xaxis()
    axes[0].set_ylabel("Reward")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def skill(plan: Plan, results: Results) -> Figure:
    """Final reward against the skill of the network that a run starts from."""
    rows = analysis.skill_rows(plan, results)
    figure = Figure(figsize=(4.8, 3.4))
    ax = figure.subplots()
    for name in dict.fromkeys(row["contender"] for row in rows):
        mine = sorted(
            (row for row in rows if row["contender"] == name), key=lambda row: row["skill"]
        )
        colour, line = _LOOKS[name]
        x = [row["skill"] for row in mine]
        ax.plot(x, [row["reward"] for row in mine], color=colour, linestyle=line, marker="o",
                markersize=4, label=METHODS[name].label)  # fmt: skip
        low, high = ([row[f"reward_{end}"] for row in mine] for end in ("low", "high"))
        ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.set_xlabel(f"Skill, nats a token that {last_kind(plan)} feedback saves")
    ax.set_ylabel("Final reward")
    ax.legend()
    return figure


def strength(plan: Plan, results: Results) -> Figure:
    """The composed teacher's strength and the number of attempts: reward and entropy."""
    figure = Figure(figsize=(WIDTH, 4.6))
    axes = figure.subplots(2, 2, sharey="row", sharex="col")
    sides = (
        ("strength", analysis.strength_rows(plan, results), "Strength of the composed teacher"),
        ("attempts", analysis.attempts_rows(plan, results), "Attempts in a context"),
    )
    for column, (axis, rows, label) in enumerate(sides):
        for line, quantity in enumerate(("reward", "entropy")):
            ax = axes[line, column]
            x = [row[axis] for row in rows]
            y = np.array([row[quantity] for row in rows])
            errors = [y - [row[f"{quantity}_low"] for row in rows],
                      [row[f"{quantity}_high"] for row in rows] - y]  # fmt: skip
            ax.errorbar(x, y, errors, color=_LOOKS[MAIN][0], marker="o", markersize=4, capsize=2)
            if axis == "strength":
                ax.set_xscale("log")
            ax.set_xticks(x, [f"{value:g}" for value in x])
            ax.minorticks_off()
        axes[1, column].set_xlabel(label)
    axes[0, 0].set_ylabel("Final reward")
    axes[1, 0].set_ylabel("Final entropy, nats a token")
    return figure


def credit(plan: Plan, results: Results) -> Figure:
    """Exact credit of each method, at two policies."""
    rows = analysis.credit_rows(plan, results)
    names = list(dict.fromkeys(row["contender"] for row in rows))
    figure = Figure(figsize=(WIDTH, 1.4 + 0.34 * len(names)))
    axes = figure.subplots(1, 2, sharey=True, sharex=True)
    shades = ("#009E73", "#E69F00", "#0072B2", "#CC79A7")
    for ax, policy in zip(axes, POLICIES, strict=True):
        for at, kind in enumerate(plan.kinds):
            mine = [row for row in rows if row["policy"] == policy and row["feedback"] == kind]
            for row in mine:
                y = names.index(row["contender"]) + 0.22 * (at - (len(plan.kinds) - 1) / 2)
                ends = [row["credit_low"], row["credit_high"]]
                ax.plot(ends, [y, y], color=shades[at], linewidth=1.8)
                ax.plot([row["credit"]], [y], color=shades[at], marker="o", markersize=3.5)
        ax.axvline(0, color=INK, linewidth=0.8)
        ax.set_title(policy[0].upper() + policy[1:])
        ax.set_xlabel("Exact credit")
    axes[0].set_yticks(range(len(names)), [METHODS[name].label for name in names])
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    handles = [
        Line2D([], [], color=shades[at], marker="o", label=f"{kind} feedback")
        for at, kind in enumerate(plan.kinds)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def teachers(plan: Plan, results: Results) -> Figure:
    """What teachers know along the way."""
    rows = analysis.teacher_rows(plan, results)
    figure = Figure(figsize=(WIDTH, 3.2))
    left, right = figure.subplots(1, 2)
    for name in plan.watched:
        mine = [row for row in rows if row["contender"] == name]
        colour, _ = _LOOKS.get(name, (INK, "-"))
        x = [row["step"] for row in mine]
        left.plot(x, [row["teacher_reward"] for row in mine], color=colour,
                  label=METHODS[name].label)  # fmt: skip
        left.plot(x, [row["reward"] for row in mine], color=colour, linestyle=":")
        right.plot(x, [row["teacher_saves"] for row in mine], color=colour)
    right.axhline(0, color=INK, linewidth=0.8)
    left.set_ylabel("Reward (student dotted)")
    right.set_ylabel("Nats a token saved")
    for ax in (left, right):
        ax.set_xlabel("Step")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


FIGURES: dict[str, Entry] = {
    "league": Entry(
        league,
        "Every method at its own best",
        "Final reward of each method at the setting that tuning chose, with 95% intervals over "
        "evaluation seeds. Only methods of one colour are told the same. Those that are told the "
        "score only hear of a critique what continuous feedback says.",
    ),
    "curves": Entry(
        curves,
        "Learning curves",
        "Mean reward of the student's rollouts, with 95% intervals. Every step asks for as many "
        "rewards, one a rollout, so that the axis counts reward queries, too.",
    ),
    "frontier": Entry(
        frontier,
        "Reward against entropy",
        "Each line is a method's way through training, from the first network (upper entropy) to "
        "the last step (dot).",
    ),
    "skill": Entry(
        skill,
        "What skill in reading brings",
        "Final reward when training starts from each checkpoint of pretraining, against how many "
        "nats a token the context saves that network.",
    ),
    "strength": Entry(
        strength,
        "How strongly to compose, and how many attempts to read",
        f"{METHODS[MAIN].label}: learning rate as tuned. Tuning rests on few seeds: where "
        "the reward rises beyond the strength that it chose, such a teacher is worth more than the "
        "league and N2 say. Each number of attempts has a network of "
        "its own, pretrained alike.",
    ),
    "credit": Entry(
        credit,
        "Exact credit",
        "Correlation of each method's direction with the exact gradient, at the contexts of the "
        f"rollouts, in a world that can be enumerated; the same rollouts for all. Policies: the "
        f"first network, and students after some steps of {REFERENCE.upper()}, which are "
        "near deterministic, so that little is left to give credit for.",
    ),
    "teachers": Entry(
        teachers,
        "What a teacher knows along the way",
        "Left, the reward of answers that a teacher writes with the feedback on a rollout in its "
        "context (lines), and of the student that it teaches (dotted). Right, how many nats a "
        "token of the best answer it saves; below 0 it finds the best answer less likely than the "
        "student does.",
    ),
}


def write_figures(plan: Plan, results: Results, out: Path) -> list[Path]:
    """Write every figure as ``OUT/figures/NAME.png`` and ``.svg``; return the paths."""
    paths = []
    for name, entry in FIGURES.items():
        with matplotlib.style.context(["default", RC]):
            figure = entry.draw(plan, results)
        salt = f"in-context-{name}"
        paths += save(name, figure, out / FOLDER, entry.title, salt=salt, dpi=DPI)
    return paths
