"""Claims N1 to N5 about a self-teacher that reads its feedback, judged by stated rules.

The docstring of each rule is the rule, and is printed with its verdict.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np

from sdpo_jax.in_context import METHODS
from sdpo_jax.in_context.methods import SCORE
from sweeps import statistics
from sweeps.in_context.analysis import Results, at_end, at_start, best_of, group, of
from sweeps.in_context.experiments import POLICIES, last_kind, network_name
from sweeps.in_context.plan import COMPOSED, MAIN, PLAIN, REFERENCE, Plan
from sweeps.statistics import Interval, Undefined
from sweeps.study import conditions
from sweeps.study.conditions import (
    CREDIT_MARGIN,
    ENTROPY_MARGIN,
    REWARD_MARGIN,
    Truth,
    above,
    below,
    every,
    joint,
)
from sweeps.study.judgements import Claim, Judgement, undetermined
from sweeps.study.wording import number, shown

# How much of the way to the lower of two final rewards, where entropies are compared.
SHARE = 0.8


def n1(plan: Plan, results: Results) -> Judgement:
    """For each kind of feedback: the best SDPO whose teacher is the network reading (live, EMA,
    frozen or trust region; chosen on tuning seeds) less the best method that is told the score only
    (chosen on tuning seeds). Holds if above -0.01 under every kind, fails if below under one;
    undecided otherwise. Joint intervals over the kinds.
    """
    found = _against(plan, results, distilling(PLAIN), group(plan, SCORE))
    truths = [above(interval, -REWARD_MARGIN) for *_, interval in found]
    lines = (*_lines(found), *_lines(_pairs(plan, results, found)))
    lines += tuple(
        f"{kind}: from {number(at_start(data).mean())} to {number(at_end(plan, data).mean())} with "
        f"{METHODS[name].label}"
        for kind, name, *_ in found
        for data in [of(plan, results, name, kind)]
    )
    worst = min(found, key=lambda each: float(each[-1].estimate))
    return Judgement(
        "final reward, best in-context SDPO less the best told only the score; least of the kinds",
        None,
        _smallest(found),
        conditions.verdict(every(*truths)),
        f"at worst, under {worst[0]} feedback, {METHODS[worst[1]].label} is "
        f"{shown(worst[-1], True)} from {METHODS[worst[2]].label}",
        evidence=lines,
    )


def n2(plan: Plan, results: Results) -> Judgement:
    """For each kind of feedback: the best SDPO with a composed teacher less the best with a teacher
    that is the network reading (each chosen on tuning seeds). Holds if above 0.01 under every kind;
    fails if not under one; undecided otherwise. Joint intervals over the kinds.
    """
    found = _against(plan, results, distilling(COMPOSED), distilling(PLAIN))
    truths = [above(interval, REWARD_MARGIN) for *_, interval in found]
    worst = min(found, key=lambda each: float(each[-1].estimate))
    return Judgement(
        "final reward, best composed teacher less the best that is not; least of the kinds",
        None,
        _smallest(found),
        conditions.verdict(every(*truths)),
        f"where composing with the student does worst, under {worst[0]} feedback, its reward is "
        f"{shown(worst[-1], True)} from the other's ({METHODS[worst[1]].label} against "
        f"{METHODS[worst[2]].label})",
        evidence=_lines(found),
    )


def n3(plan: Plan, results: Results) -> Judgement:
    """On the small world, at the same policies (the first network, and students of GRPO) and the
    same rollouts: exact credit of SDPO with a composed teacher less that of GRPO. Holds if above
    0.01 under every kind of feedback at both policies; fails if not in one of them; undecided
    otherwise. Joint intervals.
    """
    mine, other = (results[f"credit_{name}"] for name in (MAIN, REFERENCE))
    level = joint(len(plan.kinds) * len(POLICIES))
    found, lines = [], []
    for policy in POLICIES:
        for kind in plan.kinds:
            one, two = (each.sel({"policy": policy, "kind": kind}) for each in (mine, other))
            interval = statistics.paired_difference(one.credit.values, two.credit.values, level)
            aligned = statistics.paired_difference(
                one.alignment.values, two.alignment.values, level
            )
            found.append((policy, kind, interval))
            lines.append(
                f"{policy}, {kind}: credit {number(one.credit.values.mean())} against "
                f"{number(two.credit.values.mean())}, {shown(interval, True)}; alignment of the "
                f"step in the parameters {number(one.alignment.values.mean())} against "
                f"{number(two.alignment.values.mean())}, {shown(aligned, True)}"
            )
    truths = [above(interval, CREDIT_MARGIN) for *_, interval in found]
    worst = min(found, key=lambda each: float(each[-1].estimate))
    return Judgement(
        "exact credit, SDPO with a composed teacher less GRPO; least of policies and kinds",
        None,
        _smallest(found),
        conditions.verdict(every(*truths)),
        f"where it does worst ({worst[0]}, {worst[1]}), its credit less GRPO's is "
        f"{shown(worst[-1], True)}",
        evidence=tuple(lines),
    )


def n4(plan: Plan, results: Results) -> Judgement:
    """SDPO with a composed teacher and GRPO, each at its own best, where they are worth the same:
    at the first step at which a method's mean reward has gone 80% of the way from the start to the
    lower of the two final rewards, its entropy. Holds if SDPO's less GRPO's is below -0.01 nats a
    token under every kind of feedback, fails if not under one; undecided otherwise. Joint
    intervals over the kinds.
    """
    level = joint(len(plan.kinds))
    found, lines = [], []
    for kind in plan.kinds:
        pair = [of(plan, results, name, kind) for name in (MAIN, REFERENCE)]
        start = float(at_start(pair[0]).mean())
        lower = min(float(at_end(plan, data).mean()) for data in pair)
        wanted = start + SHARE * (lower - start)
        entropies, steps = [], []
        for data in pair:
            mean = data.reward.mean("seed").values
            step = int(np.flatnonzero(mean >= wanted)[0]) if (mean >= wanted).any() else -1
            steps.append(step % plan.steps)
            entropies.append(data.entropy.values[:, step].astype(float))
        interval = statistics.paired_difference(entropies[0], entropies[1], level)
        found.append((kind, interval))
        last = [number(at_end(plan, data, "entropy").mean()) for data in pair]
        lines.append(
            f"{kind}, at a reward of {number(wanted)}: entropy {number(entropies[0].mean())} (step "
            f"{steps[0]}) against {number(entropies[1].mean())} (step {steps[1]}), "
            f"{shown(interval, True)}; at the end {last[0]} against {last[1]}"
        )
    truths = [below(interval, -ENTROPY_MARGIN) for _, interval in found]
    least = max(found, key=lambda each: float(each[-1].estimate))
    intervals = [interval for _, interval in found]
    return Judgement(
        "entropy at equal reward, SDPO with a composed teacher less GRPO; largest of the kinds",
        None,
        conditions.largest(_stacked(intervals)),
        conditions.verdict(every(*truths)),
        f"where it costs least ({least[0]}), its entropy less GRPO's at equal reward is "
        f"{shown(least[-1], True)} nats a token",
        evidence=tuple(lines),
    )


def n5(plan: Plan, results: Results) -> Judgement:
    """SDPO with a composed teacher from each checkpoint of pretraining, at the setting that tuning
    chose at the last one, under the kind of feedback that says most: its gain in reward from the
    last checkpoint less that from the first. Holds (skill pays) if above 0.01, fails if not,
    undecided if the interval spans it. Given beside it is the least skill from which on it is not
    more than 0.01 below GRPO from the same checkpoint.
    """
    data, other = (results[f"skill_{name}"] for name in (MAIN, REFERENCE))
    gain = at_end(plan, data) - at_start(data)
    difference = statistics.paired_difference(gain[-1], gain[0])
    kind = last_kind(plan)
    skills = results[network_name(plan.attempts[0])].skill.sel(kind=kind).values
    lead = at_end(plan, data) - at_end(plan, other)
    level = joint(len(skills))
    intervals = [statistics.mean(each, level) for each in lead]
    truths: list[Truth] = [above(interval, -REWARD_MARGIN) for interval in intervals]
    enough = [place for place in range(len(skills)) if all(truths[place:])]
    needed = (
        f"from a skill of {number(skills[enough[0]])} nats a token on it is with GRPO"
        if enough
        else "at no skill tried is it with GRPO"
    )
    return Judgement(
        "gain in reward of SDPO with a composed teacher, last checkpoint less first",
        None,
        difference,
        conditions.verdict(above(difference, REWARD_MARGIN)),
        f"skill brings {shown(difference, True)} of reward; {needed}",
        evidence=tuple(
            f"skill {number(skill)} nats a token: gain {number(each.mean())}, against GRPO "
            f"{shown(interval, True)}"
            for skill, each, interval in zip(skills, gain, intervals, strict=True)
        ),
    )


def distilling(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those that learn from a teacher alone, who reads feedback on each rollout."""
    return tuple(name for name in names if name.startswith("sdpo_"))


