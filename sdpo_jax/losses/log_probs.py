"""Log probabilities of tokens, and the entropy, from logits.

    token_log_probs   log pi(s_t) = l[s_t] - log sum_v exp l[v]
    entropy           H(pi) = -sum_v pi[v] log pi[v]

Both at a temperature tau, ``l / tau``. The entropy is what a bonus for exploration takes:
``loss - coefficient * entropy``.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from sdpo_jax.losses import checks
from sdpo_jax.losses.chunks import in_chunks


def token_log_probs(
    logits: ArrayLike,
    tokens: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    chunk: int | None = None,
) -> Array:
    """The log probability of each token, ``[..., T]``.

    Args:
        logits: ``[..., T, V]``; position t holds the distribution of token t.
        tokens: ``[..., T]`` integers in ``[0, V)``. Of one outside it value and gradient are NaN,
            unless it is masked out.
        temperature: above 0; the logits are divided by it.
        where: mask ``[..., T]``; where it is false the value and its gradient are 0.
        chunk: positions at a time (see ``chunks.in_chunks``).

    Raises:
        ValueError: an argument of another shape, type or range.
    """
    logits = checks.floating("logits", logits, 2)
    tokens = checks.alike("tokens", checks.tokens(tokens), logits.shape[:-1])
    mask = checks.mask(where, logits.shape[:-1])
    heat = checked_temperature(temperature)
    return in_chunks(_token_log_probs, chunk, logits, (tokens, mask), heat)


def entropy(
    logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    chunk: int | None = None,
) -> Array:
    """The entropy in nats at each position, ``[..., T]``, from 0 to ``log V``.

    Args:
        logits: ``[..., T, V]``.
        temperature: above 0; the logits are divided by it.
        where: mask ``[..., T]``; where it is false the value and its gradient are 0.
        chunk: positions at a time (see ``chunks.in_chunks``).

    Raises:
        ValueError: an argument of another shape, type or range.
    """
    logits = checks.floating("logits", logits, 2)
    mask = checks.mask(where, logits.shape[:-1])
    return in_chunks(_entropy, chunk, logits, mask, checked_temperature(temperature))


def checked_temperature(temperature: ArrayLike) -> Array | None:
    """Above 0; ``None`` where it is known to be 1, which changes nothing.

    Raises:
        ValueError: it is not one number above 0.
    """
    found = checks.number("temperature", temperature, 0, above=True)
    return None if checks.known(temperature) == 1 else found


def tempered(logits: Array, mask: Array | None, temperature: Array | None) -> Array:
    """The logits at a temperature, in float32 or more; 0 where they are masked out."""
    logits = checks.kept(checks.wide(logits), mask)
    if temperature is None:
        return logits
    # A forbidden token is that at any temperature: -inf has no part in a derivative by it.
    forbidden = logits == -jnp.inf
    allowed = jnp.where(forbidden, 0.0, logits) / temperature
    return jnp.where(forbidden, logits / lax.stop_gradient(temperature), allowed)


def _token_log_probs(logits: Array, others: Any, temperature: Array | None) -> Array:
    tokens, mask = others
    log_probs = jax.nn.log_softmax(tempered(logits, mask, temperature))
    inside = (tokens >= 0) & (tokens < log_probs.shape[-1])
    # A comparison where others gather: its gradient is no scatter, and V may be sharded. Of a token
    # outside it is that of another, times NaN: value and gradient.
    place = jnp.where(inside, tokens, 0)
    vocabulary = lax.broadcasted_iota(place.dtype, log_probs.shape, log_probs.ndim - 1)
    chosen = jnp.where(vocabulary == place[..., None], log_probs, 0.0).sum(-1)
    return checks.kept(jnp.where(inside, 1.0, jnp.nan), mask) * chosen


def _entropy(logits: Array, mask: Array | None, temperature: Array | None) -> Array:
    log_probs = jax.nn.log_softmax(tempered(logits, mask, temperature))
    probs = jnp.exp(log_probs)
    # 0 log 0 = 0; not "above 0", so that NaN stays in the sum.
    terms = probs * jnp.where(probs != 0, log_probs, 0.0)
    return checks.kept(0.0 - terms.sum(-1), mask)
