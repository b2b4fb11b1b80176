"""Values that are computed once however many read them.

XLA's CPU fusion computes an expensive producer again in every consumer, and drops
``optimization_barrier`` before it fuses. A conditional on a predicate that only the running program
knows is a boundary that it keeps. ``materialise`` is one primitive: such a conditional on a CPU,
and nothing but what it computes on other platforms.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.extend.core import (
    ClosedJaxpr,
    Jaxpr,
    JaxprEqn,
    Literal,
    Primitive,
    Var,
    get_opaque_trace_state,
    jaxpr_as_fun,
    new_jaxpr_eqn,
)
from jax.extend.core.primitives import cond_p
from jax.interpreters import ad, batching, mlir
from jax.interpreters import partial_eval as pe
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
    with _within(jnp.all(_of_numbers(jax.lax.stop_gradient(jnp.asarray(witness))))):
        yield


def _of_numbers(witness: Array) -> Array:
    # True of every number, NaN included: which is more than the compiler finds out.
    return (witness >= 0) | (witness < 1) | (witness != witness)


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
    return make() if always is None else _conditional(always, make)


def _inside(always: Array | None, make: Callable[[], Tree]) -> Tree:
    """``make()``, in what is traced now, where the predicate is at hand too."""
    if always is None:
        return make()
    with _within(always):
        return make()


def _at_hand() -> Array | None:
    boundary = _LOCAL.boundary
    here = boundary is not None and boundary.trace == get_opaque_trace_state()
    return boundary.always if boundary is not None and here else None


def where_any(mask: Array, special: Callable[[], Tree], usual: Tree, costly: bool = False) -> Tree:
    """``special()`` where the mask is true, ``usual`` elsewhere; their shapes are equal.

    On a CPU what is special is computed only if something of the mask asks for it; the others'
    numbers are the same either way. Elsewhere it is always computed, unless it is ``costly``: a
    conditional in a loop ends a fusion there and may wait for the host.
    """

    def both() -> Tree:
        return jax.tree.map(lambda one, other: jnp.where(mask, one, other), special(), usual)

    asked = jnp.any(mask)
    if not isinstance(asked, Tracer):
        return both() if asked else usual
    if costly:
        return jax.lax.cond(asked, both, lambda: usual)
    return _conditional(asked, both, lambda: usual)


def or_zeros(predicate: ArrayLike, make: Callable[[], Tree]) -> Tree:
    """``make()``, computed only where ``predicate`` is true; otherwise zeros of its shapes.

    On every platform: for what costs more than a conditional.
    """
    # Tracing is what a warm start waits for, and boundaries are nested: `make` is traced once, not
    # a second time for its shapes.
    traced: list[Any] = []
    always = _at_hand()

    def made() -> Tree:
        value = _inside(always, make)
        traced.append(jax.tree.map(jax.typeof, value))
        return value

    def zeros() -> Tree:
        shapes = traced[-1] if traced else jax.eval_shape(make)
        return jax.tree.map(_zeros_of_type, shapes)

    return jax.lax.cond(predicate, made, zeros)


def _zeros_of_type(kind: Any) -> Array:
    return varied(jnp.zeros(kind.shape, kind.dtype), varying(kind))


# --- the primitive -------------------------------------------------------------------------------

# Of a predicate and operands. Both parameters are jaxprs of the operands: on a CPU what ``made``
# computes if the predicate is true, and otherwise what ``other`` does, or zeros where that is None;
# elsewhere always what ``made`` does, which has to be the same number.
_materialise_p = Primitive("materialise")
_materialise_p.multiple_results = True


def _conditional(
    predicate: Array, make: Callable[[], Tree], otherwise: Callable[[], Tree] | None = None
) -> Tree:
    always = _at_hand()
    # A function that is traced again may close over something else by then; a new one never does.
    made, shapes = jax.make_jaxpr(lambda: _inside(always, make), return_shape=True)()
    closed = [made]
    if otherwise is not None:
        kinds = made.out_avals

        def alike() -> list[Array]:
            leaves = zip(jax.tree.leaves(otherwise()), kinds, strict=True)
            return [varied(leaf, varying(kind)) for leaf, kind in leaves]

        closed.append(jax.make_jaxpr(alike)())
    # What they close over are the operands.
    inputs = [var for each in closed for var in each.jaxpr.constvars]
    jaxprs = [_of_inputs(each.jaxpr, inputs) for each in closed]
    leaves = _materialise_p.bind(
        predicate,
        *(const for each in closed for const in each.consts),
        made=jaxprs[0],
        other=None if otherwise is None else jaxprs[1],
    )
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def _of_inputs(jaxpr: Jaxpr, inputs: Sequence[Var]) -> Jaxpr:
    names = jaxpr.debug_info._replace(arg_names=None)
    return jaxpr.replace(constvars=[], invars=list(inputs), debug_info=names)


def _function(jaxpr: Jaxpr) -> Callable[..., list[Array]]:
    return jaxpr_as_fun(ClosedJaxpr(jaxpr, []))


def _made(predicate: Array, *operands: Array, made: Jaxpr, other: Jaxpr | None) -> list[Array]:
    del predicate, other
    return _function(made)(*operands)


def _chosen(predicate: Array, *operands: Array, made: Jaxpr, other: Jaxpr | None) -> list[Array]:
    if other is None:
        kinds: list[Any] = [each.aval for each in made.outvars]
        zeros = jax.make_jaxpr(lambda *_: [_zeros_of_type(each) for each in kinds])
        otherwise = zeros(*(each.aval for each in made.invars))
    else:
        otherwise = ClosedJaxpr(other, [])
    # Of the jaxprs as they are: a conditional of functions would trace them once more.
    branches = otherwise, ClosedJaxpr(made, [])
    return cond_p.bind(predicate.astype(jnp.int32), *operands, branches=branches)


_materialise_p.def_impl(_made)
_materialise_p.def_abstract_eval(
    lambda *operands, made, other: [each.aval for each in made.outvars]
)
mlir.register_lowering(_materialise_p, mlir.lower_fun(_made, multiple_results=True))
mlir.register_lowering(
    _materialise_p, mlir.lower_fun(_chosen, multiple_results=True), platform="cpu"
)


def _linearised(primals: Any, tangents: Any, *, made: Jaxpr, other: Jaxpr | None) -> Any:
    predicate, *operands = primals
    moving = [not isinstance(each, ad.Zero) for each in tangents[1:]]
    at, along = (
        [each for each, moves in zip(values, moving, strict=True) if moves]
        for values in (operands, tangents[1:])
    )

    def moved(function: Callable[..., Any], *given: Array) -> Any:
        turn = iter(given)
        every = zip(operands, moving, strict=True)
        return function(*(next(turn) if moves else each for each, moves in every))

    if other is not None:
        either = partial(jax.lax.cond, predicate, _function(made), _function(other))
        return jax.jvp(partial(moved, either), at, along)
    # What is computed beside the values are the numbers that the derivative needs.
    values, derivative = _conditional(
        predicate, lambda: jax.linearize(partial(moved, _function(made)), *at)
    )
    return values, derivative(*along)


ad.primitive_jvps[_materialise_p] = _linearised


def _batched(arguments: Any, axes: Any, *, made: Jaxpr, other: Jaxpr | None) -> Any:
    predicate, *operands = arguments
    of_predicate, *of_operands = axes
    if of_predicate is not None:
        # It stays a conditional, where many predicates would make it a selection.
        predicate = jnp.any(predicate, of_predicate)
    jaxprs = [made] if other is None else [made, other]
    mapped = [
        any(each) for each in zip(*(_mapped(each, of_operands) for each in jaxprs), strict=True)
    ]
    out = [0 if each else None for each in mapped]
    if not any(each is not None for each in of_operands):
        return _materialise_p.bind(predicate, *operands, made=made, other=other), out
    many = [jax.vmap(_function(each), of_operands, out) for each in jaxprs]
    calls = [partial(each, *operands) for each in many]
    return _conditional(predicate, *calls), out


def _mapped(jaxpr: Jaxpr, axes: Sequence[int | None]) -> list[bool]:
    """Which of the outputs read any of the inputs that have an axis."""
    having = {var for var, axis in zip(jaxpr.invars, axes, strict=True) if axis is not None}

    def any_of(inputs: Sequence[Any]) -> bool:
        return any(not isinstance(each, Literal) and each in having for each in inputs)

    for equation in jaxpr.eqns:
        if any_of(equation.invars):
            having.update(equation.outvars)
    return [any_of([each]) for each in jaxpr.outvars]


batching.primitive_batchers[_materialise_p] = _batched


def _pruned(used: list[bool], equation: JaxprEqn) -> tuple[list[bool], JaxprEqn | None]:
    """Without the outputs that nobody reads, and the operands that only they read."""
    if not any(used):
        return [False] * len(equation.invars), None
    made, other = equation.params["made"], equation.params["other"]
    _, read = pe.dce_jaxpr(made, used)
    if other is not None:
        _, also = pe.dce_jaxpr(other, used)
        read = [one or two for one, two in zip(read, also, strict=True)]
        other, _ = pe.dce_jaxpr(other, used, read)
    made, _ = pe.dce_jaxpr(made, used, read)
    read = [True, *read]
    kept = new_jaxpr_eqn(
        [each for each, is_read in zip(equation.invars, read, strict=True) if is_read],
        [each for each, is_used in zip(equation.outvars, used, strict=True) if is_used],
        equation.primitive,
        {"made": made, "other": other},
        equation.effects,
        equation.source_info,
        equation.ctx,
    )
    return read, kept


pe.dce_rules[_materialise_p] = _pruned
