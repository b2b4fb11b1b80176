"""Teachers of self-distillation: other parameters, or other logits, of the student's own.

    frozen         as it was
    ema            theta <- (1 - r) theta + r theta_student
    trust_region   l_ref + trust (l - l_ref)
    composed       l + strength (log p(.|feedback) - log p(.))

Huebotter et al. (2601.20802) for the first three. None has a gradient, also none by a rate, a trust
or a strength. Most often the teacher is the student itself, at the same parameters, reading a
prompt that holds the feedback.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.typing import ArrayLike

from sdpo_jax.losses import checks

Tree = TypeVar("Tree")


def frozen(tree: Tree) -> Tree:
    """Parameters or logits, without a gradient; what is no array stays as it is."""
    arrays = (Array, np.ndarray, np.generic)
    return jax.tree.map(
        lambda leaf: lax.stop_gradient(leaf) if isinstance(leaf, arrays) else leaf, tree
    )


def ema(teacher: Tree, student: Tree, *, rate: ArrayLike = 0.05) -> Tree:
    """The teacher's parameters after a step of the student's (``optax.incremental_update``).

    Each array has the teacher's type, whatever the student's: keep the teacher in float32. In
    bfloat16 a small rate rounds to no change at all.

    Args:
        teacher: any pytree of arrays of real numbers.
        student: one of the same structure and the same shapes.
        rate: from 0, a frozen teacher, to 1, the student itself.

    Raises:
        ValueError: another structure, a leaf of another shape or type, or a rate outside its range.

    >>> import jax.numpy as jnp
    >>> print(ema({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}, rate=0.25)["w"])
    [0.25 0.25]
    """
    traced = checks.number("rate", rate, 0, 1)
    step = traced if checks.known(rate) is None else rate
    before, structure = jax.tree.flatten_with_path(teacher)
    now = jax.tree.leaves(student)
    found = jax.tree.structure(student)
    if found != structure:
        raise ValueError(f"student: of structure {found}; allowed: the teacher's, {structure}")
    averaged = []
    for (path, old), new in zip(before, now, strict=True):
        place = jax.tree_util.keystr(path)
        old = checks.floating(f"teacher{place}", old)
        new = checks.alike(f"student{place}", checks.floating(f"student{place}", new), old.shape)
        mean: Any = optax.incremental_update(checks.wide(new), checks.wide(old), step)
        averaged.append(lax.stop_gradient(mean.astype(old.dtype)))
    return cast(Tree, jax.tree.unflatten(structure, averaged))


def trust_region(student: ArrayLike, reference: ArrayLike, *, trust: ArrayLike) -> Array:
    """Logits between a reference's and the student's, ``[..., T, V]``; they have no gradient.

    A token that one of the two forbids (a logit of -inf) is forbidden, whatever ``trust`` is.

    Args:
        student: ``[..., T, V]``, logits.
        reference: of the same shape, the first policy's logits.
        trust: from 0, the reference, to 1, the student.

    Raises:
        ValueError: an argument of another shape, type or range.
    """
    share = checks.number("trust", trust, 0, 1)
    now, first = _logits({"student": student, "reference": reference})
    return _allowed(first + lax.stop_gradient(share) * (now - first), now, first)


def composed(
    student: ArrayLike, with_feedback: ArrayLike, without: ArrayLike, *, strength: ArrayLike = 1.0
) -> Array:
    """The student's logits and what reading the feedback adds to another's, ``[..., T, V]``; they
    have no gradient.

        l + strength (log p(.|feedback) - log p(.))

    A token that one of the three forbids (a logit of -inf) is forbidden, whatever ``strength`` is.
    The result is not normalised: each position is right up to a number that all its tokens share.

    Args:
        student: ``[..., T, V]``, logits.
        with_feedback: of the same shape, logits of p, which reads the feedback.
        without: of the same shape, logits of p, which does not.
        strength: 0 or more: 0 is the student, and with p the student itself 1 is what it would
            say after reading.

    Raises:
        ValueError: an argument of another shape, type or range.
    """
    factor = checks.number("strength", strength, 0)
    now, told, plain = _logits(
        {"student": student, "with_feedback": with_feedback, "without": without}
    )
    return _allowed(now + lax.stop_gradient(factor) * (told - plain), now, told, plain)


def _logits(named: dict[str, ArrayLike]) -> list[Array]:
    arrays = {name: checks.floating(name, each, 2) for name, each in named.items()}
    shape = next(iter(arrays.values())).shape
    return [
        checks.wide(lax.stop_gradient(checks.alike(name, array, shape)))
        for name, array in arrays.items()
    ]


def _allowed(logits: Array, *each: Array) -> Array:
    allowed = jnp.ones(logits.shape, bool)
    for other in each:
        # NaN is allowed, so that it is seen.
        allowed &= other != -jnp.inf
    return jnp.where(allowed, logits, -jnp.inf)
