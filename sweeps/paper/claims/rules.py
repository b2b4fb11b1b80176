"""What the rules of the paper's claims share: its cells, its feedback, and what its text says."""

from __future__ import annotations

import numpy as np

from sweeps import statistics
from sweeps.paper.published import published, text_checks
from sweeps.statistics import Floats, Interval, Undefined
from sweeps.store import datasets
from sweeps.study import conditions
from sweeps.study.conditions import Truth
from sweeps.study.judgements import Results, Verdict

FEEDBACK: tuple[str, ...] = tuple(published()["feedback_order"])


def cells(results: Results, name: str, metric: str, **labels: object) -> Floats:
    """``datasets.cells`` of one metric of the data set ``name``: the seed is the last axis.

    Raises:
        Undefined: a value is not finite. Comparisons with NaN are false, and would decide a claim.
    """
    values = datasets.cells(results[name][metric], **labels)
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise Undefined(f"{name}, {metric}: {bad} of {values.size} values are not finite")
    return values


def lost(before: Floats, after: Floats) -> Floats:
    """The share of ``before`` that is gone in ``after``, seed by seed.

    Raises:
        Undefined: a seed has nothing to lose.
    """
    if np.any(before == 0):
        raise Undefined("before: 0 in a seed; allowed: values other than 0")
    return 1 - after / before


def verdict(holds: Truth, statement: str | None = None, as_plotted: Truth = False) -> Verdict:
    """Holds, fails or undecided; with a ``statement``, what becomes of a claim that does not hold.

    Our numbers come first. A claim that they clearly do not bear out contradicts the paper's own
    data if the ``statement`` (a name in the paper's text) disagrees with the paper's own tables or
    plots by more than rounding and reading allow, and our numbers are ``as_plotted`` there.
    """
    if holds is not False or statement is None:
        return conditions.verdict(holds)
    if text_checks()[statement].agrees or as_plotted is False:
        return Verdict.FAILS
    return Verdict.CONTRADICTS if as_plotted else Verdict.UNDECIDED


def best_rate(results: Results, algorithm: str) -> tuple[float, Interval]:
    """Of the learning rates tried, the one with the largest mean final reward, and that reward.

    A rate at which a run broke down is not the best one.
    """
    data = results["learning_rate"]
    rates = data["learning_rate"].values
    reward = datasets.cells(data["reward"], algorithm=algorithm, learning_rate=rates)
    best = int(np.nan_to_num(reward.mean(axis=-1), nan=-np.inf, posinf=-np.inf).argmax())
    return float(rates[best]), statistics.mean(reward[best])
