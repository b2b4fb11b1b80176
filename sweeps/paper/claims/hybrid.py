"""C17 to C19: the hybrid algorithm at noise 0.2 (figure 5, section 3.5)."""

from __future__ import annotations

import numpy as np

from sweeps import statistics
from sweeps.paper.claims.registry import judges
from sweeps.paper.claims.rules import cells, verdict
from sweeps.paper.published import limit, published, text_checks, text_claims
from sweeps.study.conditions import above, every, farthest, inside, joint, largest, smallest
from sweeps.study.judgements import Judgement, Results
from sweeps.study.wording import number, shown

KINDS = ("continuous", "critique")
# How closely a point can be read off the paper's figure 5.
READING = 0.01


@judges(
    "C17",
    "the hybrid's weight starts near 0.5 and passes 0.8 as the divergence grows",
    "section 3.5",
)
def weight(results: Results) -> Judgement:
    """Holds if, on both feedback types (joint 95% intervals), the mean weight at step 0 is within
    0.1 of 0.5, the mean of the last 20 steps is above 0.8, and the divergence of teacher and
    student is larger in the last 20 steps than in the first 20. If one of these is clearly not so,
    and the paper's own plot does not start where its text says, it contradicts the paper's own
    data where our weight starts within the range of the plot's two curves, and fails where it does
    not. Undecided if the intervals cannot tell.
    """
    window = published()["protocol"]["final_window"]
    alpha = cells(results, "hybrid", "alpha_curve", oracle=KINDS)
    divergence = cells(results, "hybrid", "divergence_curve", oracle=KINDS)
    stated = text_claims()["statements"]["alpha_start"]
    passes = limit("alpha_passes", "value")
    level = joint(3 * len(KINDS))
    start = statistics.mean(alpha[:, 0], level)
    end = statistics.mean(alpha[:, -window:].mean(axis=1), level)
    growth = statistics.paired_difference(
        divergence[:, -window:].mean(axis=1), divergence[:, :window].mean(axis=1), level
    )
    far = farthest(start, stated["value"])
    near = inside(
        start, stated["value"] - stated["tolerance"], stated["value"] + stated["tolerance"]
    )
    check = text_checks()["alpha_start"]
    plotted = published()["figure5_hybrid"]["alpha_read_off_plot"]["at_step_0"]
    return Judgement(
        statistic="mean weight at step 0, feedback type farthest from 0.5",
        published=stated["value"],
        interval=far,
        verdict=verdict(
            every(near, above(smallest(end), passes), above(smallest(growth), 0)),
            "alpha_start",
            inside(start, min(plotted) - READING, max(plotted) + READING),
        ),
        reason=(
            f"the weight starts at {shown(far)} and ends at {number(end.estimate[0])} and "
            f"{number(end.estimate[1])}, while the divergence changes by "
            f"{shown(largest(growth), sign=True)}; the paper's plot starts at "
            f"{min(plotted):g} and {max(plotted):g}, its text near {check.text:g}"
        ),
    )


@judges(
    "C18", "the hybrid is below SDPO on continuous feedback, above it on critique", "section 3.5"
)
def against_sdpo(results: Results) -> Judgement:
    """Holds if both mean paired differences in final reward, SDPO less hybrid on continuous
    feedback and hybrid less SDPO on critique, are above 0 (joint 95% intervals); fails if one is
    below 0; undecided if the smaller one's interval contains 0.
    """
    hybrid, sdpo = cells(results, "hybrid", "reward", algorithm=["hybrid", "sdpo"], oracle=KINDS)
    direction = np.array([-1.0, 1.0])[:, None]
    gains = statistics.mean(direction * (hybrid - sdpo), joint(len(KINDS)))
    least = smallest(gains)
    printed = published()["figure5_hybrid"]["reward"]
    claimed = [
        sign * (printed[kind]["hybrid"] - printed[kind]["sdpo"])
        for kind, sign in zip(KINDS, direction[:, 0], strict=True)
    ]
    rank = statistics.percentile_of(claimed[1], hybrid[1] - sdpo[1])
    return Judgement(
        statistic="smaller of SDPO less hybrid (continuous) and hybrid less SDPO (critique)",
        published=float(min(claimed)),
        interval=least,
        verdict=verdict(above(least, 0)),
        reason=(
            f"SDPO less hybrid on continuous is {shown(gains[0], sign=True)}; hybrid less SDPO "
            f"on critique is {shown(gains[1], sign=True)}, where the published "
            f"{claimed[1]:+.3f} falls at percentile {float(rank):.0f} of our seeds"
        ),
    )


@judges("C19", "the hybrid's entropy lies between SDPO's and the baselines'", "section 3.5")
def between(results: Results) -> Judgement:
    """Holds if, on both feedback types, the hybrid's final entropy is above SDPO's and below both
    baselines': the smallest of these mean paired differences is above 0 (joint 95% intervals);
    fails if it is not; undecided if its interval contains 0. Advantage-weighted is taken from the
    noise sweep at the same noise: it learns from the true reward, so the feedback type does not
    reach it.
    """
    paper = published()["figure5_hybrid"]
    hybrid, sdpo, reinforce = cells(
        results, "hybrid", "entropy", algorithm=["hybrid", "sdpo", "reinforce"], oracle=KINDS
    )
    weighted = cells(
        results, "noise", "entropy", algorithm="advantage_weighted", noise=float(paper["noise"])
    )
    level = joint(3 * len(KINDS))
    over = statistics.paired_difference(hybrid, sdpo, level)
    under = [statistics.paired_difference(other, hybrid, level) for other in (reinforce, weighted)]
    least = smallest(_stacked(over, *under))
    printed = [paper["entropy"][kind]["hybrid"] - paper["entropy"][kind]["sdpo"] for kind in KINDS]
    return Judgement(
        statistic="smallest mean paired distance in entropy to SDPO below and the baselines above",
        published=float(min(printed)),
        interval=least,
        verdict=verdict(above(least, 0)),
        reason=(
            f"the hybrid's entropy is {number(hybrid[0].mean())} and {number(hybrid[1].mean())} "
            f"(continuous, critique), above SDPO's by {number(over.estimate[0], True)} and "
            f"{number(over.estimate[1], True)}, below the nearest baseline's by at least "
            f"{number(min(part.estimate.min() for part in under))}"
        ),
    )


def _stacked(*parts: statistics.Interval) -> statistics.Interval:
    """Intervals of the same shape as one, with a new first axis."""
    return statistics.Interval(
        np.stack([part.estimate for part in parts]),
        np.stack([part.low for part in parts]),
        np.stack([part.high for part in parts]),
        parts[0].seeds,
    )
