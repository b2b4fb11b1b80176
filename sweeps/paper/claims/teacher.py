"""C22: what the critique teacher is by equation 2 (section 2.3)."""

from __future__ import annotations

from sweeps import statistics
from sweeps.paper.claims.registry import judges
from sweeps.paper.claims.rules import cells, verdict
from sweeps.study.conditions import above
from sweeps.study.judgements import Judgement, Results
from sweeps.study.wording import number, shown

# Final logits of runs that are equal on paper differ by float32 rounding alone: about 1e-7 of
# logits of order 1, each step, for a few hundred steps; now and then rounding makes one sampled
# token another, which moves a logit by about 1e-5.
SAME_LOGITS = 1e-4


@judges("C22", "the critique teacher differs from the continuous one", "section 2.3, equation 2")
def critique_teacher(results: Results) -> Judgement:
    """Equation 2 read to the letter gives each position a hint that is the same for all its tokens.
    Compared are the final logits of runs with that teacher and with the continuous one, from the
    same draws. Holds if the mean over seeds of the largest difference is above 1e-4 (more than
    rounding); fails if it is below that; undecided if its interval contains it. The control has
    the two readings in which hints differ between tokens.
    """
    readings = ("position", "token", "sampled")
    differences = cells(results, "reading", "max_logit_difference", reading=readings)
    means = statistics.mean(differences)
    position = means[0]
    most = float(differences[0].max())
    holds = above(position, SAME_LOGITS)
    return Judgement(
        statistic="largest difference of a final logit from the continuous run, mean over seeds",
        published=None,
        interval=position,
        verdict=verdict(holds),
        reason=(
            f"by equation 2 the final logits differ by {number(position.estimate)} on average "
            f"over seeds, at most {number(most)}"
            + (
                ": a hint that is the same for all tokens of a position cancels in the softmax"
                if holds is False
                else ""
            )
        ),
        control=(
            f"reading: hints for each token change logits by {shown(means[1])}, hints for the "
            f"sampled tokens alone by {shown(means[2])}"
        ),
    )
