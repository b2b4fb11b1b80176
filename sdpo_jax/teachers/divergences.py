"""Divergences between a student S and a teacher Q, as gradients of the student's logits.

A teacher is given by how it shifts the student's logits, ``Q = softmax(log S + shift)``: where the
two are nearly alike, the difference of their log probabilities has lost what the shift still holds.
No gradient flows through the teacher. With the slope ``d_v = dD/dS_v`` every one of them is
``S (d - E_S d)``:

    forward KL   KL(Q || S)                          S - Q
    reverse KL   KL(S || Q)                          S (log(S/Q) - KL(S || Q))
    JSD          (1-a) KL(S || M) + a KL(Q || M)     (1-a) S (log(S/M) - KL(S || M))

with ``M = (1-a) S + a Q``. The generalised Jensen-Shannon divergence goes to 0 as a goes to 0 or
1, like ``a`` times the forward and ``1-a`` times the reverse KL. At a = 0 and 1 themselves it is
set to those, the forward KL at 0 and the reverse KL at 1, as TRL does (``GKDTrainer``): it
jumps there. Dividing by ``a (1-a)`` would close the gap, but give every other a another step length
than the published systems have.

Arrays are ``[T, V, ..., *runs]``: tokens on axis 1; student and shift broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax.engine import lanes
from sdpo_jax.engine.materialise import materialise, where_any
from sdpo_jax.policies import Policy

# Of a token whose probability is below exp(-80), no gradient is left.
_EXTREME = 80.0

# Stands for an a of 0 in the JSD: nothing beside 1, but its products are normal numbers.
_HARDLY = 2.0**-80

# As far as a shift may be from that of the likeliest token for its exponential to be taken.
FAR = 40.0


class Student(NamedTuple):
    """A student, in the forms that each of its lessons reads.

    Attributes:
        logs: ``[T, V, ..., *runs]``, log S.
        probs: the same, S.
        away: the same, 0 at the likeliest tokens (several may be), -inf elsewhere.
    """

    logs: Array
    probs: Array
    away: Array


class Shift(NamedTuple):
    """How a teacher's logits differ from the student's, in the forms that divergences read.

    Attributes:
        shift: ``[T, V, ..., *runs]``.
        grown: the same, ``exp(shift - a)``, with any one number a for a context.
        more: the same, ``exp(shift - a) - 1``, with all its digits where that is nearly 0.
        reach: ``[T, 1, ..., *runs]``, no less than any shift's distance from that of the likeliest
            token. Beyond ``FAR``, ``grown`` and ``more`` are not to be read.
    """

    shift: Array
    grown: Array
    more: Array
    reach: Array


class Divergence(NamedTuple):
    """A divergence, as its gradient in two forms.

    Attributes:
        near: exact in proportion to its size, where a shift reaches no further than ``FAR``.
        far: of shifts of any size, but less exact where S and Q are nearly alike.
    """

    near: Callable[[Student, Shift, ArrayLike], Array]
    far: Callable[[Student, Array, ArrayLike], Array]

    def __call__(self, student: Student, shift: Array, mix: ArrayLike = 0.5) -> Array:
        """The gradient, ``[T, V, ...]``, towards ``Q = softmax(log S + shift)``."""
        given = shift_of(student, shift)
        near = self.near(student, given, mix)
        return where_any(given.reach > FAR, lambda: self.far(student, shift, mix), near)


def student_of(policy: Policy) -> Student:
    """What a divergence reads of a policy."""
    return _student(policy.logits - policy.log_normalizer[:, None], policy.probs)


def _student(logs: Array, probs: Array) -> Student:
    def away() -> Array:
        best = probs == lanes.largest_number(probs, 1)[:, None]
        return jnp.where(best, jnp.zeros_like(probs), -jnp.inf)

    return Student(logs, probs, materialise(away))


def shift_of(student: Student, shift: Array) -> Shift:
    """What a divergence reads of a shift ``[T, V, ...]``."""
    centre = materialise(lambda: _at_likeliest(student, shift))
    highest, lowest = (lanes.largest_number(each, 1) for each in (shift, -shift))
    reach = materialise(lambda: jnp.maximum(highest - centre, centre + lowest))[:, None]
    near = jnp.clip(shift - centre[:, None], -FAR, FAR)
    grown = materialise(lambda: _exp_and_expm1(near)[0])
    more = materialise(lambda: _exp_and_expm1(near)[1])
    return Shift(shift, grown, more, reach)


def together(one: Shift, other: Shift) -> Shift:
    """The sum of two shifts of a student."""
    grown = materialise(lambda: one.grown * other.grown)

    def above_1() -> Array:
        # Of two that are large and opposed nothing is left to be exact about.
        small = jnp.maximum(abs(one.more), abs(other.more)) < 0.5
        return jnp.where(small, one.more + other.more + one.more * other.more, grown - 1)

    return Shift(one.shift + other.shift, grown, materialise(above_1), one.reach + other.reach)


def _forward(student: Student, shift: Shift, mix: ArrayLike) -> Array:
    return -student.probs * _tilt(student, shift).beyond_1()


def _forward_far(student: Student, shift: Array, mix: ArrayLike) -> Array:
    teacher, ratio = _teacher(student, shift)
    less = -student.probs * _exp_and_expm1(jnp.clip(ratio, -1.0, 1.0))[1]
    return jnp.where(abs(ratio) < 1, less, student.probs - teacher)


def _reverse(student: Student, shift: Array, mix: ArrayLike) -> Array:
    # log(S/Q) but for a constant, which is centred away.
    return _centred(student, -shift)


def _jensen_shannon(student: Student, shift: Shift, mix: ArrayLike) -> Array:
    tilt = _tilt(student, shift)

    def slopes() -> Array:
        return _slopes(mix, shift.grown * tilt.share[:, None], tilt.beyond_1())

    return _centred(student, materialise(slopes))


def _jensen_shannon_far(student: Student, shift: Array, mix: ArrayLike) -> Array:
    _, ratio = _teacher(student, shift)

    def slopes() -> Array:
        between = _slopes(mix, *_exp_and_expm1(jnp.clip(ratio, -_EXTREME, _EXTREME)))
        return jnp.where(mix == 1, -ratio, between)

    between = _centred(student, materialise(slopes))
    return jnp.where(mix == 0, _forward_far(student, shift, mix), between)


def _slopes(mix: ArrayLike, grown: Array, beyond_1: Array) -> Array:
    """The JSD's, of ``Q/S`` and that less 1; at a = 0 those of the forward KL."""
    mix = jnp.asarray(mix, grown.dtype)
    # The forward KL is the limit of the JSD divided by a.
    weight = jnp.where(mix == 0, 1 / _HARDLY, jnp.where(mix == 1, 1.0, 1 - mix))
    mix = jnp.where(mix == 0, _HARDLY, mix)
    # log(M/S) = log(1 + a (Q/S - 1)), whose terms cancel where M is mostly Q and Q is nearly 0.
    mixed = jnp.maximum((1 - mix) + mix * grown, jnp.finfo(mix.dtype).tiny)
    return -weight * _log1p(mix * beyond_1, mixed)


