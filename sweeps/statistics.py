"""Intervals and tests in which the seed is the unit; the last axis of every array is the seed.

Differences are paired: the runs of one seed share the problem, the initial policy, the rollouts'
random numbers and the noise, so that a difference within a seed is free of what they share.
Every function works on any leading axes at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95
CENTRAL = 0.99
RESAMPLES = 20_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval over seeds: three arrays ``[...]`` and the number of seeds."""

    estimate: Floats
    low: Floats
    high: Floats
    seeds: int

    def __getitem__(self, index: int | tuple[int, ...]) -> Interval:
        """The interval of one cell."""
        return Interval(self.estimate[index], self.low[index], self.high[index], self.seeds)


@dataclass(frozen=True)
class Frequency:
    """How often an event came up in ``draws`` resamples, with its Monte-Carlo standard error."""

    value: float
    error: float
    draws: int


def mean(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Mean over seeds with Student's t interval.

    Args:
        values: ``[..., seeds]``, finite, at least two seeds.
        level: coverage, in (0, 1).

    Raises:
        ValueError: too few seeds, a value that is not finite, or a bad ``level``.
    """
    array = _checked(values, level)
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
    a, b = _paired(first, second, level)
    return mean(a - b, level)


def ratio_of_means(top: ArrayLike, bottom: ArrayLike, level: float = LEVEL) -> Interval:
    """``mean(top) / mean(bottom)``, paired, with the interval of the linearised ratio.

    To first order the error of the ratio r is the mean of ``(top - r bottom) / mean(bottom)``
    (the delta method), which keeps the pairing and needs no resampling.

    Raises:
        ValueError: as for ``paired_difference``, or a denominator whose mean is zero.
    """
    a, b = _paired(top, bottom, level)
    denominator = b.mean(axis=-1)
    if np.any(denominator == 0):
        raise ValueError("bottom: its mean is 0; allowed: a mean other than 0")
    ratio = a.mean(axis=-1) / denominator
    error = mean((a - ratio[..., None] * b) / denominator[..., None], level)
    return Interval(ratio, ratio + error.low, ratio + error.high, error.seeds)


def standard_deviation(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Standard deviation over seeds, with Bonett's interval.

    Bonett (2006), "Approximate confidence interval for standard deviation of nonnormal
    distributions": the chi-square interval is wrong for heavy tails, this one uses the kurtosis
    about a trimmed mean.

    Raises:
        ValueError: as for ``mean``, or fewer than five seeds (no kurtosis to speak of).
    """
    array = _checked(values, level, least=5)
    count = array.shape[-1]
    deviation = array.std(axis=-1, ddof=1)
    trim = min(0.5 / np.sqrt(count - 4), 0.49)
    centre = stats.trim_mean(array, trim, axis=-1)
    squares = ((array - array.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    fourth = ((array - centre[..., None]) ** 4).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        kurtosis = np.where(squares > 0, count * fourth / squares**2, 1.0)
    normal = stats.norm.ppf(0.5 + level / 2)
    correction = count / (count - normal)
    error = correction * np.sqrt(np.maximum(kurtosis - (count - 3) / count, 0.0) / (count - 1))
    factor = np.sqrt(correction)
    return Interval(
        deviation,
        deviation * factor * np.exp(-normal * error / 2),
        deviation * factor * np.exp(normal * error / 2),
        count,
    )


def deviation_ratio(
    first: ArrayLike, second: ArrayLike, level: float = LEVEL, resamples: int = 2_000, key: int = 0
) -> Interval:
    """``sd(first) / sd(second)`` over the same seeds, with a paired BCa bootstrap interval.

    Whole seeds are resampled, so that the correlation between the two is kept, which an F test
    on variances would ignore.

    Args:
        first, second: ``[seeds]``, at least five, neither of them constant.
        key: seed of the resampling; the same key gives the same interval.

    Raises:
        ValueError: as for ``paired_difference``, or a constant array.
    """
    a, b = _paired(first, second, level, least=5)
    if a.ndim != 1:
        raise ValueError(f"first: shape {a.shape}; allowed: one axis, the seeds")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise ValueError("first, second: constant over seeds; allowed: some spread")

    def ratio(x: Floats, y: Floats, axis: int = -1) -> Floats:
        return np.log(x.std(axis=axis, ddof=1) / y.std(axis=axis, ddof=1))

    result = stats.bootstrap(
        (a, b),
        ratio,
        paired=True,
        vectorized=True,
        confidence_level=level,
        n_resamples=resamples,
        method="BCa",
        rng=np.random.default_rng(key),
    )
    ends = result.confidence_interval
    return Interval(np.exp(ratio(a, b)), np.exp(ends.low), np.exp(ends.high), a.shape[-1])


def median(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Median over seeds, with the interval between two order statistics (no shape assumed).

    Raises:
        ValueError: as for ``mean``, or so few seeds that even their range covers the median less
            often than ``level`` asks (below six seeds for 95%).
    """
    array = np.sort(_checked(values, level), axis=-1)
    count = array.shape[-1]
    rank = int(stats.binom.ppf((1 - level) / 2, count, 0.5))
    if rank < 1:
        least = int(np.ceil(1 - np.log2(1 - level)))
        raise ValueError(f"values: {count} seeds; allowed: at least {least} at level {level}")
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
    array = _checked(values, level, least=5)
    count = array.shape[-1]
    tail = stats.t.ppf((1 - level) / 2, count - 1) * np.sqrt(count / (count - 1))
    found = stats.bootstrap(
        (array,),
        statistic,
        axis=-1,
        vectorized=True,
        confidence_level=1 - 2 * float(stats.norm.cdf(tail)),
        n_resamples=resamples,
        # Resamples of a large array are made a few at a time.
        batch=max(1, 2**22 // array.size),
        method="percentile",
        rng=np.random.default_rng(key),
    ).confidence_interval
    return Interval(np.asarray(statistic(array, axis=-1)), found.low, found.high, count)


def interquartile_mean(
    values: ArrayLike, level: float = LEVEL, resamples: int = 2_000, key: int = 0
) -> Interval:
    """Mean of the middle half of the seeds, with a bootstrap interval. See ``bootstrap``."""
    return bootstrap(values, _iqm, level, resamples, key)


def _iqm(array: Floats, axis: int = -1) -> Floats:
    return stats.trim_mean(array, 0.25, axis=axis)


def probability_of_improvement(
    first: ArrayLike, second: ArrayLike, level: float = LEVEL, resamples: int = 2_000, key: int = 0
) -> Interval:
    """How often a run of ``first`` beats a run of ``second``, ties counted half.

    Mann and Whitney's U over the number of pairs, as Agarwal et al. (2021) use it, with an expanded
    percentile interval over whole seeds, so that the pairing is kept. Where every run of one beats
    every run of the other no resample differs, and Wilson's bound stands for the open end.

    Args:
        first, second: ``[seeds]``, paired, at least five.

    Raises:
        ValueError: as for ``paired_difference``.
    """
    a, b = _paired(first, second, level, least=5)
    if a.ndim != 1:
        raise ValueError(f"first: shape {a.shape}; allowed: one axis, the seeds")
    count = a.size
    wins = (a[:, None] > b) + 0.5 * (a[:, None] == b)
    drawn = np.random.default_rng(key).multinomial(count, np.full(count, 1 / count), resamples)
    shares = ((drawn @ wins) * drawn).sum(-1) / count**2
    tail = stats.norm.cdf(stats.t.ppf((1 - level) / 2, count - 1) * np.sqrt(count / (count - 1)))
    low, high = np.quantile(shares, [tail, 1 - tail])
    estimate = wins.mean()
    room = stats.norm.ppf(0.5 + level / 2) ** 2
    if estimate == 1:
        low = count / (count + room)
    if estimate == 0:
        high = room / (count + room)
    return Interval(np.asarray(estimate), np.asarray(low), np.asarray(high), count)


def paired_p_value(first: ArrayLike, second: ArrayLike) -> Floats:
    """Two-sided p value that the mean difference within seeds is zero (Student's paired t).

    Args:
        first, second: ``[..., seeds]``. Equal arrays have the p value 1.

    Raises:
        ValueError: as for ``paired_difference``.
    """
    a, b = _paired(first, second, LEVEL)
    difference = a - b
    # Where all differences are the same, but for rounding, there is no spread to compare with.
    rounding = 8 * np.finfo(np.float64).eps * np.maximum(abs(a), abs(b)).max(axis=-1)
    same = np.ptp(difference, axis=-1) <= rounding
    settled = np.where(abs(difference[..., 0]) <= rounding, 1.0, 0.0)
    noisy = np.where(same[..., None], np.arange(difference.shape[-1]), difference)
    return np.where(same, settled, np.asarray(stats.ttest_1samp(noisy, 0, axis=-1)[1]))


def holm(p_values: ArrayLike) -> Floats:
    """Holm's correction: p values that may all be held against one level at once.

    Of all claims whose corrected value is at most 5%, any is false with a probability of at most
    5%, whatever depends on what.

    Args:
        p_values: any shape; NaN where nothing was tested.

    Raises:
        ValueError: a value outside [0, 1].
    """
    array = np.asarray(p_values, dtype=np.float64)
    flat = array.reshape(-1)
    if np.any((flat < 0) | (flat > 1)):
        raise ValueError("p_values: outside 0 to 1; allowed: 0 to 1")
    tested = np.flatnonzero(~np.isnan(flat))
    order = tested[np.argsort(flat[tested], kind="stable")]
    factors = np.arange(order.size, 0, -1)
    corrected = np.full_like(flat, np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * flat[order]), 1.0)
    return corrected.reshape(array.shape)


def percentile_of(published: ArrayLike, values: ArrayLike) -> Floats:
    """Where a published value falls among the seeds, in percent, by mid-rank.

    0 is below every seed, 100 above every seed; seeds equal to it count half.

    Args:
        published: ``[...]``; NaN gives NaN (nothing was published).
        values: ``[..., seeds]``.
    """
    array = _checked(values)
    value = np.asarray(published, dtype=np.float64)[..., None]
    rank = (array < value).mean(axis=-1) + 0.5 * (array == value).mean(axis=-1)
    return np.where(np.isnan(value[..., 0]), np.nan, 100 * rank)


def central_range(values: ArrayLike, central: float = CENTRAL) -> tuple[Floats, Floats]:
    """The range in which one further seed falls with probability ``central``.

    With enough seeds to have order statistics that far out (200 for 99%) these are quantiles of
    the seeds; with fewer, the normal prediction interval ``mean +- t sd sqrt(1 + 1/n)``, since
    the range of a few seeds covers much less than was asked for.
    """
    array = _checked(values, central)
    count = array.shape[-1]
    tail = (1 - central) / 2
    # The margin keeps 199 seeds and a tail of exactly 1/200 on the side of the quantiles.
    if (count + 1) * tail >= 1 - 1e-9:
        low, high = np.quantile(array, [tail, 1 - tail], axis=-1, method="weibull")
        return low, high
    centre = array.mean(axis=-1)
    half = stats.t.ppf(1 - tail, count - 1) * array.std(axis=-1, ddof=1) * np.sqrt(1 + 1 / count)
    return centre - half, centre + half


def plausible(
    published: ArrayLike, values: ArrayLike, central: float = CENTRAL, tolerance: float = 0.0
) -> NDArray[np.bool_]:
    """Whether a published single-seed value lies in the central range of our seeds.

    Args:
        published: ``[...]``, finite.
        values: ``[..., seeds]``.
        central: probability of the range, in (0, 1).
        tolerance: how far the published value may be off from its rounding or reading, >= 0.

    Raises:
        ValueError: as for ``mean``, or a published value that is not finite.
    """
    value = np.asarray(published, dtype=np.float64)
    if not np.all(np.isfinite(value)):
        raise ValueError("published: not finite; allowed: finite numbers")
    low, high = central_range(values, central)
    return (value >= low - tolerance) & (value <= high + tolerance)


def group_draws(values: ArrayLike, group: int = 5, draws: int = RESAMPLES, key: int = 0) -> Floats:
    """``draws`` groups of ``group`` different seeds each: ``[..., draws, group]``.

    The same ``key`` picks the same seeds whatever the values, so that groups stay paired.

    Raises:
        ValueError: as for ``mean``, or fewer seeds than a group has.
    """
    array = _checked(values, least=group)
    count = array.shape[-1]
    rng = np.random.default_rng(key)
    # Drawn with repeats and redrawn where a group has one: cheaper than permuting all the seeds.
    picked = rng.integers(count, size=(draws, group))
    while True:
        ordered = np.sort(picked, axis=-1)
        again = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=-1))
        if again.size == 0:
            return array[..., picked]
        # A group nearly as large as the whole set would hardly ever come up without a repeat.
        if group * group > count:
            picked[again] = rng.permuted(
                np.broadcast_to(np.arange(count), (again.size, count)), axis=-1
            )[:, :group]
        else:
            picked[again] = rng.integers(count, size=(again.size, group))


def gap_frequency(
    first: ArrayLike,
    second: ArrayLike,
    published: float,
    group: int = 5,
    draws: int = RESAMPLES,
    key: int = 0,
) -> Frequency:
    """How often the mean of ``group`` seeds shows a gap at least as large as the published one.

    Args:
        first, second: ``[seeds]``, paired; the gap is ``mean(first - second)``.
        published: the published gap.

    Returns:
        The frequency and the Monte-Carlo error of it (of the resampling alone; that our seeds
        are themselves a sample comes on top).
    """
    a, b = _paired(first, second, LEVEL, least=group)
    gaps = group_draws(a - b, group, draws, key).mean(axis=-1)
    return frequency(gaps >= published)


def frequency(events: ArrayLike) -> Frequency:
    """The share of true entries in ``events [draws]``, with its Monte-Carlo error.

    The error is Agresti and Coull's, which is not zero when nothing, or everything, came up.
    """
    array = np.asarray(events, dtype=bool)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"events: shape {array.shape}; allowed: one axis, at least one draw")
    draws = array.size
    adjusted = (array.sum() + 2) / (draws + 4)
    error = np.sqrt(adjusted * (1 - adjusted) / (draws + 4))
    return Frequency(float(array.mean()), float(error), draws)


def _paired(
    first: ArrayLike, second: ArrayLike, level: float, least: int = 2
) -> tuple[Floats, Floats]:
    a, b = _checked(first, level, least), _checked(second, level, least)
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"second: {b.shape[-1]} seeds against {a.shape[-1]} in first; allowed: the same seeds"
        )
    return a, b


def _checked(values: ArrayLike, level: float = LEVEL, least: int = 2) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if not 0 < level < 1:
        raise ValueError(f"level: {level}; allowed: between 0 and 1")
    if array.ndim == 0 or array.shape[-1] < least:
        count = 0 if array.ndim == 0 else array.shape[-1]
        raise ValueError(f"values: {count} seeds; allowed: at least {least}")
    bad = ~np.isfinite(array)
    if bad.any():
        raise ValueError(
            f"values: {int(bad.sum())} of {array.size} are not finite, the first in seed "
            f"position {int(np.argwhere(bad)[0][-1])}; allowed: finite numbers"
        )
    return array
