"""The same work by everything that a user would pick instead, timed in turns with ours."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import sdpo_jax
from benchmarks.peers import PEERS
from benchmarks.write import save, shown, spread, table

CASES = (("sdpo", "continuous"), ("sdpo", "binary"), ("reinforce", "continuous"))
METRICS = ("reward", "credit", "entropy")
OURS = "sdpo_jax"

# Standard errors that a peer's means may be from ours.
_TOLERANCE = 4.0
# Seconds that one timing takes, about.
_SECONDS = 1.5
# Runs that the statistics are compared over, and with which a peer's speed is first guessed.
_FIRST = {"numpy_loop": 32}

Train = Callable[[int], dict[str, np.ndarray]]


def prepare_ours(method: str, feedback: str, runs: int) -> Train:
    """Our own, in the form of a peer."""

    def train(first: int) -> dict[str, np.ndarray]:
        axes = {"method": [method], "feedback": [feedback], "seed": range(first, first + runs)}
        data = sdpo_jax.run_grid(axes)
        return {name: data[name].values.ravel() for name in METRICS}

    train(0)
    return train


def standard_errors(ours: np.ndarray, theirs: np.ndarray) -> float:
    """How many standard errors two means are apart."""
    error = math.sqrt(ours.var(ddof=1) / ours.size + theirs.var(ddof=1) / theirs.size)
    return abs(float(ours.mean() - theirs.mean())) / error


def run(repeats: int, path: Path | None, line: str) -> list[dict[str, Any]]:
    """Compare every case.

    Raises:
        ValueError: a peer's statistics are not ours, so that it does other work.
    """
    present = {name: peer for name, peer in PEERS.items() if peer.available}
    absent = [peer.title for peer in PEERS.values() if not peer.available]
    results = [_case(method, feedback, present, repeats) for method, feedback in CASES]
    body = "".join(_section(each) for each in results)
    body += (
        f"\nRuns of 300 steps a second, median (range) of {repeats} turns; in each turn every "
        "contestant trains once, ours first, and the ratio is taken within the turn. Before, each "
        f"peer's mean final reward, credit and entropy lay within {_TOLERANCE:g} standard errors "
        "of ours.\n"
    )
    if absent:
        body += f"\nNot installed: {', '.join(absent)}.\n"
    save("peers", "Against everything else", line, body, results, path)
    return results


def _case(method: str, feedback: str, peers: dict[str, Any], repeats: int) -> dict[str, Any]:
    reference = prepare_ours(method, feedback, 1024)(0)
    contestants = {OURS: _sized(lambda runs: prepare_ours(method, feedback, runs), 1024)[:2]}
    agreement = {}
    for name, peer in peers.items():
        first = _FIRST.get(name, 256)
        train, runs, sample = _sized(
            lambda runs, peer=peer: peer.prepare(method, feedback, runs), first
        )
        apart = {each: standard_errors(reference[each], sample[each]) for each in METRICS}
        if max(apart.values()) > _TOLERANCE:
            raise ValueError(f"{name}: {apart} standard errors from ours; allowed: {_TOLERANCE:g}")
        contestants[name] = train, runs
        agreement[name] = apart
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats):
        for name, (train, runs) in contestants.items():
            gc.collect()
            start = time.perf_counter()
            train((turn + 1) * runs)
            speeds[name].append(runs / (time.perf_counter() - start))
    ratios = {
        name: spread([a / b for a, b in zip(speeds[OURS], speeds[name], strict=True)])
        for name in peers
    }
    return {
        "method": method,
        "feedback": feedback,
        "runs_per_second": {name: spread(values) for name, values in speeds.items()},
        "ratio": ratios,
        "standard_errors_apart": agreement,
        "runs": {name: runs for name, (_, runs) in contestants.items()},
    }


def _sized(prepare: Callable[[int], Train], first: int) -> tuple[Train, int, dict[str, np.ndarray]]:
    """A contestant with as many runs as fill the time, and the outcome of its first runs."""
    train = prepare(first)
    start = time.perf_counter()
    sample = train(0)
    seconds = time.perf_counter() - start
    runs = max(1, round(first * _SECONDS / seconds))
    if runs > first:
        # Powers of two: several peers are at their best there.
        runs = 2 ** round(math.log2(runs))
    return (train, first, sample) if runs == first else (prepare(runs), runs, sample)


def _section(case: dict[str, Any]) -> str:
    titles = {OURS: "**sdpo_jax**"} | {name: PEERS[name].title for name in case["ratio"]}
    rows = [
        [
            titles[name],
            shown(speed),
            shown(case["ratio"][name], 1) if name in case["ratio"] else "1",
        ]
        for name, speed in case["runs_per_second"].items()
    ]
    title = f"\n## {case['method']}, {case['feedback']} feedback\n\n"
    return title + table(["program", "runs/s", "sdpo_jax is so many times as fast"], rows)
