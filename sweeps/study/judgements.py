"""What a judged claim is: the possible verdicts, what a rule finds, and the row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import xarray as xr

from sweeps.statistics import Interval, Undefined

Results = Mapping[str, xr.Dataset]


class Verdict(StrEnum):
    """The five verdicts."""

    HOLDS = "holds"
    FAILS = "fails"
    OTHER_REASON = "holds, but for another reason"
    CONTRADICTS = "contradicts the paper's own data"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Judgement:
    """What a rule finds in the results.

    ``published`` is the same statistic computed from the published numbers, or ``None`` where
    the paper has no such number. ``reason`` is one line, formatted from the numbers; ``control``
    starts with the name of the control run; ``evidence`` is more of the numbers, line by line.
    """

    statistic: str
    published: float | None
    interval: Interval
    verdict: Verdict
    reason: str
    control: str | None = None
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """One row of the claims report.

    ``estimate`` and its ends are NaN where the results do not determine them, and an end is
    infinite where there is no bound; ``row`` has ``None`` for both. ``rule`` (how the verdict
    follows from the numbers) and ``evidence`` are for readers and are not part of ``row``.
    """

    id: str
    claim: str
    where: str
    statistic: str
    published: float | None
    estimate: float
    ci_low: float
    ci_high: float
    seeds: int
    verdict: Verdict
    reason: str
    control: str | None
    rule: str
    evidence: tuple[str, ...]

    def row(self) -> dict[str, str | float | int | None]:
        """The columns of ``claims.json``, in order."""
        return {
            "id": self.id,
            "claim": self.claim,
            "where": self.where,
            "statistic": self.statistic,
            "published": self.published,
            "estimate": _finite(self.estimate),
            "ci_low": _finite(self.ci_low),
            "ci_high": _finite(self.ci_high),
            "seeds": self.seeds,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "control": self.control,
        }

    def whole(self) -> dict[str, Any]:
        """Everything, ``rule`` and ``evidence`` too, as JSON can hold it."""
        return {**self.row(), "rule": self.rule, "evidence": list(self.evidence)}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Claim:
        """The claim of which ``row`` is ``whole()``."""
        unknown = row["estimate"] is None
        numbers = {
            "estimate": math.nan if unknown else row["estimate"],
            "ci_low": math.nan if unknown else _or(row["ci_low"], -math.inf),
            "ci_high": math.nan if unknown else _or(row["ci_high"], math.inf),
        }
        evidence = tuple(row["evidence"])
        return cls(**{**row, **numbers, "verdict": Verdict(row["verdict"]), "evidence": evidence})


def undetermined(why: Undefined, results: Results) -> Judgement:
    """What a rule finds in results that do not determine its statistic: nothing, with the cause."""
    nothing = np.asarray(np.nan)
    seeds = max((results[name].sizes.get("seed", 0) for name in results), default=0)
    return Judgement(
        statistic="none: the results do not determine it",
        published=None,
        interval=Interval(nothing, nothing, nothing, seeds),
        verdict=Verdict.UNDECIDED,
        reason=f"the rule cannot be applied to these results: {why}",
    )


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
