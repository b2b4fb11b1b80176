"""The values of an axis of a sweep file: several of one field, each once."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, WrapValidator

from sdpo_jax.config import SIZE_FIELDS
from sdpo_jax.program import NAMED_AXES, SEED_AXES
from sweeps.file.limits import MAX_ORACLES
from sweeps.file.mistakes import refused, shortened
from sweeps.file.oracle_tables import OracleTable, each_oracle, oracles_in
from sweeps.file.short_forms import most_values, short_form


def label_of(value: Any) -> Any:
    """What a value is called along its axis."""
    return value.label() if isinstance(value, OracleTable) else value


def _expanded(name: str, given: Any) -> list[Any] | range:
    """A list as it is, or one of the short forms of a list."""
    values = given if isinstance(given, list) else short_form(name, given)
    if name == "oracle":
        # Counted before they are made, and no further than to the first that is too many.
        so_far = itertools.accumulate(map(oracles_in, values))
        if any(count > MAX_ORACLES for count in so_far):
            raise refused(f"at most {MAX_ORACLES} oracles")
        values = list(itertools.chain.from_iterable(map(each_oracle, values)))
    if not values:
        raise refused("one or more values")
    if len(values) > most_values(name):
        raise refused(f"at most {most_values(name)} values")
    return values


def each_once(name: str, values: Sequence[Any]) -> Sequence[Any]:
    """The values, of which none may occur twice."""
    if isinstance(values, range):
        return values
    for told in (as_told(name, values), map(label_of, values)):
        twice = repeated(told)
        if twice is None:
            continue
        one, other = (label_of(values[place]) for place in twice)
        if one == other:
            raise refused(f"each value once ({shortened(one)} occurs twice)")
        raise refused(f"each value once ({one!r} and {other!r} are one number in 32 bits)")
    return values


def as_told(name: str, values: Sequence[Any]) -> Iterator[Any]:
    """What a run is given: numbers of 32 bits, of which two labels may be one."""
    if name not in (*NAMED_AXES, *SEED_AXES, *SIZE_FIELDS, "metrics"):
        return map(np.float32, values)
    return (value.told() if isinstance(value, OracleTable) else value for value in values)


def repeated(values: Iterable[Any]) -> tuple[int, int] | None:
    """The places of the first value that occurs again, if there is one."""
    first: dict[Any, int] = {}
    for place, value in enumerate(values):
        if first.setdefault(value, place) != place:
            return first[value], place
    return None


def an_axis(name: str, kind: Any, once: bool) -> Any:
    """The values of an axis whose field is of a kind."""
    checks = [AfterValidator(functools.partial(each_once, name))] if once else []
    return Annotated[(list[kind], WrapValidator(functools.partial(_each_of, name)), *checks)]


def _each_of(name: str, given: Any, check: Callable[[Any], Any]) -> Any:
    """The values of an axis, checked one by one; of a range of seeds the ends."""
    values = _expanded(name, given)
    if isinstance(values, range):
        check([values[0], values[-1]])
        return values
    return check(values)
