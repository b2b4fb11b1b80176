"""What is wrong with the paper, each finding with the numbers of its control run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sweeps import statistics
from sweeps.paper.claims.credit import along_the_run
from sweeps.paper.claims.rules import FEEDBACK, best_rate, cells
from sweeps.paper.claims.teacher import SAME_LOGITS
from sweeps.paper.published import ALGORITHMS, BASELINES, table, text_checks
from sweeps.study.conditions import REWARD_MARGIN
from sweeps.study.judgements import Results
from sweeps.study.wording import name, number, shown


@dataclass(frozen=True)
class Finding:
    """One finding: what the paper says, what the control run shows, and a table of its numbers.

    ``brief`` is the finding in one sentence with its main number. ``confirmed`` says whether our
    numbers show it: the condition is in the function that makes the finding. ``data`` names the
    data sets it was computed from, ``claims`` the claims that it bears on.
    """

    title: str
    brief: str
    confirmed: bool
    paper: str
    shown: tuple[str, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    data: tuple[str, ...]
    claims: tuple[str, ...]


def find(results: Results) -> list[Finding]:
    """The seven findings, from saved results.

    Raises:
        MissingResults: a control run is not there.
    """
    return [make(results) for make in FINDINGS]


def sign_of_baselines(results: Results) -> Finding:
    """Credit and reward with the gradient as equations 4 and 5 define it, and with it flipped."""
    rows = []
    for algorithm in BASELINES:
        for label, source, where in (
            ("as defined", "algorithms", {"oracle": "continuous"}),
            ("sign flipped", "flipped", {}),
        ):
            credit, reward = (
                statistics.mean(cells(results, source, metric, algorithm=algorithm, **where))
                for metric in ("credit", "reward")
            )
            rows.append((name(algorithm), label, shown(credit, sign=True), shown(reward)))
        place = FEEDBACK.index("continuous")
        rows.append(
            (
                name(algorithm),
                "published",
                f"{table(2, algorithm)[place]:+.3f}",
                f"{table(1, algorithm)[place]:.3f}",
            )
        )
    start = cells(results, "algorithms", "reward_curve", algorithm="reinforce", oracle="continuous")
    before = start[:20].mean(axis=0)
    defined = statistics.mean(start[-20:].mean(axis=0) - before)
    flipped_reward = cells(results, "flipped", "reward", algorithm="reinforce")
    flipped = statistics.mean(flipped_reward - before)
    credits = [
        statistics.mean(
            cells(results, "algorithms", "credit", algorithm="reinforce", oracle="continuous")
        ),
        statistics.mean(cells(results, "flipped", "credit", algorithm="reinforce")),
    ]
    return Finding(
        title="The published baselines go the wrong way",
        brief=(
            f"REINFORCE's credit is {shown(credits[0], sign=True)} if its gradient is that of the "
            f"paper's equation 4, and {shown(credits[1], sign=True)} with the sign of the gradient "
            f"flipped, which is what the paper published ({table(2, 'reinforce').min():.2f} to "
            f"{table(2, 'reinforce').max():.2f})."
        ),
        confirmed=bool(credits[0].low > 0 > credits[1].high),
        paper="REINFORCE's credit correlation is -0.63 to -0.65, explained by uniform credit.",
        shown=(
            (
                f"REINFORCE's reward changes by {shown(defined, sign=True)} from its first to its "
                f"last 20 steps as defined, and by {shown(flipped, sign=True)} with the sign "
                "flipped."
            ),
        ),
        header=("algorithm", "gradient", "credit", "final reward"),
        rows=tuple(rows),
        data=("algorithms", "flipped"),
        claims=("C08",),
    )


def starved_baselines(results: Results) -> Finding:
    """Final reward of each algorithm over learning rates."""
    rates = [float(rate) for rate in results["learning_rate"]["learning_rate"].values]
    reward = cells(results, "learning_rate", "reward", algorithm=ALGORITHMS, learning_rate=rates)
    means = statistics.mean(reward)
    best = {algorithm: best_rate(results, algorithm) for algorithm in ALGORITHMS}
    lead = statistics.paired_difference(
        *(
            reward[ALGORITHMS.index(algorithm), rates.index(best[algorithm][0])]
            for algorithm in ("sdpo", "reinforce")
        )
    )
    usual = cells(results, "algorithms", "reward", algorithm="reinforce", oracle="continuous")
    tuned = reward[ALGORITHMS.index("reinforce"), rates.index(best["reinforce"][0])]
    gain = statistics.paired_difference(tuned, usual)
    starved = statistics.paired_difference(
        cells(results, "algorithms", "reward", algorithm="sdpo", oracle="continuous"), usual
    )
    edge = [
        name(algorithm)
        for algorithm in ALGORITHMS
        if best[algorithm][0] in (min(rates), max(rates))
    ]
    lines = [
        "; ".join(
            f"{name(algorithm)} does best at {rate:g}: {shown(interval)}"
            for algorithm, (rate, interval) in best.items()
        )
        + ".",
        f"Each at its own best rate, SDPO leads REINFORCE by {shown(lead, sign=True)}.",
    ]
    if edge:
        lines.append(
            f"The best rate of {' and '.join(edge)} is at the edge of those tried, so that "
            "value is a lower bound."
        )
    return Finding(
        title="One learning rate for all starves the baselines",
        brief=(
            "At the paper's one learning rate REINFORCE hardly moves "
            f"({number(usual.mean())} after training); with a rate of its own for each algorithm, "
            f"SDPO's lead over REINFORCE is {shown(lead, sign=True)} instead of "
            f"{shown(starved, sign=True)}."
        ),
        confirmed=bool(gain.low > REWARD_MARGIN),
        paper="All algorithms run at learning rate 0.02, where REINFORCE hardly moves.",
        shown=tuple(lines),
        header=("learning rate", *(name(algorithm) for algorithm in ALGORITHMS)),
        rows=tuple(
            (f"{rate:g}", *(shown(means[row, place]) for row in range(len(ALGORITHMS))))
            for place, rate in enumerate(rates)
        ),
        data=("learning_rate",),
        claims=("C01", "C02", "C03"),
    )


def teacher_knows(results: Results) -> Finding:
    """SDPO with a teacher that knows less of q, and with feedback that says nothing."""
    known = [float(value) for value in results["knowledge"]["knowledge"].values]
    rows = []
    for place, value in enumerate(known):
        rows.append(
            (
                f"{value:g}",
                "continuous",
                *(
                    shown(statistics.mean(cells(results, "knowledge", metric)[place]))
                    for metric in ("reward", "credit", "entropy")
                ),
            )
        )
    rows.append(
        (
            "1",
            "always 1",
            *(
                shown(statistics.mean(cells(results, "no_feedback", metric)))
                for metric in ("reward", "credit", "entropy")
            ),
        )
    )
    blank = cells(results, "no_feedback", "reward")
    full = cells(results, "algorithms", "reward", algorithm="sdpo", oracle="continuous")
    gain = statistics.paired_difference(blank, full)
    ignorant = statistics.mean(cells(results, "knowledge", "reward", knowledge=0.0))
    loss = statistics.paired_difference(full, cells(results, "knowledge", "reward", knowledge=0.0))
    reinforce = statistics.mean(
        cells(results, "algorithms", "reward", algorithm="reinforce", oracle="continuous")
    )
    return Finding(
        title="The teacher is told the answer",
        brief=(
            "SDPO's teacher is given the true quality q of every token. With feedback that says "
            f"nothing SDPO's reward is {shown(statistics.mean(blank))}, against "
            f"{shown(statistics.mean(full))} with continuous feedback; with a teacher that knows "
            f"nothing of q it is {shown(ignorant)}."
        ),
        confirmed=bool(gain.low > -REWARD_MARGIN and loss.low > REWARD_MARGIN),
        paper="SDPO learns from feedback alone. In equation 2 its teacher is given q, most of the "
        "true reward, under every feedback type; REINFORCE never sees q.",
        shown=(
            (
                f"With feedback that is 1 whatever the reward, SDPO's reward differs from that "
                f"with continuous feedback by {shown(gain, sign=True)}."
            ),
            (
                f"With a teacher that knows nothing of q it reaches {shown(ignorant)}; REINFORCE, "
                f"which knows nothing of q either, reaches {shown(reinforce)} at the same rate."
            ),
        ),
        header=("knowledge of q", "feedback", "final reward", "credit", "entropy"),
        rows=tuple(rows),
        data=("knowledge", "no_feedback", "algorithms"),
        claims=("C01", "C06", "C07", "C11"),
    )


def critique_cancels(results: Results) -> Finding:
    """The critique teacher in its three readings beside the continuous one."""
    readings = ("continuous", "position", "token", "sampled")
    wording = {
        "continuous": "continuous, no hints",
        "position": "equation 2 to the letter",
        "token": "hints for each token",
        "sampled": "hints for sampled tokens",
    }
    difference = cells(results, "reading", "max_logit_difference", reading=readings)
    metrics = {
        metric: cells(results, "reading", metric, reading=readings)
        for metric in ("reward", "credit", "entropy")
    }
    return Finding(
        title="The critique's hints cancel",
        brief=(
            "Equation 2 adds the same hint to all tokens of a position, which the softmax takes "
            "out again: critique feedback is continuous feedback (largest difference of a logit "
            f"{number(difference[1].max())})."
        ),
        confirmed=bool(statistics.mean(difference[1]).high < SAME_LOGITS),
        paper="Equation 2 adds a hint to each position, the same for all its tokens: the "
        "softmax takes it out again.",
        shown=(
            (
                "Over all seeds the final logits of equation 2's critique and of continuous "
                f"feedback differ by at most {number(difference[1].max())}; hints for each token "
                f"change them by {number(difference[2].mean())} on average."
            ),
        ),
        header=("teacher", "largest logit difference", "final reward", "credit", "entropy"),
        rows=tuple(
            (
                wording[reading],
                number(difference[place].max()),
                *(shown(statistics.mean(values[place])) for values in metrics.values()),
            )
            for place, reading in enumerate(readings)
        ),
        data=("reading",),
        claims=("C22", "C06", "C18"),
    )


def credit_is_sharpness(results: Results) -> Finding:
    """Credit in the runs, in noise, and at one and the same policy; entropy beside it."""
    credit = cells(results, "algorithms", "credit", algorithm="sdpo", oracle=FEEDBACK)
    entropy = cells(results, "algorithms", "entropy", algorithm="sdpo", oracle=FEEDBACK)
    matched = cells(results, "matched", "credit", oracle=FEEDBACK)
    steps = results["matched"]["step"].values
    noisiest = float(results["noise"]["noise"].values.max())
    drowned, drowned_entropy = (
        statistics.mean(cells(results, "noise", metric, algorithm="sdpo", noise=noisiest))
        for metric in ("credit", "entropy")
    )
    blank, blank_entropy = (
        statistics.mean(cells(results, "no_feedback", metric)) for metric in ("credit", "entropy")
    )
    within, sharpened = along_the_run(results)
    place = statistics.paired_difference(
        cells(results, "noise", "credit", algorithm="sdpo", noise=noisiest),
        credit[FEEDBACK.index("ordinal")],
    )
    rows = [
        (
            kind,
            shown(statistics.mean(credit[row])),
            shown(statistics.mean(entropy[row])),
            *(shown(statistics.mean(matched[row, step])) for step in (0, -1)),
        )
        for row, kind in enumerate(FEEDBACK)
    ]
    rows.append((f"continuous, noise {noisiest:g}", shown(drowned), shown(drowned_entropy), "", ""))
    rows.append(("always 1", shown(blank), shown(blank_entropy), "", ""))
    return Finding(
        title="Credit follows sharpness, not the information in the feedback",
        brief=(
            f"Continuous feedback under noise {noisiest:g} says less than ordinal feedback without "
            f"noise, yet its credit is higher, by {shown(place, sign=True)}: credit falls as the "
            "policy becomes sharper, whatever the feedback says."
        ),
        confirmed=bool(place.low > 0),
        paper="Credit rises from binary to critique, which 'directly reflects the information "
        "content of each feedback type'.",
        shown=(
            (
                f"Noise of {noisiest:g} takes most of the information out of continuous feedback "
                f"and leaves its credit at {shown(drowned)}, {shown(place, sign=True)} against "
                "ordinal feedback without noise."
            ),
            (
                "Within one run (continuous feedback), where the feedback stays as informative as "
                f"it was, credit changes by {shown(within, sign=True)} while entropy changes by "
                f"{shown(sharpened, sign=True)}."
            ),
            (
                "SDPO's direction depends on the feedback only through how large it is over the "
                "rollouts; which rollout received it does not enter (equation 3)."
            ),
        ),
        header=(
            "feedback",
            "credit in the runs",
            "final entropy",
            f"credit at the same policy, step {steps[0]}",
            f"step {steps[-1]}",
        ),
        rows=tuple(rows),
        data=("algorithms", "noise", "no_feedback", "matched"),
        claims=("C06", "C07"),
    )


def squared_advantage(results: Results) -> Finding:
    """The advantage-weighted baseline: credit under both signs, and at its best rate."""
    algorithm = "advantage_weighted"
    rows = []
    ends: list[float] = []
    near = float(abs(table(2, algorithm)).max())
    for label, values in (
        (
            "as defined",
            cells(results, "algorithms", "credit", algorithm=algorithm, oracle="continuous"),
        ),
        ("sign flipped", cells(results, "flipped", "credit", algorithm=algorithm)),
    ):
        interval = statistics.mean(values)
        ends += [float(interval.low), float(interval.high)]
        rows.append((label, shown(interval, sign=True), number(values.std(ddof=1))))
    as_defined = statistics.mean(
        cells(results, "algorithms", "credit", algorithm=algorithm, oracle="continuous")
    )
    rate, reward = best_rate(results, algorithm)
    other_rate, other = best_rate(results, "reinforce")
    return Finding(
        title="The advantage-weighted baseline squares the advantage",
        brief=(
            "Its weight is positive for a bad token in a bad rollout, so that its credit is zero "
            f"by construction ({shown(as_defined, sign=True)}), and no learning rate helps "
            f"(best reward {shown(reward)})."
        ),
        confirmed=bool(max(abs(end) for end in ends) < near),
        paper="Equation 5 is presented as distributing reward to tokens like Shapley values.",
        shown=(
            (
                "The weight (R - mean R)(q - mean q) is positive for a bad token in a bad rollout, "
                "so its direction has no correlation with the advantage under either sign. It is "
                "not a Shapley value."
            ),
            (
                f"At its best learning rate ({rate:g}) it reaches {shown(reward)}; REINFORCE at "
                f"its own ({other_rate:g}) {shown(other)}."
            ),
        ),
        header=("gradient", "credit", "standard deviation over seeds"),
        rows=tuple(rows),
        data=("algorithms", "flipped", "learning_rate"),
        claims=("C09",),
    )


def text_against_data(results: Results) -> Finding:
    """Every number of the text that disagrees with the paper's own tables and plots."""
    del results
    checks = list(text_checks().values())
    wrong = [check for check in checks if not check.agrees]
    return Finding(
        title="The text contradicts the paper's own tables and plots",
        brief=(
            f"{len(wrong)} of {len(checks)} statements that we checked against the paper's own "
            "tables and plots disagree with them."
        ),
        confirmed=bool(wrong),
        paper="Numbers in the abstract, sections and captions.",
        shown=(
            (
                f"{len(wrong)} of {len(checks)} statements checked disagree with the paper's own "
                "numbers by more than rounding and reading allow."
            ),
        ),
        header=("where", "statement", "text", "own data", "source"),
        rows=tuple(
            (check.where, check.quote, number(check.text), number(check.data), check.source)
            for check in wrong
        ),
        data=(),
        claims=("C02", "C05", "C10", "C15", "C17"),
    )


FINDINGS: tuple[Callable[[Results], Finding], ...] = (
    sign_of_baselines,
    starved_baselines,
    teacher_knows,
    critique_cancels,
    credit_is_sharpness,
    squared_advantage,
    text_against_data,
)
