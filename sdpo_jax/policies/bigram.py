"""The bigram policy: each token's distribution depends on its position and the token before.

    pi(s) = prod_t softmax(l[t, s_{t-1}])[s_t]

Parameters ``[T, V, V, *runs]``: position, token before, token. The first position has none before
it and reads row 0. It starts with equal rows, those of the factored policy of the same seed, and
is then the same policy; it is the smallest one whose positions depend on each other, so every
exact test can hold it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import jax.numpy as jnp
from jax import Array

from sdpo_jax.engine import lanes, streams
from sdpo_jax.engine.own_numbers import OwnNumber, among, joined, of_function
from sdpo_jax.policies.first import TOLD, normal_logits


@dataclass(frozen=True)
class Bigram:
    """A table of logits for each token before."""

    name: str = "bigram"

    values: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def numbers(self) -> Mapping[str, OwnNumber]:
        """The scale of its first logits."""
        return joined(of_function(normal_logits, f"policy: {self.name}", TOLD))

    def bound(self, values: Mapping[str, Any]) -> Self:
        """The policy with its numbers, each one or ``[*runs]``, filled in."""
        return replace(self, values=dict(values))

    def first(self, key: streams.Key, length: int, vocab_size: int) -> Array:
        """Equal rows of normal logits, ``[T, V, V, *runs]``."""
        rows = normal_logits(key, length, vocab_size, **among(normal_logits, TOLD, self.values))
        return jnp.broadcast_to(rows[:, None], (length, vocab_size, *rows.shape[1:]))

    def read(self, params: Any, tokens: Array) -> Array:
        """The logits at the contexts of sequences ``[T, N, *runs]``: ``[T, V, N, *runs]``."""
        before = jnp.concatenate((jnp.zeros_like(tokens[:1]), tokens[:-1]))
        # A selection and not a gather, whose gradient would be a scatter: both are scalar code.
        places = jnp.arange(params.shape[1], dtype=tokens.dtype)[None]
        return lanes.total_of(
            lambda row, place: jnp.where((before == place)[:, None], row[:, :, None], 0.0),
            1,
            params,
            places,
        )

    def after(self, params: Any, tokens: Array, place: Array) -> Array:
        """The logits at one position of sequences, ``[V, N, *runs]``."""
        before = jnp.where(place == 0, 0, tokens[jnp.maximum(place - 1, 0)])
        table = params[place]
        return lanes.total_of(
            lambda row, index: jnp.where((before == index)[None], row[:, None], 0.0),
            0,
            table,
            jnp.arange(params.shape[1], dtype=tokens.dtype),
        )

    def conditionals(
        self, params: Any, length: int, vocab_size: int, runs: tuple[int, ...]
    ) -> list[Array]:
        """The logits after every prefix: for each position ``[V ** t, V, *runs]``."""
        found = [params[0, :1]]
        for t in range(1, length):
            rows = params[t][None]
            shape = (vocab_size ** (t - 1), *rows.shape[1:])
            found.append(jnp.broadcast_to(rows, shape).reshape(-1, *rows.shape[2:]))
        return found