forward_kl = Divergence(_forward, _forward_far)
reverse_kl = Divergence(lambda student, shift, mix: _reverse(student, shift.shift, mix), _reverse)
jensen_shannon = Divergence(_jensen_shannon, _jensen_shannon_far)

DIVERGENCES: dict[str, Divergence] = {
    "forward": forward_kl,
    "reverse": reverse_kl,
    "jsd": jensen_shannon,
}


def top_k(divergence: Divergence, student: Student, count: int) -> Divergence:
    """The divergence between what is left when only the student's likeliest tokens are told apart.

    Tokens beyond the ``count`` that the student finds likeliest (of equal ones the lower) become
    one tail bucket, of the student and of the teacher, as in the authors' loss (2601.20802). The
    gradient of the bucket's probability is shared by its tokens as they share that probability.

    Args:
        divergence: one of ``DIVERGENCES``.
        student: S.
        count: k; from V on it is the divergence itself.

    Returns:
        A divergence of this student, and of no other.
    """
    vocab_size = student.logs.shape[1]
    if count >= vocab_size:
        return divergence
    kept = materialise(lambda: _rank(student.logs) < count)
    outside = jnp.where(kept, -jnp.inf, student.logs)
    rest = materialise(lambda: _log_sum_exp(outside))[:, None]
    share = materialise(lambda: jnp.exp(outside - rest))
    others = _student(outside - rest, share)
    logs, probs = materialise(
        lambda: (
            jnp.concatenate((jnp.where(kept, student.logs, -jnp.inf), rest), axis=1),
            jnp.concatenate((jnp.where(kept, student.probs, 0.0), jnp.exp(rest)), axis=1),
        )
    )

    def with_rest(of_each: Array, of_rest: Array) -> Array:
        of_rest = of_rest[:, None]
        return jnp.concatenate((jnp.where(kept, of_each, of_rest), of_rest), axis=1)

    def of_tokens(gradient: Array) -> Array:
        return jnp.where(kept, gradient[:, :vocab_size], share * gradient[:, vocab_size:])

    apart = _student(logs, probs)

    # A bucket grows as its tokens do on average.
    def near(student: Student, shift: Shift, mix: ArrayLike) -> Array:
        tilt = _tilt(others, shift)
        moved = materialise(
            lambda: (
                _at_likeliest(others, shift.shift)
                + _log1p(tilt.above / tilt.first, tilt.mean / tilt.first)
            )
        )
        further = materialise(lambda: _expected(share, shift.more))
        buckets = Shift(
            materialise(lambda: with_rest(shift.shift, moved)),
            materialise(lambda: with_rest(shift.grown, tilt.mean)),
            materialise(lambda: with_rest(shift.more, further)),
            shift.reach,
        )
        gradient = materialise(lambda: divergence.near(apart, buckets, mix))
        return of_tokens(gradient)

    def far(student: Student, shift: Array, mix: ArrayLike) -> Array:
        moved = materialise(lambda: _log_sum_exp(others.logs + shift))
        buckets = materialise(lambda: with_rest(shift, moved))
        gradient = materialise(lambda: divergence.far(apart, buckets, mix))
        return of_tokens(gradient)

    return Divergence(near, far)


