"""Numbers over seeds, checked, and what is estimated from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
RESAMPLES = 20_000
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Undefined(ValueError):
    """The data do not determine the statistic; the message says which value is in the way."""


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


def paired(
    first: ArrayLike, second: ArrayLike, level: float, least: int = 2
) -> tuple[Floats, Floats]:
    a, b = checked(first, level, least), checked(second, level, least)
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"second: {b.shape[-1]} seeds against {a.shape[-1]} in first; allowed: the same seeds"
        )
    return a, b


def checked(values: ArrayLike, level: float = LEVEL, least: int = 2) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if not 0 < level < 1:
        raise ValueError(f"level: {level}; allowed: between 0 and 1")
    if array.ndim == 0 or array.shape[-1] < least:
        count = 0 if array.ndim == 0 else array.shape[-1]
        raise Undefined(f"values: {count} seeds; allowed: at least {least}")
    bad = ~np.isfinite(array)
    if bad.any():
        raise Undefined(
            f"values: {int(bad.sum())} of {array.size} are not finite, the first in seed "
            f"position {int(np.argwhere(bad)[0][-1])}; allowed: finite numbers"
        )
    return array
