"""The self-teacher: the policy tilted by feedback times what the teacher knows.

    teacher_i = softmax(l + beta f_i c)            (Eq. 2; c is the teacher's knowledge of q)

An algorithm reads the teachers of a step through two averages over rollouts and positions,

    mean = (1/N) sum_i teacher_i
    divergence = (1/N) sum_i mean_t KL(teacher_i || student)

and rollout i enters both through the single number f_i. So the average over N rollouts is a
weighted sum over a few *levels* of feedback, ``sum_k w_k softmax(l + beta x_k c)``:

- an oracle of levels has one teacher a level, and w is how often each occurs: exact;
- otherwise x are Chebyshev nodes on [0, 1] and w the means of the interpolating polynomials at
  the f_i: the error is ``interpolation_error(beta range(c), nodes)``, which no policy exceeds;
- with ``nodes=0``, and always with hints, which give each rollout a table of its own, every
  rollout keeps its own softmax: exact, and the slowest.

``exp(beta x_k c)`` is the same at every step, so the first two need no exponentials in the loop.
They hold while beta times the range of the table is moderate. A run whose table is steeper than
``steepest(nodes)`` allows takes the third way instead, by itself: whatever beta and table, a
teacher's probability errs by ``LARGEST_ERROR`` at the most, and is exact where the oracle has
levels.
"""

from __future__ import annotations

from operator import mul
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax import oracles
from sdpo_jax.config import Config
from sdpo_jax.engine import lanes, streams
from sdpo_jax.engine.materialise import materialise, where_any
from sdpo_jax.oracles import Oracle
from sdpo_jax.policies import Policy
from sdpo_jax.teachers.interpolation import interpolation_weights, nodes_of, steepest


class Teacher(NamedTuple):
    """The teachers of one step.

    Attributes:
        mean: ``[T, V, *runs]``, the average teacher; rows sum to 1. Of a policy with contexts
            ``[T, V, N, *runs]``, each rollout's own.
        divergence: ``[*runs]``, mean over rollouts and positions of ``KL(teacher || student)``.
    """

    mean: Array
    divergence: Array


class Levels(NamedTuple):
    """The teachers at fixed levels of feedback, prepared before the first step.

    Attributes:
        strength: ``[K, *runs]``, ``beta x_k``.
        tilt: ``[T, V, K, *runs]``, ``exp(beta x_k c)``, largest entry over V scaled to 1.
        scale: ``[T, K, *runs]``, the logarithm of what was divided out.
        steep: ``[*runs]`` bool, where beta times the range of c is too large for them.
        more: as ``tilt``, less 1 and with all its digits; None where nobody reads each teacher by
            itself.
    """

    strength: Array
    tilt: Array
    scale: Array
    steep: Array
    more: Array | None = None


def teach(
    oracle: Oracle,
    levels: Levels | None,
    config: Config,
    knowledge: Array,
    policy: Policy,
    tokens: Array,
    seen: Array,
    feedback: Array,
    hint_key: streams.Key,
    step: ArrayLike,
) -> Teacher:
    """The teachers of one step.

    Args:
        oracle: the feedback type.
        levels: from ``prepare``.
        config: the hyperparameters.
        knowledge: ``[T, V, *runs]``, the teacher's table.
        policy: the student.
        tokens: ``[T, N, *runs]``, the rollouts.
        seen: ``[N, *runs]``, the reward as the oracle saw it.
        feedback: ``[N, *runs]``, what it said.
        hint_key: the stream of a critique's errors.
        step: index of the step.
    """

    def of_each_rollout() -> Teacher:
        shift = hint_shift(oracle, config, knowledge, feedback, tokens, hint_key, step)
        return from_shifts(shift, policy)

    if levels is None:
        return of_each_rollout()
    level_weights = materialise(lambda: weights(oracle, seen, feedback, levels))
    taught = from_levels(levels, level_weights, policy, knowledge)

    def exact() -> Teacher:
        if oracle.gain is not None:
            return of_each_rollout()
        return from_shifts(_shift(levels.strength, knowledge), policy, level_weights)

    return where_any(levels.steep, exact, taught, costly=oracle.gain is not None)


