"""How likely a difference is by chance, of one comparison and of several."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sweeps.statistics.samples import LEVEL, Floats, paired


def paired_p_value(first: ArrayLike, second: ArrayLike) -> Floats:
    """Two-sided p value that the mean difference within seeds is zero (Student's paired t).

    Differences that are all the same, up to the rounding of the arrays' type, have no spread to
    compare with, and Student's t no value. There the p value is that of the exact test that flips
    the sign of each seed's difference: ``2 ** (1 - seeds)``, and 1 for equal arrays.

    Args:
        first, second: ``[..., seeds]``.

    Raises:
        ValueError: as for ``paired_difference``.
    """
    a, b = paired(first, second, LEVEL)
    difference = a - b
    size = np.maximum(abs(a), abs(b)).max(axis=-1)
    rounding = 8 * max(_precision(first), _precision(second)) * size
    same = np.ptp(difference, axis=-1) <= rounding
    flipped = 2.0 ** (1 - difference.shape[-1])
    settled = np.where(abs(difference).max(axis=-1) <= rounding, 1.0, flipped)
    noisy = np.where(same[..., None], np.arange(difference.shape[-1]), difference)
    return np.where(same, settled, np.asarray(stats.ttest_1samp(noisy, 0, axis=-1)[1]))


def _precision(values: ArrayLike) -> float:
    kind = np.asarray(values).dtype
    return float(np.finfo(kind if kind.kind == "f" else np.float64).eps)


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
