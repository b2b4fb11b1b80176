"""What the self-teacher is shown in one step, for methods that need more than its average.

Rollout i is a lesson: it shifts the teacher's logits by ``shift_i = beta f_i c`` (Eq. 2; hints
change the table c). A method that compares student and teacher by a divergence of its own, or
starts from logits other than the student's, builds its teachers ``softmax(base + shift_k)`` from
the lessons and averages what it makes of them with the lessons' weights.

As in ``teacher``, a lesson is a level of feedback where the oracle has levels, a Chebyshev node
where the teacher is smooth in f, and a rollout otherwise. A rollout without feedback (f = 0)
teaches nothing: it is masked, and the average is over the others, as in the authors' own loss
(Huebotter et al., 2601.20802).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax import lanes, streams
from sdpo_jax import oracle as oracles
from sdpo_jax import teacher as teachers
from sdpo_jax.config import Config
from sdpo_jax.lanes import NO_FENCE, Fence
from sdpo_jax.oracle import Oracle


class Lessons(NamedTuple):
    """The lessons of one step.

    Attributes:
        weights: ``[K, *runs]``, summing to 1, or to 0 where no rollout has any feedback. Weights
            of interpolation may be negative.
        strength: ``[K, *runs]``, ``beta f_k``.
        shift: ``[T, V, K, *runs]``, by how much lesson k moves the teacher's logits.
    """

    weights: Array
    strength: Array
    shift: Array


def plan(
    oracle: Oracle,
    levels: teachers.Levels | None,
    config: Config,
    knowledge: Array,
    tokens: Array,
    seen: Array,
    feedback: Array,
    hint_key: streams.Key,
    step: ArrayLike,
    fence: Fence = NO_FENCE,
) -> Lessons:
    """The lessons of one step; arguments as for ``teacher.teach``."""
    if levels is None:
        shift = teachers.hint_shift(
            oracle, config, knowledge, feedback, tokens, hint_key, step, fence
        )
        heard = (feedback != 0).astype(shift.dtype)
        return Lessons(_shares(heard), config.feedback_strength * feedback, shift)
    weights = fence(lambda: teachers.weights(oracle, seen, feedback, levels, fence))
    strength = levels.strength
    if oracle.gain is None:
        values = oracles.level_values(oracle)
        values = values.reshape(
            values.shape[:1] + (1,) * (weights.ndim - values.ndim) + values.shape[1:]
        )
        weights = _shares(jnp.where(values == 0, 0.0, weights))
    else:
        # The silent rollouts are taken out of what polynomials made of all of them.
        silent = lanes.mean((feedback == 0).astype(weights.dtype), 0)
        heard = 1 - silent
        weights = jnp.concatenate((weights, -silent[None]))
        weights = jnp.where(heard > 0, weights / jnp.where(heard > 0, heard, 1.0), 0.0)
        strength = jnp.concatenate((strength, jnp.zeros_like(strength[:1])))
    return Lessons(weights, strength, strength * knowledge[:, :, None])


def mean_of(values: Array, weights: Array, axis: int) -> Array:
    """Average over lessons, along one of the leading axes of ``values``.

    Args:
        values: ``[..., K, ..., *runs]``.
        weights: ``[K, *runs]``.
        axis: where K is.
    """
    moved = jnp.moveaxis(values, axis, 0)
    shape = weights.shape[:1] + (1,) * (moved.ndim - weights.ndim) + weights.shape[1:]
    return lanes.total_of(lambda value, weight: value * weight, 0, moved, weights.reshape(shape))


def _shares(counts: Array) -> Array:
    """Counts ``[K, *runs]`` as shares of their sum; zeros where that is 0."""
    total = lanes.total(counts, 0)
    return counts / jnp.where(total > 0, total, 1.0)
