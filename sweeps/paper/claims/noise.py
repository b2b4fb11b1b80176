"""C13 to C16: noise in the feedback (figure 4, section 3.4); continuous feedback throughout."""

from __future__ import annotations

import numpy as np

from sweeps import statistics
from sweeps.paper.claims.registry import judges
from sweeps.paper.claims.rules import cells, lost, verdict
from sweeps.paper.published import BASELINES, ROUNDING, published, text_checks, text_claims
from sweeps.statistics import Floats
from sweeps.study.conditions import (
    CREDIT_MARGIN,
    REWARD_MARGIN,
    above,
    below,
    every,
    farthest,
    inside,
    joint,
    replicate,
    risk,
    smallest,
)
from sweeps.study.judgements import Judgement, Results, Verdict
from sweeps.study.wording import name, number, percent, shown, word

LEVELS: tuple[float, ...] = tuple(published()["protocol"]["noise_levels"])


def _printed(metric: str, algorithm: str) -> Floats:
    """The published values over the noise levels."""
    return np.array(published()["figure4_noise"][metric][algorithm])


@judges("C13", "noise of 0.5 costs SDPO 2.6% of its reward", "section 3.4")
def cost_of_noise(results: Results) -> Judgement:
    """Holds if the mean loss, one less the reward at noise 0.5 divided by the reward without noise,
    is above 0 and the published loss lies in the central 99% of our seeds' losses; fails if one
    of these is not so; undecided if the interval of the loss contains 0, or where the answer
    depends on the sampling error of the range.
    """
    reward = cells(results, "noise", "reward", algorithm="sdpo", noise=LEVELS)
    loss = statistics.ratio_of_means(reward[0] - reward[-1], reward[0])
    seeds = lost(reward[0], reward[-1])
    printed = _printed("reward", "sdpo")
    value = float(1 - printed[-1] / printed[0])
    likely = statistics.among(
        value, seeds, tolerance=2 * ROUNDING / printed[0], risk=risk(1, conditions=2)
    )
    rank = float(statistics.percentile_of(value, seeds))
    return Judgement(
        statistic="loss of final reward at noise 0.5, as a share of that without noise",
        published=value,
        interval=loss,
        verdict=verdict(every(above(loss, 0), replicate(likely))),
        reason=(
            f"our mean loss is {percent(loss)}; the published {100 * value:.1f}% falls at "
            f"percentile {rank:.0f} of our seeds' losses"
        ),
    )


@judges(
    "C14",
    "SDPO stays above REINFORCE at every noise level; the gap narrows from +0.131 to +0.110",
    "section 3.4",
)
def gap_under_noise(results: Results) -> Judgement:
    """Holds if the smallest of the mean paired gaps over the noise levels is above 0 (joint 95%
    intervals), the gap at noise 0.5 is smaller than without noise, and both published gaps lie in
    the joint central 99% of our seeds' gaps; fails if one of these is not so; undecided if an
    interval contains 0, or where the answer depends on the sampling error of the range.
    """
    sdpo, reinforce = cells(
        results, "noise", "reward", algorithm=["sdpo", "reinforce"], noise=LEVELS
    )
    gaps = statistics.paired_difference(sdpo, reinforce, joint(len(LEVELS), conditions=3))
    least = smallest(gaps)
    narrowing = statistics.paired_difference(
        (sdpo - reinforce)[0], (sdpo - reinforce)[-1], joint(1, conditions=3)
    )
    printed = _printed("reward", "sdpo") - _printed("reward", "reinforce")
    ends = [0, -1]
    among = (sdpo - reinforce)[ends]
    likely = statistics.among(
        printed[ends],
        among,
        statistics.joint_central(among),
        tolerance=2 * ROUNDING,
        risk=risk(len(ends), conditions=3),
    )
    return Judgement(
        statistic="smallest mean paired gap to REINFORCE over noise levels, joint 95% interval",
        published=float(printed.min()),
        interval=least,
        verdict=verdict(every(above(least, 0), above(narrowing, 0), replicate(likely))),
        reason=(
            f"the gap goes from {number(gaps.estimate[0], True)} to "
            f"{number(gaps.estimate[-1], True)}, at least {shown(least, sign=True)}, and narrows "
            f"by {shown(narrowing)}; {int(likely.inside.sum())} of 2 published gaps lie in the "
            "joint central 99% of our seeds"
        ),
    )