def entropy_gradient(policy: Policy) -> Array:
    """Gradient of ``-H(pi)``, summed over positions: ``S (log S + H)``, ``[T, V, *runs]``."""
    student = student_of(policy)
    return _centred(student, student.logs)


class _Tilt(NamedTuple):
    """What a shift does to a student.

    Attributes:
        shift: of the student.
        first, first_more: ``[T, ...]``, ``grown`` and ``more`` of the likeliest token.
        above: ``[T, ...]``, the mean by S of what ``grown`` is above ``first``.
        mean, share: ``[T, ...]``, the mean of ``grown``, and 1 over it.
    """

    shift: Shift
    first: Array
    first_more: Array
    above: Array
    mean: Array
    share: Array

    def beyond_1(self) -> Array:
        """``Q/S - 1``, as exact in proportion to its size as the shift is."""
        above = _above(self.shift, self.first, self.first_more)
        return (above - self.above[:, None]) * self.share[:, None]


def _tilt(student: Student, shift: Shift) -> _Tilt:
    first, first_more = materialise(
        lambda: (_at_likeliest(student, shift.grown), _at_likeliest(student, shift.more))
    )
    mean = materialise(lambda: _expected(student.probs, shift.grown))
    above, share = materialise(
        lambda: (_expected(student.probs, _above(shift, first, first_more)), 1 / mean)
    )
    return _Tilt(shift, first, first_more, above, mean, share)


def _above(shift: Shift, first: Array, first_more: Array) -> Array:
    """``grown - first``: from the likeliest token on, a student that is sure leaves nothing over.

    Of the form in which ``first`` has its digits.
    """
    first, first_more = first[:, None], first_more[:, None]
    return jnp.where(first < 0.5, shift.grown - first, shift.more - first_more)


def _teacher(student: Student, shift: Array) -> tuple[Array, Array]:
    """Q and ``log(Q/S)``, of shifts of any size."""
    shift = shift - materialise(lambda: _at_likeliest(student, shift))[:, None]
    tilted = student.logs + shift
    largest = materialise(lambda: lanes.largest_number(tilted, 1))
    weights = materialise(lambda: jnp.exp(tilted - largest[:, None]))
    normalizer = materialise(lambda: lanes.total(weights, 1))
    ratio = materialise(lambda: shift - (largest + jnp.log(normalizer))[:, None])
    # Not of the ratio: what that has lost to rounding would be a factor of Q.
    return weights / normalizer[:, None], ratio


