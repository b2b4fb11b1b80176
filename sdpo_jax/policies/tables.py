"""Functions linear in a sequence's tokens and bigrams, and their gradients.

Written as selections over the vocabulary and not as gathers: a gather is scalar code on a CPU.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sdpo_jax.engine import lanes
from sdpo_jax.policies import has_contexts, mean_score


def pick(table: Array, tokens: Array) -> Array:
    """``table[t, s_it]``: ``[T, V, *runs]`` and ``[T, N, *runs]`` to ``[T, N, *runs]``.

    With contexts the table is ``[T, V, N, *runs]``, or 1 for N.
    """
    vocabulary = _vocabulary(table.shape[1], tokens)[None]
    if has_contexts(table, tokens):
        return lanes.total_of(
            lambda entry, v: jnp.where(tokens == v, entry, 0.0), 1, table, vocabulary
        )
    return lanes.total_of(
        lambda entry, v: jnp.where(tokens == v, entry[:, None], 0.0), 1, table, vocabulary
    )


def take(table: Array, tokens: Array) -> Array:
    """The same as ``pick``, as a gather."""
    if has_contexts(table, tokens):
        table = jnp.broadcast_to(table, (*table.shape[:2], *tokens.shape[1:]))
        return jnp.take_along_axis(table, tokens[:, None], axis=1, mode="promise_in_bounds")[:, 0]
    return jnp.take_along_axis(table, tokens, axis=1, mode="promise_in_bounds")


def pick_bigrams(table: Array, tokens: Array) -> Array:
    """``table[s_it, s_i,t+1]``: ``[V, V, *runs]`` and ``[T, N, *runs]`` to ``[T-1, N, *runs]``."""
    vocab_size = table.shape[0]
    index = (tokens[:-1] * vocab_size + tokens[1:]).reshape(-1, *tokens.shape[2:])
    flat = table.reshape(vocab_size * vocab_size, *table.shape[2:])
    picked = jnp.take_along_axis(flat, index, axis=0, mode="promise_in_bounds")
    return picked.reshape(tokens.shape[0] - 1, *tokens.shape[1:])


def token_sums(tokens: Array, weights: Array, vocab_size: int) -> Array:
    """``sum_i w_it onehot(s_it)``, ``[T, V, *runs]``.

    Args:
        tokens: ``[T, N, *runs]``.
        weights: ``[N, *runs]`` or ``[T, N, *runs]``.
        vocab_size: V.
    """
    nowhere = jnp.zeros((tokens.shape[0], vocab_size, *tokens.shape[2:]), weights.dtype)
    if tokens.shape[1] == 0:
        return nowhere
    return tokens.shape[1] * mean_score(nowhere, tokens, weights)


def bigram_sums(tokens: Array, weights: Array, vocab_size: int) -> Array:
    """``sum_i w_i sum_t onehot(s_it) onehot(s_i,t+1)^T``, ``[V, V, *runs]``.

    Args:
        tokens: ``[T, N, *runs]``.
        weights: ``[N, *runs]``.
        vocab_size: V.
    """
    shape = (tokens.shape[0] - 1, *tokens.shape[1:])
    first = tokens[:-1].reshape(-1, *tokens.shape[2:])
    second = tokens[1:].reshape(-1, *tokens.shape[2:])
    spread = jnp.broadcast_to(weights, shape).reshape(first.shape)
    columns = _vocabulary(vocab_size, tokens)
    if first.shape[0] == 0:
        return jnp.zeros((vocab_size, vocab_size, *tokens.shape[2:]), weights.dtype)
    return lanes.total_of(
        lambda one, two, weight: jnp.where(
            (one == columns)[:, None] & (two == columns)[None], weight, 0.0
        ),
        0,
        first,
        second,
        spread,
    )


def _vocabulary(vocab_size: int, tokens: Array) -> Array:
    """``[V, 1...]``, to be compared with one position's tokens or one pair of them."""
    vocabulary = jnp.arange(vocab_size, dtype=tokens.dtype)
    return vocabulary.reshape((vocab_size,) + (1,) * (tokens.ndim - 2))
