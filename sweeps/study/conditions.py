"""Three-valued conditions on intervals, and joint intervals: what rules are made of.

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

import numpy as np

from sweeps.statistics import LEVEL, Among, Interval
from sweeps.study.judgements import Verdict

Truth = bool | None
# Differences below these count as none. A twelfth of the smallest published margin (0.121) in
# reward. In credit about half of the smallest step between neighbours in table 2 (0.017), which
# is also what can be read off the paper's plots. In entropy a third of the smallest published
# step between neighbours (0.028 nats).
REWARD_MARGIN = 0.01
CREDIT_MARGIN = 0.01
ENTROPY_MARGIN = 0.01


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


def verdict(holds: Truth) -> Verdict:
    """What becomes of a claim whose condition is true, false or not to be told."""
    if holds is None:
        return Verdict.UNDECIDED
    return Verdict.HOLDS if holds else Verdict.FAILS
