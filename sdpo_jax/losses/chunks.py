"""Formulas over the vocabulary, a few positions at a time.

A formula takes logits ``[..., T, V]`` to values ``[..., T]``, each position by itself. Taken whole
it makes several arrays as large as the logits, for its value and again for its gradient. In chunks
it makes them for a few positions. Where a gradient is wanted it is computed with the value, chunk
by chunk, and written over a copy of the logits, or over the logits themselves where nothing else
needs them; backwards it is only scaled (so logits in half precision get a gradient that was rounded
twice).
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
    def values(carry: tuple[()], start: Any, width: int) -> tuple[tuple[()], Array]:
        part, other = _take(start, width, (logits, others), logits.ndim - 2)
        return carry, formula(part, other, numbers)

    return _over_chunks(values, chunk, logits.shape[:-1], ())[1]


def _forward(
    formula: Formula, chunk: int, logits: Array, others: Any, numbers: Any
) -> tuple[Array, Array]:
    axis = logits.ndim - 2

    def values(gradient: Array, start: Any, width: int) -> tuple[Array, Array]:
        # Where no gradient has been written yet there still are the logits.
        part, other = _take(start, width, (gradient, others), axis)
        found, pull = jax.vjp(lambda part: formula(part, other, numbers), part)
        (own,) = pull(jnp.ones_like(found))
        return lax.dynamic_update_slice_in_dim(gradient, own, start, axis), found

    gradient, found = _over_chunks(values, chunk, logits.shape[:-1], logits)
    return found, gradient


def _backward(
    formula: Formula, chunk: int, gradient: Array, cotangent: Array
) -> tuple[Array, None, None]:
    return (gradient * cotangent[..., None]).astype(gradient.dtype), None, None


_in_chunks.defvjp(_forward, _backward)
# So that calls outside of any program trace it once.
_compiled = jax.jit(_in_chunks, static_argnums=(0, 1), inline=True)


def _over_chunks(
    values: Callable[[Any, Any, int], tuple[Any, Array]],
    chunk: int,
    shape: tuple[int, ...],
    carry: Any,
) -> tuple[Any, Array]:
    """The values of all chunks, of this shape ``[..., T]``; the last chunk may be shorter."""
    axis = len(shape) - 1
    count, rest = divmod(shape[axis], chunk)
    carry, found = lax.scan(
        lambda carry, index: values(carry, index * chunk, chunk), carry, jnp.arange(count)
    )
    # [chunks, ..., chunk] to [..., chunks x chunk].
    found = jnp.moveaxis(found, 0, axis).reshape(*shape[:-1], count * chunk)
    if not rest:
        return carry, found
    carry, last = values(carry, count * chunk, rest)
    return carry, jnp.concatenate((found, last), axis=axis)


def _take(start: Any, width: int, arrays: Any, axis: int) -> Any:
    """The positions from ``start`` on of every array of a pytree."""
    return jax.tree.map(lambda array: lax.dynamic_slice_in_dim(array, start, width, axis), arrays)
