"""What every loss asks of its arrays, and how masks are applied.

A mask is applied twice: to what goes into a formula and to what comes out. What lies under it,
infinities and NaN included, then changes no bit of a value or of a gradient.
"""

from __future__ import annotations

import operator
from collections.abc import Collection

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike


def wide(values: ArrayLike) -> Array:
    """The values in float32, or in float64 where that is what they are."""
    array = jnp.asarray(values)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def floating(name: str, values: ArrayLike, dimensions: int = 0) -> Array:
    """An array of real numbers with at least so many axes.

    Raises:
        ValueError: it has another type, or fewer axes.
    """
    array = jnp.asarray(values)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{name}: of type {array.dtype}; allowed: a floating-point type")
    if array.ndim < dimensions:
        axes = ("a number", "[..., T]", "[..., T, V]")[dimensions]
        raise ValueError(f"{name}: of shape {array.shape}; allowed: {axes}")
    return array


def alike(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    """An array of just this shape; nothing is broadcast.

    Raises:
        ValueError: it has another.
    """
    if array.shape != shape:
        raise ValueError(f"{name}: of shape {array.shape}; allowed: {shape}")
    return array


def mask(where: ArrayLike | None, shape: tuple[int, ...]) -> Array | None:
    """The mask as booleans of a shape; ``None`` where there is none.

    A mask over sequences would fit along the tokens where there are as many of them, so that none
    is broadcast from fewer axes.

    Raises:
        ValueError: it is not of booleans or integers, or has other axes than the shape.
    """
    if where is None:
        return None
    array = jnp.asarray(where)
    if jnp.issubdtype(array.dtype, jnp.integer):
        array = array != 0
    if array.dtype != jnp.bool_:
        raise ValueError(f"where: of type {array.dtype}; allowed: booleans, or integers 0 and 1")
    fits = len(array.shape) == len(shape) and all(
        found in (1, size) for found, size in zip(array.shape, shape, strict=True)
    )
    if array.ndim and not fits:
        allowed = f"{shape}, or 1 along an axis"
        raise ValueError(f"where: of shape {array.shape}; allowed: {allowed}")
    return jnp.broadcast_to(array, shape)


def kept(values: Array, where: Array | None) -> Array:
    """The values where the mask is true, and 0 elsewhere."""
    if where is None:
        return values
    where = where.reshape(where.shape + (1,) * (values.ndim - where.ndim))
    return jnp.where(where, values, jnp.zeros((), values.dtype))


def known(value: ArrayLike) -> float | None:
    """A number's value, where it has one already; ``None`` where it is traced."""
    return None if isinstance(value, Tracer) else float(np.asarray(value))


def number(
    name: str, value: ArrayLike, least: float, most: float | None = None, above: bool = False
) -> Array:
    """A single number in its range; one that is traced is not compared.

    Args:
        name: of the parameter.
        value: the number.
        least: its least value.
        most: its largest; none by default.
        above: whether it has to be above its least value.

    Raises:
        ValueError: it is not one number, or not in the range.
    """
    array = jnp.asarray(value)
    if array.ndim:
        raise ValueError(f"{name}: of shape {array.shape}; allowed: one number")
    found = known(value)
    if found is not None:
        inside = found > least if above else found >= least
        if not (inside and (most is None or found <= most)):
            limit = f"above {least:g}" if above else f"{least:g} or more"
            allowed = limit if most is None else f"{least:g} to {most:g}"
            raise ValueError(f"{name}: {found:g}; allowed: {allowed}")
    return array


def whole(name: str, value: int, least: int = 1) -> int:
    """A whole number, known before a program is traced.

    Raises:
        ValueError: it is not one, or below the least.
    """
    try:
        found = operator.index(value)
    except TypeError:
        found = None
    if found is None or isinstance(value, bool) or found < least:
        raise ValueError(f"{name}: {value!r}; allowed: a whole number, {least} or more")
    return found


def one_of(name: str, value: str, allowed: Collection[str]) -> str:
    """A name out of several.

    Raises:
        ValueError: it is none of them.
    """
    if value not in allowed:
        raise ValueError(f"{name}: {value!r}; allowed: {', '.join(allowed)}")
    return value