# log 2 in two parts: an integer times the first is exact.
_LOG_2 = 0.693359375, -2.12194440e-4
# The bits of 1, and of the number next to sqrt(1/2).
_ONE, _ROOT_OF_HALF = 0x3F800000, 0x3F3504F3
# Of ``2 artanh(r) / r`` in powers of ``r^2``, for ``|r| < 0.172``.
_ARTANH = tuple(2 / odd for odd in (1, 3, 5, 7, 9))
# Of ``(exp(r) - 1 - r) / r^2``, for ``|r| <= log(2) / 2``; the last is below float32's precision.
_TAYLOR = tuple(1 / math.factorial(power) for power in range(2, 9))


def _exp_and_expm1(x: Array) -> tuple[Array, Array]:
    """``exp(x)`` and ``exp(x) - 1`` of float32 up to 88, each to a few units in the last place.

    One polynomial, where XLA's ``expm1`` is many loops on a CPU. Below -87, ``exp(x)`` stays at
    ``exp(-87)``.
    """
    x = jnp.maximum(x, -87.0)
    halvings = jnp.round(x * (1 / math.log(2)))
    rest = (x - halvings * _LOG_2[0]) - halvings * _LOG_2[1]
    value = jnp.full_like(rest, _TAYLOR[-1])
    for coefficient in _TAYLOR[-2::-1]:
        value = value * rest + coefficient
    value = value * (rest * rest) + rest
    # 2^n by its bits: of an integer beside 1.5 * 2^23, the last bits of the sum are those of the
    # integer. (A conversion looks for what no integer can hold.)
    bits = jax.lax.bitcast_convert_type(halvings + (1.5 * 2**23 + 127), jnp.int32)
    scale = jax.lax.bitcast_convert_type(bits << 23, jnp.float32)
    # Not ``scale + scale * value``: of a normal number, the product may be too small to be one, and
    # processors that don't fuse it with the sum round it to 0.
    return scale * (1 + value), (scale - 1) + scale * value


def _log1p(x: Array, whole: Array) -> Array:
    """``log(1 + x)`` of float32, to a few units in the last place.

    Args:
        x: above -1.
        whole: ``1 + x``, a normal number, as exact as it can be.
    """
    # whole / 2^n is between sqrt(1/2) and sqrt(2).
    bits = jax.lax.bitcast_convert_type(whole, jnp.int32) + (_ONE - _ROOT_OF_HALF)
    doublings = (bits >> 23) - 127
    scale = jax.lax.bitcast_convert_type((127 - doublings) << 23, jnp.float32)
    rest = jnp.where(doublings == 0, x, whole * scale - 1)
    # log(1 + rest) = 2 artanh(ratio).
    ratio = rest / (2 + rest)
    square = ratio * ratio
    value = jnp.full_like(ratio, _ARTANH[-1])
    for coefficient in _ARTANH[-2::-1]:
        value = value * square + coefficient
    doublings = doublings.astype(x.dtype)
    return doublings * _LOG_2[0] + (doublings * _LOG_2[1] + ratio * value)


def _centred(student: Student, slope: Array) -> Array:
    """``S (d - E_S d)``."""

    # From the likeliest token on: a student that is nearly sure of it leaves nothing to cancel.
    centre = materialise(lambda: _at_likeliest(student, slope))[:, None]
    mean = materialise(lambda: _expected(student.probs, slope - centre))[:, None]
    return student.probs * ((slope - centre) - mean)


def _expected(probs: Array, values: Array) -> Array:
    """``E_S`` of values, ``[T, ...]``."""
    return lanes.total_of(lambda p, value: p * value, 1, probs, values)


def _at_likeliest(student: Student, values: Array) -> Array:
    """The values at the likeliest tokens, of several the largest value, ``[T, ...]``."""
    return lanes.largest_number(values + student.away, 1)


def _log_sum_exp(values: Array) -> Array:
    """Over axis 1, ``[T, ...]``."""
    largest = lanes.largest_number(values, 1)
    return largest + jnp.log(lanes.total(jnp.exp(values - largest[:, None]), 1))


def _rank(values: Array) -> Array:
    """How many tokens come before each in descending order, ``[T, V, ...]``."""
    vocab_size = values.shape[1]
    place = jnp.arange(vocab_size).reshape((1, vocab_size) + (1,) * (values.ndim - 2))
    return lanes.total_of(
        lambda other, index: (
            (other[:, None] > values) | ((other[:, None] == values) & (index[:, None] < place))
        ).astype(jnp.int32),
        1,
        values,
        place,
    )
