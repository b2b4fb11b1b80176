"""Parts that the rules share: three-valued conditions on intervals, joint intervals, wording.

A condition on an interval is true, false, or ``None``: the interval is too wide to tell. A claim
over several cells (feedback types, baselines, noise levels) is judged with joint intervals: each
cell's is widened by Bonferroni's correction until all of them together cover at 95%. Then the
smallest of the lower ends and the smallest of the upper ends hold the smallest true value, and
"in every cell" and "not in every cell" are both safe to say. A claim with several conditions fails
where one of them does, so that they share the risk: of a claim that is true a rule says "fails" in
at most 5% of samples, however few the seeds are; too few make it undecided. Nothing is corrected
for the number of claims. What cannot be computed (a value that is not finite, too few seeds, no
spread) decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from sweeps import statistics
from sweeps.paper.claims.model import Results, Verdict
from sweeps.paper.published import published, text_checks
from sweeps.report.style import readers_name
from sweeps.statistics import LEVEL, Among, Floats, Interval, Undefined
from sweeps.store import datasets

Truth = bool | None

# Differences below these count as none. A twelfth of the smallest published margin (0.121) in
# reward. In credit about half of the smallest step between neighbours in table 2 (0.017), which
# is also what can be read off the paper's plots. In entropy a third of the smallest published
# step between neighbours (0.028 nats).
REWARD_MARGIN = 0.01
CREDIT_MARGIN = 0.01
ENTROPY_MARGIN = 0.01

FEEDBACK: tuple[str, ...] = tuple(published()["feedback_order"])


def cells(results: Results, name: str, metric: str, **labels: object) -> Floats:
    """``store.cells`` of one metric of the data set ``name``: the seed is the last axis.

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


def joint(count: int, conditions: int = 1) -> float:
    """The level at which each of ``count`` intervals must cover, for all to cover at 95%.

    An interval of 95% denies what is true in 2.5% of samples. A rule with more than two
    ``conditions`` of which each may fail it has wider ones, for at most 5% in all.
    """
    return 1 - min(1.0, 2 / conditions) * (1 - LEVEL) / count


def risk(numbers: int, conditions: int = 1) -> float:
    """How often one of ``numbers`` published numbers may be called impossible though it is not.

    For at most 5% over all of them and over the rule's other ``conditions``.
    """
    return (1 - LEVEL) / conditions / numbers


def smallest(cells: Interval) -> Interval:
    """The smallest of several true values, from joint intervals of any shape."""
    return Interval(cells.estimate.min(), cells.low.min(), cells.high.min(), cells.seeds)


def largest(cells: Interval) -> Interval:
    """The largest of several true values, from joint intervals of any shape."""
    return Interval(cells.estimate.max(), cells.low.max(), cells.high.max(), cells.seeds)


def farthest(cells: Interval, point: float) -> Interval:
    """The interval of the cell whose estimate is farthest from ``point``."""
    index = np.unravel_index(np.abs(cells.estimate - point).argmax(), cells.estimate.shape)
    return cells[tuple(int(i) for i in index)]


def above(interval: Interval, threshold: float, negligible: float = 0.0) -> Truth:
    """Whether the true value exceeds ``threshold``.

    With ``negligible``, also false where it may do so but by less than that: an interval so
    narrow is not undecided for want of seeds.
    """
    if interval.low > threshold:
        return True
    return False if interval.high <= threshold + negligible else None


def below(interval: Interval, threshold: float) -> Truth:
    """Whether the true value is less than ``threshold``."""
    if interval.high < threshold:
        return True
    return False if interval.low >= threshold else None


def inside(interval: Interval, low: float, high: float) -> Truth:
    """Whether every true value lies between ``low`` and ``high``: an equivalence test.

    Takes joint intervals of any shape.
    """
    if np.all((interval.low >= low) & (interval.high <= high)):
        return True
    return False if np.any((interval.high < low) | (interval.low > high)) else None


