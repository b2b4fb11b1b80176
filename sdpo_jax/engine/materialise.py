"""Values that are computed once however many read them.

XLA's CPU fusion computes an expensive producer again in every consumer, and drops
``optimization_barrier`` before it fuses. A conditional on a predicate that only the running program
knows is a boundary that it keeps. On other platforms the predicate is a constant, and the compiler
takes the conditional away.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive, get_opaque_trace_state
from jax.interpreters import batching, mlir
from jax.typing import ArrayLike

from sdpo_jax.engine.meshes import varied, varying

Tree = TypeVar("Tree")


class _Boundary(NamedTuple):
    """Where ``materialise`` has a predicate at hand.

    Attributes:
        always: scalar bool, true, which the compiler does not know.
        trace: what was being traced when it was made. Elsewhere, as in a function that is compiled
            by itself and kept, it can't be used.
    """

    always: Array
    trace: Any


class _Local(threading.local):
    boundary: _Boundary | None = None


_LOCAL = _Local()


@contextlib.contextmanager
def boundaries(witness: ArrayLike) -> Iterator[None]:
    """While this holds, ``materialise`` makes boundaries.

    Args:
        witness: any number that is traced, so that the compiler can't know its value.
    """
    with _within(jnp.all(_always_p.bind(jax.lax.stop_gradient(jnp.asarray(witness))))):
        yield


@contextlib.contextmanager
def _within(always: Array) -> Iterator[None]:
    before = _LOCAL.boundary
    _LOCAL.boundary = _Boundary(always, get_opaque_trace_state())
    try:
        yield
    finally:
        _LOCAL.boundary = before


def materialise(make: Callable[[], Tree]) -> Tree:
    """``make()``, computed once, for what more than one consumer reads.

    A tool that makes code faster and changes no value; outside of ``boundaries`` it does nothing.
    """
    always = _at_hand()
    return make() if always is None else or_zeros(always, make)


def _at_hand() -> Array | None:
    boundary = _LOCAL.boundary
    here = boundary is not None and boundary.trace == get_opaque_trace_state()
    return boundary.always if boundary is not None and here else None


def or_zeros(predicate: ArrayLike, make: Callable[[], Tree]) -> Tree:
    """``make()``, computed only where ``predicate`` is true; otherwise zeros of its shapes."""
    # Tracing is what a warm start waits for, and boundaries are nested: `make` is traced once, not
    # a second time for its shapes.
    traced: list[Any] = []

    always = _at_hand()

    def made() -> Tree:
        with contextlib.nullcontext() if always is None else _within(always):
            value = make()
        traced.append(jax.tree.map(jax.typeof, value))
        return value

    def zeros() -> Tree:
        shapes = traced[-1] if traced else jax.eval_shape(make)
        return jax.tree.map(_zeros_of_type, shapes)

    return jax.lax.cond(predicate, made, zeros)


def _zeros_of_type(kind: Any) -> Array:
    return varied(jnp.zeros(kind.shape, kind.dtype), varying(kind))


# To bool: true of every number, NaN included.
_always_p = Primitive("always")


def _of_numbers(witness: ArrayLike) -> Array:
    # Which is more than the compiler finds out.
    witness = jnp.asarray(witness)
    return (witness >= 0) | (witness < 1) | (witness != witness)


def _constant(witness: ArrayLike) -> Array:
    return jnp.ones(jnp.shape(witness), bool)


_always_p.def_impl(_of_numbers)
_always_p.def_abstract_eval(lambda witness: witness.update(dtype=jnp.dtype(bool), weak_type=False))
mlir.register_lowering(_always_p, mlir.lower_fun(_constant, multiple_results=False))
mlir.register_lowering(
    _always_p, mlir.lower_fun(_of_numbers, multiple_results=False), platform="cpu"
)
batching.defvectorized(_always_p)
