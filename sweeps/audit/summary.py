"""The audit's outcome in sentences, from its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sweeps.audit.contenders import CONTENDERS
from sweeps.audit.plan import REFERENCE_NOISE
from sweeps.study.wording import decimals

Row = dict[str, Any]

# What a group is told, as a heading and within a sentence.
GROUPS = {
    "feedback": "Told only the feedback on its own rollouts",
    "reward of any sequence": "May ask for the reward of any sequence",
    "knowledge table": "Shown a table of token quality: q, or q with errors",
    "solution": "Shown the best sequence",
}


def summary(league: Sequence[Row], crossovers: Sequence[Row]) -> list[str]:
    """Who wins among those told the same, and what SDPO's teacher must know.

    Args:
        league: the rows of ``league.csv``; ``crossovers``: those of ``crossover.csv``.
    """
    oracle = "continuous" if any(r["oracle"] == "continuous" for r in league) else None
    here = [r for r in league if r["oracle"] == (oracle or league[0]["oracle"])]
    sentences = []
    for group, title in GROUPS.items():
        mine = [r for r in here if r["group"] == group]
        mine = [r for r in mine if np.isclose(r["noise"], REFERENCE_NOISE)] or mine
        mine.sort(key=lambda r: -r["tuned_reward"])
        if not mine:
            continue
        first, *others = mine
        text = f"{title}: {in_text(first['label'])} is best, at {_score(first)}"
        if others:
            after = max(others, key=lambda r: r["optimality"])
            text += f"; next is {in_text(after['label'])} at {_score(after, interval=False)}"
        sentences.append(text + ".")
    return [*sentences, *_crossing(crossovers)]


def in_text(label: str) -> str:
    """A contender's label within a sentence: ``RLHF, learned reward`` as one phrase."""
    name, comma, rest = label.partition(", ")
    return f"{name} ({rest})" if comma else name


def _score(row: Row, interval: bool = True) -> str:
    text = decimals(row["optimality"], places=2)
    if interval:
        low, high = (decimals(row[f"optimality_{end}"], places=2) for end in ("low", "high"))
        text += f" [{low}, {high}]"
    return text


def _crossing(rows: Sequence[Row]) -> list[str]:
    """What the teacher must know, from the rows of ``crossover.csv``."""
    if not rows:
        return []
    wanted = [r for r in rows if r["oracle"] == "continuous"] or list(rows)
    main = next((r for r in wanted if np.isclose(r["noise"], REFERENCE_NOISE)), wanted[0])
    rival = in_text(CONTENDERS[main["best_told_feedback"]].label)
    below = decimals(-main["gap_at_none"])
    sentences = [
        "What SDPO's teacher must know: with a table of errors alone SDPO's reward is "
        f"{below} below that of the best that is told only the feedback, {rival}."
    ]
    if np.isfinite(main["crossover"]):
        sentences[0] = sentences[0][:-1] + (
            f", and it overtakes only with a table whose correlation with q is "
            f"{decimals(main['crossover'], places=2)} or more; with q itself its lead is "
            f"{decimals(main['gap_at_full'], sign=True)}."
        )
    finite = [r["crossover"] for r in rows if np.isfinite(r["crossover"])]
    never = [r for r in rows if not np.isfinite(r["crossover"])]
    if len(rows) > 1 and finite:
        span = f"{decimals(min(finite), places=2)} to {decimals(max(finite), places=2)}"
        text = f"Over {len(rows)} pairs of feedback and noise that correlation is {span}"
        if never:
            text += f"; not even q itself is enough with {_cases(never)}"
        sentences.append(text + ".")
    return sentences


def _cases(rows: Sequence[Row]) -> str:
    kinds: dict[float, list[str]] = {}
    for row in rows:
        kinds.setdefault(row["noise"], []).append(row["oracle"])
    return " and ".join(
        f"{' and '.join(sorted(names))} feedback "
        + (f"under noise {noise:g}" if noise else "without noise")
        for noise, names in kinds.items()
    )
