"""Intervals and tests in which the seed is the unit; the last axis of every array is the seed.

Differences are paired: the runs of one seed share the problem, the initial policy, the rollouts'
random numbers and the noise, so that a difference within a seed is free of what they share.
Every function works on any leading axes at once. Data that do not determine a statistic (too few
seeds, values that are not finite, no spread to divide by) raise ``Undefined``.
"""

from __future__ import annotations

from sweeps.statistics.intervals import (
    bootstrap,
    expanded_tail,
    interquartile_mean,
    mean,
    median,
    paired_difference,
    probability_of_improvement,
    proportion,
    ratio_of_means,
)
from sweeps.statistics.p_values import (
    holm,
    paired_p_value,
)
from sweeps.statistics.ranges import (
    CENTRAL,
    Among,
    Frequency,
    among,
    central_range,
    frequency,
    gap_frequency,
    group_draws,
    joint_central,
    percentile_of,
    plausible,
)
from sweeps.statistics.samples import (
    LEVEL,
    RESAMPLES,
    Bools,
    Floats,
    Interval,
    Undefined,
)
from sweeps.statistics.spreads import (
    deviation_ratio,
    margin_ratio,
    standard_deviation,
)

__all__ = [
    "CENTRAL",
    "LEVEL",
    "RESAMPLES",
    "Among",
    "Bools",
    "Floats",
    "Frequency",
    "Interval",
    "Undefined",
    "among",
    "bootstrap",
    "central_range",
    "deviation_ratio",
    "expanded_tail",
    "frequency",
    "gap_frequency",
    "group_draws",
    "holm",
    "interquartile_mean",
    "joint_central",
    "margin_ratio",
    "mean",
    "median",
    "paired_difference",
    "paired_p_value",
    "percentile_of",
    "plausible",
    "probability_of_improvement",
    "proportion",
    "ratio_of_means",
    "standard_deviation",
]
