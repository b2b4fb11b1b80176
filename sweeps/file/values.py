"""One value of a sweep file: a number, a name, a word, checked."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from sdpo_jax.config import check_value
from sdpo_jax.engine import own_numbers
from sdpo_jax.grid import check_size
from sdpo_jax.program import SEED_AXES
from sdpo_jax.teachers import check_nodes
from sweeps.file import parts
from sweeps.file.limits import LONGEST_NAME
from sweeps.file.mistakes import allowed_in, refused
from sweeps.system.text import plain

# Names that can't be files everywhere.
DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)
_SMALLEST = float(np.finfo(np.float32).smallest_normal)
_LARGEST = float(np.finfo(np.float32).max)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def a_number(name: str, rule: own_numbers.Number | None = None) -> Any:
    """A number of a field, within the rule of an algorithm's own where it is one."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise refused(f"numbers, {_allowed(name, 'x', rule)}")
        value = fits_32_bits(value)
        try:
            check_value(name, value, rule)
        except ValueError as error:
            raise refused(allowed_in(error)) from None
        return value

    return Annotated[Any, AfterValidator(check)]


def fits_32_bits(value: float) -> float:
    """A number as programs can take it: what is not, they would read as 0 or as infinite."""
    fits = value == 0 or _SMALLEST <= abs(value) <= _LARGEST
    if not fits and not (isinstance(value, float) and not math.isfinite(value)):
        raise refused("numbers that fit into 32 bits: 0, or 1.2e-38 to 3.4e+38 in size")
    return float(value)


def _allowed(name: str, wrong: Any, rule: own_numbers.Number | None) -> str:
    try:
        check_value(name, wrong, rule)
    except ValueError as error:
        return allowed_in(error)
    raise AssertionError(name)


def an_integer(name: str) -> Any:
    """An integer of a field: a seed or a size."""

    def check(value: Any) -> int:
        if name in SEED_AXES:
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
                raise refused("integers from 0 to 2**32 - 1")
            return value
        try:
            check_size(name, value)
        except ValueError as error:
            raise refused(allowed_in(error)) from None
        if value > 2**20:
            raise refused("integers up to 2**20")
        return value

    return Annotated[Any, AfterValidator(check)]


def a_choice(names: Collection[str], kind: str = "") -> Any:
    """One of the names, or, of a kind of parts, also ``module:name``; looked up when it is read."""

    def check(value: Any) -> str:
        known = parts.known_as(kind, value) if parts.is_elsewhere(value) else value
        if not isinstance(value, str) or known not in names:
            raise refused(", ".join(names) + (", or module:name" if kind else ""), list(names))
        return known

    return Annotated[Any, AfterValidator(check)]


Finite = Annotated[float, Field(allow_inf_nan=False, strict=True), AfterValidator(fits_32_bits)]


def printable(value: str) -> str:
    """One line of printable text."""
    if not value or value != plain(value) or value != value.strip():
        raise refused("one line of printable text, 1 character or more")
    return value


Share = Annotated[Finite, Field(ge=0, le=1)]


def at_least_one(value: Any) -> int:
    """An integer from 1 on."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 2**20:
        raise refused("integers, 1 to 2**20")
    return value


def node_count(value: Any) -> int:
    """How many nodes a teacher's reading has."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise refused("integers")
    try:
        check_nodes(value)
    except ValueError as error:
        raise refused(allowed_in(error)) from None
    return value


def a_flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise refused("true or false")
    return value


def is_word(value: str) -> bool:
    """Whether it can be the name of a file and of a variable everywhere."""
    return (
        bool(_NAME.fullmatch(value))
        and len(value) <= LONGEST_NAME
        and (not DEVICES.fullmatch(value))
    )


_A_WORD = (
    f"a word of at most {LONGEST_NAME} letters, digits, - and _, the first a letter, "
    "that is no device (con, nul, ...)"
)
A_DIMENSION = f"{_A_WORD}, no axis, no metric, and no other name of the results (step, token, ...)"


def a_word(value: Any) -> str:
    """A name of a file and of a variable."""
    if not isinstance(value, str) or not is_word(value):
        raise refused(_A_WORD)
    return value


def whole_text(value: str) -> str:
    """Text of several lines without control characters."""
    if any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in value):
        raise refused("text without control characters")
    return value
