"""Numbers, intervals, names and verdicts as readers get them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sweeps.report.style import readers_name
from sweeps.statistics import Interval
from sweeps.study.conditions import Truth
from sweeps.study.judgements import Claim, Verdict


def number(value: object, sign: bool = False) -> str:
    """A number for readers: three decimals, fewer when large, one digit when small.

    Below 0.0001 it is a power of ten; nothing is a negative zero.
    """
    value = float(value)  # type: ignore[arg-type]
    plus = "+" if sign else ""
    if not np.isfinite(value):
        return "undefined" if np.isnan(value) else "-∞" if value < 0 else f"{plus}∞"
    if value == 0:
        return "0"
    if value == round(value):
        return f"{value:{plus}.0f}"
    if abs(value) >= 100:
        return f"{value:{plus}.0f}"
    if abs(value) >= 10:
        return f"{value:{plus}.1f}"
    if abs(value) >= 5e-4:
        return f"{value:{plus}.3f}"
    return f"{value:{plus}.4f}" if abs(value) >= 1e-4 else f"{value:{plus}.1e}"


def decimals(value: object, sign: bool = False, places: int = 3) -> str:
    """A number with so many decimals, whatever its size; zero has no sign."""
    text = f"{float(value):{'+' if sign else ''}.{places}f}"  # type: ignore[arg-type]
    return text if text.strip("+-0.") else text.lstrip("+-")


def spelled(interval: Interval, sign: bool = False) -> str:
    """``estimate [low, high]`` in three decimals each, for rewards and their differences."""
    low, high = decimals(interval.low, sign), decimals(interval.high, sign)
    return f"{decimals(interval.estimate, sign)} [{low}, {high}]"


def shown(interval: Interval, sign: bool = False) -> str:
    """``estimate [low, high]``."""
    low, high = number(interval.low, sign), number(interval.high, sign)
    return f"{number(interval.estimate, sign)} [{low}, {high}]"


def percent(interval: Interval) -> str:
    """``estimate [low, high]`` in percent."""
    low, high = 100 * float(interval.low), 100 * float(interval.high)
    return f"{100 * float(interval.estimate):.1f}% [{low:.1f}%, {high:.1f}%]"


def listed(labels: Sequence[str], values: Iterable[object], sign: bool = False) -> str:
    """``label value`` for each pair, with commas between."""
    pairs = zip(labels, values, strict=True)
    return ", ".join(f"{label} {number(value, sign)}" for label, value in pairs)


def name(label: str) -> str:
    """An algorithm's or feedback type's name in running text."""
    return readers_name(label)


def names(labels: Iterable[str]) -> list[str]:
    """``name`` of each label."""
    return [name(label) for label in labels]


def word(truth: Truth, yes: str, no: str, unknown: str) -> str:
    """The wording for a condition."""
    return unknown if truth is None else yes if truth else no


def counts(verdicts: Iterable[str]) -> dict[Verdict, int]:
    """How many claims got each verdict, in the order of ``Verdict``, zeros included."""
    found = Counter(str(verdict) for verdict in verdicts)
    return {verdict: found[verdict.value] for verdict in Verdict}


# The verdicts as verbs, of one claim and of several.
_VERBS = {
    Verdict.HOLDS: ("holds", "hold"),
    Verdict.FAILS: ("fails", "fail"),
    Verdict.OTHER_REASON: ("holds for another reason", "hold for another reason"),
    Verdict.CONTRADICTS: (
        "contradicts the paper's own data",
        "contradict the paper's own data",
    ),
    Verdict.UNDECIDED: ("is undecided", "are undecided"),
}


def counted(verdict: Verdict, count: int) -> str:
    """``12 hold``, ``1 holds``: a verdict count as a phrase."""
    return f"{count} {_VERBS[verdict][count != 1]}"


def tally(verdicts: Iterable[str]) -> str:
    """The verdict counts in one phrase, without the zeros."""
    parts = [counted(verdict, count) for verdict, count in counts(verdicts).items() if count]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def interval_text(row: dict[str, Any] | Claim, which: str) -> str:
    """``published``, ``estimate`` or ``interval`` of a row, as every page prints it."""
    values = row.row() if isinstance(row, Claim) else row
    if which == "published":
        return "none" if values[which] is None else number(values[which])
    if values["estimate"] is None:
        return "undefined"
    if which == "interval":
        low = -np.inf if values["ci_low"] is None else values["ci_low"]
        high = np.inf if values["ci_high"] is None else values["ci_high"]
        return f"{number(low)} to {number(high)}"
    return number(values["estimate"])


def capital(text: str) -> str:
    """``text`` with a capital first letter."""
    return text[:1].upper() + text[1:]