@judges("C15", "SDPO's credit falls with noise, from 0.768 to about 0.72", "section 3.4")
def credit_under_noise(results: Results) -> Judgement:
    """Holds if credit at noise 0.5 is lower than without noise by more than 0.01, the least that
    could be read off the paper's plot. If it clearly is not, and the paper's own plot does not
    show the value that its text states, it contradicts the paper's own data where our change is
    that of the plot, within the reading of its two points (0.02), and fails where it is not.
    Undecided if the interval cannot tell.
    """
    credit = cells(results, "noise", "credit", algorithm="sdpo", noise=LEVELS)
    change = statistics.paired_difference(credit[-1], credit[0])
    stated = text_claims()["statements"]
    fall = stated["noise_credit_most"]["value"] - stated["noise_credit_none"]["value"]
    plotted = _printed("credit_read_off_plot", "sdpo")
    drift = float(plotted[-1] - plotted[0])
    reading = 2 * float(published()["figure4_noise"]["credit_read_off_plot"]["tolerance"])
    as_plotted = inside(change, drift - reading, drift + reading)
    check = text_checks()["noise_credit_most"]
    return Judgement(
        statistic="mean paired change of SDPO's credit, noise 0 to 0.5",
        published=fall,
        interval=change,
        verdict=verdict(below(change, -CREDIT_MARGIN), "noise_credit_most", as_plotted),
        reason=(
            f"credit changes by {shown(change, sign=True)}, from {number(credit[0].mean())} to "
            f"{number(credit[-1].mean())}; the paper's plot has {plotted[0]:.3f} and "
            f"{plotted[-1]:.3f}, its text {check.text:.2f} at noise 0.5"
        ),
    )


@judges("C16", "the baselines are unaffected by noise", "section 3.4")
def immunity(results: Results) -> Judgement:
    """Unaffected: at every noise level each baseline's mean paired change from no noise is within
    0.01, in reward and in credit (joint 95% intervals); fails if one is not. In the paper the
    baselines learn from the true reward, so a control lets them learn from the noisy
    feedback. Holds if all changes there are within 0.01 too. If some change there is clearly
    beyond 0.01, the baselines are not immune, they only never see the noise: then the claim holds,
    but for another reason. Undecided if the intervals cannot tell.
    """
    metrics = {"reward": REWARD_MARGIN, "credit": CREDIT_MARGIN}
    level = joint(len(metrics) * len(BASELINES) * (len(LEVELS) - 1))

    def changes(source: str, metric: str) -> statistics.Interval:
        values = cells(results, source, metric, algorithm=BASELINES, noise=LEVELS)
        return statistics.paired_difference(values[:, 1:], values[:, :1], level)

    seen = {metric: changes("on_feedback", metric) for metric in metrics}
    own = {metric: changes("noise", metric) for metric in metrics}
    holds = every(*(inside(own[key], -size, size) for key, size in metrics.items()))
    immune = every(*(inside(seen[key], -size, size) for key, size in metrics.items()))
    worst = farthest(own["credit"], 0.0)
    exposed = farthest(seen["credit"], 0.0)
    index = int(np.abs(seen["credit"].estimate).argmax()) // (len(LEVELS) - 1)
    plotted = np.stack([_printed("credit_read_off_plot", algorithm) for algorithm in BASELINES])
    drift = (plotted[:, 1:] - plotted[:, :1]).ravel()
    shielded = holds is True and immune is False
    outcome = Verdict.OTHER_REASON if shielded else verdict(immune if holds else holds)
    return Judgement(
        statistic="largest mean paired change of a baseline's credit from noise 0",
        published=float(drift[np.abs(drift).argmax()]),
        interval=worst,
        verdict=outcome,
        reason=(
            f"credit changes by at most {shown(worst, sign=True)} while the baselines learn from "
            f"the true reward; when they learn from the noisy feedback, by "
            f"{shown(exposed, sign=True)}"
            + word(
                immune,
                ", so they are immune",
                ", so they are shielded from the noise, not immune to it",
                ", which does not tell whether they are immune",
            )
        ),
        control=(
            f"on_feedback: credit of {name(BASELINES[index])} changes by up to "
            f"{shown(exposed, sign=True)}, reward of a baseline by up to "
            f"{shown(farthest(seen['reward'], 0.0), sign=True)}"
        ),
    )
