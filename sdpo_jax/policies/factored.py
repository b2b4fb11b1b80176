"""The factored policy: one categorical distribution for each position, ``softmax(l)`` row by row.

Its parameters are its logits ``[T, V, *runs]``, and one context a position serves all rollouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax.engine import lanes, streams
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.engine.own_numbers import OwnNumber, among, joined, of_function
from sdpo_jax.policies.first import TOLD, normal_logits
from sdpo_jax.policies.rollouts import GROUP, Rollouts, token_bits

# Beyond it, cumulative sums are made in parts.
_LONG_VOCABULARY = 32
_PART = 16


@dataclass(frozen=True)
class Factored:
    """The paper's policy."""

    name: str = "factored"

    values: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def numbers(self) -> Mapping[str, OwnNumber]:
        """The scale of its first logits."""
        return joined(of_function(normal_logits, f"policy: {self.name}", TOLD))

    def bound(self, values: Mapping[str, Any]) -> Self:
        """The policy with its numbers, each one or ``[*runs]``, filled in."""
        return replace(self, values=dict(values))

    def first(self, key: streams.Key, length: int, vocab_size: int) -> Array:
        """Normal logits of a standard deviation, ``[T, V, *runs]``."""
        return normal_logits(key, length, vocab_size, **among(normal_logits, TOLD, self.values))

    def read(self, params: Any, tokens: Array) -> Array:
        """The logits, which are the parameters."""
        return params


def sample(key: streams.Key, step: ArrayLike, probs: Array, rollouts: int) -> Rollouts:
    """Draw ``rollouts`` sequences from ``probs`` by inverting the cumulative probabilities.

    A token is the number of cumulative probabilities (of all tokens but the last) that are at or
    below its uniform number: one uniform a token, where the Gumbel trick takes one a token of the
    vocabulary.
    """
    length, vocab_size = probs.shape[:2]
    runs = probs.shape[2:]
    groups = -(-length // GROUP)
    edges = cumulative(probs)
    missing = groups * GROUP - length
    if missing:
        # Positions past the end get cumulative probabilities of 1, hence token 0.
        ones = jnp.ones((missing, vocab_size - 1, *runs), probs.dtype)
        edges = jnp.concatenate((edges, ones))
    edges = edges.reshape(groups, GROUP, vocab_size - 1, *runs)
    uniforms = streams.uniforms(key, step, (groups, rollouts))
    codes = jnp.zeros(uniforms[0].shape, jnp.int32)
    for place, uniform in enumerate(uniforms):
        token = lanes.total_of(
            lambda edge, uniform=uniform: (uniform >= edge[:, None]).astype(jnp.int32),
            1,
            edges[:, place],
        )
        codes = (codes << token_bits(vocab_size)) | token
    return Rollouts(codes)


def cumulative(probs: Array) -> Array:
    """Cumulative probabilities of all tokens but the last, ``[T, V - 1, *runs]``."""
    length, vocab_size, *runs = probs.shape
    if vocab_size <= _LONG_VOCABULARY:
        return _cumulative(probs, vocab_size - 1)
    # Of a part of the vocabulary, and of all parts before it.
    parts = -(-vocab_size // _PART)
    empty = jnp.zeros((length, parts * _PART - vocab_size, *runs), probs.dtype)
    padded = jnp.concatenate((probs, empty), 1).reshape(length * parts, _PART, *runs)
    inside = materialise(lambda: _cumulative(padded, _PART).reshape(length, parts, _PART, *runs))
    before = materialise(lambda: cumulative(inside[:, :, -1]))
    before = jnp.concatenate((jnp.zeros_like(inside[:, :1, -1]), before), 1)
    edges = (before[:, :, None] + inside).reshape(length, parts * _PART, *runs)
    return edges[:, : vocab_size - 1]


def _cumulative(probs: Array, count: int) -> Array:
    # A scan along the axis has no lanes; V^2 masked additions have, and win while V is small.
    vocab_size = probs.shape[1]
    below = jnp.arange(vocab_size)[:, None] <= jnp.arange(count)
    below = below.reshape((1, vocab_size, count) + (1,) * (probs.ndim - 2))
    return lanes.total(jnp.where(below, probs[:, :, None], 0.0), 1)
