"""The study's outcome in sentences, from its tables and verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sdpo_jax.in_context.methods import READ, SCORE, SOLUTION
from sweeps.in_context.analysis import Row
from sweeps.in_context.plan import COMPOSED, PLAIN, REFERENCE, Plan
from sweeps.in_context.verdicts import distilling
from sweeps.study.wording import decimals


def summary(
    plan: Plan, league: Sequence[Row], skill: Sequence[Row], start: float, best: float
) -> list[str]:
    """Who learns most from what, and what a teacher's reading is worth.

    Args:
        plan: of the study.
        league: the rows of ``league.csv``.
        skill: the rows of ``skill.csv``.
        start: mean reward before the first step.
        best: mean reward of the best answers.
    """
    sentences = [
        f"Before training the reward is {decimals(start, places=2)}, and that of the best answer "
        f"{decimals(best, places=2)}."
    ]
    groups = {
        "Told the score only, the best is": [r for r in league if r["told"] == SCORE],
        "Of SDPO whose teacher is the network reading (live, EMA, frozen or trust region), the "
        "best is": _of(league, distilling(PLAIN)),
        "With a composed teacher it is": _of(league, distilling(COMPOSED)),
        "With GRPO's gradient and a composed teacher's mixed it is": [
            r for r in league if r["contender"].startswith("grpo_sdpo")
        ],
        "Reading the solution itself, it is": [r for r in league if r["told"] == SOLUTION],
    }
    sentences += [f"{said} {_by_kind(plan, rows)}." for said, rows in groups.items() if rows]
    ahead = [
        row
        for row in league
        if row["told"] == READ and row["ahead_of_grpo_low"] > 0 and row["contender"] != REFERENCE
    ]
    sentences.append(
        f"Of those that read feedback, {_counted(ahead)} ahead of {REFERENCE.upper()} by more than "
        "the interval."
    )
    mine = sorted(_of(skill, distilling(COMPOSED)), key=lambda row: row["skill"])
    if len(mine) > 1:
        sentences.append(
            f"A composed teacher that has learned to read ({decimals(mine[-1]['skill'], places=2)} "
            f"nats a token saved) ends at {decimals(mine[-1]['reward'], places=2)}, one that has "
            f"not ({decimals(mine[0]['skill'], places=2)}) at "
            f"{decimals(mine[0]['reward'], places=2)}."
        )
    return sentences


def _of(rows: Iterable[Row], names: Sequence[str]) -> list[Row]:
    return [row for row in rows if row["contender"] in names]


def _counted(rows: Sequence[Row]) -> str:
    if not rows:
        return "none is"
    names = dict.fromkeys(f"{row['label']} ({row['feedback']})" for row in rows)
    return f"{'; '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _by_kind(plan: Plan, rows: Sequence[Row]) -> str:
    """The one that tuning chose for each kind of feedback, with its reward."""
    found = []
    for kind in plan.kinds:
        mine = [row for row in rows if row["feedback"] == kind]
        if mine:
            row = max(mine, key=lambda each: each["tuned_reward"])
            found.append((row["label"], f"{decimals(row['reward'], places=2)} ({kind})"))
    names = {name for name, _ in found}
    if len(names) == 1:
        return f"{names.pop()}: {', '.join(value for _, value in found)}"
    return ", ".join(f"{name} at {value}" for name, value in found)
