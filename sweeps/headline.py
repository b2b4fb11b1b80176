"""The outcome in a few sentences, computed from the results."""

from __future__ import annotations

from sweeps import statistics
from sweeps.claims.model import Results
from sweeps.claims.rules import best_rate, cells, name, percent, shown
from sweeps.published import ALGORITHMS


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
    entropy = cells(
        results, "algorithms", "entropy", algorithm=["sdpo", "reinforce"], oracle="continuous"
    )
    margin = statistics.paired_difference(reward["sdpo"], reward["reinforce"])
    lost = statistics.ratio_of_means(entropy[1] - entropy[0], entropy[1])
    rates = {algorithm: best_rate(results, algorithm) for algorithm in ALGORITHMS}
    seeds = reward["sdpo"].size
    return [
        f"Over {seeds:,} seeds, continuous feedback, final reward is "
        + ", ".join(
            f"{name(algorithm)} {shown(statistics.mean(reward[algorithm]))}"
            for algorithm in ALGORITHMS
        )
        + f"; SDPO leads REINFORCE by {shown(margin, sign=True)} within a seed.",
        f"SDPO's policy ends with {percent(lost)} less entropy than REINFORCE's.",
        "At each algorithm's own best learning rate of those tried: "
        + ", ".join(
            f"{name(algorithm)} {shown(interval)} (at {rate:g})"
            for algorithm, (rate, interval) in rates.items()
        )
        + ".",
    ]
