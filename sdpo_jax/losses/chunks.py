"""Formulas over the vocabulary, a few positions at a time.

A formula takes logits ``[..., T, V]`` to values ``[..., T]``, each position by itself. Taken whole
it makes several arrays as large as the logits, for its value and again for its gradient. In chunks
it makes them for a few positions; backwards each chunk's formula is computed again, and its
gradient is written over a copy of the logits, or over the logits themselves where nothing else
needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from sdpo_jax.losses import checks

# From logits [..., T, V], a pytree of arrays [..., T] or [..., T, V], and a pytree of numbers.
Formula = Callable[[Array, Any, Any], Array]


def in_chunks(
    formula: Formula, chunk: int | None, logits: Array, others: Any = (), numbers: Any = ()
) -> Array:
    """The formula's values, ``[..., T]``; only the logits get a gradient.

    Args:
        formula: hashable, the same for each chunk.
        chunk: how many positions at a time; all at once by default. In chunks there are no
            derivatives in forward mode, and none of second order.
        logits: ``[..., T, V]``.
        others: arrays ``[..., T]`` or ``[..., T, V]`` that are cut up as the logits are.
        numbers: what every chunk gets whole.

    Raises:
        ValueError: ``chunk`` is not a whole number, or below 1.
    """
    others, numbers = jax.tree.map(_without_gradient, (others, numbers))
    if chunk is None or checks.whole("chunk", chunk) >= logits.shape[-2]:
        return formula(logits, others, numbers)
    return _compiled(formula, chunk, logits, others, numbers)


def _without_gradient(leaf: Array) -> Array:
    return lax.stop_gradient(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _in_chunks(formula: Formula, chunk: int, logits: Array, others: Any, numbers: Any) -> Array:
    axis = logits.ndim - 2
    count, rest = divmod(logits.shape[axis], chunk)

    def values(start: Any, width: int) -> Array:
        part, other = _take(start, width, (logits, others), axis)
        return formula(part, other, numbers)

    # [chunks, ..., chunk] to [..., chunks x chunk].
    found = lax.map(lambda index: values(index * chunk, chunk), jnp.arange(count))
    found = jnp.moveaxis(found, 0, axis).reshape(*logits.shape[:axis], count * chunk)
    if not rest:
        return found
    return jnp.concatenate((found, values(count * chunk, rest)), axis=axis)


def _forward(
    formula: Formula, chunk: int, logits: Array, others: Any, numbers: Any
) -> tuple[Array, Any]:
    return _in_chunks(formula, chunk, logits, others, numbers), (logits, others, numbers)


def _backward(
    formula: Formula, chunk: int, residuals: Any, cotangent: Array
) -> tuple[Array, None, None]:
    logits, others, numbers = residuals
    axis = logits.ndim - 2
    count, rest = divmod(logits.shape[axis], chunk)

    def written(start: Any, width: int, gradient: Array) -> Array:
        # Where no gradient has been written yet there still are the logits.
        part, pull, other = _take(start, width, (gradient, cotangent, others), axis)
        _, pulled = jax.vjp(lambda part: formula(part, other, numbers), part)
        return lax.dynamic_update_slice_in_dim(gradient, pulled(pull)[0], start, axis)

    gradient = lax.fori_loop(
        0, count, lambda index, gradient: written(index * chunk, chunk, gradient), logits
    )
    return (written(count * chunk, rest, gradient) if rest else gradient), None, None


_in_chunks.defvjp(_forward, _backward)
# So that calls outside of any program trace it once.
_compiled = jax.jit(_in_chunks, static_argnums=(0, 1))


def _take(start: Any, width: int, arrays: Any, axis: int) -> Any:
    """The positions from ``start`` on of every array of a pytree."""
    return jax.tree.map(lambda array: lax.dynamic_slice_in_dim(array, start, width, axis), arrays)
