"""What is checked of an argument before anything is traced, and how an error names it.

Every error is one line, ``"field: value; allowed: ..."``. Of values that are
traced, type and shape can be checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from sdpo_jax.engine import meshes

# Longer values are cut in messages.
_SHOWN = 80

# What NumPy raises where it can't make an array of an object.
_NO_ARRAY = (TypeError, ValueError, OverflowError, RecursionError)

_Function = TypeVar("_Function", bound=Callable[..., Any])

REAL, WHOLE = "iuf", "iu"

# Integers shape arrays and count steps, as int32.
MAX_INTEGER = 2**31 - 1


def under_own_settings(function: _Function) -> _Function:
    """Run a function under the settings of JAX that this library is written for.

    Arrays have the runs behind their own axes, so ranks are promoted everywhere; and what is known
    before anything is traced is NumPy's. Whoever forbids either to find slips of his own would find
    ours alone. Over a mesh with explicit axes the compiler shards what is inside.
    """

    @wraps(function)
    def settled(*arguments: Any, **options: Any) -> Any:
        with (
            jax.numpy_rank_promotion("allow"),
            jax.numpy_dtype_promotion("standard"),
            jax.transfer_guard("allow"),
        ):
            axes = meshes.explicit_axes()
            if axes:
                return meshes.automatic(function, axes, arguments, options)
            return function(*arguments, **options)

    return cast(_Function, settled)


def shown(value: object) -> str:
    """A value as one short line of a message."""
    if isinstance(value, Array | np.ndarray):
        return f"{value.dtype} array of shape {value.shape}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # A ``repr`` may fail in any way; the message is about the value, not it.
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def is_traced(value: object) -> bool:
    """Whether any leaf of a tree is traced."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))


def of_type(name: str, value: object, kind: type) -> None:
    """Refuse what is no ``kind``, and subclasses: no program would be given what they add.

    Raises:
        ValueError: the field, the value and what is allowed, in one line.
    """
    if type(value) is not kind:
        given = f"a {type(value).__name__}" if isinstance(value, kind) else shown(value)
        raise ValueError(f"{name}: {given}; allowed: a {kind.__name__}, and no subclass of it")


def can_be_key(
    what: str, value: object, allowed: str = "what can be a key, as functions can"
) -> None:
    """Refuse what has no hash: compiled programs are kept by what they are of.

    Args:
        what: the field and how the value is shown.
        value: a part of a program.
        allowed: what is allowed, for the message.

    Raises:
        ValueError: in one line.
    """
    try:
        hash(value)
    except TypeError as error:
        raise ValueError(f"{what} has no hash; allowed: {allowed}") from error


def numbers(name: str, value: Any, allowed: str, kinds: str = REAL) -> Any:
    """A value as an array of numbers: NumPy's, or JAX's own where it was one.

    Args:
        name: of the field.
        value: what was given.
        allowed: what is allowed, for the message.
        kinds: the kinds of types that are, as NumPy's ``dtype.kind`` has them.

    Raises:
        ValueError: no number, or one of another kind, in one line.
    """
    if isinstance(value, Array):
        array, kind = value, _kind(value.dtype)
    else:
        try:
            array = None if isinstance(value, np.ma.MaskedArray) else np.asarray(value)
        except _NO_ARRAY:
            array = None
        kind = "" if array is None else _kind(array.dtype)
    if not kind or kind not in kinds:
        raise ValueError(f"{name}: {shown(value)}; allowed: {allowed}")
    return array


def finite(name: str, value: Any, allowed: str = "finite numbers") -> Any:
    """``numbers``, none of them infinite or NaN where they are not traced.

    Raises:
        ValueError: the field, the value and what is allowed, in one line.
    """
    array = numbers(name, value, allowed)
    if not isinstance(array, Tracer):
        concrete = on_host(array)
        # As float32, which is what programs are given.
        with np.errstate(over="ignore"):
            wrong = concrete[~np.isfinite(concrete.astype(np.float32))]
        if wrong.size:
            raise ValueError(f"{name}: {float(wrong.flat[0])!r}; allowed: {allowed}")
    return array


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """One integer.

    Raises:
        ValueError: the field, the value and what is allowed, in one line.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        allowed = f"integers, {low} or more" if high is None else f"integers, {low} to {high}"
        raise ValueError(f"{name}: {shown(value)}; allowed: {allowed}")
    if value > MAX_INTEGER:
        raise ValueError(f"{name}: {shown(value)}; allowed: up to {MAX_INTEGER}")
    return int(value)


def over_runs(name: str, value: Any, runs: tuple[int, ...], own: Sequence[int] = ()) -> None:
    """Check that a value has its own axes and behind them none, or those of the runs.

    Raises:
        ValueError: the field, its shape and what is allowed, in one line.
    """
    shape, own = np.shape(value), tuple(own)
    behind = shape[len(own) :]
    try:
        fits = shape[: len(own)] == own and np.broadcast_shapes(behind, runs) == runs
    except ValueError:
        fits = False
    if not fits:
        shapes = dict.fromkeys(((*own, *runs), own))
        raise ValueError(
            f"{name}: shape {shape}; allowed: {' or '.join(map(str, shapes))}, "
            f"as the runs have shape {runs}"
        )


def as_float32(value: Any) -> Any:
    """Numbers as float32, whatever JAX's default is; those of JAX's own stay on their device."""
    if isinstance(value, Array):
        return value.astype(jnp.float32)
    with np.errstate(over="ignore"):
        return np.asarray(value, np.float32)[()]


def on_host(array: Any) -> np.ndarray:
    """A concrete array as NumPy's, by a transfer that is asked for."""
    return np.asarray(jax.device_get(array))


def _kind(dtype: Any) -> str:
    if jnp.issubdtype(dtype, jnp.floating):
        return "f"
    return dtype.kind if isinstance(dtype, np.dtype) else ""


def name_of(function: Any) -> str:
    """What a function is called: its ``__name__``, that of what it wraps, or its class's."""
    if isinstance(function, partial):
        return name_of(function.func)
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__
