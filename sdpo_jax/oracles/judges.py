"""A judge in the place of the true reward: what it looks at, and how it errs.

    score  = (1 - sum_k w_k) R + sum_k w_k x_k                      what it looks at
    score <- (1 - leniency) score + leniency
    score <- (1 - severity) score
    score <- (1 - central_tendency) score + central_tendency / 2
    seen   = clip(score + noise + position (1/2 - i/(N-1)), 0, 1)
    seen_i <- (1 - anchoring) seen_i + anchoring seen_{i-1}
    seen_i <- (1 - preference) seen_i + preference 1[seen_i > seen_partner]

Every strength is a number from 0, all of them can be combined, and with all of them at 0 ``seen``
is ``clip(R + noise, 0, 1)`` to the bit. What a judge can look at beside the reward (x_k):

- ``overlap``: the longest common subsequence with the target s*, over T (verifiable rewards with
  references, 2511.01758, 2601.18533); ``style``: the share of neighbours with b > 0, its checks;
- ``rubric``: the weighted share of three criteria that are met: mean quality, mean coherence and
  share of matches, each at or above its bar (Rubrics as Rewards, 2507.17746);
- ``likelihood``: the policy's own geometric mean probability of the tokens (self-rewarding,
  2401.10020);
- ``halo``: ``sigmoid(mean quality)``: one component, as if the others were as good.

``preference`` turns scores into verdicts: rollout i against rollout i + N/2 (modulo N), 1 for the
winner, 0 for the loser, 1/2 for a draw (Constitutional AI, 2212.08073). ``heavy_tails`` multiplies
the noise by ``(-log u)^(-h/2)``: at 1 normal noise becomes Student's t with 2 degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from sdpo_jax.engine import lanes, streams
from sdpo_jax.engine.checks import finite, numbers, of_type, on_host
from sdpo_jax.engine.materialise import materialise, where_any
from sdpo_jax.policies import Policy, tables
from sdpo_jax.problems import AnyProblem, FunctionProblem, Problem

# Its three criteria: mean quality, mean coherence, share of matches.
RUBRIC_BARS = (0.5, 0.0, 0.3)
RUBRIC_WEIGHTS = (0.5, 0.25, 0.25)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Judge:
    """The strengths of a judge, each a float or ``[*runs]`` in [0, 1].

    Attributes:
        overlap: how much the overlap with the target takes the reward's place.
        style: the same of the checks of style.
        rubric: the same of the rubric.
        likelihood: the same of the policy's own probability of the sequence.
        halo: the same of quality alone.
        leniency: how far scores move towards 1.
        severity: how far they move towards 0.
        central_tendency: how far they move towards 1/2.
        heavy_tails: how heavy the tails of the noise are.
        position: what the first rollout of a batch is given more than the last one.
        anchoring: how much of the score before is left in a score.
        preference: how much of a score is the verdict on a pair.
        bars: ``[3, *runs]``, where each criterion of the rubric is met.
        weights: ``[3, *runs]``, what each counts; 0 or more, not all 0.
    """

    overlap: Any = 0.0
    style: Any = 0.0
    rubric: Any = 0.0
    likelihood: Any = 0.0
    halo: Any = 0.0
    leniency: Any = 0.0
    severity: Any = 0.0
    central_tendency: Any = 0.0
    heavy_tails: Any = 0.0
    position: Any = 0.0
    anchoring: Any = 0.0
    preference: Any = 0.0
    bars: Any = RUBRIC_BARS
    weights: Any = RUBRIC_WEIGHTS


LOOKS = ("overlap", "style", "rubric", "likelihood", "halo")
BIASES = (
    *("leniency", "severity", "central_tendency", "heavy_tails"),
    *("position", "anchoring", "halo"),
)
STRENGTHS = tuple(field.name for field in fields(Judge) if field.name not in ("bars", "weights"))


def judge(
    judge: Judge,
    problem: AnyProblem,
    policy: Policy,
    tokens: Array,
    reward: Array,
    noise: Array,
) -> Array:
    """What the judge sees in the place of ``clip(R + noise, 0, 1)``, ``[N, *runs]``.

    Args:
        judge: its strengths.
        problem: what it judges by.
        policy: the student, which a self-judge is.
        tokens: ``[T, N, *runs]``.
        reward: ``[N, *runs]``, R.
        noise: ``[N, *runs]``.
    """
    looks: dict[str, Callable[[], Array]] = {"likelihood": lambda: likelihood(policy, tokens)}
    if not isinstance(problem, FunctionProblem):
        looks = {
            "overlap": lambda: overlap(problem, tokens),
            "style": lambda: style(problem, tokens),
            "rubric": lambda: rubric(judge, problem, tokens),
            **looks,
            "halo": lambda: jax.nn.sigmoid(lanes.mean(tables.pick(problem.quality, tokens), 0)),
        }
    # Weighted means throughout: nothing is left of a number whose weight is 0, not even a rounding
    # error, by which equal scores could be told apart.
    shares = {name: jnp.asarray(getattr(judge, name), jnp.float32) for name in looks}
    score = (1 - sum(shares.values())) * reward
    for name, look in looks.items():
        # Where no judge of the batch looks, nothing is computed; the numbers are the same.
        share, used = lanes.is_used(shares[name])
        score = score + share * where_any(used, look, jnp.zeros_like(reward))

    def erring() -> Array:
        value = (1 - judge.leniency) * score + judge.leniency
        value = (1 - judge.severity) * value
        value = (1 - judge.central_tendency) * value + judge.central_tendency * 0.5
        count = tokens.shape[1]
        place = np.arange(count).reshape((-1,) + (1,) * (reward.ndim - 1))
        favour = (0.5 - place / max(count - 1, 1)).astype(np.float32)
        return jnp.clip(value + noise + judge.position * favour, 0.0, 1.0)

    seen = _anchored(materialise(erring), jnp.asarray(judge.anchoring))
    other = jnp.roll(seen, -(seen.shape[0] // 2), axis=0)
    won, lost, drawn = np.asarray([1.0, 0.0, 0.5], np.float32)
    verdict = jnp.where(seen > other, won, jnp.where(seen < other, lost, drawn))
    return (1 - judge.preference) * seen + judge.preference * verdict


def tails(judge: Judge, key: streams.Key, step: ArrayLike, count: int) -> Array:
    """What multiplies each rollout's noise, ``[N, *runs]``; exactly 1 at ``heavy_tails`` 0."""
    uniform = jnp.concatenate(streams.uniforms(key, step, (-(-count // 3),)))[:count]
    return jnp.power(-jnp.log(uniform), -0.5 * jnp.asarray(judge.heavy_tails))


def overlap(problem: Problem, tokens: Array) -> Array:
    """Length of the longest common subsequence with the target, over T, ``[N, *runs]``."""
    length = tokens.shape[0]
    nothing = jnp.zeros(tokens.shape[1:], jnp.float32)
    row = [nothing] * (length + 1)
    for t in range(length):
        before, row = row, [nothing]
        for u in range(length):
            same = tokens[t] == problem.target[u]
            longer = jnp.maximum(before[u + 1], row[u])
            row.append(jnp.where(same, before[u] + 1, longer))
    return row[length] / length


def style(problem: Problem, tokens: Array) -> Array:
    """Share of neighbours whose bigram is coherent (b > 0), ``[N, *runs]``; 1 of a single token."""
    if tokens.shape[0] == 1:
        return jnp.ones(tokens.shape[1:], jnp.float32)
    coherent = (problem.bigram > 0).astype(jnp.float32)
    return lanes.mean(tables.pick_bigrams(coherent, tokens), 0)


def rubric(judge: Judge, problem: Problem, tokens: Array) -> Array:
    """Weighted share of the criteria that are met, ``[N, *runs]``."""
    length = tokens.shape[0]
    values = (
        lanes.mean(tables.pick(problem.quality, tokens), 0),
        tables.pick_bigrams(problem.bigram, tokens).sum(0) / max(length - 1, 1),
        lanes.mean((tokens == problem.target[:, None]).astype(jnp.float32), 0),
    )
    bars, weights = (
        [jnp.asarray(each[k], jnp.float32) for k in range(len(values))]
        for each in (judge.bars, judge.weights)
    )
    met = (
        jnp.where(value >= bar, weight, 0.0)
        for value, bar, weight in zip(values, bars, weights, strict=True)
    )
    return sum(met, jnp.zeros(tokens.shape[1:], jnp.float32)) / sum(weights[1:], weights[0])


def likelihood(policy: Policy, tokens: Array) -> Array:
    """Geometric mean probability of a sequence's tokens, ``[N, *runs]``, in (0, 1]."""
    log_probs = policy.logits - policy.log_normalizer[:, None]
    return jnp.exp(lanes.mean(tables.pick(log_probs, tokens), 0))


def check_judge(judge: Judge) -> None:
    """Check a judge's numbers, where they are not traced.

    Raises:
        ValueError: the strength, its value and what is allowed, in one line.
    """
    of_type("oracle: judge", judge, Judge)
    for name in STRENGTHS:
        value = numbers(f"oracle: judge.{name}", getattr(judge, name), "0 to 1")
        if isinstance(value, Tracer):
            continue
        for number in on_host(value).ravel():
            if not 0 <= number <= 1:
                raise ValueError(f"oracle: judge.{name} {float(number)!r}; allowed: 0 to 1")
    looks = [getattr(judge, name) for name in LOOKS]
    if not any(isinstance(look, Tracer) for look in looks):
        total = np.asarray(sum(on_host(look).astype(np.float64) for look in looks))
        if (total > 1 + 1e-6).any():
            raise ValueError(
                f"oracle: judge looks at {', '.join(LOOKS)} for {float(total.max()):.3g} in all; "
                "allowed: 1 in all"
            )
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((judge.bars, judge.weights))):
        return
    bars, weights = (
        on_host(finite(f"oracle: judge.{name}", getattr(judge, name)))
        for name in ("bars", "weights")
    )
    if bars.shape[:1] != (3,) or weights.shape[:1] != (3,):
        raise ValueError(
            f"oracle: judge.bars of shape {bars.shape}, judge.weights of shape {weights.shape}; "
            "allowed: one for each of three criteria"
        )
    if (weights < 0).any() or (weights.sum(0) <= 0).any():
        raise ValueError(
            f"oracle: judge.weights {weights.tolist()}; allowed: 0 or more, and not all 0"
        )


def _anchored(seen: Array, strength: Array) -> Array:
    anchored = [seen[0]]
    for i in range(1, seen.shape[0]):
        anchored.append((1 - strength) * seen[i] + strength * anchored[-1])
    return jnp.stack(anchored)
