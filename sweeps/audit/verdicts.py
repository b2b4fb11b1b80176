"""Claims C23 and C24 and the paper's questions for future work, judged by stated rules.

The docstring of each rule is the rule, and is printed with its verdict.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
from scipy import stats

from sdpo_jax.oracles.judges import BIASES
from sweeps import statistics
from sweeps.audit import analysis
from sweeps.audit.analysis import Results
from sweeps.audit.contenders import CONTENDERS
from sweeps.audit.experiments import league
from sweeps.audit.summary import in_text
from sweeps.paper.published import published
from sweeps.statistics import Interval, Undefined
from sweeps.study import conditions
from sweeps.study.conditions import REWARD_MARGIN, above, every, inside, joint, opposite
from sweeps.study.judgements import Claim, Judgement, Verdict, undetermined
from sweeps.study.wording import decimals, spelled


def dense_against_sparse(results: Results) -> Interval:
    """Exact process reward less REINFORCE, both told the true reward, each at its own best."""
    data = league(results)
    noise = min(data.noise.values[data.contender.values == analysis.BASELINE])
    sparse = analysis.cell(data, analysis.BASELINE, "continuous", float(noise))
    dense = analysis.cell(data, "process_reward", "continuous", 0.0)
    return statistics.paired_difference(dense.reward.values, sparse.reward.values)


def c23(results: Results) -> Judgement:
    """At each algorithm's own best learning rate, continuous feedback with noise 0.2: SDPO with
    full knowledge less the best algorithm that is told only the feedback (chosen on tuning seeds).
    Fails if the gap is not above 0.01: then the step was the reason. Holds if the gap is above 0.01
    and exact dense credit without a table (process reward) also beats one number a rollout by more
    than 0.01. Holds for another reason if the gap is above 0.01 but dense credit alone brings no
    0.01: then it is the table. Undecided if an interval spans 0.01.
    """
    oracle, noise = analysis.source_oracle(results)
    _, gaps, name = analysis.gaps_of(results, oracle, noise)
    gap, dense = statistics.mean(gaps[-1]), dense_against_sparse(results)
    ahead, helps = above(gap, REWARD_MARGIN), above(dense, REWARD_MARGIN)
    verdict = conditions.verdict(helps if ahead else ahead)
    if ahead and helps is False:
        verdict = Verdict.OTHER_REASON
    figure = published()["figure4_noise"]
    there = figure["noise"].index(noise)
    gap_there = figure["reward"]["sdpo"][there] - figure["reward"]["reinforce"][there]
    return Judgement(
        "reward, SDPO (knowledge 1) less the best told only the feedback, each at its own best",
        gap_there,
        gap,
        verdict,
        f"at the paper's one learning rate SDPO leads REINFORCE by {gap_there:+.3f}; with a "
        "setting of its own for each, it leads the best that is told only the feedback, "
        f"{in_text(CONTENDERS[name].label)}, by {spelled(gap, True)}. Dense credit alone, without "
        f"a table (exact process reward), leads REINFORCE by {spelled(dense, True)}",
        control="tuned: every algorithm at the best of equally many settings",
    )


def c24(results: Results) -> Judgement:
    """SDPO at knowledge 0 (a table of errors alone), at its own best setting, less the best
    algorithm that is told only the feedback, continuous feedback with noise 0.2. Holds if above
    -0.01, fails if below, undecided if the interval spans it. The crossover in knowledge is given
    beside it.
    """
    oracle, noise = analysis.source_oracle(results)
    _, gaps, name = analysis.gaps_of(results, oracle, noise)
    gap = statistics.mean(gaps[0])
    verdict = conditions.verdict(above(gap, -REWARD_MARGIN))
    rows = analysis.crossover_rows(results)
    lines = tuple(
        f"{row['oracle']} feedback, noise {row['noise']:g}: knowledge from which SDPO is above "
        f"{CONTENDERS[row['best_told_feedback']].label}: {crossover_text(row)}"
        for row in rows
    )
    here = next(r for r in rows if r["oracle"] == oracle and np.isclose(r["noise"], noise))
    return Judgement(
        "reward, SDPO (knowledge 0) less the best told only the feedback, each at its own best",
        None,
        gap,
        verdict,
        f"with a teacher that knows nothing of q, SDPO's reward less that of "
        f"{in_text(CONTENDERS[name].label)} is {spelled(gap, True)}; SDPO is above from knowledge "
        f"{crossover_text(here)} on (the correlation of the teacher's table with q)",
        control="knowledge: the teacher's table is rho q + sqrt(1 - rho^2) noise",
        evidence=lines,
    )


def crossover_text(row: analysis.Row) -> str:
    """A crossover with its interval, in words where it is at an end."""

    def one(value: float) -> str:
        return "above 1" if np.isinf(value) else f"{value:.2f}"

    if np.isinf(row["crossover_low"]):
        return "none up to 1"
    if np.isinf(row["crossover"]):
        return f"none up to 1 (interval from {one(row['crossover_low'])})"
    return f"{one(row['crossover'])} [{one(row['crossover_low'])}, {one(row['crossover_high'])}]"


def f1(results: Results) -> Judgement:
    """Can't be answered by a simulation: undecided. Reported is how the gap between SDPO (the
    highest knowledge) and the best scaled algorithm told only the feedback (chosen on tuning seeds)
    moves, in optimality, from the smallest to the largest problem tried.
    """
    rows = analysis.scaling_rows(results)
    data = results["scaling"]

    def gap(length: int, vocab_size: int) -> tuple[Interval, str]:
        here = [r for r in rows if (r["length"], r["vocab_size"]) == (length, vocab_size)]
        told = [r for r in here if CONTENDERS[r["contender"]].group == "feedback"]
        best = max(told, key=lambda r: r["tuned_reward"])["contender"]
        highest = max(r["knowledge"] for r in here if r["contender"] == "sdpo")
        at = data.isel(
            cell=np.flatnonzero(
                (data.length.values == length) & (data.vocab_size.values == vocab_size)
            )
        )
        mine = at.isel(
            cell=int(
                np.flatnonzero(
                    (at.contender.values == "sdpo") & np.isclose(at.knowledge.values, highest)
                )[0]
            )
        )
        other = at.isel(cell=int(np.flatnonzero(at.contender.values == best)[0]))
        span = data[f"best_{length}_{vocab_size}"] - data[f"uniform_{length}_{vocab_size}"]
        difference = (mine.reward.values - other.reward.values) / span.values
        return statistics.mean(difference), in_text(CONTENDERS[best].label)

    shapes = list(dict.fromkeys((r["length"], r["vocab_size"]) for r in rows))
    first, last = shapes[0], max(shapes, key=lambda s: s[0] * np.log(s[1]))
    (small, small_name), (large, large_name) = gap(*first), gap(*last)
    return Judgement(
        "optimality, SDPO less the best told only the feedback, at the largest problem",
        None,
        large,
        Verdict.UNDECIDED,
        "a simulation cannot answer it. With full knowledge SDPO's lead over the best that is told "
        f"only the feedback goes from {spelled(small, True)} over {small_name} at T={first[0]}, "
        f"V={first[1]} to {spelled(large, True)} over {large_name} at T={last[0]}, V={last[1]}",
    )


def f2(results: Results) -> Judgement:
    """Each judge bias at strength 0.5 (at 1 some leave nothing to learn from), for each contender:
    the loss of reward less that under plain noise of the same mean square error of the feedback.
    Holds (systematic bias has a pattern of its own) if for some bias and contender the difference
    is beyond 0.01 either way in joint intervals; fails if all are within 0.01; undecided otherwise.
    """
    rows = [r for r in analysis.bias_rows(results) if r["bias"] in _biases(results)]
    rows = [r for r in rows if np.isclose(r["strength"], 0.5)]
    if not rows:
        raise Undefined("biases: none at strength 0.5; allowed: at least one")
    level = joint(len(rows))
    found = []
    for row in rows:
        interval = _beyond_noise(row, level)
        found.append((row, interval))
    alike = [inside(i, -REWARD_MARGIN, REWARD_MARGIN) for _, i in found]
    own = [each for each, same in zip(found, alike, strict=True) if same is False]
    verdict = conditions.verdict(opposite(every(*alike)))
    row, interval = max(found, key=lambda each: abs(float(each[1].estimate)))
    harmless = sorted({r["bias"] for r, i in found} - {r["bias"] for r, i in own})
    harmless = [bias.replace("_", " ") for bias in harmless]
    lines = tuple(
        f"{CONTENDERS[r['contender']].label}, {r['bias'].replace('_', ' ')} {r['strength']:g}: "
        f"loses {decimals(r['loss'])} [{decimals(r['loss_low'])}, {decimals(r['loss_high'])}], "
        f"{spelled(i, True)} more than noise costs"
        for r, i in found
    )
    return Judgement(
        "largest difference to the loss under noise of the same error "
        f"({CONTENDERS[row['contender']].label}, {row['bias'].replace('_', ' ')})",
        None,
        interval,
        verdict,
        f"of {len(found)} pairs of an algorithm and a bias, {len(own)} cost more or less reward, "
        "by over 0.01, than noise of the same mean square error"
        + (f"; no pair with {' or '.join(harmless)} does" if harmless else ""),
        evidence=lines,
    )


def f3(results: Results) -> Judgement:
    """At the highest knowledge: the reward of each variant with at least so much entropy, less that
    of SDPO whose KL weight is swept for the same floor; both are means over the last steps, and
    settings are chosen on tuning seeds. Holds if a variant is above by more than 0.01 at some floor
    of 1 nat or more in joint intervals, fails if none can be, undecided otherwise.
    """
    data = results["frontier"]
    highest = float(data.knowledge.values.max())

    def reward(name: str, floor: float) -> np.ndarray | None:
        here = np.flatnonzero(
            (data.contender.values == name)
            & np.isclose(data.floor.values, floor)
            & np.isclose(data.knowledge.values, highest)
        )
        return data.reward.values[here[0]].astype(float) if here.size else None

    variants = [
        name
        for name in dict.fromkeys(data.contender.values.tolist())
        if name != "sdpo" and CONTENDERS[name].group == "knowledge table"
    ]
    floors = [f for f in np.unique(data.floor.values) if f >= 1.0]
    pairs = [
        (name, float(floor), first, second)
        for name in variants
        for floor in floors
        if (first := reward(name, floor)) is not None
        and (second := reward("sdpo", floor)) is not None
    ]
    if not pairs:
        nothing = statistics.mean(np.zeros(data.sizes["seed"]))
        return Judgement("reward at equal entropy", None, nothing, Verdict.UNDECIDED,
                         "no variant reached an entropy of 1 nat")  # fmt: skip
    level = joint(len(pairs))
    found = [
        (name, floor, statistics.paired_difference(first, second, level))
        for name, floor, first, second in pairs
    ]
    none = every(*(opposite(above(i, REWARD_MARGIN)) for *_, i in found))
    verdict = conditions.verdict(opposite(none))
    name, floor, interval = max(found, key=lambda each: float(each[2].estimate))
    return Judgement(
        "reward at equal entropy, best variant less SDPO with its KL weight swept",
        None,
        interval,
        verdict,
        f"the best variant is {in_text(CONTENDERS[name].label)}: at {floor:g} nats of entropy or "
        f"more, its reward less that of SDPO with its KL weight swept is {spelled(interval, True)}",
        evidence=tuple(
            f"{CONTENDERS[n].label}, {f:g} nats or more: {spelled(i, True)}" for n, f, i in found
        ),
    )


def _biases(results: Results) -> set[str]:
    """Biases, without the sources that look at something else."""
    return set(results["biases"].bias.values.tolist()) & set(BIASES)


def _beyond_noise(row: analysis.Row, level: float) -> Interval:
    """``loss_beyond_noise`` of a row at another level: Student's intervals scale."""
    count = row["seeds"]
    wide = stats.t.ppf(0.5 + level / 2, count - 1) / stats.t.ppf(0.975, count - 1)
    centre, low, high = (row[f"loss_beyond_noise{end}"] for end in ("", "_low", "_high"))
    wider = (centre - wide * (centre - low), centre + wide * (high - centre))
    return Interval(np.asarray(centre), np.asarray(wider[0]), np.asarray(wider[1]), count)