def prepare(
    oracle: Oracle, strength: Array, knowledge: Array, nodes: int, each: bool = False
) -> Levels | None:
    """The fixed levels of an oracle; ``None`` where every rollout keeps its own softmax.

    Args:
        oracle: the feedback type.
        strength: ``[*runs]``, beta.
        knowledge: ``[T, V, *runs]``, the teacher's table.
        nodes: Chebyshev nodes for an oracle with a gain; 0 for one softmax a rollout.
        each: whether ``more`` is needed.
    """
    apart = oracle.hints is not None or oracle.function is not None
    if apart or (oracle.gain is not None and nodes == 0):
        return None
    runs = knowledge.shape[2:]
    if oracle.gain is None:
        values = oracles.level_values(oracle)
        shared = (1,) * (len(runs) + 1 - values.ndim)
        values = values.reshape(values.shape[:1] + shared + values.shape[1:])
    else:
        values = jnp.asarray(nodes_of(nodes), jnp.float32).reshape((nodes,) + (1,) * len(runs))
    levels = jnp.broadcast_to(strength * values, (values.shape[0], *runs))
    shift = levels * knowledge[:, :, None]
    steep = too_steep(shift, 0 if oracle.gain is None else nodes)
    # Nobody reads the levels of a run that is too steep, but a derivative passes through them.
    shift = jnp.where(steep, 0.0, shift)
    scale = lanes.largest(shift, 1)
    below = shift - scale[:, None]
    return Levels(levels, jnp.exp(below), scale, steep, jnp.expm1(below) if each else None)


def from_levels(levels: Levels, weights: Array, policy: Policy, knowledge: Array) -> Teacher:
    """The teacher averages as a weighted sum over levels.

    Args:
        levels: from ``prepare``.
        weights: ``[K, *runs]``, summing to 1.
        policy: the student.
        knowledge: ``[T, V, *runs]``.
    """
    tilt = levels.tilt
    normalizer = materialise(
        lambda: lanes.total_of(lambda p, tilt: p[:, None] * tilt, 1, policy.probs, tilt)
    )
    share = materialise(lambda: weights / normalizer)
    mean = policy.probs * lanes.total_of(mul, 2, tilt, share[:, None])
    # KL = E_teacher[shift] - log E_student[exp shift], both without the scale.
    expected = lanes.total_of(
        lambda p, c, tilt: (p * c)[:, None] * tilt, 1, policy.probs, knowledge, tilt
    )
    expected = expected / normalizer
    divergence = levels.strength * expected - levels.scale - jnp.log(normalizer)
    divergence = lanes.total(weights * lanes.mean(divergence, 0), 0)
    return Teacher(mean, _not_negative(divergence))


def from_shifts(shift: Array, policy: Policy, shares: Array | None = None) -> Teacher:
    """The teacher averages, a softmax for each shift.

    Args:
        shift: ``[T, V, K, *runs]``, of the logits.
        policy: the student.
        shares: ``[K, *runs]``, how much each counts, summing to 1; all alike by default.
    """
    shift = materialise(lambda: shift)
    # Where each rollout has contexts of its own, its teacher is for those.
    own = policy.logits.ndim == shift.ndim
    logits, student = (
        (policy.logits, policy.log_normalizer)
        if own
        else (policy.logits[:, :, None], policy.log_normalizer[:, None])
    )
    tilted = logits + shift
    largest = materialise(lambda: lanes.largest(tilted, 1))
    weights = materialise(lambda: jnp.exp(tilted - largest[:, None]))
    normalizer = materialise(lambda: lanes.total(weights, 1))
    probs = weights / normalizer[:, None]
    log_ratio = largest + jnp.log(normalizer) - student
    divergence = lanes.mean(lanes.total(probs * shift, 1) - log_ratio, 0)
    if shares is None:
        mean = probs if own else lanes.mean(probs, 2)
        divergence = lanes.mean(divergence, 0)
    else:
        mean = lanes.total_of(mul, 2, probs, shares[None, None])
        divergence = lanes.total(shares * divergence, 0)
    return Teacher(mean, _not_negative(divergence))


