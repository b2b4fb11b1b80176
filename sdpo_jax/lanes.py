"""What makes XLA's CPU code run one training run per SIMD lane.

Arrays keep a run's own axes in front and the runs behind, so the innermost loop is over runs. Two
things in XLA's CPU compiler still get in the way, and this file holds the answer to both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

Tree = TypeVar("Tree")

_UNROLLED = 64


def total(values: Array, axis: int) -> Array:
    """Sum over one of the leading axes, ``values.sum(axis)``, term by term.

    A fused ``reduce`` puts the summed axis into the innermost loop, where the lanes should be; a
    written-out sum is plain elementwise code. Long axes are folded to 64 terms first.
    """
    length = values.shape[axis]
    if length > _UNROLLED:
        folds = length // _UNROLLED
        body = jax.lax.slice_in_dim(values, 0, folds * _UNROLLED, axis=axis)
        shape = values.shape[:axis] + (_UNROLLED, folds) + values.shape[axis + 1 :]
        folded = total(body.reshape(shape), axis).sum(axis)
        if length % _UNROLLED == 0:
            return folded
        return folded + total(
            jax.lax.slice_in_dim(values, folds * _UNROLLED, length, axis=axis), axis
        )
    terms = [jax.lax.index_in_dim(values, i, axis, keepdims=False) for i in range(length)]
    return reduce(add, terms)


def mean(values: Array, axis: int) -> Array:
    """Mean over one of the leading axes; see ``total``."""
    return total(values, axis) / values.shape[axis]


class Fence:
    """Materialises what more than one consumer reads.

    XLA's CPU fusion computes an expensive producer again in every consumer, and drops
    ``optimization_barrier`` before it fuses. A conditional on a predicate that only the running
    program knows is a boundary that it keeps.
    """

    def __init__(self, step: ArrayLike):
        """``step`` is the index of the training step: a scalar that is never negative."""
        self._always = jnp.asarray(step) >= 0

    def __call__(self, make: Callable[[], Tree]) -> Tree:
        """The value of ``make()``, computed once."""

        def never() -> Tree:
            shapes = jax.eval_shape(make)
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        return jax.lax.cond(self._always, make, never)
