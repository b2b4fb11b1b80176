"""The paper's six figures from saved results, over seeds, with the published values marked.

Drawn without any global state of matplotlib, and to the same bytes each time by the same
version of it. Lines and large markers are means over seeds; their 95% intervals are Student's.
Pale bands and thin bars are the central 90% of the seeds: that is where one run, such as the
paper's, is to be expected.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sweeps import statistics
from sweeps.paper.published import ALGORITHMS, published, table
from sweeps.report.drawing import FOLDER, WIDTH, save
from sweeps.report.style import ALGORITHM_LOOKS, FEEDBACK_LABELS, INK, PUBLISHED_MARKER, RC
from sweeps.store import datasets

SPREAD = 0.9
_CURVE_POINTS = 75
_BESIDE = 0.13  # how far right of our points the published ones stand

Results = Mapping[str, xr.Dataset]


@dataclass(frozen=True)
class FigureEntry:
    """How to draw a figure, and what to say below it."""

    draw: Callable[[Results], Figure]
    title: str
    caption: str


def figure1(results: Results) -> Figure:
    """Reward over training for three algorithms under the four types of feedback."""
    figure, axes = _canvas(5.4, 2, 2, sharex=True, sharey=True)
    data = results["algorithms"]["reward_curve"]
    last = published()["protocol"]["steps"]
    for ax, (index, kind) in zip(axes.flat, enumerate(published()["feedback_order"]), strict=True):
        for algorithm in ALGORITHMS:
            _curve(ax, algorithm, datasets.cells(data, algorithm=algorithm, oracle=kind))
        for place, algorithm in enumerate(ALGORITHMS):
            # Side by side right of the last step, so that the two baselines stay apart.
            _published(ax, algorithm, [last * (1.03 + 0.05 * place)], [table(1, algorithm)[index]])
        ax.set_title(FEEDBACK_LABELS[kind])
        _steps(ax, last * 1.15)
    for ax in axes[1]:
        ax.set_xlabel("Training step")
    for ax in axes[:, 0]:
        ax.set_ylabel("Mean reward")
    _legend(figure, ALGORITHMS, lines=True, band="90% of seeds")
    return figure


def figure2(results: Results) -> Figure:
    """Credit correlation by algorithm and feedback, with the sign-flipped baseline beside it."""
    figure, axes = _canvas(4.4)
    ax = axes[0, 0]
    feedback = published()["feedback_order"]
    ax.axhline(0, color=INK, linewidth=0.8)
    for algorithm in ALGORITHMS:
        seeds = datasets.cells(
            results["algorithms"]["credit"], algorithm=algorithm, oracle=feedback
        )
        _by_feedback(ax, algorithm, seeds, table(2, algorithm))
        low, high = statistics.central_range(seeds, SPREAD)
        above = algorithm == "sdpo"
        for place, edge in enumerate(high if above else low):
            ax.annotate(
                _signed(seeds[place].mean()),
                (place + _offset(algorithm), edge),
                (0, 5 if above else -5),
                textcoords="offset points",
                ha="center",
                va="bottom" if above else "top",
                fontsize=8.5,
            )
    flipped = datasets.cells(results["flipped"]["credit"], algorithm="reinforce")
    place = feedback.index("continuous") + _offset("reinforce")
    look = ALGORITHM_LOOKS["reinforce"]
    _points(ax, "reinforce", np.array([place]), flipped[None], hollow=True)
    ax.set_ylim(-0.85, 0.97)
    ax.set_ylabel("Credit correlation (last 20 steps)")
    control = Line2D(
        [],
        [],
        color=look.colour,
        marker=look.marker,
        markerfacecolor="white",
        linestyle="none",
        label="REINFORCE, sign flipped",
    )
    _legend(figure, ALGORITHMS, points=True, bar="90% of seeds", extra=[control])
    return figure


def figure3(results: Results) -> Figure:
    """Entropy over training under continuous feedback, and final entropy by feedback."""
    figure, axes = _canvas(6.0, 2)
    over, final = axes[:, 0]
    last = published()["protocol"]["steps"]
    feedback = published()["feedback_order"]
    most = np.log(published()["protocol"]["vocab_size"])
    for ax in (over, final):
        ax.axhline(most, color=INK, linewidth=0.8)
        ax.set_ylabel("Policy entropy (nats)")
    curves = results["algorithms"]["entropy_curve"]
    for place, algorithm in enumerate(ALGORITHMS):
        _curve(
            over,
            algorithm,
            datasets.cells(curves, algorithm=algorithm, oracle="continuous"),
            smooth=1,
        )
        value = table(3, algorithm)[feedback.index("continuous")]
        _published(over, algorithm, [last * (1.02 + 0.03 * place)], [value])
        seeds = datasets.cells(
            results["algorithms"]["entropy"], algorithm=algorithm, oracle=feedback
        )
        _by_feedback(final, algorithm, seeds, table(3, algorithm))
    over.set_title("During training, continuous feedback")
    over.set_xlabel("Training step")
    _steps(over, last * 1.1)
    final.set_title("Final entropy")
    for ax in (over, final):
        low = ax.get_ylim()[0]
        ax.set_ylim(low, most + 0.16 * (most - low))
    over.annotate(
        "most possible, ln 8", (0, most), (2, 3), textcoords="offset points", fontsize=8.5
    )
    _legend(figure, ALGORITHMS, lines=True, points=True, band="90% of seeds")
    return figure


def figure4(results: Results) -> Figure:
    """Final reward and credit correlation against the noise of the feedback."""
    figure, axes = _canvas(5.8, 2, sharex=True)
    paper = published()["figure4_noise"]
    noise = paper["noise"]
    places = np.arange(len(noise))
    panels = {"reward": paper["reward"], "credit": paper["credit_read_off_plot"]}
    for ax, (metric, printed) in zip(axes[:, 0], panels.items(), strict=True):
        for algorithm in ALGORITHMS:
            look = ALGORITHM_LOOKS[algorithm]
            seeds = datasets.cells(results["noise"][metric], algorithm=algorithm, noise=noise)
            at = places + _offset(algorithm)
            ax.plot(at, seeds.mean(axis=-1), color=look.colour, linestyle=look.line, linewidth=0.9)
            _points(ax, algorithm, at, seeds, size=5)
            _published(ax, algorithm, at + _BESIDE, printed[algorithm], size=6)
        ax.grid(False, axis="x")
    axes[0, 0].set_ylabel("Final mean reward")
    axes[1, 0].set_ylabel("Credit correlation")
    axes[1, 0].set_ylim(-0.85, 0.97)
    axes[1, 0].axhline(0, color=INK, linewidth=0.8)
    axes[1, 0].set_xticks(places, [f"{level:g}" for level in noise])
    axes[1, 0].set_xlabel("Standard deviation σ of the feedback noise (in units of reward)")
    _legend(figure, ALGORITHMS, lines=True, points=True, bar="90% of seeds")
    return figure


def figure5(results: Results) -> Figure:
    """The hybrid beside its parents under noisy feedback, and its weight over training."""
    figure = Figure(figsize=(WIDTH, 5.8))
    rewards = figure.subplot_mosaic([["continuous", "critique"], ["weight", "weight"]])
    weight = rewards.pop("weight")
    rewards["critique"].sharey(rewards["continuous"])
    rewards["critique"].tick_params(labelleft=False)
    paper = published()["figure5_hybrid"]
    last = published()["protocol"]["steps"]
    algorithms = ("hybrid", "sdpo", "reinforce")
    curves = results["hybrid"]["reward_curve"]
    for kind, ax in rewards.items():
        for algorithm in algorithms:
            _curve(ax, algorithm, datasets.cells(curves, algorithm=algorithm, oracle=kind))
        for place, algorithm in enumerate(paper["reward"][kind]):
            at = last * (1.03 + 0.05 * place)
            _published(ax, algorithm, [at], [paper["reward"][kind][algorithm]])
        ax.set_title(FEEDBACK_LABELS[kind])
        ax.set_xlabel("Training step")
        _steps(ax, last * 1.15)
    rewards["continuous"].set_ylabel("Mean reward")

    for kind, line in (("continuous", "-"), ("critique", (0, (2, 1.5)))):
        values = datasets.cells(results["hybrid"]["alpha_curve"], oracle=kind)
        _curve(weight, "hybrid", values, line=line, label=FEEDBACK_LABELS[kind])
    plotted = paper["alpha_read_off_plot"]
    mean = f"published mean, {plotted['mean']:g}"
    weight.axhline(plotted["mean"], color=INK, linewidth=0.8, linestyle=(0, (1, 2)), label=mean)
    weight.axhline(0.5, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    _published(weight, "hybrid", [0, 0], plotted["at_step_0"])
    weight.annotate(
        "start according to the paper's text",
        (last, 0.5),
        (0, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8.5,
    )
    weight.set_title("Weight of SDPO in the hybrid")
    weight.set_ylabel("Weight α")
    weight.set_xlabel("Training step")
    weight.set_ylim(min(0.4, weight.get_ylim()[0]), 1.06)
    _steps(weight, last * 1.02, first=-0.02 * last)
    weight.legend(loc="upper right", ncols=3, borderaxespad=0, columnspacing=1.2)
    _legend(figure, algorithms, lines=True, band="90% of seeds")
    return figure


def figure6(results: Results) -> Figure:
    """Final reward over seeds under continuous feedback, beside the five published seeds."""
    figure, axes = _canvas(4.4)
    ax = axes[0, 0]
    paper = published()["figure6_multiseed"]
    reward = {}
    for place, algorithm in enumerate(ALGORITHMS):
        look = ALGORITHM_LOOKS[algorithm]
        seeds = datasets.cells(
            results["algorithms"]["reward"], algorithm=algorithm, oracle=paper["feedback"]
        )
        parts = ax.violinplot(
            [seeds], [place - 0.05], widths=0.7, side="low", showextrema=False, points=80
        )
        for body in parts["bodies"]:
            body.set(facecolor=look.colour, alpha=0.25, linewidth=0)
        printed = paper["reward_mean_std"][algorithm]
        _mean_and_deviation(ax, algorithm, place - 0.05, seeds.mean(), seeds.std(ddof=1), ours=True)
        _mean_and_deviation(ax, algorithm, place + 0.25, *printed, ours=False)
        reward[algorithm] = seeds
    ax.set_xticks(
        range(len(ALGORITHMS)), [ALGORITHM_LOOKS[algorithm].label for algorithm in ALGORITHMS]
    )
    ax.grid(False, axis="x")
    ax.set_xlim(-0.5, len(ALGORITHMS) - 0.45)
    ax.set_xlabel("Algorithm")
    ax.set_ylabel("Final mean reward")
    gap = paper["reward_mean_std"]["sdpo"][0] - paper["reward_mean_std"]["reinforce"][0]
    share = statistics.gap_frequency(reward["sdpo"], reward["reinforce"], gap, group=paper["seeds"])
    ax.text(
        0.99,
        0.98,
        f"Groups of {paper['seeds']} of our seeds with the\n"
        f"published gap to REINFORCE\n({gap:.3f}) or more: {100 * share.value:.1f}%",
        transform=ax.transAxes,
        ha="right",
        va="top",
        fontsize=9,
    )
    ours = Line2D([], [], color=INK, marker="o", label=f"ours, {reward['sdpo'].size:,} seeds")
    _legend(figure, (), paper=f"published, {paper['seeds']} seeds", extra=[ours])
    return figure


FIGURES = {
    "figure1": FigureEntry(
        figure1,
        "Reward during training",
        "Mean reward of the sampled sequences over training, smoothed over 15 steps as in the "
        "paper. Lines: mean over seeds; pale bands: central 90% of the seeds. Crosses right of "
        "the last step: published final rewards (table 1, one seed).",
    ),
    "figure2": FigureEntry(
        figure2,
        "Credit correlation",
        "Correlation between each algorithm's direction and the tokens' advantage under q, mean of "
        "the last 20 steps. Markers: mean over seeds, printed beside them; thin bars: central "
        "90% of the seeds. Crosses: published (table 2, one seed). Hollow square: REINFORCE "
        "with the sign of its gradient flipped, a control run that is not in the paper.",
    ),
    "figure3": FigureEntry(
        figure3,
        "Policy entropy",
        "Entropy of the policy, mean over positions: during training under continuous feedback "
        "(above) and at the last step under each type of feedback (below). Lines and markers: "
        "mean over seeds; bands and thin bars: central 90% of the seeds. Crosses: published "
        "(table 3, one seed).",
    ),
    "figure4": FigureEntry(
        figure4,
        "Noise in the feedback",
        "Final reward and credit correlation against the noise of the feedback, continuous "
        "feedback. Markers: mean over seeds; thin bars: central 90% of the seeds. Crosses: "
        "published (one seed; credit was read off the plot, to about 0.01). The noise levels "
        "stand evenly spaced.",
    ),
    "figure5": FigureEntry(
        figure5,
        "The hybrid algorithm",
        "Feedback with noise 0.2. Above: mean reward over training, smoothed over 15 steps. "
        "Below: the hybrid's weight of SDPO, smoothed alike. Lines: mean over seeds; pale bands: "
        "central 90% of the seeds. Crosses: published final rewards and the weight at step 0, "
        "read off the plot.",
    ),
    "figure6": FigureEntry(
        figure6,
        "Final reward over seeds",
        "Final reward under continuous feedback. Shapes: distribution of our seeds; markers: "
        "their mean with one standard deviation. Crosses: mean and standard deviation of the "
        "five published seeds.",
    ),
}


def draw(name: str, results: Results) -> Figure:
    """Figure ``name``, a key of ``FIGURES``, in the common look.

    Raises:
        ValueError: no figure has that name.
    """
    if name not in FIGURES:
        raise ValueError(f"name: {name!r} is not a figure; allowed: {', '.join(FIGURES)}")
    # From the defaults, so that a user's own settings of matplotlib do not reach the figures.
    with matplotlib.style.context(["default", RC]):
        return FIGURES[name].draw(results)


def write_figures(out_dir: str | os.PathLike[str]) -> list[Path]:
    """Write ``OUT/figures/figure1.png``, ``.svg`` to ``figure6``; return the paths.

    Raises:
        MissingResults: a data set that a figure needs is not there.
    """
    results = datasets.Results(out_dir)
    folder = Path(out_dir) / FOLDER
    return [
        path
        for name, entry in FIGURES.items()
        for path in save(name, draw(name, results), folder, entry.title)
    ]


def _canvas(height: float, rows: int = 1, columns: int = 1, **share: Any) -> tuple[Figure, Any]:
    """A figure of the common width and its axes ``[rows, columns]``."""
    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.subplots(rows, columns, squeeze=False, **share)


def _curve(
    ax: Axes,
    algorithm: str,
    values: np.ndarray,
    smooth: int | None = None,
    line: Any = None,
    label: str | None = None,
) -> None:
    """Mean over seeds of ``values [step, seed]`` with its interval, and the seeds' range."""
    window = published()["protocol"]["curve_smoothing_window"] if smooth is None else smooth
    steps = np.unique(np.linspace(0, len(values) - 1, _CURVE_POINTS).round().astype(int))
    values = smoothed(values, window)[steps]
    look = ALGORITHM_LOOKS[algorithm]
    interval = statistics.mean(values)
    for (low, high), alpha in (
        (statistics.central_range(values, SPREAD), 0.13),
        ((interval.low, interval.high), 0.35),
    ):
        ax.fill_between(steps, low, high, color=look.colour, alpha=alpha, linewidth=0)
    line = look.line if line is None else line
    ax.plot(steps, interval.estimate, color=look.colour, linestyle=line, label=label)


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving average over the first axis; shorter windows at both ends."""
    total = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    step = np.arange(len(values))
    low = np.maximum(step - window // 2, 0)
    high = np.minimum(step + window // 2 + 1, len(values))
    return (total[high] - total[low]) / (high - low)[:, None]


def _points(
    ax: Axes,
    algorithm: str,
    at: np.ndarray,
    seeds: np.ndarray,
    size: float = 6.5,
    hollow: bool = False,
) -> None:
    """Means over seeds of ``seeds [point, seed]`` with their intervals, at ``at [point]``."""
    look = ALGORITHM_LOOKS[algorithm]
    interval = statistics.mean(seeds)
    low, high = statistics.central_range(seeds, SPREAD)
    ax.vlines(at, low, high, color=look.colour, linewidth=1.1, alpha=0.75)
    ax.vlines(at, interval.low, interval.high, color=look.colour, linewidth=3.2)
    ax.plot(
        at,
        interval.estimate,
        color=look.colour,
        marker=look.marker,
        markersize=size,
        markerfacecolor="white" if hollow else look.colour,
        linestyle="none",
    )


def _published(ax: Axes, algorithm: str, at: Any, values: Any, size: float = 7.5) -> None:
    ax.plot(
        at,
        values,
        marker=PUBLISHED_MARKER,
        markersize=size,
        markerfacecolor=ALGORITHM_LOOKS[algorithm].colour,
        markeredgecolor="white",
        markeredgewidth=0.8,
        linestyle="none",
        clip_on=False,
        zorder=5,
    )


def _mean_and_deviation(
    ax: Axes, algorithm: str, at: float, mean: float, deviation: float, ours: bool
) -> None:
    """A mean with one standard deviation each way; the numbers above ours, below the paper's."""
    look = ALGORITHM_LOOKS[algorithm]
    ax.errorbar(
        [at],
        [mean],
        [deviation],
        fmt=look.marker if ours else "none",
        color=look.colour,
        capsize=4,
        elinewidth=1.4,
        markersize=7,
    )
    if not ours:
        _published(ax, algorithm, [at], [mean])
    ax.annotate(
        f"{mean:.3f}\n±{deviation:.3f}",
        (at, mean + deviation if ours else mean - deviation),
        (0, 4 if ours else -4),
        textcoords="offset points",
        ha="center",
        va="bottom" if ours else "top",
        fontsize=8.5,
    )


