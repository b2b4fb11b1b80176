"""Policies whose distribution depends on the tokens before: sampling, and what is exact.

What is exact enumerates: the reward of every sequence, the policy after every prefix.
"""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from sdpo_jax.engine import lanes, meshes
from sdpo_jax.policies.factored import cumulative
from sdpo_jax.policies.heads import policy


class WithContexts(Protocol):
    """What sampling and enumeration ask of a policy."""

    def after(self, params: Any, tokens: Array, place: Array) -> Array:
        """The logits at one position of sequences, ``[V, N, *runs]``."""
        ...

    def conditionals(
        self, params: Any, length: int, vocab_size: int, runs: tuple[int, ...]
    ) -> list[Array]:
        """The logits after every prefix: for each position ``[V ** t, V, *runs]``."""
        ...


def sample_in_order(kind: WithContexts, params: Any, uniforms: Array) -> Array:
    """Sequences ``[T, N, *runs]``, each token by inverting its cumulative probabilities.

    Args:
        kind: the policy.
        params: its parameters.
        uniforms: ``[T, N, *runs]`` in [0, 1), one a token.
    """

    def add(place: Array, tokens: Array) -> Array:
        logits = kind.after(params, tokens, place)
        edges = cumulative(policy(logits[None]).probs)[0]
        uniform = uniforms[place]
        token = lanes.total_of(lambda edge: (uniform >= edge).astype(jnp.int32), 0, edges)
        return tokens.at[place].set(token)

    nothing = meshes.shared(jnp.zeros(uniforms.shape, jnp.int32), params, uniforms)
    return jax.lax.fori_loop(0, uniforms.shape[0], add, nothing)


def prefix_values(rewards: Array, probs: list[Array]) -> list[Array]:
    """``E[R | prefix]`` of every prefix of 0 to T tokens: ``[V ** t, *runs]`` each.

    Args:
        rewards: ``[V ** T, *runs]``, the first token slowest.
        probs: for each position ``[V ** t, V, *runs]``, after every prefix.
    """
    values = [rewards]
    for conditional in reversed(probs):
        value = values[-1].reshape(conditional.shape)
        values.append(lanes.total(value * conditional, 1))
    return values[::-1]


def advantages_at(rewards: Array, probs: list[Array], tokens: Array) -> Array:
    """``E[R | prefix, v] - E[R | prefix]`` at the prefixes of sequences, ``[T, V, N, *runs]``.

    Args:
        rewards: as for ``prefix_values``.
        probs: as for ``prefix_values``.
        tokens: ``[T, N, *runs]``.
    """
    values = prefix_values(rewards, probs)
    found = []
    index = jnp.zeros_like(tokens[0])
    for t, conditional in enumerate(probs):
        vocab_size = conditional.shape[1]
        if t:
            index = index * vocab_size + tokens[t - 1]
        worth = values[t + 1].reshape(conditional.shape) - values[t][:, None]
        found.append(
            jnp.stack([jnp.take_along_axis(worth[:, v], index, axis=0) for v in range(vocab_size)])
        )
    return jnp.stack(found)


def exact_entropy(probs: list[Array]) -> Array:
    """Entropy of a sequence in nats, by position: ``[*runs]``, from 0 to ``log V``."""
    reached = jnp.ones_like(probs[0][:, 0])
    total = jnp.zeros_like(reached[0])
    for conditional in probs:
        log = jnp.log(jnp.maximum(conditional, jnp.finfo(conditional.dtype).tiny))
        total = total - lanes.total(reached * lanes.total(conditional * log, 1), 0)
        reached = (reached[:, None] * conditional).reshape(-1, *reached.shape[1:])
    return total / len(probs)
