"""Standard deviations over seeds, and ratios in which they stand."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sweeps.statistics.samples import LEVEL, Floats, Interval, Undefined, checked, paired


def standard_deviation(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Standard deviation over seeds, with Bonett's interval.

    Bonett (2006), "Approximate confidence interval for standard deviation of nonnormal
    distributions": the chi-square interval is wrong for heavy tails, this one uses the kurtosis
    about a trimmed mean. At 95% it covers 93 to 97% of normal and slightly skewed draws, but only
    86 to 91% of exponential ones.

    Raises:
        ValueError: as for ``mean``, or fewer than five seeds (no kurtosis to speak of).
    """
    array = checked(values, level, least=5)
    count = array.shape[-1]
    if count <= stats.norm.ppf(0.5 + level / 2):
        raise Undefined(f"values: {count} seeds; allowed: more at level {level}")
    # The deviation of equal seeds is 0, and not the rounding of their mean.
    constant = np.ptp(array, axis=-1) <= _rounding(array)
    # Of nearly equal seeds the mean's rounding would count; their differences are exact.
    near = np.ptp(array, axis=-1) <= 1e-6 * abs(array).max(axis=-1)
    array = np.where(near[..., None], array - array[..., :1], array)
    deviation = np.where(constant, 0.0, array.std(axis=-1, ddof=1))
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


def deviation_ratio(first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> Interval:
    """``sd(first) / sd(second)`` over the same seeds, with a paired jackknife interval.

    Whole seeds are left out in turn, so that the correlation between the two is kept, which an F
    test on variances would ignore. The interval is Student's on the logarithm of the ratio
    (Miller 1968, "Jackknifing variances"): from 5 seeds on it covers 93 to 96% at 95% of normal
    and slightly skewed draws, where a
    bias-corrected bootstrap of 16 seeds covers 88%. Of exponential draws it covers
    90 to 93% at 5 to 64 seeds, least (90 to 91%) at 8 and 16.

    Args:
        first, second: ``[..., seeds]``, at least five, neither of them constant.

    Raises:
        ValueError: as for ``paired_difference``, or an array that is constant over all seeds or
            over all but one.
    """
    a, b = paired(first, second, level, least=5)
    _refuse_constant(a, b)
    left_out = np.log(_deviation_without(a)) - np.log(_deviation_without(b))
    ratio = np.log(a.std(axis=-1, ddof=1)) - np.log(b.std(axis=-1, ddof=1))
    found = _jackknife(ratio, left_out, level)
    return Interval(np.exp(ratio), np.exp(found.low), np.exp(found.high), found.seeds)


def margin_ratio(first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> Interval:
    """``mean(first - second) / sd(second)`` over the same seeds, with a paired jackknife interval.

    A bias-corrected bootstrap of 16 seeds covers 85% where 95% is asked for; this covers 94 to 97%
    from 5 seeds on (92% of skewed draws at 32).

    Args:
        first, second: ``[..., seeds]``, at least five, the second not constant.

    Raises:
        ValueError: as for ``deviation_ratio``.
    """
    a, b = paired(first, second, level, least=5)
    _refuse_constant(b)
    gap = a - b
    count = gap.shape[-1]
    centre = gap.mean(axis=-1)
    without = (count * centre[..., None] - gap) / (count - 1)
    ratio = centre / b.std(axis=-1, ddof=1)
    return _jackknife(ratio, without / _deviation_without(b), level)


def _jackknife(estimate: Floats, left_out: Floats, level: float) -> Interval:
    """Student's interval from the estimates with one seed left out: ``left_out [..., seeds]``."""
    count = left_out.shape[-1]
    spread = ((left_out - left_out.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    half = stats.t.ppf(0.5 + level / 2, count - 1) * np.sqrt((count - 1) / count * spread)
    return Interval(estimate, estimate - half, estimate + half, count)


def _deviation_without(array: Floats) -> Floats:
    """Standard deviation of all seeds but one, for each that is left out: ``[..., seeds]``."""
    count = array.shape[-1]
    away = array - array.mean(axis=-1, keepdims=True)
    squares = (away**2).sum(axis=-1, keepdims=True) - count / (count - 1) * away**2
    return np.sqrt(np.maximum(squares, np.finfo(float).tiny) / (count - 2))


def _rounding(array: Floats) -> Floats:
    """What equal seeds may differ by after a few roundings: ``[...]``."""
    return 4 * np.finfo(np.float64).eps * abs(array).max(axis=-1)


def _refuse_constant(*arrays: Floats) -> None:
    for array in arrays:
        ordered = np.sort(array, axis=-1)
        least, most = ordered[..., 0], ordered[..., -1]
        rounding = _rounding(array)
        if np.any((ordered[..., -2] - least <= rounding) | (most - ordered[..., 1] <= rounding)):
            raise Undefined("values: constant over all seeds, or all but one; allowed: some spread")
