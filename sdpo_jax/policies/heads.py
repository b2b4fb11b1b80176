"""What a policy says at the contexts that rollouts visit: logits, probabilities, and what follows.

A factored policy has one context a position: ``[T, V, *runs]``. Any other has one a position and
rollout, an axis in front of the runs: ``[T, V, N, *runs]``. ``tokens`` are ``[T, N, *runs]``. The
functions here know both, and what does not belong to one rollout is a mean over contexts.
"""

from __future__ import annotations

from operator import mul
from typing import Annotated, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from sdpo_jax.engine import lanes
from sdpo_jax.engine.materialise import materialise


class Policy(NamedTuple):
    """A policy and the forms of it that a step reads.

    Attributes:
        logits: ``[T, V, *runs]``, or ``[T, V, N, *runs]`` with contexts.
        probs: the same, their softmax over tokens.
        log_normalizer: ``[T, *runs]`` or ``[T, N, *runs]``, ``logsumexp`` of the logits.
    """

    logits: Array
    probs: Array
    log_normalizer: Array


# Of an algorithm's parameter: it needs one context a position, ``[T, V, *runs]``.
ONE_CONTEXT = "one context a position"
FactoredPolicy = Annotated[Policy, ONE_CONTEXT]


def policy(logits: Array) -> Policy:
    """``pi = softmax(l)``, row by row, of logits ``[T, V, *runs]``."""

    def softmax() -> tuple[Array, Array]:
        largest = lanes.largest(logits, 1)
        weights = materialise(lambda: jnp.exp(logits - largest[:, None]))
        normalizer = lanes.total(weights, 1)
        return weights / normalizer[:, None], jnp.log(normalizer) + largest

    return Policy(logits, *materialise(softmax))


def has_contexts(table: Array, tokens: Array) -> bool:
    """Whether a table ``[T, V, ...]`` has an axis of contexts, one for each of the rollouts."""
    return table.ndim > tokens.ndim


def at_contexts(table: Array, policy: Policy, axis: int) -> Array:
    """A table that has no contexts beside a policy that may have: with an axis of 1 for them.

    Args:
        table: ``[..., *runs]``, as a factored policy meets it.
        policy: of ``[T, V, *runs]`` or ``[T, V, N, *runs]``.
        axis: where the axis of contexts goes, the number of axes in front of the runs.
    """
    runs = table.ndim - axis
    return jnp.expand_dims(table, axis) if policy.logits.ndim - 2 > runs else table


def one_hot(tokens: Array, vocab_size: int, dtype: DTypeLike) -> Array:
    """``[T, N, *runs]`` to ``[T, V, N, *runs]``."""
    vocabulary = jnp.arange(vocab_size, dtype=tokens.dtype)
    vocabulary = vocabulary.reshape((1, vocab_size) + (1,) * (tokens.ndim - 1))
    return (tokens[:, None] == vocabulary).astype(dtype)


def entropy(policy: Policy) -> Array:
    """Entropy in nats, mean over positions, ``[*runs]`` or ``[N, *runs]``, from 0 to ``log V``."""
    expected_logit = lanes.total_of(mul, 1, policy.probs, policy.logits)
    return lanes.mean(policy.log_normalizer - expected_logit, 0)


def kl_divergence(policy: Policy, other: Policy) -> Array:
    """``KL(policy || other)``, mean over positions, ``[*runs]`` or ``[N, *runs]``, 0 or more."""
    expected = lanes.total(policy.probs * (policy.logits - other.logits), 1)
    divergence = lanes.mean(expected - policy.log_normalizer + other.log_normalizer, 0)
    # Where the two are alike, what is left is the rounding of the normalisers, of either sign.
    return jnp.maximum(divergence, 0.0)


def mean_score(probs: Array, tokens: Array, weights: Array) -> Array:
    """``(1/N) sum_i w_i (onehot(s_i) - pi)``: a weighted mean of ``grad log pi(s_i)``.

    Args:
        probs: ``[T, V, *runs]``; with contexts ``[T, V, N, *runs]``, and so is the result, which is
            then the N terms of the mean.
        tokens: ``[T, N, *runs]``.
        weights: ``[N, *runs]``, or ``[T, N, *runs]`` where they differ between positions.
    """
    vocab_size, rollouts = probs.shape[1], tokens.shape[1]
    weights = jnp.broadcast_to(weights, tokens.shape)
    if has_contexts(probs, tokens):
        return (one_hot(tokens, vocab_size, probs.dtype) - probs) * weights[:, None]
    vocabulary = jnp.arange(vocab_size, dtype=tokens.dtype)
    vocabulary = vocabulary.reshape((1, vocab_size) + (1,) * (tokens.ndim - 2))
    chosen = lanes.total_of(
        lambda token, weight: jnp.where(token[:, None] == vocabulary, weight[:, None], 0.0),
        1,
        tokens,
        weights,
    )
    return (chosen - probs * weights.sum(1)[:, None]) / rollouts
