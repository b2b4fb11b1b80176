"""The factored policy: one categorical distribution for each position.

Everything acts on the leading axes and broadcasts over whatever trails: ``logits`` are
``[T, V, *runs]``, ``tokens`` ``[T, N, *runs]``.
"""

from __future__ import annotations

from operator import mul
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax import lanes, streams

# Tokens that one cipher block serves, and that share one packed integer.
GROUP = 3

# Three tokens of this size fill an int32.
MAX_VOCAB_SIZE = 1024

_LONG_VOCABULARY = 64


class Policy(NamedTuple):
    """A policy and the forms of it that a step reads.

    Attributes:
        logits: ``[T, V, *runs]``.
        probs: ``[T, V, *runs]``, their softmax over tokens.
        log_normalizer: ``[T, *runs]``, ``logsumexp`` of the logits.
    """

    logits: Array
    probs: Array
    log_normalizer: Array


class Rollouts(NamedTuple):
    """Sampled sequences, ``GROUP`` tokens to an integer.

    Attributes:
        codes: ``[ceil(T / GROUP), N, *runs]`` int32; the first token of a group is in the high
            bits. ``tokens`` unpacks them.
    """

    codes: Array


def policy(logits: Array, fence: lanes.Fence = lanes.NO_FENCE) -> Policy:
    """``pi = softmax(l)``, row by row, of logits ``[T, V, *runs]``."""

    def softmax() -> tuple[Array, Array]:
        largest = lanes.largest(logits, 1)
        weights = fence(lambda: jnp.exp(logits - largest[:, None]))
        normalizer = lanes.total(weights, 1)
        return weights / normalizer[:, None], jnp.log(normalizer) + largest

    return Policy(logits, *fence(softmax))


def token_bits(vocab_size: int) -> int:
    """Bits that one token takes in a packed code."""
    return max(1, (vocab_size - 1).bit_length())


def sample(key: streams.Key, step: ArrayLike, probs: Array, rollouts: int) -> Rollouts:
    """Draw ``rollouts`` sequences from ``probs`` by inverting the cumulative probabilities.

    A token is the number of cumulative probabilities (of all tokens but the last) that are at or
    below its uniform number: one uniform a token, where the Gumbel trick takes one a token of the
    vocabulary.
    """
    length, vocab_size = probs.shape[:2]
    runs = probs.shape[2:]
    groups = -(-length // GROUP)
    cumulative = _cumulative(probs)
    missing = groups * GROUP - length
    if missing:
        # Positions past the end get cumulative probabilities of 1, hence token 0.
        ones = jnp.ones((missing, vocab_size - 1, *runs), probs.dtype)
        cumulative = jnp.concatenate((cumulative, ones))
    cumulative = cumulative.reshape(groups, GROUP, vocab_size - 1, *runs)
    uniforms = streams.uniforms(key, step, (groups, rollouts))
    codes = jnp.zeros(uniforms[0].shape, jnp.int32)
    for place, uniform in enumerate(uniforms):
        token = lanes.total_of(
            lambda edge, uniform=uniform: (uniform >= edge[:, None]).astype(jnp.int32),
            1,
            cumulative[:, place],
        )
        codes = (codes << token_bits(vocab_size)) | token
    return Rollouts(codes)


def tokens(rollouts: Rollouts, length: int, vocab_size: int) -> Array:
    """The sampled tokens, ``[T, N, *runs]`` int32 in ``[0, V)``."""
    codes = rollouts.codes
    bits = token_bits(vocab_size)
    shifts = jnp.arange(GROUP - 1, -1, -1, dtype=jnp.int32) * bits
    shifts = shifts.reshape((1, GROUP) + (1,) * (codes.ndim - 1))
    unpacked = (codes[:, None] >> shifts) & (2**bits - 1)
    return unpacked.reshape((-1, *codes.shape[1:]))[:length]


def pack(tokens: Array, vocab_size: int) -> Rollouts:
    """The inverse of ``tokens``: pack ``[T, N, *runs]`` integers in ``[0, V)``."""
    bits = token_bits(vocab_size)
    length = tokens.shape[0]
    groups = -(-length // GROUP)
    padding = [(0, groups * GROUP - length)] + [(0, 0)] * (tokens.ndim - 1)
    grouped = jnp.pad(tokens.astype(jnp.int32), padding).reshape(groups, GROUP, *tokens.shape[1:])
    codes = jnp.zeros_like(grouped[:, 0])
    for place in range(GROUP):
        codes = (codes << bits) | grouped[:, place]
    return Rollouts(codes)


def entropy(policy: Policy) -> Array:
    """Entropy in nats, mean over positions, ``[*runs]``, from 0 to ``log V``."""
    expected_logit = lanes.total_of(mul, 1, policy.probs, policy.logits)
    return lanes.mean(policy.log_normalizer - expected_logit, 0)


def kl_divergence(policy: Policy, other: Policy) -> Array:
    """``KL(policy || other)``, mean over positions, ``[*runs]``, 0 or more."""
    expected = lanes.total(policy.probs * (policy.logits - other.logits), 1)
    divergence = lanes.mean(expected - policy.log_normalizer + other.log_normalizer, 0)
    # Where the two are alike, what is left is the rounding of the normalisers, of either sign.
    return jnp.maximum(divergence, 0.0)


def mean_score(probs: Array, tokens: Array, weights: Array) -> Array:
    """``(1/N) sum_i w_i (onehot(s_i) - pi)``: a weighted mean of ``grad log pi(s_i)``.

    Args:
        probs: ``[T, V, *runs]``.
        tokens: ``[T, N, *runs]``.
        weights: ``[N, *runs]``, or ``[T, N, *runs]`` where they differ between positions.
    """
    vocab_size, rollouts = probs.shape[1], tokens.shape[1]
    weights = jnp.broadcast_to(weights, tokens.shape)
    vocabulary = jnp.arange(vocab_size, dtype=tokens.dtype)
    vocabulary = vocabulary.reshape((1, vocab_size) + (1,) * (tokens.ndim - 2))
    chosen = lanes.total_of(
        lambda token, weight: jnp.where(token[:, None] == vocabulary, weight[:, None], 0.0),
        1,
        tokens,
        weights,
    )
    return (chosen - probs * weights.sum(1)[:, None]) / rollouts


def _cumulative(probs: Array) -> Array:
    """Cumulative probabilities of all tokens but the last, ``[T, V - 1, *runs]``."""
    vocab_size = probs.shape[1]
    if vocab_size > _LONG_VOCABULARY:
        return jnp.cumsum(probs, axis=1)[:, :-1]
    # A scan along the axis has no lanes; V^2 masked additions have, and win while V is small.
    below = jnp.arange(vocab_size)[:, None] <= jnp.arange(vocab_size - 1)
    below = below.reshape((1, vocab_size, vocab_size - 1) + (1,) * (probs.ndim - 2))
    return lanes.total(jnp.where(below, probs[:, :, None], 0.0), 1)
