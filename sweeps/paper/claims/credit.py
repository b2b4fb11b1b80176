"""C06 to C09: credit correlation (table 2, section 3.2).

Credit is the correlation between an algorithm's direction and the tokens' advantage under q.
"""

from __future__ import annotations

import itertools

import numpy as np

from sweeps import statistics
from sweeps.paper.claims.registry import judges
from sweeps.paper.claims.rules import FEEDBACK, cells, verdict
from sweeps.paper.published import ROUNDING, published, table
from sweeps.statistics import Floats, Interval
from sweeps.study.conditions import (
    CREDIT_MARGIN,
    above,
    below,
    every,
    farthest,
    inside,
    joint,
    largest,
    smallest,
)
from sweeps.study.judgements import Judgement, Results
from sweeps.study.wording import listed, name, number, shown

# What a correlation must pass to be called strong (Cohen's convention for a large one).
STRONG = 0.5


def _neighbours(values: Floats, level: float) -> Interval:
    """Mean paired difference of each feedback type less the one before: ``[oracles - 1]``."""
    return statistics.paired_difference(values[1:], values[:-1], level)


def _steps(differences: Interval) -> str:
    labels = [f"{low} to {high}" for low, high in itertools.pairwise(FEEDBACK)]
    return ", ".join(
        f"{label} {shown(differences[place], sign=True)}" for place, label in enumerate(labels)
    )


def _order(results: Results, conditions: int = 1) -> Interval:
    """Differences in credit between neighbouring feedback types, each run at its own policy."""
    credit = cells(results, "algorithms", "credit", algorithm="sdpo", oracle=FEEDBACK)
    return _neighbours(credit, joint(len(FEEDBACK) - 1, conditions))


def along_the_run(results: Results) -> tuple[Interval, Interval]:
    """Mean paired change of credit and of entropy from the first to the last recorded step.

    The run is SDPO on continuous feedback: the feedback says as much at the end as at the start,
    so what changes in its credit is not for lack of information.
    """
    steps = results["matched"]["step"].values[[0, -1]]
    credit = cells(results, "matched", "credit", oracle="continuous", step=steps)
    entropy = cells(
        results, "algorithms", "entropy_curve", algorithm="sdpo", oracle="continuous", step=steps
    )
    return (
        statistics.paired_difference(credit[1], credit[0]),
        statistics.paired_difference(entropy[1], entropy[0]),
    )


@judges("C06", "SDPO's credit rises from binary to ordinal to continuous to critique", "table 2")
def order_of_credit(results: Results) -> Judgement:
    """Holds if the smallest of the three mean paired differences between neighbours in that order
    is above 0 (joint 95% intervals); fails if it is below 0, or not above 0 and at most 0.01 by
    its interval (a tie); undecided otherwise.
    """
    differences = _order(results)
    least = smallest(differences)
    return Judgement(
        statistic="smallest mean paired rise in credit between neighbouring feedback types",
        published=float(np.diff(table(2, "sdpo")).min()),
        interval=least,
        verdict=verdict(above(least, 0, negligible=CREDIT_MARGIN)),
        reason=f"the rises are {_steps(differences)}",
    )


@judges("C07", "that order of credit reflects the information in the feedback", "section 3.2")
def information(results: Results) -> Judgement:
    """A claim about the cause, so controls decide. If credit reflected information, continuous
    feedback drowned in noise (standard deviation 0.5, several times the spread of the reward
    among rollouts) would lose its place above ordinal feedback without noise, whose levels still
    tell good rollouts from bad; and the order would be there at one and the same policy, from
    the same rollouts. Holds if the order is there in the runs (C06), the
    noise costs continuous feedback its place (mean paired difference in credit below 0), and the
    order is there at one policy (mean over the recorded steps, joint 95% intervals); fails if one
    of these is clearly not so; undecided otherwise.
    """
    noisiest = float(results["noise"]["noise"].values.max())
    drowned = cells(results, "noise", "credit", algorithm="sdpo", noise=noisiest)
    ordinal = cells(results, "algorithms", "credit", algorithm="sdpo", oracle="ordinal")
    place = statistics.paired_difference(drowned, ordinal, joint(1, conditions=3))
    in_runs = above(smallest(_order(results, conditions=3)), 0, negligible=CREDIT_MARGIN)
    matched = cells(results, "matched", "credit", oracle=FEEDBACK)
    steps = results["matched"]["step"].values
    rises = _neighbours(matched.mean(axis=1), joint(len(FEEDBACK) - 1, conditions=3))
    ordered = (np.diff(matched.mean(axis=-1), axis=0) > 0).all(axis=0)
    within, sharpened = along_the_run(results)
    blank = statistics.mean(cells(results, "no_feedback", "credit"))
    blank_entropy = statistics.mean(cells(results, "no_feedback", "entropy"))
    curve = cells(results, "algorithms", "reward_curve", algorithm="sdpo", oracle="continuous")
    rollouts = published()["protocol"]["rollouts"]
    among = float((np.diff(curve, axis=0).std(axis=0, ddof=1) * np.sqrt(rollouts / 2)).mean())
    times = noisiest / among if among > 0 else np.inf
    plotted = published()["figure4_noise"]["credit_read_off_plot"]["sdpo"][-1]
    return Judgement(
        statistic=(
            f"mean paired difference in credit, continuous at noise {noisiest:g} less ordinal "
            "without noise"
        ),
        published=float(plotted - table(2, "sdpo")[FEEDBACK.index("ordinal")]),
        interval=place,
        verdict=verdict(every(in_runs, below(place, 0), above(smallest(rises), 0))),
        reason=(
            f"with noise {noisiest:g}, {times:.1f} times the spread of the reward among "
            f"rollouts, continuous feedback has credit {number(drowned.mean())}, "
            f"{shown(place, sign=True)} against ordinal feedback without noise, which tells more "
            f"about each rollout; at one and the same policy the published order is there at "
            f"{int(ordered.sum())} of {steps.size} recorded steps"
        ),
        control=(
            f"noise, matched: rises at one and the same policy, mean over steps: {_steps(rises)}"
        ),
        evidence=(
            (
                f"at step {steps[0]} of one and the same policy credit is "
                f"{listed(FEEDBACK, matched[:, 0].mean(axis=-1))}; at step {steps[-1]} "
                f"{listed(FEEDBACK, matched[:, -1].mean(axis=-1))}"
            ),
            (
                f"within a run (continuous feedback) credit changes by "
                f"{shown(within, sign=True)} from the first to the last recorded step, while "
                f"entropy changes by {shown(sharpened, sign=True)}"
            ),
            (
                f"with feedback that is 1 whatever the reward, and so says nothing, credit is "
                f"{shown(blank)} at entropy {shown(blank_entropy)}"
            ),
        ),
    )