def _against(
    plan: Plan, results: Results, names: tuple[str, ...], others: tuple[str, ...]
) -> list[tuple[str, str, str, Interval]]:
    """For each kind of feedback the best of each side, and the difference."""
    level = joint(len(plan.kinds))
    found = []
    for kind in plan.kinds:
        one, two = (best_of(plan, results, side, kind) for side in (names, others))
        first, second = (at_end(plan, of(plan, results, name, kind)) for name in (one, two))
        found.append((kind, one, two, statistics.paired_difference(first, second, level)))
    return found


def _pairs(
    plan: Plan, results: Results, found: list[tuple[str, str, str, Interval]]
) -> list[tuple[str, str, str, Interval]]:
    """The first of each against the reference method."""
    level = joint(len(plan.kinds))
    return [
        (
            kind,
            name,
            REFERENCE,
            statistics.paired_difference(
                at_end(plan, of(plan, results, name, kind)),
                at_end(plan, of(plan, results, REFERENCE, kind)),
                level,
            ),
        )
        for kind, name, *_ in found
    ]


def _lines(found: list[tuple[str, str, str, Interval]]) -> tuple[str, ...]:
    return tuple(
        f"{kind}: {METHODS[one].label} less {METHODS[two].label}: {shown(interval, True)}"
        for kind, one, two, interval in found
    )