RULES: dict[str, tuple[str, str, Callable[[Results], Judgement]]] = {
    "C23": (
        "SDPO wins because its credit is denser, not because its step is larger",
        "section 4",
        c23,
    ),
    "C24": ("SDPO needs no ground truth", "section 4", c24),
    "F1": ("do the findings hold for full-scale language models", "future work (1)", f1),
    "F2": (
        "systematic bias of a judge degrades learning in another way than random noise",
        "future work (2)",
        f2,
    ),
    "F3": (
        "an entropy bonus, mixtures of teachers or other variants keep diversity at less cost",
        "future work (3)",
        f3,
    ),
}


def judge(results: Results) -> list[Claim]:
    """Every claim and question, in order."""
    judged = []
    for identifier, (claim, where, rule) in RULES.items():
        try:
            found = rule(results)
        except Undefined as why:
            found = undetermined(why, results)
        judged.append(
            Claim(
                id=identifier,
                claim=claim,
                where=where,
                statistic=found.statistic,
                published=found.published,
                estimate=float(found.interval.estimate),
                ci_low=float(found.interval.low),
                ci_high=float(found.interval.high),
                seeds=found.interval.seeds,
                verdict=found.verdict,
                reason=found.reason,
                control=found.control,
                rule=" ".join((inspect.getdoc(rule) or "").split()),
                evidence=found.evidence,
            )
        )
    return judged
