"""What makes XLA's CPU code run one training run per SIMD lane.

Arrays keep a run's own axes in front and the runs behind, so the innermost loop is over runs. What
in XLA's CPU compiler still gets in the way is answered here and in ``materialise``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.xla_metadata import set_xla_metadata
from jax.typing import ArrayLike

Tree = TypeVar("Tree")

# Terms that are written out side by side: all of a short axis, so many at a time of a longer one.
# Of more, LLVM makes far slower code.
_WRITTEN_OUT = 32
_IN_A_LOOP = 16

# What a CPU kernel can't hold.
_CALLED = (
    "stablehlo.sort",
    "stablehlo.scatter",
    "stablehlo.custom_call",
    "stablehlo.fft",
    "chlo.top_k",
)


def total(values: Array, axis: int) -> Array:
    """Sum over one of the leading axes; see ``total_of``."""
    return total_of(lambda term: term, axis, values)


def total_of(term: Callable[..., Array], axis: int, *arrays: Array) -> Array:
    """Sum of ``term(*slices)`` over the slices of ``arrays`` along one of the leading axes.

    A fused ``reduce`` puts the summed axis into the innermost loop, where the lanes should be; a
    sum written out term by term is plain elementwise code. Long axes are summed in a loop.
    """
    return _folded(add, term, axis, *arrays)


def largest(values: Array, axis: int) -> Array:
    """Largest value over one of the leading axes; see ``total_of``."""
    return _folded(jnp.maximum, lambda term: term, axis, values)


def largest_number(values: Array, axis: int) -> Array:
    """Largest value over one of the leading axes, but NaN may or may not show.

    For what meets NaN elsewhere as well: a maximum that hands it on takes more instructions.
    """
    return _folded(lambda a, b: jnp.where(a > b, a, b), lambda term: term, axis, values)


def _folded(
    join: Callable[[Array, Array], Array], term: Callable[..., Array], axis: int, *arrays: Array
) -> Array:
    length = arrays[0].shape[axis]

    def terms(start: ArrayLike, count: int) -> Array:
        slices = (
            [jax.lax.dynamic_index_in_dim(x, start + i, axis, keepdims=False) for x in arrays]
            for i in range(count)
        )
        return reduce(join, (term(*each) for each in slices))

    if length <= _WRITTEN_OUT:
        return terms(0, length)
    rest = length % _IN_A_LOOP
    first = terms(0, rest or _IN_A_LOOP)
    return jax.lax.fori_loop(
        0 if rest else 1,
        length // _IN_A_LOOP,
        lambda fold, value: join(value, terms(rest + fold * _IN_A_LOOP, _IN_A_LOOP)),
        first,
    )


def mean(values: Array, axis: int) -> Array:
    """Mean over one of the leading axes; see ``total_of``."""
    return total(values, axis) / values.shape[axis]


def one_kernel(function: Callable[..., Tree], *arguments: Any) -> Tree:
    """``function(*arguments)``; on a CPU, compiled into one kernel that runs on one thread.

    XLA's CPU runtime starts a kernel for each loop of a program, which takes as long as the loop
    itself where that has a few thousand numbers to compute. It compiles a call that is marked so
    into one function, in which loops only follow each other. Elsewhere the mark means nothing.

    Args:
        function: of arrays; it must not close over traced ones, and its lowered form must pass
            ``fits_one_kernel``.
        arguments: trees of arrays.
    """

    def kernel(*arguments: Any) -> tuple[Tree, Array]:
        # The compiler can't make a kernel of which an argument is not read.
        leaves = (leaf for leaf in jax.tree.leaves(arguments) if leaf.size)
        read = (jnp.ravel(leaf)[0].astype(jnp.float32) for leaf in leaves)
        return function(*arguments), reduce(add, read)

    mark: Any = {"inlineable": "false", "xla_cpu_small_call": "true"}
    outcome: Any = set_xla_metadata(jax.jit(kernel)(*arguments), **mark)
    return jax.lax.optimization_barrier(outcome)[0]


def fits_one_kernel(lowered: str) -> bool:
    """Whether a lowered program (its text) has nothing that only the CPU's runtime can call.

    A user's metric or algorithm may have: a sort, a callback, a decomposition of a matrix.
    """
    return not any(name in lowered for name in _CALLED)


def is_used(weight: Array) -> tuple[Array, Array]:
    """A weight, and whether any of it is above 0 or it is differentiated.

    What is only multiplied by a weight need not be computed where that is 0, but for its
    derivative, which is what the weight is multiplied by.
    """
    weight, used = _with_use(weight)
    return weight, used > 0


@jax.custom_jvp
def _with_use(weight: Array) -> tuple[Array, Array]:
    # Not a bool, whose tangent could not say that it varies over a mesh.
    return weight, jnp.any(weight > 0).astype(weight.dtype)


@_with_use.defjvp
def _where_differentiated(primals: Any, tangents: Any) -> Any:
    weight, used = _with_use(*primals)
    return (weight, used * 0 + 1), (tangents[0], used * 0)


def over_runs(function: Callable[..., Tree], axes: int) -> Callable[..., Tree]:
    """Map a function of one run over so many trailing axes of the runs, of every array."""
    for _ in range(axes):
        function = jax.vmap(function, in_axes=-1, out_axes=-1)
    return function
