"""The rules of the paper's claims, by the identifier of the claim."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from sweeps.statistics import Undefined
from sweeps.study.judgements import Claim, Judgement, Results, undetermined

Rule = Callable[[Results], Judgement]


def rule_text(rule: Callable[..., Any]) -> str:
    """A rule in words: its docstring, in one line."""
    return " ".join((inspect.getdoc(rule) or "").split())


RULES: dict[str, Callable[[Results], Claim]] = {}
# By identifier what is claimed.
CLAIMS: dict[str, str] = {}


def judges(identifier: str, claim: str, where: str) -> Callable[[Rule], Rule]:
    """Register a rule for one claim. The rule's docstring is what readers are shown as the rule."""

    def register(rule: Rule) -> Rule:
        if identifier in RULES:
            raise ValueError(f"identifier: {identifier!r} has a rule already; allowed: one rule")

        @functools.wraps(rule)
        def judged(results: Results) -> Claim:
            try:
                found = rule(results)
            except Undefined as why:
                found = undetermined(why, results)
            return Claim(
                id=identifier,
                claim=claim,
                where=where,
                statistic=found.statistic,
                published=None if found.published is None else _rounded(found.published),
                estimate=_rounded(found.interval.estimate),
                ci_low=_rounded(found.interval.low),
                ci_high=_rounded(found.interval.high),
                seeds=found.interval.seeds,
                verdict=found.verdict,
                reason=found.reason,
                control=found.control,
                rule=rule_text(rule),
                evidence=found.evidence,
            )

        RULES[identifier], CLAIMS[identifier] = judged, claim
        return rule

    return register


def _rounded(value: object) -> float:
    """Six significant digits: more than the seeds can support, and the same on every machine.

    Adding zero turns -0.0 into 0.0.
    """
    return float(f"{float(value):.6g}") + 0.0  # type: ignore[arg-type]