def _not_negative(divergence: Array) -> Array:
    # A difference of two numbers as large as the shifts: where teacher and student are alike,
    # what is left is their rounding, of either sign.
    return jnp.maximum(divergence, 0.0)


def weights(oracle: Oracle, seen: Array, feedback: Array, levels: Levels) -> Array:
    """How much each level counts among the rollouts, ``[K, *runs]``, summing to 1."""
    if oracle.gain is None:
        return oracles.level_frequencies(oracle, seen)
    return interpolation_weights(feedback, levels.tilt.shape[2])


def too_steep(shift: Array, nodes: int) -> Array:
    """Which runs have shifts ``[T, V, K, *runs]`` too steep for levels, ``[*runs]`` bool.

    Args:
        shift: of the logits, at the levels.
        nodes: as for ``steepest``.
    """
    slope = lanes.largest(shift, 1) + lanes.largest(-shift, 1)
    # Not "above": what is no number is too steep, and shows as such.
    return ~(slope <= steepest(nodes, shift.shape[1])).all((0, 1))


def hint_shift(
    oracle: Oracle,
    config: Config,
    knowledge: Array,
    feedback: Array,
    tokens: Array,
    key: streams.Key,
    step: ArrayLike,
) -> Array:
    """The logit shifts of a batch of rollouts, ``[T, V, N, *runs]`` (see ``Hints``).

    But for a constant in each row, which no softmax sees.
    """
    strength = config.feedback_strength * feedback
    if oracle.hints is None:
        return _shift(strength, knowledge)
    table = knowledge[:, :, None]
    length, vocab_size = knowledge.shape[:2]
    shape = (length, vocab_size, tokens.shape[1])
    hints = materialise(lambda: table + config.hint_noise * streams.normals(key, step, shape))
    vocabulary = _vocabulary(vocab_size, tokens)
    at_sampled = jnp.where(tokens[:, None] == vocabulary, hints, 0.0)
    spoken = materialise(
        lambda: lanes.total_of(
            lambda hint, v: jnp.where(tokens == v, hint, 0.0), 1, hints, vocabulary
        )
    )
    reading = oracle.hints
    table = (
        reading.position * (table - spoken[:, None])
        + reading.token * hints
        + reading.sampled * at_sampled
    )
    return strength * table


def _shift(strength: Array, knowledge: Array) -> Array:
    """``strength`` ``[K, *runs]`` times the table, ``[T, V, K, *runs]``, but for a constant a row.

    The product is 0 where it is largest, so that of a steep table the entries that count keep
    their digits.
    """
    ends = (lanes.largest(knowledge, 1), -lanes.largest(-knowledge, 1))
    best, least = (each[:, None, None] for each in ends)
    return strength * (knowledge[:, :, None] - jnp.where(strength < 0, least, best))


def hint_exposure(oracle: Oracle, tokens: Array, vocab_size: int) -> Array | None:
    """What ``hint_shift`` multiplies each entry of the table by, but for beta and feedback.

    Returns:
        ``[T, V, N, *runs]``, but for a constant in each row, which no softmax sees; ``None`` for
        an oracle without hints: 1 everywhere.
    """
    if oracle.hints is None:
        return None
    reading = oracle.hints
    sampled = tokens[:, None] == _vocabulary(vocab_size, tokens)
    return reading.position + reading.token + jnp.where(sampled, reading.sampled, 0.0)


def _vocabulary(vocab_size: int, tokens: Array) -> Array:
    """``[1, V, 1, 1...]``, to be compared with tokens ``[T, 1, N, *runs]``."""
    vocabulary = jnp.arange(vocab_size, dtype=tokens.dtype)
    return vocabulary.reshape((1, vocab_size, 1) + (1,) * (tokens.ndim - 2))
