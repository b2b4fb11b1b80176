"""C20 and C21: several seeds (figure 6, section 3.6); continuous feedback."""

from __future__ import annotations

import numpy as np

from sweeps import statistics
from sweeps.paper.claims.registry import judges
from sweeps.paper.claims.rules import cells, verdict
from sweeps.paper.published import ALGORITHMS, BASELINES, ROUNDING, limit, published
from sweeps.statistics import Floats
from sweeps.study.conditions import above, every, joint, replicate, risk, smallest
from sweeps.study.judgements import Judgement, Results
from sweeps.study.wording import name, number, shown


def _reward(results: Results) -> dict[str, Floats]:
    kind = published()["figure6_multiseed"]["feedback"]
    values = cells(results, "algorithms", "reward", algorithm=ALGORITHMS, oracle=kind)
    return dict(zip(ALGORITHMS, values, strict=True))


@judges(
    "C20",
    "five seeds give 0.669 ± 0.058, 0.486 ± 0.034, 0.488 ± 0.040, "
    "and the gap exceeds 3 baseline standard deviations",
    "section 3.6",
)
def five_seeds(results: Results) -> Judgement:
    """Holds if the mean gap divided by the baseline's standard deviation over seeds is above 3 for
    both baselines (joint 95% jackknife intervals over seeds), and the six published numbers lie in
    the joint central 99% of the means and standard deviations of groups of five of our seeds; fails
    if one of these is not so; undecided if the smaller ratio's interval contains 3, or where the
    answer depends on the sampling error of the range.
    """
    figure = published()["figure6_multiseed"]
    size, printed = figure["seeds"], figure["reward_mean_std"]
    reward = _reward(results)
    ours = np.stack([reward[algorithm] for algorithm in ALGORITHMS])
    others = np.stack([reward[algorithm] for algorithm in BASELINES])
    least = smallest(statistics.margin_ratio(reward["sdpo"], others, joint(2)))
    theirs = np.array([printed[algorithm] for algorithm in ALGORITHMS]).T
    groups = statistics.group_draws(ours, size)
    drawn = np.stack([groups.mean(axis=-1), groups.std(axis=-1, ddof=1)])
    ranks = statistics.percentile_of(theirs, drawn)
    central = statistics.joint_central(drawn)
    share = risk(theirs.size, conditions=2)
    likely = [
        statistics.among(values, ours, central, ROUNDING, size, deviation, share)
        for values, deviation in zip(theirs, (False, True), strict=True)
    ]
    count = int(sum(each.inside.sum() for each in likely))
    claimed = [
        (printed["sdpo"][0] - printed[algorithm][0]) / printed[algorithm][1]
        for algorithm in BASELINES
    ]
    bound = limit("deviations", "value")
    return Judgement(
        statistic="smaller of the two mean gaps, in standard deviations of the baseline",
        published=float(min(claimed)),
        interval=least,
        verdict=verdict(every(above(least, bound), replicate(*likely))),
        reason=(
            f"the gap is at least {shown(least)} baseline standard deviations; "
            f"{count} of {theirs.size} published numbers lie in the joint central 99% of our "
            f"groups of {size}; ours: "
            + ", ".join(
                f"{name(algorithm)} {number(reward[algorithm].mean())} ± "
                f"{number(reward[algorithm].std(ddof=1))}"
                for algorithm in ALGORITHMS
            )
        ),
        evidence=(
            "percentiles of the published mean and standard deviation among our groups: "
            + ", ".join(
                f"{name(algorithm)} {ranks[0, place]:.1f} and {ranks[1, place]:.1f}"
                for place, algorithm in enumerate(ALGORITHMS)
            ),
        ),
    )


@judges("C21", "SDPO varies more from seed to seed than the baselines", "section 3.6")
def spread(results: Results) -> Judgement:
    """Holds if the standard deviation over seeds of SDPO's final reward, divided by a baseline's,
    is above 1 for both baselines (joint 95% jackknife intervals that keep the pairing); fails if
    one ratio is below 1; undecided if the smaller one's interval contains 1.
    """
    reward = _reward(results)
    others = np.stack([reward[algorithm] for algorithm in BASELINES])
    least = smallest(statistics.deviation_ratio(reward["sdpo"], others, joint(2)))
    printed = published()["figure6_multiseed"]["reward_mean_std"]
    deviations = {
        algorithm: statistics.standard_deviation(reward[algorithm]) for algorithm in ALGORITHMS
    }
    return Judgement(
        statistic="smaller ratio of standard deviations over seeds, SDPO to baseline",
        published=min(printed["sdpo"][1] / printed[algorithm][1] for algorithm in BASELINES),
        interval=least,
        verdict=verdict(above(least, 1)),
        reason=(
            f"the smaller ratio is {shown(least)}; standard deviations: "
            + ", ".join(
                f"{name(algorithm)} {shown(deviations[algorithm])}" for algorithm in ALGORITHMS
            )
        ),
    )
