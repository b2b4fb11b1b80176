"""What a rollout's number is worth beside those of its batch.

    less_mean      A_i = R_i - mean R
    standardised   A_i = (R_i - mean R) / (std R + 1e-6),   std with N - 1 in its denominator

Equal numbers are worth exactly 0. In float32 the mean of N equal numbers is not always that number;
the rounding error that is left would be a push of any size, once it is divided by itself.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

# So many roundings apart, rewards that should be the same may be.
_ROUNDINGS = 4


def less_mean(values: Array, axis: int = 0) -> Array:
    """Each number less the mean along one of the leading axes; exactly 0 where all are equal."""
    centred = values - values.mean(axis, keepdims=True)
    # A number less itself: it has the derivative of what it stands for.
    nothing = centred - jax.lax.stop_gradient(centred)
    return jnp.where(equal(values, axis), nothing, centred)


def standardised(values: Array) -> Array:
    """Numbers ``[N, *runs]`` less their mean, by their spread; exactly 0 where all are equal."""
    # Differences first: a spread that is small beside the numbers is not lost in their mean.
    centred = jnp.where(equal(values, 0), 0.0, less_mean(values - values[:1]))
    variance = (centred * centred).sum(0) / max(values.shape[0] - 1, 1)
    return centred / (jnp.sqrt(jnp.where(variance > 0, variance, 1.0)) + 1e-6)


def equal(values: Array, axis: int) -> Array:
    """Whether all numbers along an axis are the same, but for a few roundings; the axis is kept.

    NaN and infinities are not equal to anything.
    """
    first = jax.lax.slice_in_dim(values, 0, 1, axis=axis)
    furthest = jnp.abs(values - first).max(axis, keepdims=True)
    few = furthest <= _ROUNDINGS * jnp.finfo(values.dtype).eps * jnp.abs(first)
    return few & jnp.isfinite(first)
