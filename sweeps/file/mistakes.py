"""What is wrong in a sweep file, in words."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

from sweeps.file.limits import LONGEST_NAME, MAX_LISTED
from sweeps.system.text import plain


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong in a file.

    Attributes:
        path: where, such as ``axes.noise[2]``.
        problem: what was found there.
        allowed: what may stand there.
        nearest: the valid name that a wrong one resembles.
    """

    path: str
    problem: str
    allowed: str
    nearest: str | None = None

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest!r}?" if self.nearest else ""
        return plain(f"{self.path}: {self.problem}{hint}; allowed: {self.allowed}")


class SweepError(ValueError):
    """A sweep file that can't be run. ``mistakes`` holds all that is wrong with it."""

    def __init__(self, name: str, mistakes: Sequence[Mistake]):
        self.mistakes = tuple(mistakes)
        count = f"{len(mistakes)} mistake" + ("s" if len(mistakes) > 1 else "")
        more = len(mistakes) - MAX_LISTED
        rest = [f"... and {more} more"] if more > 0 else []
        shown = map(str, mistakes[:MAX_LISTED])
        super().__init__("\n  ".join([plain(f"{name}: {count}"), *shown, *rest]))


def refused(allowed: str, choices: Sequence[str] = ()) -> PydanticCustomError:
    """A refusal of pydantic's, with what is allowed and the names that a wrong one may resemble."""
    return PydanticCustomError("refused", "{allowed}", {"allowed": allowed, "choices": choices})


def allowed_in(error: ValueError) -> str:
    """What an error of the library's says is allowed."""
    return str(error).rpartition("allowed: ")[2]


def nearest_of(given: Any, names: Sequence[str]) -> str | None:
    """The name that a wrong one resembles, if there is one."""
    if not isinstance(given, str):
        return None
    found = difflib.get_close_matches(given.lower(), names, 1, cutoff=0.55)
    return found[0] if found else None


def dotted(path: tuple) -> str:
    """A place in a file, such as ``axes.noise[2]``."""
    text = ""
    for part in path:
        part = part if isinstance(part, int) or len(part) <= LONGEST_NAME else shortened(part)
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "file"


def shortened(value: Any) -> str:
    """A value in at most 80 letters."""
    try:
        return cut(repr(value), 80)
    except ValueError:
        # Python writes no integer of thousands of digits.
        return "an integer of thousands of digits"


def cut(text: str, most: int = 400) -> str:
    """A text in at most so many letters."""
    return text if len(text) <= most else text[: most - 3] + "..."


def from_library(path: tuple, name: str | None, error: ValueError) -> Mistake:
    """One of the library's errors in our words."""
    field_name, _, rest = str(error).partition(": ")
    problem, _, allowed = rest.partition("; allowed: ")
    where = name or field_name
    return Mistake(dotted((*path, where)), cut(problem or rest), cut(allowed or "see above"))