def _signed(value: float) -> str:
    """Two decimals with a sign, and no sign before a zero."""
    text = f"{value:+.2f}"
    return "0.00" if text[1:] == "0.00" else text.replace("-", "\N{MINUS SIGN}")


def _by_feedback(ax: Axes, algorithm: str, seeds: np.ndarray, printed: np.ndarray) -> None:
    """One group of points for each type of feedback: ``seeds [oracle, seed]``."""
    feedback = published()["feedback_order"]
    at = np.arange(len(feedback)) + _offset(algorithm)
    _points(ax, algorithm, at, seeds)
    _published(ax, algorithm, at + _BESIDE, printed)
    ax.set_xticks(range(len(feedback)), [FEEDBACK_LABELS[kind] for kind in feedback])
    ax.set_xlim(-0.62, len(feedback) - 0.5)
    ax.set_xlabel("Feedback")
    ax.grid(False, axis="x")


def _offset(algorithm: str) -> float:
    return 0.3 * (ALGORITHMS.index(algorithm) - 1) - 0.05


def _steps(ax: Axes, last: float, first: float = 0.0) -> None:
    """The x axis of a curve over training, with room right of the last step."""
    ax.set_xlim(first, last)
    ax.set_xticks(range(0, published()["protocol"]["steps"] + 1, 100))


