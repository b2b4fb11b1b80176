"""Estimates over seeds with their intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sweeps.statistics.samples import LEVEL, Floats, Interval, Undefined, checked, paired


def mean(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Mean over seeds with Student's t interval.

    Args:
        values: ``[..., seeds]``, finite, at least two seeds.
        level: coverage, in (0, 1).

    Raises:
        ValueError: too few seeds, a value that is not finite, or a bad ``level``.
    """
    array = checked(values, level)
    count = array.shape[-1]
    centre = array.mean(axis=-1)
    half = stats.t.ppf(0.5 + level / 2, count - 1) * array.std(axis=-1, ddof=1) / np.sqrt(count)
    return Interval(centre, centre - half, centre + half, count)


def paired_difference(first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> Interval:
    """Mean of ``first - second`` within each seed, with Student's t interval.

    Args:
        first, second: ``[..., seeds]``, broadcastable against each other, the same seeds in the
            same order.

    Raises:
        ValueError: as for ``mean``, or seeds that cannot be paired.
    """
    a, b = paired(first, second, level)
    return mean(a - b, level)


def ratio_of_means(top: ArrayLike, bottom: ArrayLike, level: float = LEVEL) -> Interval:
    """``mean(top) / mean(bottom)``, paired, with the interval of the linearised ratio.

    To first order the error of the ratio r is the mean of ``(top - r bottom) / mean(bottom)`` (the
    delta method), which keeps the pairing and needs no resampling. Where the interval of the
    denominator contains 0 the ratio has no bounds: they are infinite.

    Raises:
        ValueError: as for ``paired_difference``, or a denominator whose mean is zero.
    """
    a, b = paired(top, bottom, level)
    below = mean(b, level)
    denominator = below.estimate
    if np.any(denominator == 0):
        raise Undefined("bottom: its mean is 0; allowed: a mean other than 0")
    ratio = a.mean(axis=-1) / denominator
    error = mean((a - ratio[..., None] * b) / denominator[..., None], level)
    unbounded = (below.low <= 0) & (below.high >= 0)
    low = np.where(unbounded, -np.inf, ratio + error.low)
    high = np.where(unbounded, np.inf, ratio + error.high)
    return Interval(ratio, low, high, error.seeds)


def median(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Median over seeds, with the interval between two order statistics (no shape assumed).

    Raises:
        ValueError: as for ``mean``, or so few seeds that even their range covers the median less
            often than ``level`` asks (below six seeds for 95%).
    """
    array = np.sort(checked(values, level), axis=-1)
    count = array.shape[-1]
    rank = int(stats.binom.ppf((1 - level) / 2, count, 0.5))
    if rank < 1:
        least = int(np.ceil(1 - np.log2(1 - level)))
        raise Undefined(f"values: {count} seeds; allowed: at least {least} at level {level}")
    return Interval(
        np.median(array, axis=-1), array[..., rank - 1], array[..., count - rank], count
    )


def bootstrap(
    values: ArrayLike,
    statistic: Callable[..., Floats] = np.mean,
    level: float = LEVEL,
    resamples: int = 2_000,
    key: int = 0,
) -> Interval:
    """Any statistic over seeds, with an expanded percentile bootstrap interval.

    The plain percentile interval of few seeds is too narrow: at 16 it covers 91% instead of 95%.
    Its ends are moved out by what Student's t and the divisor n - 1 would add to a mean: Hesterberg
    (2015), "What teachers should know about the bootstrap", section 4.3.

    Args:
        values: ``[..., seeds]``, finite, at least five seeds.
        statistic: takes an ``axis``.
        resamples: how many; the same seeds are drawn for every cell, so cells stay paired.
        key: seed of the resampling; the same key gives the same interval.

    Raises:
        ValueError: as for ``mean``, or fewer than five seeds.
    """
    array = checked(values, level, least=5)
    found = stats.bootstrap(
        (array,),
        statistic,
        axis=-1,
        vectorized=True,
        confidence_level=1 - 2 * expanded_tail(array.shape[-1], level),
        n_resamples=resamples,
        # Resamples of a large array are made a few at a time.
        batch=max(1, 2**22 // array.size),
        method="percentile",
        rng=np.random.default_rng(key),
    ).confidence_interval
    return Interval(np.asarray(statistic(array, axis=-1)), found.low, found.high, array.shape[-1])


def expanded_tail(seeds: int, level: float = LEVEL) -> float:
    """The share of resamples beyond each end of an expanded percentile interval.

    See ``bootstrap``.
    """
    end = stats.t.ppf((1 - level) / 2, seeds - 1) * np.sqrt(seeds / (seeds - 1))
    return float(stats.norm.cdf(end))


def interquartile_mean(
    values: ArrayLike, level: float = LEVEL, resamples: int = 2_000, key: int = 0
) -> Interval:
    """Mean of the middle half of the seeds, with a bootstrap interval. See ``bootstrap``."""
    return bootstrap(values, _iqm, level, resamples, key)


def _iqm(array: Floats, axis: int = -1) -> Floats:
    return stats.trim_mean(array, 0.25, axis=axis)


def probability_of_improvement(
    first: ArrayLike, second: ArrayLike, level: float = LEVEL
) -> Interval:
    """How often a run of ``first`` beats a run of ``second`` of another seed, ties counted half.

    The average of ``[x_i > y_j] + [x_i = y_j] / 2`` over all pairs of different seeds, which is
    unbiased for independent seeds; a pair of one seed shares its problem and its random numbers,
    and says nothing about them. (Mann and Whitney's U, as Agarwal et al. (2021) use it, counts the
    pairs of one seed too.) The variance is the jackknife's, over whole seeds, so that the pairing
    is kept: where the two are nearly the same within each seed, most of the variation cancels.
    To it is added ``1 / (n^2 e)``: one seed can move the average by 1 / n from even, and e is the
    number of seeds that the variance rests on, ``(sum d^2)^2 / sum d^4`` of the seeds' deviations
    d, at least 1. A sample in which no pair is decided, or all are, or one seed decides, has next
    to no variance of its own to go by. The interval is Wilson's at the number of seeds that has
    this variance, with Student's quantile.

    Args:
        first, second: ``[..., seeds]``, paired, at least five.

    Raises:
        ValueError: as for ``paired_difference``.
    """
    a, b = paired(first, second, level, least=5)
    a, b = np.broadcast_arrays(a, b)
    count = a.shape[-1]
    # Ranks count the pairs in n log n: those with the other's seeds, less those with its own.
    ranks = stats.rankdata(np.concatenate([a, b], axis=-1), axis=-1)
    wins = ranks[..., :count] - stats.rankdata(a, axis=-1)
    losses = ranks[..., count:] - stats.rankdata(b, axis=-1)
    within = (a > b) + 0.5 * (a == b)
    # Of each seed: the average over its pairs with the others, on either side.
    shares = (wins + count - losses - 2 * within) / (2 * (count - 1))
    estimate = shares.mean(axis=-1)
    squares = (shares - estimate[..., None]) ** 2
    spread, fourth = squares.sum(axis=-1), (squares**2).sum(axis=-1)
    # Deviations that are rounding alone are of no seed.
    resting = np.divide(spread**2, fourth, out=np.ones_like(spread), where=spread > 1e-20)
    variance = 4 * (count - 1) / (count * (count - 2) ** 2) * spread
    variance += 1 / (count**2 * np.maximum(resting, 1))
    quantile = stats.t.ppf(0.5 + level / 2, count - 1)
    even = np.maximum(estimate * (1 - estimate), 1 / count)
    return _wilson(estimate, quantile**2 * variance / even, count)


def proportion(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Mean over seeds of values between 0 and 1 (a share of seeds), with Wilson's interval.

    Unlike Student's it stays within 0 to 1, and has a width where all seeds agree.

    Args:
        values: ``[..., seeds]``, each 0 (no), 1 (yes) or between (1/2 for a draw).

    Raises:
        ValueError: as for ``mean``, or a value outside 0 to 1.
    """
    array = checked(values, level)
    if np.any((array < 0) | (array > 1)):
        raise ValueError("values: outside 0 to 1; allowed: 0 to 1")
    count = array.shape[-1]
    quantile = stats.norm.ppf(0.5 + level / 2)
    return _wilson(array.mean(axis=-1), np.asarray(quantile**2 / count), count)


def _wilson(share: Floats, scale: Floats, seeds: int) -> Interval:
    """The values whose distance from ``share`` is at most ``sqrt(scale p (1 - p))``."""
    centre = (share + scale / 2) / (1 + scale)
    half = np.sqrt(scale * share * (1 - share) + scale**2 / 4) / (1 + scale)
    # Rounding must not put an end beside a share of 0 or 1.
    low = np.where(share == 0, 0.0, np.minimum(centre - half, share))
    high = np.where(share == 1, 1.0, np.maximum(centre + half, share))
    return Interval(share, low, high, seeds)