@judges("C08", "REINFORCE's credit is strongly negative", "table 2")
def sign_of_reinforce(results: Results) -> Judgement:
    """Holds if the largest mean credit over the feedback types is below -0.5 (joint 95%
    intervals); fails if it is above -0.5; undecided otherwise. A control run with the sign of the
    gradient flipped shows where the published value comes from: it is compared with the central
    99% of the seeds of both.
    """
    credit = cells(results, "algorithms", "credit", algorithm="reinforce", oracle=FEEDBACK)
    most = largest(statistics.mean(credit, joint(len(FEEDBACK))))
    seeds = cells(results, "flipped", "credit", algorithm="reinforce")
    flipped = statistics.mean(seeds)
    printed = table(2, "reinforce")
    as_defined = statistics.plausible(printed, credit, tolerance=ROUNDING)
    as_flipped = statistics.plausible(printed, seeds, tolerance=ROUNDING)
    return Judgement(
        statistic="mean credit of REINFORCE, largest over feedback types",
        published=float(printed.max()),
        interval=most,
        verdict=verdict(below(most, -STRONG)),
        reason=(
            f"as equation 4 defines it, credit is {shown(most, sign=True)}; with the sign of "
            f"the gradient flipped it is {shown(flipped, sign=True)}. Of the {printed.size} "
            f"published values {int(as_defined.sum())} lie in the central 99% of our seeds as "
            f"defined, {int(as_flipped.sum())} with the sign flipped"
        ),
        control=f"flipped: mean credit {shown(flipped, sign=True)}",
    )


@judges("C09", "the advantage-weighted algorithm's credit is near zero", "table 2")
def advantage_weighted(results: Results) -> Judgement:
    """Near zero is what the paper calls so: no farther from 0 than the farthest value in its table.
    Holds if the mean credit lies that near in every feedback type (joint 95% intervals); fails
    if it is farther in one; undecided otherwise.
    """
    printed = table(2, "advantage_weighted")
    near = float(np.abs(printed).max())
    credit = cells(results, "algorithms", "credit", algorithm="advantage_weighted", oracle=FEEDBACK)
    means = statistics.mean(credit, joint(len(FEEDBACK)))
    worst = farthest(means, 0.0)
    flipped = statistics.mean(cells(results, "flipped", "credit", algorithm="advantage_weighted"))
    ranks = statistics.percentile_of(printed, credit)
    return Judgement(
        statistic="mean credit farthest from 0 over feedback types",
        published=float(printed[np.abs(printed).argmax()]),
        interval=worst,
        verdict=verdict(inside(means, -near, near)),
        reason=(
            f"mean credit is {shown(worst, sign=True)}, against at most {near:.3f} in the "
            f"paper; with the sign flipped {shown(flipped, sign=True)}. The weight multiplies "
            "two advantages, so that a bad token in a bad rollout is pushed up like a good one "
            "in a good rollout"
        ),
        control=f"flipped: mean credit of {name('advantage_weighted')} {shown(flipped, sign=True)}",
        evidence=(
            "percentile of the published values among our seeds: "
            + ", ".join(f"{kind} {rank:.0f}" for kind, rank in zip(FEEDBACK, ranks, strict=True)),
        ),
    )