def _stacked(intervals: list[Interval]) -> Interval:
    estimate, low, high = (
        np.stack([getattr(each, end) for each in intervals]) for end in ("estimate", "low", "high")
    )
    return Interval(estimate, low, high, intervals[0].seeds)


def _smallest(found: list) -> Interval:
    return conditions.smallest(_stacked([each[-1] for each in found]))


RULES: dict[str, tuple[str, Callable[[Plan, Results], Judgement]]] = {
    "N1": ("an in-context self-teacher needs no ground truth", n1),
    "N2": ("an in-context self-teacher has to compose with the student", n2),
    "N3": ("a self-teacher's credit is denser than GRPO's", n3),
    "N4": ("a self-teacher costs more diversity than GRPO", n4),
    "N5": ("skill in reading pays, and how much it takes", n5),
}


def judge(plan: Plan, results: Results) -> list[Claim]:
    """Every claim, in order."""
    judged = []
    for identifier, (claim, rule) in RULES.items():
        try:
            found = rule(plan, results)
        except Undefined as why:
            found = undetermined(why, results)
        judged.append(
            Claim(
                id=identifier,
                claim=claim,
                where="in-context study",
                statistic=found.statistic,
                published=None,
                estimate=float(found.interval.estimate),
                ci_low=float(found.interval.low),
                ci_high=float(found.interval.high),
                seeds=found.interval.seeds,
                verdict=found.verdict,
                reason=found.reason,
                control=None,
                rule=" ".join((inspect.getdoc(rule) or "").split()),
                evidence=found.evidence,
            )
        )
    return judged
