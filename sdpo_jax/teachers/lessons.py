"""What the self-teacher is shown in one step, for algorithms that need more than its average.

Rollout i is a lesson: it shifts the teacher's logits by ``shift_i = beta f_i c`` (Eq. 2; hints
change the table c). An algorithm that compares student and teacher by a divergence of its own, or
starts from logits other than the student's, builds its teachers ``softmax(base + shift_k)`` from
the lessons and averages what it makes of them with the lessons' weights.

As in ``teacher``, a lesson is a level of feedback where the oracle has levels, a Chebyshev node
where the teacher is smooth in f, and a rollout otherwise. A rollout without feedback (f = 0)
teaches nothing: it is masked, and the average is over the others, as in the authors' own loss
(Huebotter et al., 2601.20802).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax import oracles, teachers
from sdpo_jax.config import Config
from sdpo_jax.engine import lanes, streams
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.oracles import Oracle
from sdpo_jax.teachers.divergences import Shift


class Lessons(NamedTuple):
    """The lessons of one step.

    Attributes:
        weights: ``[K, *runs]``, summing to 1, or to 0 where no rollout has any feedback. Weights
            of interpolation may be negative.
        strength: ``[K, *runs]``, ``beta f_k``.
        shift: ``[T, V, K, *runs]``, by how much lesson k moves the teacher's logits.
        exposure: ``[T, V, K, *runs]``, how much of the table goes into the shift of each token,
            where a critique does not speak of all of them; ``None`` where all of it does.
        prepared: forms of ``shift`` that are the same at every step, where there are any. They are
            of the array that they hold, and of no other.
        of_each: where the lessons are Chebyshev nodes, makes those of each rollout by itself, for
            runs whose shifts are ``teacher.too_steep``; ``None`` where they are exact.
    """

    weights: Array
    strength: Array
    shift: Array
    exposure: Array | None = None
    prepared: Shift | None = None
    of_each: Callable[[], Lessons] | None = None

    def changed(self, change: Callable[[Lessons], Lessons]) -> Lessons:
        """The lessons after a change, and the same of those of each rollout."""
        of_each = self.of_each
        changed = change(self)._replace(prepared=None)
        if of_each is None:
            return changed
        return changed._replace(of_each=lambda: change(of_each()))


def lessons_of(
    oracle: Oracle,
    levels: teachers.Levels | None,
    config: Config,
    knowledge: Array,
    tokens: Array,
    seen: Array,
    feedback: Array,
    hint_key: streams.Key,
    step: ArrayLike,
) -> Lessons:
    """The lessons of one step; arguments as for ``teachers.teach``."""

    def of_each() -> Lessons:
        shift = teachers.hint_shift(oracle, config, knowledge, feedback, tokens, hint_key, step)
        heard = (feedback != 0).astype(shift.dtype)
        strength = config.feedback_strength * feedback
        exposure = teachers.hint_exposure(oracle, tokens, knowledge.shape[1])
        return Lessons(_shares(heard), strength, shift, exposure)

    if levels is None:
        return of_each()
    weights = materialise(lambda: teachers.weights(oracle, seen, feedback, levels))
    strength = levels.strength
    if oracle.gain is None:
        values = oracles.level_values(oracle)
        values = values.reshape(
            values.shape[:1] + (1,) * (weights.ndim - values.ndim) + values.shape[1:]
        )
        weights = _shares(jnp.where(values == 0, 0.0, weights))
    else:
        # The silent rollouts are taken out of what polynomials made of all of them, as polynomials
        # made them: few that are heard would be divided by what another way leaves.
        silent, heard = (
            lanes.mean(each.astype(weights.dtype), 0) for each in (feedback == 0, feedback != 0)
        )
        at_0 = jnp.asarray(teachers.weights_at_0(weights.shape[0]), weights.dtype)
        weights = weights - silent * at_0.reshape((-1,) + (1,) * silent.ndim)
        weights = jnp.where(heard > 0, weights / jnp.where(heard > 0, heard, 1.0), 0.0)
    shift = strength * knowledge[:, :, None]
    prepared = None
    if levels.more is not None:
        prepared = Shift(shift, levels.tilt, levels.more, _reach(oracle, levels))
    exact = None if oracle.gain is None else of_each
    return Lessons(weights, strength, shift, prepared=prepared, of_each=exact)


def _reach(oracle: Oracle, levels: teachers.Levels) -> Array:
    """The largest range of any level's shifts, ``[T, 1, *runs]``."""
    ranges = -jnp.log(-lanes.largest(-levels.tilt, 1))
    reach = lanes.largest(ranges, 1)[:, None]
    # Runs that are too steep are left to the rollouts where there are nodes.
    return jnp.where(levels.steep, jnp.inf, reach) if oracle.gain is None else reach


def _shares(counts: Array) -> Array:
    """Counts ``[K, *runs]`` as shares of their sum; zeros where that is 0."""
    total = lanes.total(counts, 0)
    return counts / jnp.where(total > 0, total, 1.0)
