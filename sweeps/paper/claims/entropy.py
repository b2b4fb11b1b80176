"""C10 to C12: the price in diversity (table 3, section 3.3)."""

from __future__ import annotations

import numpy as np

from sweeps import statistics
from sweeps.paper.claims.registry import judges
from sweeps.paper.claims.rules import FEEDBACK, cells, lost, verdict
from sweeps.paper.published import BASELINES, ROUNDING, published, table, text_checks
from sweeps.statistics import Floats
from sweeps.study.conditions import (
    ENTROPY_MARGIN,
    above,
    below,
    every,
    inside,
    joint,
    replicate,
    risk,
    smallest,
)
from sweeps.study.judgements import Judgement, Results
from sweeps.study.wording import number, percent, shown

# What "near ln 8" may fairly mean, in nats: 1% of ln 8, where the paper's baselines are 0.2 to 0.4%
# below it.
NEAR_MOST = 0.02


def _span(values: Floats) -> str:
    """The least and the largest of several values, or the one that they all are."""
    least, most = number(values.min()), number(values.max())
    return least if least == most else f"{least} to {most}"


@judges("C10", "SDPO lowers entropy by 14-22%; the baselines stay near ln 8", "table 3")
def loss_of_entropy(results: Results) -> Judgement:
    """The reduction is one less SDPO's final entropy divided by REINFORCE's. Holds if it is above 0
    in every feedback type (joint 95% intervals), the published reductions lie in the joint central
    99% of our seeds' reductions, and both baselines' mean entropy is within 0.02 of ln 8 in every
    feedback type; fails if one of these is not so; undecided if an interval is too wide, or where
    the answer depends on the sampling error of the range.
    """
    sdpo = cells(results, "algorithms", "entropy", algorithm="sdpo", oracle=FEEDBACK)
    others = cells(results, "algorithms", "entropy", algorithm=BASELINES, oracle=FEEDBACK)
    most = float(np.log(published()["protocol"]["vocab_size"]))
    count = len(FEEDBACK)
    reinforce = others[BASELINES.index("reinforce")]
    reductions = statistics.ratio_of_means(reinforce - sdpo, reinforce, joint(count, conditions=3))
    seeds = lost(reinforce, sdpo)
    printed = 1 - table(3, "sdpo") / table(3, "reinforce")
    likely = statistics.among(
        printed,
        seeds,
        statistics.joint_central(seeds),
        tolerance=2 * ROUNDING / most,
        risk=risk(printed.size, conditions=3),
    )
    levels = statistics.mean(others, joint(2 * count, conditions=3))
    near = inside(levels, most - NEAR_MOST, np.inf)
    mean = statistics.mean(seeds.mean(axis=0))
    low, high = int(reductions.estimate.argmin()), int(reductions.estimate.argmax())
    wrong = [
        check
        for key, check in text_checks().items()
        if key.startswith("entropy_reduction") and not check.agrees
    ]
    return Judgement(
        statistic="reduction of entropy against REINFORCE, mean over feedback types",
        published=float(printed.mean()),
        interval=mean,
        verdict=verdict(every(above(smallest(reductions), 0), replicate(likely), near)),
        reason=(
            f"our reductions run from {percent(reductions[low])} ({FEEDBACK[low]}) to "
            f"{percent(reductions[high])} ({FEEDBACK[high]}); "
            f"{int(likely.inside.sum())} of {printed.size} published ones lie in the joint central "
            f"99% of our seeds; the baselines' entropy is {_span(levels.estimate)}, "
            f"ln 8 is {number(most)}"
        ),
        evidence=tuple(
            f'the paper disagrees with itself: "{check.quote}" ({check.where}); '
            f"{check.source} gives {100 * check.data:.1f}%"
            for check in wrong
        ),
    )


@judges("C11", "the loss of entropy is worst for binary feedback, least for critique", "table 3")
def order_of_entropy(results: Results) -> Judgement:
    """Holds if SDPO's final entropy is lower under binary feedback than under each of the others
    and higher under critique than under each of the others: the smallest of these five mean paired
    differences is above 0 (joint 95% intervals); fails if it is below 0, or not above 0 and at most
    0.01 nats by its interval (a tie); undecided otherwise.
    """
    entropy = cells(results, "algorithms", "entropy", algorithm="sdpo", oracle=FEEDBACK)
    pairs = [(kind, "binary") for kind in FEEDBACK if kind != "binary"]
    pairs += [("critique", kind) for kind in FEEDBACK if kind not in ("binary", "critique")]
    high, low = ([FEEDBACK.index(pair[side]) for pair in pairs] for side in (0, 1))
    differences = statistics.paired_difference(entropy[high], entropy[low], joint(len(pairs)))
    least = smallest(differences)
    printed = table(3, "sdpo")
    tight = pairs[int(differences.estimate.argmin())]
    blank = statistics.mean(cells(results, "no_feedback", "entropy"))
    return Judgement(
        statistic="smallest of five mean paired differences in entropy, joint 95% interval",
        published=float((printed[high] - printed[low]).min()),
        interval=least,
        verdict=verdict(above(least, 0, negligible=ENTROPY_MARGIN)),
        reason=(
            f"the smallest difference, {tight[0]} less {tight[1]}, is "
            f"{shown(least, sign=True)}; mean entropies: "
            + ", ".join(
                f"{kind} {number(value)}"
                for kind, value in zip(FEEDBACK, entropy.mean(axis=-1), strict=True)
            )
        ),
        control=f"no_feedback: with feedback that is always 1, entropy is {shown(blank)}",
    )


@judges("C12", "more KL weight buys entropy at the cost of reward", "section 3.3")
def kl_weight(results: Results) -> Judgement:
    """The paper never ran it; the control varies the KL weight. Holds if from the paper's weight to
    the largest one tried final entropy rises and final reward falls, and no step between
    neighbouring weights goes the other way (joint 95% intervals); fails if one of these is
    clearly not so; undecided if an interval at the ends contains 0.
    """
    weights = np.sort(results["kl_weight"]["kl_weight"].values)
    usual = published()["protocol"]["kl_weight"]
    reward = cells(results, "kl_weight", "reward", kl_weight=weights)
    entropy = cells(results, "kl_weight", "entropy", kl_weight=weights)
    base = int(np.abs(weights - usual).argmin())
    bought = statistics.paired_difference(entropy[-1], entropy[base], joint(2))
    paid = statistics.paired_difference(reward[-1], reward[base], joint(2))
    level = joint(2 * (len(weights) - 1))
    up = statistics.paired_difference(entropy[1:], entropy[:-1], level)
    down = statistics.paired_difference(reward[1:], reward[:-1], level)
    steady = bool((up.high >= 0).all() and (down.low <= 0).all())
    return Judgement(
        statistic=f"mean paired change of final reward, KL weight {usual:g} to {weights[-1]:g}",
        published=None,
        interval=paid,
        verdict=verdict(every(above(bought, 0), below(paid, 0), steady)),
        reason=(
            f"from weight {usual:g} to {weights[-1]:g} entropy changes by "
            f"{shown(bought, sign=True)} and reward by {shown(paid, sign=True)}; "
            f"{int((up.high < 0).sum() + (down.low > 0).sum())} of {2 * (len(weights) - 1)} "
            "steps between neighbouring weights go the other way"
        ),
        control="kl_weight: reward and entropy at "
        + "; ".join(
            f"{weight:g}: {number(r)}, {number(h)}"
            for weight, r, h in zip(weights, reward.mean(-1), entropy.mean(-1), strict=True)
        ),
    )
