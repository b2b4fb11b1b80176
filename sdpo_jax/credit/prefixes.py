"""The value of a prefix: the reward that is to be expected once its tokens stand.

    V(s_<=t) = E[R | s_1 .. s_t],   the rest drawn from the policy;   V() = E[R],   V(s) = R(s)

What a token adds, ``r_t = V(s_<=t) - V(s_<t)``, is what a process reward pays for it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax.engine import lanes
from sdpo_jax.policies import tables


def exact(rewards: Array, probs: Array, tokens: Array) -> Array:
    """``V`` of every prefix of sequences ``[T, N, *runs]``: ``[T + 1, N, *runs]``.

    Args:
        rewards: ``[V ** T, *runs]``, from ``problem.all_rewards``.
        probs: ``[T, V, *runs]``.
        tokens: ``[T, N, *runs]``.
    """
    length, vocab_size = probs.shape[:2]
    # The value of every prefix of each length, the first token slowest.
    of_length = [rewards]
    for t in range(length - 1, -1, -1):
        value = of_length[-1].reshape(-1, *probs.shape[1:])
        of_length.append(lanes.total(value * probs[t], 1))
    index = jnp.zeros_like(tokens[0])
    found = []
    for t, value in enumerate(reversed(of_length)):
        if t:
            index = index * vocab_size + tokens[t - 1]
        found.append(jnp.take_along_axis(value, index, axis=0, mode="promise_in_bounds"))
    return jnp.stack(found)


class Model(NamedTuple):
    """A linear model of V: ``c_t + sum_{t' <= t} w[t', s_t']``.

    Attributes:
        constant: c ``[T + 1, *runs]``, entry t for prefixes of t tokens.
        token: w ``[T, V, *runs]``.
    """

    constant: Array
    token: Array


def model_values(model: Model, tokens: Array) -> Array:
    """The model's V of every prefix, ``[T + 1, N, *runs]``."""
    added = tables.pick(model.token, tokens)
    values = [jnp.zeros_like(added[0])]
    for t in range(tokens.shape[0]):
        values.append(values[-1] + added[t])
    return jnp.stack(values) + model.constant[:, None]


def fit(model: Model, tokens: Array, reward: Array, rate: ArrayLike) -> Model:
    """One gradient step on the mean over prefixes and rollouts of ``(R - V)^2 / 2``.

    A stepwise outcome model: every prefix is asked for the reward of its whole sequence. The rate
    is divided by the mean number of a prefix's features, so that 1 is a step about as long as the
    error, whatever the length.

    Args:
        model: before the step.
        tokens: ``[T, N, *runs]``.
        reward: ``[N, *runs]``.
        rate: ``[*runs]``, stable below about 2.
    """
    length, rollouts = tokens.shape[:2]
    error = reward - model_values(model, tokens)
    rate = rate / ((length + 2) / 2) / (length + 1) / rollouts
    # A token speaks in every prefix that holds it.
    behind = [error[length]]
    for t in range(length - 1, 0, -1):
        behind.append(behind[-1] + error[t])
    sums = tables.token_sums(tokens, jnp.stack(behind[::-1]), model.token.shape[1])
    return Model(model.constant + rate * lanes.total(error, 1), model.token + rate * sums)
