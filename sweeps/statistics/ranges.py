"""Where a value lies among the seeds, or among groups of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sweeps.statistics.samples import LEVEL, RESAMPLES, Bools, Floats, checked, paired

CENTRAL = 0.99
# Draws of the largest of several standard scores: its quantile at 99% to about 1%.
_SCORES = 100_000
_Pair = tuple[float, float]


@dataclass(frozen=True)
class Frequency:
    """How often an event came up in ``draws`` resamples, with its Monte-Carlo standard error."""

    value: float
    error: float
    draws: int


def percentile_of(published: ArrayLike, values: ArrayLike) -> Floats:
    """Where a published value falls among the seeds, in percent, by mid-rank.

    0 is below every seed, 100 above every seed; seeds equal to it count half.

    Args:
        published: ``[...]``; NaN gives NaN (nothing was published).
        values: ``[..., seeds]``.
    """
    array = checked(values)
    value = np.asarray(published, dtype=np.float64)[..., None]
    rank = (array < value).mean(axis=-1) + 0.5 * (array == value).mean(axis=-1)
    return np.where(np.isnan(value[..., 0]), np.nan, 100 * rank)


def central_range(values: ArrayLike, central: float = CENTRAL) -> tuple[Floats, Floats]:
    """The range in which one further seed falls with probability ``central``.

    With enough seeds to have order statistics that far out (200 for 99%) these are quantiles of
    the seeds; with fewer, the normal prediction interval ``mean +- t sd sqrt(1 + 1/n)``, since
    the range of a few seeds covers much less than was asked for.
    """
    array = checked(values, central)
    count = array.shape[-1]
    tail = (1 - central) / 2
    if _reaches(count, central):
        low, high = np.quantile(array, [tail, 1 - tail], axis=-1, method="weibull")
        return low, high
    centre = array.mean(axis=-1)
    half = stats.t.ppf(1 - tail, count - 1) * array.std(axis=-1, ddof=1) * np.sqrt(1 + 1 / count)
    return centre - half, centre + half


def _reaches(count: int, central: float) -> bool:
    """Whether so many seeds have order statistics at the ends of the range."""
    # The margin keeps 199 seeds and a tail of exactly 1/200 on the side of the quantiles.
    return (count + 1) * (1 - central) / 2 >= 1 - 1e-9


def plausible(
    published: ArrayLike, values: ArrayLike, central: float = CENTRAL, tolerance: float = 0.0
) -> Bools:
    """Whether a published single-seed value lies in the central range of our seeds.

    Args:
        published: ``[...]``, finite.
        values: ``[..., seeds]``.
        central: probability of the range, in (0, 1).
        tolerance: how far the published value may be off from its rounding or reading, >= 0.

    Raises:
        ValueError: as for ``mean``, or a published value that is not finite.
    """
    low, high = central_range(values, central)
    value = _published(published)
    return (value >= low - tolerance) & (value <= high + tolerance)


@dataclass(frozen=True)
class Among:
    """Whether published values lie where our seeds do: three arrays of booleans.

    ``inside``: in the central range as our seeds have it. Those seeds are a sample, so the true
    range may be another: ``surely`` is in the range narrowed by its sampling error (one-sided,
    95%), and what is not ``possible`` is outside even of the range widened by it (one-sided, at the
    ``risk`` that ``among`` was given).
    """

    inside: Bools
    surely: Bools
    possible: Bools


def among(
    published: ArrayLike,
    values: ArrayLike,
    central: float = CENTRAL,
    tolerance: float = 0.0,
    group: int = 1,
    deviation: bool = False,
    risk: float = 1 - LEVEL,
) -> Among:
    """Where published values lie among the seeds, or among groups of ``group`` seeds.

    The range's shape is that of the seeds where there are enough of them to have order statistics
    that far out, and of normal seeds where not. Its sampling error is that of normal seeds, exact
    for them: the one-sided tolerance factors of the noncentral t distribution for means (Hahn and
    Meeker (1991), "Statistical intervals", section 4.6), chi-square's for standard deviations.

    Args:
        published: ``[...]``, finite; single seeds, or the mean or standard deviation of a group.
        values: ``[..., seeds]``, at least three seeds, and as many as a group has.
        central: probability of the range, in (0, 1).
        tolerance: how far the published value may be off from its rounding or reading, >= 0.
        group: how many seeds a published value is of.
        deviation: whether it is their standard deviation (n - 1 in the denominator), not the mean.
        risk: how often a value that lies in the true range may be called not ``possible``, in
            (0, 1/2). Of several values that are asked about together each has its share.

    Raises:
        ValueError: as for ``mean``, a published value that is not finite, or a bad ``risk``.
    """
    if not 0 < risk < 0.5:
        raise ValueError(f"risk: {risk}; allowed: between 0 and 1/2")
    array = checked(values, central, least=max(3, group))
    value = _published(published)
    count = array.shape[-1]
    centre = np.zeros(array.shape[:-1]) if deviation else array.mean(axis=-1)
    ends, factors = (_spread_ends if deviation else _mean_ends)(central, group, count, risk)
    if _reaches(count, central):
        low, high = _drawn_range(array, central, group, deviation)
    else:
        spread = array.std(axis=-1, ddof=1)
        low, high = centre + spread * ends[0], centre + spread * ends[1]

    def within(scale: tuple[float, float]) -> Bools:
        least, most = centre + (low - centre) * scale[0], centre + (high - centre) * scale[1]
        return (value >= least - tolerance) & (value <= most + tolerance)

    return Among(within((1.0, 1.0)), within(factors[0]), within(factors[1]))


def _mean_ends(
    central: float, group: int, count: int, risk: float
) -> tuple[_Pair, tuple[_Pair, _Pair]]:
    """Of normal seeds: a group's range in deviations, and by which factors sampling error moves it.

    For mean m and deviation s of n seeds, ``(true end - m) / s`` times sqrt(n) is noncentral t with
    n - 1 degrees of freedom, its noncentrality the end in deviations times sqrt(n).
    """
    end = float(stats.norm.ppf((1 + central) / 2)) / np.sqrt(group)
    root = np.sqrt(count)
    least, most = stats.nct.ppf([1 - LEVEL, 1 - risk], count - 1, end * root) / (end * root)
    narrow, wide = max(float(least), 0.0), float(most)
    return (-end, end), ((narrow, narrow), (wide, wide))


def _spread_ends(
    central: float, group: int, count: int, risk: float
) -> tuple[_Pair, tuple[_Pair, _Pair]]:
    """``_mean_ends`` of the standard deviation of a group, in deviations of the seeds."""
    tails = ((1 - central) / 2, (1 + central) / 2)
    low, high = (float(np.sqrt(stats.chi2.ppf(t, group - 1) / (group - 1))) for t in tails)

    def factor(tail: float) -> float:
        return float(np.sqrt((count - 1) / stats.chi2.ppf(tail, count - 1)))

    narrowed, widened = (factor(1 - LEVEL), factor(LEVEL)), (factor(1 - risk), factor(risk))
    return (low, high), (narrowed, widened)


def _drawn_range(
    array: Floats, central: float, group: int, deviation: bool
) -> tuple[Floats, Floats]:
    if group == 1:
        return central_range(array, central)
    groups = group_draws(array, group)
    drawn = groups.std(axis=-1, ddof=1) if deviation else groups.mean(axis=-1)
    low, high = np.quantile(drawn, [(1 - central) / 2, (1 + central) / 2], axis=-1)
    return low, high


def _published(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if not np.all(np.isfinite(array)):
        raise ValueError("published: not finite; allowed: finite numbers")
    return array


def joint_central(samples: ArrayLike, central: float = CENTRAL) -> float:
    """The probability of each range, for all ranges together to hold a further sample.

    The largest of the standard scores of one sample, if these are normal and correlated as the
    samples are, lies below its quantile at ``central``; that quantile's two-sided probability is
    returned. It is ``central`` for cells that always move together, and about
    ``1 - (1 - central) / cells`` for independent ones.

    Args:
        samples: ``[..., draws]``; the leading axes are the cells.
    """
    array = checked(samples, central)
    flat = array.reshape(-1, array.shape[-1])
    scores = flat - flat.mean(axis=-1, keepdims=True)
    length = np.sqrt((scores**2).sum(axis=-1, keepdims=True))
    scores = np.divide(scores, length, out=np.zeros_like(scores), where=length > 0)
    correlation = scores @ scores.T
    # Constant cells correlate with nothing; the last term keeps the matrix positive.
    np.fill_diagonal(correlation, 1 + 1e-9)
    mixed = np.linalg.cholesky(correlation)
    draws = mixed @ np.random.default_rng(0).standard_normal((flat.shape[0], _SCORES))
    return float(1 - 2 * stats.norm.sf(np.quantile(abs(draws).max(axis=0), central)))


def group_draws(values: ArrayLike, group: int = 5, draws: int = RESAMPLES, key: int = 0) -> Floats:
    """``draws`` groups of ``group`` different seeds each: ``[..., draws, group]``.

    The same ``key`` picks the same seeds whatever the values, so that groups stay paired.

    Raises:
        ValueError: as for ``mean``, or fewer seeds than a group has.
    """
    array = checked(values, least=group)
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
    a, b = paired(first, second, LEVEL, least=group)
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
