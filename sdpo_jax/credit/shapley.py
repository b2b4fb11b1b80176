"""Shapley values of a sequence's tokens: how much of its reward is each token's.

    v(C) = E[R | s_t for t in C, the others drawn from pi_ref]
    phi_t = sum over C without t of |C|! (T - |C| - 1)! / T! (v(C + t) - v(C))

(Shapley 1953; for tokens Cao et al., SCAR, 2505.20417.) They sum to ``v(all) - v(none)``, the
reward less its mean under pi_ref.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import mul

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax import policies, problems
from sdpo_jax.engine import lanes, streams
from sdpo_jax.problems import AnyProblem, FunctionProblem


def coalition_values(problem: AnyProblem, probs: Array) -> Array:
    """``v`` of every set of tokens at every set of positions, ``[(V + 1) ** T, *runs]``.

    Digit t of an index, to the base V + 1 and the first position slowest, is the token at t, or V
    where it is absent, and then drawn from ``probs`` ``[T, V, *runs]``.

    Raises:
        ValueError: ``(V + 1) ** T`` exceeds ``problem.MAX_SEQUENCES``.
    """
    length, vocab_size, *runs = probs.shape
    problems.check_enumerable(length, vocab_size + 1)
    value = problems.all_rewards(problem)
    for t in range(length):
        # [tokens and absences before t, token at t, tokens after t]
        value = value.reshape((vocab_size + 1) ** t, vocab_size, -1, *runs)
        absent = lanes.total_of(lambda p, v: p[None] * v, 1, probs[t][None], value)
        value = jnp.concatenate((value, absent[:, None]), axis=1)
    return value.reshape(-1, *runs)


def exact(values: Array, tokens: Array, vocab_size: int) -> Array:
    """Shapley values of sequences ``[T, N, *runs]`` from all coalitions, ``[T, N, *runs]``.

    Args:
        values: from ``coalition_values``.
        tokens: ``[T, N, *runs]``.
        vocab_size: V.
    """
    length = tokens.shape[0]
    present = np.arange(2**length)[:, None] >> np.arange(length) & 1 == 1
    index = sum(
        jnp.where(
            present[:, t].reshape((-1,) + (1,) * (tokens.ndim - 1)), tokens[t][None], vocab_size
        )
        * (vocab_size + 1) ** (length - 1 - t)
        for t in range(length)
    )
    assert isinstance(index, Array)
    runs = tokens.shape[2:]
    found = jnp.take_along_axis(
        values, index.reshape(-1, *runs), axis=0, mode="promise_in_bounds"
    ).reshape(index.shape)
    weights = jnp.asarray(_weights(length), values.dtype)
    weights = weights.reshape(weights.shape + (1,) * (tokens.ndim - 1))
    return lanes.total_of(mul, 1, weights, found[None])


def sampled(
    problem: AnyProblem,
    reference: Array,
    tokens: Array,
    samples: int,
    key: streams.Key,
    step: ArrayLike,
) -> Array:
    """Unbiased estimates of the Shapley values, ``[T, N, *runs]``, for problems of any size.

    Each sample draws an order of the positions and a sequence from pi_ref, and puts the rollout's
    tokens into it one by one: a token's value is what the reward gains (Castro, Gomez and Tejada
    2009). All rollouts of a step share the draws, so that their differences are free of them. The
    values of a sequence sum to its reward less that of the drawn sequences.

    Args:
        problem: the reward.
        reference: pi_ref, ``[T, V, *runs]``.
        tokens: ``[T, N, *runs]``.
        samples: how many; each asks for T + 1 rewards a rollout.
        key: a stream of the caller's own.
        step: index of the step.
    """
    length, vocab_size = reference.shape[:2]
    step = jnp.asarray(step)
    # Two draws a step, from counters that no other step uses.
    drawn = policies.sample(key, 2 * step, reference, samples)
    drawn = policies.tokens(drawn, length, vocab_size)
    thirds = streams.uniforms(key, 2 * step + 1, (-(-length // 3), samples))
    order = jnp.concatenate(thirds)[:length]
    rank = (order[:, None] > order[None]).sum(1) + _ties(order)
    reward_of = _rewards(problem, length, vocab_size)
    credit = jnp.zeros(tokens.shape, reference.dtype)
    for sample in range(samples):
        before = None
        for count in range(length + 1):
            inside = rank[:, sample, None] < count
            mixed = jnp.where(inside, tokens, drawn[:, sample, None])
            reward = reward_of(mixed)
            if before is not None:
                gained = jnp.where(rank[:, sample, None] == count - 1, reward - before, 0.0)
                credit += gained / samples
            before = reward
    return credit


def _rewards(problem: AnyProblem, length: int, vocab_size: int) -> Callable[[Array], Array]:
    if isinstance(problem, FunctionProblem):
        return problem.reward
    tables = problems.tabulate(problem)

    def reward(tokens: Array) -> Array:
        packed = policies.pack(tokens, vocab_size)
        return problems.look_up(tables, packed, length, vocab_size)

    return reward


def queries(length: int, samples: int) -> int:
    """Rewards that ``sampled`` asks for, for each rollout."""
    return samples * (length + 1)


def _weights(length: int) -> np.ndarray:
    """``[T, 2 ** T]``: how much the value of each coalition counts for each token."""
    weights = np.zeros((length, 2**length))
    for coalition in range(2**length):
        members = [t for t in range(length) if coalition >> t & 1]
        for t in range(length):
            size = len(members) - (t in members)
            share = math.factorial(size) * math.factorial(length - size - 1)
            share /= math.factorial(length)
            weights[t, coalition] = share if t in members else -share
    return weights


def _ties(order: Array) -> Array:
    """Of equal numbers the earlier position counts as smaller."""
    length = order.shape[0]
    earlier = np.tril(np.ones((length, length), bool), -1)
    earlier = earlier.reshape((length, length) + (1,) * (order.ndim - 1))
    return ((order[:, None] == order[None]) & earlier).sum(1)
