"""The paper's tables, and its figures 4 to 6 as numbers, with the published values beside ours.

Read from saved results only. A row is a dict from column to value; ``None`` stands where there
is no such number, and becomes an empty field. Columns:

- ``published``: the paper's value;
- ``mean``, ``ci_low``, ``ci_high``: our mean over seeds with Student's 95% interval;
- ``seed_sd``: standard deviation from seed to seed, ``seeds``: how many there are;
- ``published_percentile``: where the published value falls among ours, 0 (below all) to 100.

``multiseed`` has rows of three kinds, told apart by ``statistic``, because the paper's figure 6
shows five seeds and not one. There the percentile is among groups of five of our seeds, so that
like is compared with like:

- ``mean``: the mean reward; percentile among the means of five;
- ``sd``: the standard deviation over seeds, with Bonett's interval (95% for normal and slightly
  skewed seeds, about 90% for exponential ones); percentile among the standard deviations (n - 1 in
  the denominator) of five;
- ``gap``: SDPO's reward less this algorithm's, paired; percentile among the gaps of five, and
  ``gap_frequency``, the share of groups of five with a gap at least as large as the published
  one, with the Monte-Carlo standard error of that share in ``gap_frequency_error``.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from sweeps import statistics
from sweeps.paper.published import ALGORITHMS, BASELINES, published, table
from sweeps.store import datasets
from sweeps.system import writing

FOLDER = "tables"

Value = str | float | int | None
Row = dict[str, Value]
Results = Mapping[str, xr.Dataset]

_NUMBERS = ("published", "mean", "ci_low", "ci_high", "seed_sd", "seeds", "published_percentile")
TABLE_METRICS = {1: "reward", 2: "credit", 3: "entropy"}
COLUMNS = {
    **{f"table{number}": ("algorithm", "oracle", *_NUMBERS) for number in TABLE_METRICS},
    "noise": ("algorithm", "oracle", "noise", "metric", *_NUMBERS),
    "hybrid": ("algorithm", "oracle", "metric", *_NUMBERS),
    "multiseed": (
        "algorithm",
        "oracle",
        "statistic",
        *_NUMBERS,
        "gap_frequency",
        "gap_frequency_error",
    ),
}

# Decimals in the files. The paper prints three; entropy of the baselines spreads by 0.001.
_DECIMALS = {"published": 3, "published_percentile": 2, "noise": 2}
_OTHER_DECIMALS = 5


def table_rows(results: Results, number: int) -> list[Row]:
    """Table 1 (final reward), 2 (credit correlation) or 3 (final entropy), algorithm by
    algorithm."""
    feedback = published()["feedback_order"]
    values = datasets.cells(
        results["algorithms"][TABLE_METRICS[number]], algorithm=ALGORITHMS, oracle=feedback
    )
    rows = []
    for algorithm, per_algorithm in zip(ALGORITHMS, values, strict=True):
        for kind, printed, seeds in zip(
            feedback, table(number, algorithm), per_algorithm, strict=True
        ):
            rows.append({"algorithm": algorithm, "oracle": kind, **_numbers(printed, seeds)})
    return rows


def noise_rows(results: Results) -> list[Row]:
    """Figure 4: reward and credit correlation of each algorithm at each noise level."""
    figure = published()["figure4_noise"]
    printed = {"reward": figure["reward"], "credit": figure["credit_read_off_plot"]}
    rows = []
    for metric, algorithms in printed.items():
        values = datasets.cells(
            results["noise"][metric], algorithm=ALGORITHMS, noise=figure["noise"]
        )
        for algorithm, per_algorithm in zip(ALGORITHMS, values, strict=True):
            for level, value, seeds in zip(
                figure["noise"], algorithms[algorithm], per_algorithm, strict=True
            ):
                rows.append(
                    {
                        "algorithm": algorithm,
                        "oracle": figure["feedback"],
                        "noise": float(level),
                        "metric": metric,
                        **_numbers(value, seeds),
                    }
                )
    return rows


def hybrid_rows(results: Results) -> list[Row]:
    """Figure 5: reward and entropy of the hybrid and its parents, and the hybrid's weight.

    ``alpha`` is the mean over all steps, since that is what can be read off the published plot,
    where the two types of feedback share one value.
    """
    figure = published()["figure5_hybrid"]
    dataset = results["hybrid"]
    rows = []
    for metric in ("reward", "entropy"):
        for algorithm in ("hybrid", "sdpo", "reinforce"):
            for kind, printed in figure[metric].items():
                seeds = datasets.cells(dataset[metric], algorithm=algorithm, oracle=kind)
                rows.append(_hybrid_row(algorithm, kind, metric, printed.get(algorithm), seeds))
    plotted = figure["alpha_read_off_plot"]["mean"]
    for kind in figure["reward"]:
        seeds = datasets.cells(dataset["alpha_mean"], algorithm="hybrid", oracle=kind)
        rows.append(_hybrid_row("hybrid", kind, "alpha", plotted, seeds))
    return rows


def multiseed_rows(results: Results) -> list[Row]:
    """Figure 6: reward over seeds, its spread, and how often five seeds show the published gap."""
    figure = published()["figure6_multiseed"]
    size = figure["seeds"]
    printed = figure["reward_mean_std"]
    data = results["algorithms"]["reward"]
    reward = {
        algorithm: datasets.cells(data, algorithm=algorithm, oracle=figure["feedback"])
        for algorithm in ALGORITHMS
    }
    groups = {algorithm: statistics.group_draws(seeds, size) for algorithm, seeds in reward.items()}

    def row(algorithm: str, statistic: str, numbers: Row) -> Row:
        head: Row = {"algorithm": algorithm, "oracle": figure["feedback"], "statistic": statistic}
        return {**head, "gap_frequency": None, "gap_frequency_error": None, **numbers}

    rows = []
    for algorithm in ALGORITHMS:
        value = printed[algorithm][0]
        rows.append(
            row(
                algorithm,
                "mean",
                _numbers(value, reward[algorithm], groups[algorithm].mean(axis=-1)),
            )
        )
    for algorithm in ALGORITHMS:
        spread = statistics.standard_deviation(reward[algorithm])
        among = groups[algorithm].std(axis=-1, ddof=1)
        value = printed[algorithm][1]
        rows.append(row(algorithm, "sd", {**_interval(value, spread, among), "seed_sd": None}))
    for algorithm in BASELINES:
        value = printed["sdpo"][0] - printed[algorithm][0]
        gap = reward["sdpo"] - reward[algorithm]
        among = (groups["sdpo"] - groups[algorithm]).mean(axis=-1)
        share = statistics.gap_frequency(reward["sdpo"], reward[algorithm], value, group=size)
        frequency: Row = {"gap_frequency": share.value, "gap_frequency_error": share.error}
        rows.append(row(algorithm, "gap", {**_numbers(value, gap, among), **frequency}))
    return rows


ROWS: dict[str, Callable[[Results], list[Row]]] = {
    "table1": lambda results: table_rows(results, 1),
    "table2": lambda results: table_rows(results, 2),
    "table3": lambda results: table_rows(results, 3),
    "noise": noise_rows,
    "hybrid": hybrid_rows,
    "multiseed": multiseed_rows,
}


def formatted(row: Row) -> dict[str, str]:
    """The row as it stands in a file: numbers rounded to a sensible number of decimals."""
    return {column: _text(column, value) for column, value in row.items()}


def write_tables(out_dir: str | os.PathLike[str]) -> list[Path]:
    """Write ``OUT/tables/*.csv`` from the results saved under ``out_dir``; return the paths.

    Raises:
        MissingResults: a data set that a table needs is not there.
        ValueError: a data set holds fewer than five seeds, or numbers that are not finite.
    """
    results = datasets.Results(out_dir)
    # All rows first: a result that is missing should not leave half of the tables new.
    contents = {name: _csv(COLUMNS[name], rows(results)) for name, rows in ROWS.items()}
    folder = Path(out_dir) / FOLDER
    return [writing.write_text(folder / f"{name}.csv", text) for name, text in contents.items()]


def _hybrid_row(
    algorithm: str, kind: str, metric: str, printed: float | None, seeds: np.ndarray
) -> Row:
    return {"algorithm": algorithm, "oracle": kind, "metric": metric, **_numbers(printed, seeds)}


def _numbers(printed: float | None, seeds: np.ndarray, among: np.ndarray | None = None) -> Row:
    """The columns that every table has, from ``seeds [seeds]``.

    ``among`` is what the published value is ranked in, by default the seeds themselves.
    """
    row = _interval(printed, statistics.mean(seeds), seeds if among is None else among)
    return {**row, "seed_sd": float(seeds.std(ddof=1))}


def _interval(printed: float | None, interval: statistics.Interval, among: np.ndarray) -> Row:
    percentile = None if printed is None else float(statistics.percentile_of(printed, among))
    return {
        "published": None if printed is None else float(printed),
        "mean": float(interval.estimate),
        "ci_low": float(interval.low),
        "ci_high": float(interval.high),
        "seeds": interval.seeds,
        "published_percentile": percentile,
    }


def _csv(columns: tuple[str, ...], rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(formatted(row) for row in rows)
    return text.getvalue()


def _text(column: str, value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        decimals = _DECIMALS.get(column, _OTHER_DECIMALS)
        # Adding zero turns a rounded -0.0 into 0.0.
        return f"{round(value, decimals) + 0.0:.{decimals}f}"
    return str(value)
