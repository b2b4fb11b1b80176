"""The same work by everything that a user would pick instead, timed in turns with ours."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import sdpo_jax
from benchmarks.peers import PEERS
from benchmarks.write import Output, bars, shown, spread, table
from sweeps.report.style import ALGORITHM_LOOKS, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CASES = (("sdpo", "continuous"), ("sdpo", "binary"), ("reinforce", "continuous"))
METRICS = ("reward", "credit", "entropy")
OURS = "sdpo_jax"
# The library without its grid: what a user gets from his own ``jit`` and ``vmap`` around ``train``.
OURS_VMAPPED = "train_vmapped"
TITLES = {
    OURS: f"**{OURS}**",
    OURS_VMAPPED: "sdpo_jax, `jit` and `vmap` of `train`",
    **{name: peer.title for name, peer in PEERS.items()},
}

# Standard errors that a peer's means may be from ours.
_TOLERANCE = 4.0
# Runs that the statistics are compared over, and with which a speed is first guessed.
_FIRST = {OURS: 1024, "numpy_loop": 32}
_FIRST_OF_OTHERS = 256

Train = Callable[[int], dict[str, np.ndarray]]


def prepare_ours(algorithm: str, oracle: str, runs: int) -> Train:
    """Our own, in the form of a peer: from the call to the labelled result."""

    def train(first: int) -> dict[str, np.ndarray]:
        axes = {"algorithm": [algorithm], "oracle": [oracle], "seed": range(first, first + runs)}
        data = sdpo_jax.run_grid(axes)
        return {name: data[name].values.ravel() for name in METRICS}

    train(0)
    return train


def prepare_vmapped(algorithm: str, oracle: str, runs: int) -> Train:
    """``train`` under a plain ``jit`` and ``vmap``, in the form of a peer."""
    program = sdpo_jax.Program(algorithm)
    setting = sdpo_jax.ORACLES[oracle]()
    over_seeds = jax.jit(jax.vmap(lambda seed: sdpo_jax.train(seed, program, oracle=setting).final))

    def train(first: int) -> dict[str, np.ndarray]:
        return jax.tree.map(np.asarray, over_seeds(first + jnp.arange(runs)))

    train(0)
    return train


def standard_errors(ours: np.ndarray, theirs: np.ndarray) -> float:
    """How many standard errors two means are apart."""
    error = math.sqrt(ours.var(ddof=1) / ours.size + theirs.var(ddof=1) / theirs.size)
    return abs(float(ours.mean() - theirs.mean())) / error


def check_agreement(
    name: str, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]
) -> dict[str, float]:
    """By metric, how many standard errors a peer's mean is from ours.

    Raises:
        ValueError: too many, so that it does other work.
    """
    apart = {metric: standard_errors(ours[metric], theirs[metric]) for metric in METRICS}
    if max(apart.values()) > _TOLERANCE:
        raise ValueError(f"{name}: {apart} standard errors from ours; allowed: {_TOLERANCE:g}")
    return apart


def run(repeats: int, seconds: float, output: Output) -> None:
    """Compare every case.

    Raises:
        ValueError: a peer's statistics are not ours.
    """
    absent = [peer.title for peer in PEERS.values() if not peer.available]
    results = [_case(algorithm, oracle, repeats, seconds) for algorithm, oracle in CASES]
    body = "".join(_section(each) for each in results).lstrip("\n")
    body += (
        f"\nRuns of 300 steps a second, median (range) of {repeats} turns of about {seconds:g} s; "
        "in each turn every contestant trains once, ours first, and the ratio is taken within the "
        "turn. Before, each peer's mean final reward, credit and entropy lay within "
        f"{_TOLERANCE:g} standard errors of ours. *Tuned by hand*: rewritten for this one model, "
        "with the same shortcuts as ours, at the price of the equations' being hard to see.\n"
    )
    if absent:
        body += f"\nNot installed: {'; '.join(absent)}.\n"
    output.save(body, results, lambda: _figure(results))


def _case(algorithm: str, oracle: str, repeats: int, seconds: float) -> dict[str, Any]:
    prepares = {OURS: prepare_ours, OURS_VMAPPED: prepare_vmapped} | {
        name: peer.prepare for name, peer in PEERS.items() if peer.available
    }
    contestants: dict[str, tuple[Train, int]] = {}
    samples: dict[str, dict[str, np.ndarray]] = {}
    agreement = {}
    for name, prepare in prepares.items():

        def prepared(runs: int, prepare: Callable[..., Train] = prepare) -> Train:
            return prepare(algorithm, oracle, runs)

        first = _FIRST.get(name, _FIRST_OF_OTHERS)
        train, runs, samples[name] = _sized(prepared, first, seconds)
        contestants[name] = train, runs
        if name != OURS:
            agreement[name] = check_agreement(name, samples[OURS], samples[name])
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats):
        for name, (train, runs) in contestants.items():
            gc.collect()
            start = time.perf_counter()
            train((turn + 1) * runs)
            speeds[name].append(runs / (time.perf_counter() - start))
    ratios = {
        name: spread([a / b for a, b in zip(speeds[OURS], speeds[name], strict=True)])
        for name in agreement
    }
    return {
        "algorithm": algorithm,
        "oracle": oracle,
        "runs_per_second": {name: spread(values) for name, values in speeds.items()},
        "ratio": ratios,
        "standard_errors_apart": agreement,
        "runs": {name: runs for name, (_, runs) in contestants.items()},
    }


def _sized(
    prepare: Callable[[int], Train], first: int, wanted: float
) -> tuple[Train, int, dict[str, np.ndarray]]:
    """A contestant with as many runs as fill the time, and the outcome of its first runs."""
    train = prepare(first)
    start = time.perf_counter()
    sample = train(0)
    seconds = time.perf_counter() - start
    runs = max(1, round(first * wanted / seconds))
    if runs > first:
        # Powers of two: several peers are at their best there.
        runs = 2 ** round(math.log2(runs))
    return (train, first, sample) if runs == first else (prepare(runs), runs, sample)


def _section(case: dict[str, Any]) -> str:
    rows = [
        [
            TITLES[name],
            shown(speed),
            "1" if name == OURS else shown(case["ratio"][name], 1),
        ]
        for name, speed in case["runs_per_second"].items()
    ]
    title = f"\n## {case['algorithm']}, {case['oracle']} feedback\n\n"
    return title + table(["program", "runs/s", "sdpo_jax is so many times as fast"], rows)


def _figure(results: list[dict[str, Any]]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(11, 0.9 + 0.28 * len(results[0]["runs_per_second"])))
    for axes, case in zip(figure.subplots(1, len(results), sharey=True), results, strict=True):
        names = list(case["runs_per_second"])
        middle, ranges = bars([case["runs_per_second"][name] for name in names])
        look = ALGORITHM_LOOKS[case["algorithm"]]
        titles = [TITLES[name].strip("*").replace("`", "") for name in names]
        colours = [look.colour if name in (OURS, OURS_VMAPPED) else "#bbbbbb" for name in names]
        axes.barh(titles, middle, xerr=ranges, color=colours, ecolor=INK, height=0.7)
        for place, value in enumerate(middle):
            axes.annotate(f" {value:,.0f}", (value + ranges[1][place], place), va="center")
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.25)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set(title=f"{look.label}, {case['oracle']}", xlabel="training runs a second")
    # Shared by all of them.
    figure.axes[0].invert_yaxis()
    return figure