def _legend(
    figure: Figure,
    algorithms: Iterable[str],
    lines: bool = False,
    points: bool = False,
    paper: str = "published, 1 seed",
    band: str | None = None,
    bar: str | None = None,
    extra: Iterable[Line2D] = (),
) -> None:
    """One legend above all panels: the algorithms in the first row, all else in the second."""
    first = [
        Line2D(
            [],
            [],
            color=look.colour,
            linestyle=look.line if lines else "none",
            marker=look.marker if points else "none",
            label=look.label,
        )
        for look in (ALGORITHM_LOOKS[algorithm] for algorithm in algorithms)
    ]
    second: list[Line2D | Patch] = [
        Line2D([], [], color=INK, marker=PUBLISHED_MARKER, linestyle="none", label=paper)
    ]
    if band:
        second.append(Patch(color=INK, alpha=0.18, linewidth=0, label=band))
    if bar:
        second.append(Line2D([], [], color=INK, linewidth=1.1, label=bar))
    handles = [*first, *second, *extra]
    columns = len(first) or len(handles)
    # A legend fills its columns one by one: reorder, so that it reads row by row.
    ordered = [handle for start in range(columns) for handle in handles[start::columns]]
    figure.legend(
        handles=ordered,
        loc="outside upper left",
        ncols=columns,
        columnspacing=1.1,
        handlelength=1.7,
        handletextpad=0.5,
        borderaxespad=0.1,
    )
