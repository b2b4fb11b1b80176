"""Published single-seed numbers that our seeds do not cover, and what can be said about why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sweeps import statistics
from sweeps.paper.claims.rules import FEEDBACK, cells
from sweeps.paper.published import ALGORITHMS, BASELINES, ROUNDING, table
from sweeps.paper.tables import TABLE_METRICS
from sweeps.study.judgements import Results
from sweeps.study.wording import name, number


@dataclass(frozen=True)
class Uncovered:
    """A number of tables 1 to 3 outside the central 99% of our seeds, ``low`` to ``high``."""

    table: int
    algorithm: str
    oracle: str
    published: float
    low: float
    high: float
    why: str


def uncovered(results: Results) -> list[Uncovered]:
    """Every number of tables 1 to 3 that lies outside the central 99% of our seeds.

    Raises:
        MissingResults: the runs of the tables, or the control with the sign flipped, are missing.
    """
    found = []
    for page, metric in TABLE_METRICS.items():
        for algorithm in ALGORITHMS:
            seeds = cells(results, "algorithms", metric, algorithm=algorithm, oracle=FEEDBACK)
            row = table(page, algorithm)
            inside = statistics.plausible(row, seeds, tolerance=ROUNDING)
            lows, highs = statistics.central_range(seeds)
            for place in np.flatnonzero(~inside):
                found.append(
                    Uncovered(
                        page,
                        algorithm,
                        FEEDBACK[place],
                        float(row[place]),
                        float(lows[place]),
                        float(highs[place]),
                        _why(results, metric, algorithm, row, int(place)),
                    )
                )
    return found


def coverage_text(results: Results) -> str:
    """How many of the numbers of tables 1 to 3 our seeds cover."""
    count = len(TABLE_METRICS) * len(ALGORITHMS) * len(FEEDBACK)
    return (
        f"{count - len(uncovered(results))} of the {count} numbers of tables 1 to 3 lie in the "
        "central 99% of our seeds."
    )


def _why(results: Results, metric: str, algorithm: str, row: np.ndarray, place: int) -> str:
    if algorithm not in BASELINES:
        return "None of the control runs explains it."
    flipped = cells(results, "flipped", metric, algorithm=algorithm)
    if statistics.plausible(row[place], flipped, tolerance=ROUNDING):
        low, high = statistics.central_range(flipped)
        return (
            "With the sign of the gradient flipped the central 99% is "
            f"{number(low)} to {number(high)}, which covers it."
        )
    others = np.delete(row, place)
    return (
        f"{name(algorithm)} learns from the true reward, which the feedback type does not touch, "
        f"yet the paper's other values in this row are {others.min():.3f} to {others.max():.3f}: "
        "its runs differ in something that it does not state."
    )
