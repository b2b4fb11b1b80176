"""Short forms of lists in a sweep file: ``linspace``, ``logspace``, ``range``, ``count``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sdpo_jax.config import SIZE_FIELDS
from sdpo_jax.program import NAMED_AXES, SEED_AXES
from sweeps.file.limits import MAX_ORACLES, MAX_RUNS, MAX_VALUES
from sweeps.file.mistakes import refused

_RANGES = ("linspace", "logspace", "range", "count")
# Numbers of an oracle that may be several.
OF_ORACLES = ("levels", "threshold", "value", "gain", "likelihood")
_SEQUENCE = (
    "a list, {linspace = [from, to, count]}, {logspace = [from, to, count]}, "
    "{range = [from, end]} or {count = N}"
)


def most_values(name: str) -> int:
    """How many values an axis may have."""
    if name in SEED_AXES:
        return MAX_RUNS
    return MAX_ORACLES if name in OF_ORACLES else MAX_VALUES


def short_form(name: str, given: Any) -> list[Any] | range:
    """The list that a short form stands for; seeds stay a range."""
    if not isinstance(given, dict) or len(given) != 1 or next(iter(given)) not in _RANGES:
        choices = list(_RANGES) if isinstance(given, dict) and len(given) == 1 else []
        raise refused(_SEQUENCE, choices)
    ((form, numbers),) = given.items()
    whole = name in (*SEED_AXES, *SIZE_FIELDS, "levels")
    if name in NAMED_AXES:
        raise refused("a list of names")
    most = most_values(name)
    if form == "count":
        if isinstance(numbers, bool) or not isinstance(numbers, int) or not 0 < numbers <= most:
            raise refused(f"count = an integer from 1 to {most}")
        return _seeds_or_list(name, range(numbers))
    if not isinstance(numbers, list) or not all(map(_is_number, numbers)):
        raise refused(_SEQUENCE)
    if form == "range":
        if len(numbers) not in (2, 3) or not all(isinstance(n, int) for n in numbers):
            raise refused("range = [from, end] or [from, end, step], integers; the end left out")
        if len(numbers) == 3 and numbers[2] == 0:
            raise refused("range = [from, end, step] with a step other than 0")
        span = range(*numbers)
        if len(span) > most:
            raise refused(f"at most {most} values")
        return _seeds_or_list(name, span)
    # Made one by one, of seeds too.
    most = min(most, MAX_VALUES)
    if len(numbers) != 3 or not isinstance(numbers[2], int) or not 1 <= numbers[2] <= most:
        raise refused(f"{form} = [from, to, count], the count an integer from 1 to {most}")
    first, last, count = numbers
    if count == 1 and first != last:
        raise refused(f"{form} = [from, to, count], the count 2 or more where the ends differ")
    if form == "logspace":
        if first <= 0 or last <= 0:
            raise refused("logspace = [from, to, count] with both ends above 0")
        points = np.geomspace(first, last, count)
    else:
        points = np.linspace(first, last, count)
    # Labels that can be typed again: 0.3, not 0.30000000000000004.
    values = [float(f"{point:.12g}") for point in points]
    return [round(value) for value in values] if whole else values


def _seeds_or_list(name: str, span: range) -> list[int] | range:
    """Seeds stay a range: there may be millions."""
    return span if name in SEED_AXES else list(span)


def _is_number(value: Any) -> bool:
    """Whether it is a number that numpy's ranges can take."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**63
