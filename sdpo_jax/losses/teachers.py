"""Teachers of self-distillation: other parameters, or other logits, of the student's own.

    frozen         as it was
    ema            theta <- (1 - r) theta + r theta_student
    trust_region   l_ref + trust (l - l_ref)
    composed       l + strength (log p(.|feedback) - log p(.))

Huebotter et al. (2601.20802) for the first three. None has a gradient. Most often the teacher is
the student itself, at the same parameters, reading a prompt that holds the feedback.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.typing import ArrayLike

from sdpo_jax.losses import checks

Tree = TypeVar("Tree")


def frozen(tree: Tree) -> Tree:
    """Parameters or logits, without a gradient."""
    return jax.tree.map(lax.stop_gradient, tree)


def ema(teacher: Tree, student: Tree, *, rate: ArrayLike = 0.05) -> Tree:
    """The teacher's parameters after a step of the student's (``optax.incremental_update``).

    In bfloat16 a small rate rounds to no change at all: keep the teacher's parameters in float32.

    Args:
        teacher: any pytree of arrays of real numbers.
        student: one of the same structure.
        rate: from 0, a frozen teacher, to 1, the student itself.

    Raises:
        ValueError: a rate outside its range.
    """
    checks.number("rate", rate, 0, 1)
    now: Any = frozen(student)
    before: Any = frozen(teacher)
    return cast(Tree, optax.incremental_update(now, before, rate))


def trust_region(student: ArrayLike, reference: ArrayLike, *, trust: ArrayLike) -> Array:
    """Logits between a reference's and the student's, ``[..., T, V]``.

    A token that one of the two forbids (a logit of -inf) is forbidden.

    Args:
        student: ``[..., T, V]``, logits.
        reference: of the same shape, the first policy's logits.
        trust: from 0, the reference, to 1, the student.

    Raises:
        ValueError: an argument of another shape, type or range.
    """
    share = checks.number("trust", trust, 0, 1)
    now, first = _logits({"student": student, "reference": reference})
    return _allowed(first + share * (now - first), now, first)


def composed(
    student: ArrayLike, with_feedback: ArrayLike, without: ArrayLike, *, strength: ArrayLike = 1.0
) -> Array:
    """The student's logits and what reading the feedback adds to another's, ``[..., T, V]``.

        l + strength (log p(.|feedback) - log p(.))

    A token that one of the three forbids (a logit of -inf) is forbidden. The result is not
    normalised: each position is right up to a number that all its tokens share.

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
    return _allowed(now + factor * (told - plain), now, told, plain)


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
        allowed &= other > -jnp.inf
    return jnp.where(allowed, logits, -jnp.inf)