def replicate(*published: Among) -> Truth:
    """Whether all published values lie in the central range of our seeds.

    True where they do so even as the range is narrowed by the sampling error of our seeds, false
    where one does not even as it is widened by it.
    """
    return every(
        *(
            True if each.surely.all() else None if each.possible.all() else False
            for each in published
        )
    )


def every(*conditions: Truth) -> Truth:
    """Whether all conditions are true: one that is false settles it."""
    if any(condition is False for condition in conditions):
        return False
    return None if any(condition is None for condition in conditions) else True


def opposite(condition: Truth) -> Truth:
    """Whether the condition is false."""
    return None if condition is None else not condition


def verdict(holds: Truth, statement: str | None = None, as_plotted: Truth = False) -> Verdict:
    """Holds, fails or undecided; with a ``statement``, what becomes of a claim that does not hold.

    Our numbers come first. A claim that they clearly do not bear out contradicts the paper's own
    data if the ``statement`` (a name in the paper's text) disagrees with the paper's own tables or
    plots by more than rounding and reading allow, and our numbers are ``as_plotted`` there.
    """
    if holds is not False:
        return Verdict.HOLDS if holds else Verdict.UNDECIDED
    if statement is None or text_checks()[statement].agrees or as_plotted is False:
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


def number(value: object, sign: bool = False) -> str:
    """A number for readers: three decimals, fewer when large, one digit when small.

    Below 0.0001 it is a power of ten; nothing is a negative zero.
    """
    value = float(value)  # type: ignore[arg-type]
    plus = "+" if sign else ""
    if not np.isfinite(value):
        return "undefined" if np.isnan(value) else "-∞" if value < 0 else f"{plus}∞"
    if value == 0:
        return "0"
    if value == round(value):
        return f"{value:{plus}.0f}"
    if abs(value) >= 100:
        return f"{value:{plus}.0f}"
    if abs(value) >= 10:
        return f"{value:{plus}.1f}"
    if abs(value) >= 5e-4:
        return f"{value:{plus}.3f}"
    return f"{value:{plus}.4f}" if abs(value) >= 1e-4 else f"{value:{plus}.1e}"


def decimals(value: object, sign: bool = False, places: int = 3) -> str:
    """A number with so many decimals, whatever its size; zero has no sign."""
    text = f"{float(value):{'+' if sign else ''}.{places}f}"  # type: ignore[arg-type]
    return text if text.strip("+-0.") else text.lstrip("+-")


def spelled(interval: Interval, sign: bool = False) -> str:
    """``estimate [low, high]`` in three decimals each, for rewards and their differences."""
    low, high = decimals(interval.low, sign), decimals(interval.high, sign)
    return f"{decimals(interval.estimate, sign)} [{low}, {high}]"


def shown(interval: Interval, sign: bool = False) -> str:
    """``estimate [low, high]``."""
    low, high = number(interval.low, sign), number(interval.high, sign)
    return f"{number(interval.estimate, sign)} [{low}, {high}]"


def percent(interval: Interval) -> str:
    """``estimate [low, high]`` in percent."""
    low, high = 100 * float(interval.low), 100 * float(interval.high)
    return f"{100 * float(interval.estimate):.1f}% [{low:.1f}%, {high:.1f}%]"


def listed(labels: Sequence[str], values: Iterable[object], sign: bool = False) -> str:
    """``label value`` for each pair, with commas between."""
    pairs = zip(labels, values, strict=True)
    return ", ".join(f"{label} {number(value, sign)}" for label, value in pairs)


def name(label: str) -> str:
    """An algorithm's or feedback type's name in running text."""
    return readers_name(label)


def names(labels: Iterable[str]) -> list[str]:
    """``name`` of each label."""
    return [name(label) for label in labels]


def word(truth: Truth, yes: str, no: str, unknown: str) -> str:
    """The wording for a condition."""
    return unknown if truth is None else yes if truth else no
