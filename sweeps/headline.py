"""The outcome in a few sentences, computed from the results."""

from __future__ import annotations

from sweeps import statistics
from sweeps.claims.model import Results
from sweeps.claims.rules import best_rate, cells, name, percent, shown
from sweeps.published import METHODS


def headline(results: Results) -> list[str]:
    """Sentences for the top of the report and for the terminal (continuous feedback).

    Raises:
        MissingResults: a data set is not there.
    """
    reward = dict(
        zip(
            METHODS,
            cells(results, "methods", "reward", method=METHODS, feedback="continuous"),
            strict=True,
        )
    )
    entropy = cells(
        results, "methods", "entropy", method=["sdpo", "reinforce"], feedback="continuous"
    )
    margin = statistics.paired_difference(reward["sdpo"], reward["reinforce"])
    lost = statistics.ratio_of_means(entropy[1] - entropy[0], entropy[1])
    rates = {method: best_rate(results, method) for method in METHODS}
    seeds = reward["sdpo"].size
    return [
        f"Over {seeds:,} seeds, continuous feedback, final reward is "
        + ", ".join(
            f"{name(method)} {shown(statistics.mean(reward[method]))}" for method in METHODS
        )
        + f"; SDPO leads REINFORCE by {shown(margin, sign=True)} within a seed.",
        f"SDPO's policy ends with {percent(lost)} less entropy than REINFORCE's.",
        "At each method's own best learning rate of those tried: "
        + ", ".join(
            f"{name(method)} {shown(interval)} (at {rate:g})"
            for method, (rate, interval) in rates.items()
        )
        + ".",
    ]
