"""Formulas over the vocabulary, a few positions at a time.

A formula takes logits ``[..., T, V]`` to values ``[..., T]``, each position by itself. Taken whole
it makes several arrays as large as the logits, for its value and again for its gradient. In chunks
it makes them for a few positions. Where a gradient is wanted it is computed with the value, chunk
by chunk, and written over a copy of the logits, or over the logits themselves where nothing else
needs them; backwards it is only scaled (so logits in half precision get a gradient that was rounded
twice). Numbers of the formula, such as a temperature, get their gradient where one is asked for:
then the derivative of each value by each number is computed with it.

Reverse mode has all derivatives, in chunks or not: ``jax.grad``, and of second order
``jax.hessian`` and ``jax.jvp`` of ``jax.grad``. Forward mode of the loss itself (``jax.jvp``,
``jax.jacfwd``) is for formulas that are taken whole; in chunks JAX refuses it with a TypeError.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from sdpo_jax.losses import checks

# From logits [..., T, V], a pytree of arrays [..., T] or [..., T, V], and a pytree of numbers.
Formula = Callable[[Array, Any, Any], Array]


def in_chunks(
    formula: Formula, chunk: int | None, logits: Array, others: Any = (), numbers: Any = ()
) -> Array:
    """The formula's values, ``[..., T]``; the logits and the numbers get a gradient.

    Args:
        formula: hashable, the same for each chunk.
        chunk: how many positions at a time; all at once by default. In chunks the loss itself has
            no derivative in forward mode (``jax.jvp``, ``jax.jacfwd``).
        logits: ``[..., T, V]``.
        others: arrays ``[..., T]`` or ``[..., T, V]`` that are cut up as the logits are; without a
            gradient.
        numbers: what every chunk gets whole, a pytree of single numbers.

    Raises:
        ValueError: ``chunk`` is not a whole number, or below 1.
    """
    others = jax.tree.map(_without_gradient, others)
    numbers = jax.tree.map(checks.wide, numbers)
    if chunk is None or checks.whole("chunk", chunk) >= logits.shape[-2]:
        return formula(logits, others, numbers)
    return _compiled(formula, chunk, *_varying_alike((logits, others, numbers)))


def _varying_alike(tree: Any) -> Any:
    """In ``shard_map``: all arrays differ between devices where one does.

    So a gradient has the type of what it is a gradient by; it is summed over devices outside.
    """
    axes = [jax.typeof(leaf).manual_axis_type.varying for leaf in jax.tree.leaves(tree)]
    every = frozenset().union(*axes)
    leaves, structure = jax.tree.flatten(tree)
    cast = [
        lax.pcast(leaf, tuple(sorted(every - own)), to="varying") if every - own else leaf
        for leaf, own in zip(leaves, axes, strict=True)
    ]
    return jax.tree.unflatten(structure, cast)


def _without_gradient(leaf: Array) -> Array:
    return lax.stop_gradient(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _in_chunks(formula: Formula, chunk: int, logits: Array, others: Any, numbers: Any) -> Array:
    def values(carry: tuple[()], start: Any, width: int) -> tuple[tuple[()], Array]:
        part, other = _take(start, width, (logits, others), logits.ndim - 2)
        return carry, formula(part, other, numbers)

    return _over_chunks(values, chunk, logits.shape[:-1], ())[1]


def _forward(
    formula: Formula, chunk: int, *primals: Any
) -> tuple[Array, tuple[Array | None, list[Array | None], Any]]:
    # Each leaf says whether a gradient by it is asked for.
    logits, others, numbers = jax.tree.map(lambda leaf: leaf.value, primals)
    asked = [leaf.perturbed for leaf in jax.tree.leaves(primals[2])]
    by_logits = primals[0].perturbed
    axis = logits.ndim - 2

    def values(gradient: Array, start: Any, width: int) -> tuple[Array, tuple[Array, ...]]:
        # Where no gradient has been written yet there still are the logits.
        part, other = _take(start, width, (gradient, others), axis)
        if by_logits:
            found, pull = jax.vjp(lambda part: formula(part, other, numbers), part)
            (own,) = pull(jnp.ones_like(found))
            gradient = lax.dynamic_update_slice_in_dim(gradient, own, start, axis)
        else:
            found = formula(part, other, numbers)
        return gradient, (found, *_derivatives(formula, asked, part, other, numbers))

    gradient, (found, *slopes) = _over_chunks(values, chunk, logits.shape[:-1], logits)
    rest = iter(slopes)
    by_number = [next(rest) if each else None for each in asked]
    return found, (gradient if by_logits else None, by_number, numbers)


def _derivatives(
    formula: Formula, asked: list[bool], part: Array, other: Any, numbers: Any
) -> list[Array]:
    """Of a chunk's values by each number of which it is asked, ``[..., chunk]`` each."""
    leaves, structure = jax.tree.flatten(numbers)

    def by(place: int) -> Array:
        def of(number: Array) -> Array:
            changed = [*leaves[:place], number, *leaves[place + 1 :]]
            return formula(part, other, jax.tree.unflatten(structure, changed))

        return jax.jvp(of, (leaves[place],), (jnp.ones_like(leaves[place]),))[1]

    return [by(place) for place, each in enumerate(asked) if each]


def _backward(
    formula: Formula, chunk: int, kept: tuple[Array | None, list[Array | None], Any], cotangent: Any
) -> tuple[Array | None, None, Any]:
    gradient, slopes, numbers = kept
    leaves, structure = jax.tree.flatten(numbers)
    if isinstance(cotangent, SymbolicZero):
        return None, None, jax.tree.unflatten(structure, [None] * len(leaves))
    by_number = [
        None if slope is None else (slope * cotangent).sum().astype(leaf.dtype)
        for slope, leaf in zip(slopes, leaves, strict=True)
    ]
    scaled = None
    if gradient is not None:
        scaled = (gradient * cotangent[..., None]).astype(gradient.dtype)
    return scaled, None, jax.tree.unflatten(structure, by_number)


_in_chunks.defvjp(_forward, _backward, symbolic_zeros=True)
# So that calls outside of any program trace it once.
_compiled = jax.jit(_in_chunks, static_argnums=(0, 1), inline=True)


def _over_chunks(
    values: Callable[[Any, Any, int], tuple[Any, Any]],
    chunk: int,
    shape: tuple[int, ...],
    carry: Any,
) -> tuple[Any, Any]:
    """The values of all chunks, each of this shape ``[..., T]``; the last chunk may be shorter."""
    axis = len(shape) - 1
    count, rest = divmod(shape[axis], chunk)
    carry, found = lax.scan(
        lambda carry, index: values(carry, index * chunk, chunk), carry, jnp.arange(count)
    )
    # [chunks, ..., chunk] to [..., chunks x chunk].
    found = jax.tree.map(
        lambda each: jnp.moveaxis(each, 0, axis).reshape(*shape[:-1], count * chunk), found
    )
    if not rest:
        return carry, found
    carry, last = values(carry, count * chunk, rest)
    joined = jax.tree.map(lambda *each: jnp.concatenate(each, axis=axis), found, last)
    return carry, joined


def _take(start: Any, width: int, arrays: Any, axis: int) -> Any:
    """The positions from ``start`` on of every array of a pytree."""
    return jax.tree.map(lambda array: lax.dynamic_slice_in_dim(array, start, width, axis), arrays)
