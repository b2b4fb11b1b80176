"""The outcome in one paragraph, computed from the results."""

from __future__ import annotations

from sweeps import statistics
from sweeps.paper.claims.rules import best_rate, cells
from sweeps.paper.published import ALGORITHMS
from sweeps.study.conditions import above
from sweeps.study.judgements import Results
from sweeps.study.wording import shown


def headline(results: Results) -> list[str]:
    """Sentences for the top of the report and for the terminal (continuous feedback).

    Raises:
        MissingResults: a data set is not there.
    """
    reward = dict(
        zip(
            ALGORITHMS,
            cells(results, "algorithms", "reward", algorithm=ALGORITHMS, oracle="continuous"),
            strict=True,
        )
    )
    margin = statistics.paired_difference(reward["sdpo"], reward["reinforce"])
    sdpo, reinforce = (best_rate(results, name) for name in ("sdpo", "reinforce"))
    blank = statistics.mean(cells(results, "no_feedback", "reward"))
    ignorant = statistics.mean(cells(results, "knowledge", "reward", knowledge=0.0))
    mean = {name: statistics.mean(values) for name, values in reward.items()}
    ahead = "does earn more" if above(margin, 0) else "does not clearly earn more"
    return [
        f"Over {reward['sdpo'].size:,} seeds SDPO {ahead} reward than REINFORCE in the paper's "
        f"own setting: {shown(mean['sdpo'])} against {shown(mean['reinforce'])}, from about "
        f"{results['algorithms']['reward_curve'].isel(step=0).mean():.2f} before training "
        "(continuous feedback).",
        "That lead has two sources which the paper does not separate. SDPO's teacher is given the "
        "true quality of every token: with feedback that says nothing SDPO reaches "
        f"{shown(blank)}, and with a teacher that knows nothing of the truth {shown(ignorant)}.",
        "And all algorithms share one learning rate, at which REINFORCE hardly moves: with the "
        f"best of the rates tried for each, SDPO reaches {shown(sdpo[1])} and REINFORCE "
        f"{shown(reinforce[1])}.",
    ]
