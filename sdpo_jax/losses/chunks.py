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
    taken = partial(_take, axis=axis)

    def body(start: Any, width: int, values: Array) -> Array:
        part, other = jax.tree.map(partial(taken, start, width), (logits, others))
        return _put(values, formula(part, other, numbers), start, axis)

    found = jax.eval_shape(formula, logits, others, numbers)
    return _over_chunks(logits.shape[axis], chunk, body, jnp.zeros(found.shape, found.dtype))


def _forward(
    formula: Formula, chunk: int, logits: Array, others: Any, numbers: Any
) -> tuple[Array, Any]:
    return _in_chunks(formula, chunk, logits, others, numbers), (logits, others, numbers)


def _backward(
    formula: Formula, chunk: int, residuals: Any, cotangent: Array
) -> tuple[Array, None, None]:
    logits, others, numbers = residuals
    axis = logits.ndim - 2

    def body(start: Any, width: int, gradient: Array) -> Array:
        # Where no gradient has been written yet there still are the logits.
        part, pull, other = jax.tree.map(
            lambda each: _take(start, width, each, axis=axis), (gradient, cotangent, others)
        )
        _, pulled = jax.vjp(lambda part: formula(part, other, numbers), part)
        return _put(gradient, pulled(pull)[0], start, axis)

    return _over_chunks(logits.shape[axis], chunk, body, logits), None, None


_in_chunks.defvjp(_forward, _backward)
# So that calls outside of any program trace it once.
_compiled = jax.jit(_in_chunks, static_argnums=(0, 1))


def _over_chunks(
    length: int, chunk: int, body: Callable[[Any, int, Array], Array], array: Array
) -> Array:
    """``body(start, width, array)`` for each chunk; the last may be shorter."""
    count, rest = divmod(length, chunk)
    array = lax.fori_loop(0, count, lambda index, array: body(index * chunk, chunk, array), array)
    return body(count * chunk, rest, array) if rest else array


def _take(start: Any, width: int, array: Array, *, axis: int) -> Array:
    return lax.dynamic_slice_in_dim(array, start, width, axis)


def _put(array: Array, part: Array, start: Any, axis: int) -> Array:
    return lax.dynamic_update_slice_in_dim(array, part, start, axis)
