"""What every loss asks of its arrays, and how masks are applied.

A mask is true where a token counts; the others are masked out. It is applied twice: to what goes
into a formula and to what comes out. What is masked out, infinities and NaN included, then changes
no bit of a value or of a gradient. What counts is never hidden: of a NaN that counts the loss is
NaN.

What is known before a program runs is checked, and refused in one line. A number that is traced
can't be: outside its range it is NaN, and so is the loss.
"""

from __future__ import annotations

import operator
from collections.abc import Collection

import jax.numpy as jnp
import numpy as np
from jax import Array, dtypes, lax
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
    if dimensions == 2 and not array.shape[-1]:
        raise ValueError(f"{name}: of shape {array.shape}; allowed: a V of 1 or more")
    return array


def tokens(values: ArrayLike) -> Array:
    """An array of tokens, of at least 32 bits; those that fit no type here are outside of any V.

    Raises:
        ValueError: it is not of integers.
    """
    if isinstance(values, np.ndarray | np.generic) and values.dtype.kind in "iu":
        # Without 64 bits JAX would keep the lower half, which may be a token.
        most = jnp.iinfo(dtypes.canonicalize_dtype(values.dtype)).max
        values = np.where((values < 0) | (values > most), -1, values)
    array = jnp.asarray(values)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f"tokens: of type {array.dtype}; allowed: an integer type")
    # A type that may be too small to hold V.
    return array.astype(jnp.int32) if array.dtype.itemsize < 4 else array


def alike(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    """An array of just this shape; nothing is broadcast.

    Raises:
        ValueError: it has another.
    """
    if array.shape != shape:
        raise ValueError(f"{name}: of shape {array.shape}; allowed: {shape}")
    return array


def mask(where: ArrayLike | None, shape: tuple[int, ...]) -> Array | None:
    """The mask as booleans, of just this shape; ``None`` where there is none.

    Nothing is broadcast: a count of a smaller mask would be another than the sum's.

    Raises:
        ValueError: it has another shape, or see ``booleans``.
    """
    return None if where is None else alike("where", booleans("where", where), shape)


def booleans(name: str, values: ArrayLike) -> Array:
    """An array of booleans, or of integers 0 and 1, as booleans.

    Raises:
        ValueError: it is of another type, or holds other integers. Integers that are traced are
            not compared: all but 0 are true.
    """
    array = jnp.asarray(values)
    if array.dtype == jnp.bool_:
        return array
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f"{name}: of type {array.dtype}; allowed: booleans, or integers 0 and 1")
    if not isinstance(array, Tracer):
        found = np.asarray(array)
        others = found[(found != 0) & (found != 1)]
        if others.size:
            raise ValueError(f"{name}: holds {others[0]}; allowed: booleans, or integers 0 and 1")
    return array != 0


def kept(values: Array, where: Array | None) -> Array:
    """The values where the mask is true, and 0 elsewhere."""
    if where is None:
        return values
    where = where.reshape(where.shape + (1,) * (values.ndim - where.ndim))
    return jnp.where(where, values, jnp.zeros((), values.dtype))


def never_negative(values: Array) -> Array:
    """What is 0 or more but for rounding: 0 where rounding took it below, with its own gradient."""
    return jnp.where(values < 0, values - lax.stop_gradient(values), values)


def known(value: ArrayLike) -> float | None:
    """A number's value, where it has one already; ``None`` where it is traced."""
    return None if isinstance(value, Tracer) else float(np.asarray(value))


def number(
    name: str,
    value: ArrayLike,
    least: float,
    most: float | None = None,
    above: bool = False,
    finite: bool = False,
) -> Array:
    """A single number in its range; one that is traced is NaN outside of it.

    Args:
        name: of the parameter.
        value: the number.
        least: its least value.
        most: its largest; none by default.
        above: whether it has to be above its least value.
        finite: whether it may not be infinite.

    Raises:
        ValueError: it is not one number, or not in the range.
    """
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: {value!r}; allowed: one number") from None
    if array.ndim:
        raise ValueError(f"{name}: of shape {array.shape}; allowed: one number")
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        raise ValueError(f"{name}: of type {array.dtype}; allowed: one number")
    found = known(value)
    if found is None:
        found = within(array, least, most, above)
        return jnp.where(jnp.isinf(found), jnp.nan, found) if finite else found
    inside = (found > least if above else found >= least) and not (finite and np.isinf(found))
    if not (inside and (most is None or found <= most)):
        limit = f"above {least:g}" if above else f"{least:g} or more"
        limit = f"a finite number, {limit}" if finite else limit
        allowed = limit if most is None else f"{least:g} to {most:g}"
        raise ValueError(f"{name}: {found:g}; allowed: {allowed}")
    return array


def within(values: Array, least: float, most: float | None = None, above: bool = False) -> Array:
    """The values, and NaN in the place of those that are outside of a range."""
    inside = values > least if above else values >= least
    if most is not None:
        inside &= values <= most
    # Multiplied, so that its gradient is NaN, too.
    return jnp.where(inside, 1.0, jnp.nan) * wide(values)


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


def boolean(name: str, value: bool) -> bool:
    """True or false, known before a program is traced.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}: {value!r}; allowed: True, False")
    return bool(value)


def one_of(name: str, value: str, allowed: Collection[str]) -> str:
    """A name out of several.

    Raises:
        ValueError: it is none of them.
    """
    if value not in allowed:
        raise ValueError(f"{name}: {value!r}; allowed: {', '.join(allowed)}")
    return value
