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

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax.engine import lanes
from sdpo_jax.engine.materialise import materialise, where_any
from sdpo_jax.policies import Policy

# From log S, the shift, and a where there is one, to the gradient.
Divergence = Callable[[Array, Array, ArrayLike], Array]

# exp of it is a positive number that changes no sum of probabilities.
_NOTHING = -80.0

# exp of it times a number too small for float32 is still nothing beside 1.
_FAR = 60.0


def log_softmax(logits: Array) -> Array:
    """Log probabilities over axis 1."""

    def normalizer() -> Array:
        return _log_sum_exp(logits)

    return logits - materialise(normalizer)[:, None]


def forward_kl(student: Array, shift: Array, mix: ArrayLike = 0.5) -> Array:
    """Gradient of ``KL(Q || S)`` from log S and the shift, ``[T, V, ...]``."""
    return _forward(*_teacher(student, shift))


def reverse_kl(student: Array, shift: Array, mix: ArrayLike = 0.5) -> Array:
    """Gradient of ``KL(S || Q)`` from log S and the shift, ``[T, V, ...]``."""
    # log(S/Q) but for a constant, which is centred away.
    return _centred(jnp.exp(student), -shift)


def jensen_shannon(student: Array, shift: Array, mix: ArrayLike = 0.5) -> Array:
    """Gradient of the generalised JSD from log S and the shift, ``[T, V, ...]``.

    Args:
        student: log S.
        shift: of the student's logits.
        mix: a in [0, 1]; exactly 0 is the forward KL, exactly 1 the reverse KL.
    """
    mix = jnp.asarray(mix, student.dtype)
    probs, teacher, ratio = _teacher(student, shift)

    def slopes() -> Array:
        # log(M/S) = log(1 + a (Q/S - 1)), whose terms cancel where M is mostly Q and Q is nearly 0.
        grown, more = _exp_and_expm1(jnp.minimum(ratio, -_NOTHING))
        mixed = (1 - mix) + mix * jnp.minimum(grown, 1.0)
        return _log1p(mix * more, jnp.maximum(mixed, jnp.finfo(mixed.dtype).tiny))

    slope = materialise(slopes)
    between = (1 - mix) * _centred(probs, -slope)

    def ends() -> Array:
        return jnp.where(mix == 0, _forward(probs, teacher, ratio), reverse_kl(student, shift))

    return where_any((mix == 0) | (mix == 1), ends, between)


DIVERGENCES: dict[str, Divergence] = {
    "forward": forward_kl,
    "reverse": reverse_kl,
    "jsd": jensen_shannon,
}


def top_k(
    divergence: Divergence, student: Array, shift: Array, mix: ArrayLike, count: int
) -> Array:
    """The divergence between what is left when only the student's likeliest tokens are told apart.

    Tokens beyond the ``count`` that the student finds likeliest (of equal ones the lower) become
    one tail bucket, of the student and of the teacher, as in the authors' loss (2601.20802). The
    gradient of the bucket's probability is shared by its tokens as they share that probability.

    Args:
        divergence: one of ``DIVERGENCES``.
        student: ``[T, V, ...]``, log probabilities.
        shift: ``[T, V, ...]``, the teacher's, of the student's logits.
        mix: a of the JSD.
        count: k; from V on it is the divergence itself.
    """
    vocab_size = student.shape[1]
    if count >= vocab_size:
        return divergence(student, shift, mix)
    kept = materialise(lambda: _rank(student) < count)
    rest = materialise(lambda: _log_sum_exp(jnp.where(kept, -jnp.inf, student)))[:, None]
    # A bucket is shifted by the mean of what shifts its tokens.
    share = materialise(lambda: jnp.where(kept, 0.0, jnp.exp(student - rest)))
    middle = materialise(lambda: _at_likeliest(share, shift))

    def mean_shift() -> Array:
        inside = jnp.where(kept, _NOTHING, student - rest)
        return _log_mean_exp(inside, share, jnp.where(kept, 0.0, shift - middle))

    moved = middle + materialise(mean_shift)[:, None]
    buckets, shifts = materialise(
        lambda: (
            jnp.concatenate((jnp.where(kept, student, _NOTHING), rest), axis=1),
            jnp.concatenate((jnp.where(kept, shift, moved), moved), axis=1),
        )
    )
    gradient = materialise(lambda: divergence(buckets, shifts, mix))
    return jnp.where(kept, gradient[:, :vocab_size], share * gradient[:, vocab_size:])


def entropy_gradient(policy: Policy) -> Array:
    """Gradient of ``-H(pi)``, summed over positions: ``S (log S + H)``, ``[T, V, *runs]``."""
    return _centred(policy.probs, policy.logits - policy.log_normalizer[:, None])


def _teacher(student: Array, shift: Array) -> tuple[Array, Array, Array]:
    """S, Q and ``log Q - log S``, each as exact in proportion to its size as the shift is."""
    probs = materialise(lambda: jnp.exp(student))
    shift = materialise(lambda: shift - _at_likeliest(probs, shift))
    above_1, far = materialise(lambda: _mean_exp(probs, shift))

    def tilts() -> Array:
        tilted = student + shift
        return tilted - lanes.largest_number(tilted, 1)[:, None]

    tilted = materialise(tilts)
    weights = materialise(lambda: jnp.exp(tilted))
    normalizer = materialise(lambda: lanes.total(weights, 1))[:, None]
    logs = materialise(lambda: (jnp.log(normalizer), _log1p(above_1)[:, None]))
    ratio = materialise(
        lambda: jnp.where(far[:, None], tilted - logs[0] - student, shift - logs[1])
    )
    return probs, weights / normalizer, ratio


def _forward(probs: Array, teacher: Array, ratio: Array) -> Array:
    """``S - Q``, also where the two are nearly the same."""
    alike = jnp.abs(ratio) < _SMALL
    _, near = _exp_and_expm1(jnp.where(alike, ratio, 0.0))
    return jnp.where(alike, -probs * near, probs - teacher)


# Below it the difference of two probabilities is taken from their ratio.
_SMALL = 1.0

# log 2 in two parts: an integer times the first is exact.
_LOG_2 = 0.693359375, -2.12194440e-4
# Of ``(exp(r) - 1 - r) / r^2``, for ``|r| <= log(2) / 2``; the last is below float32's precision.
_TAYLOR = tuple(1 / math.factorial(power) for power in range(2, 9))


def _exp_and_expm1(x: Array) -> tuple[Array, Array]:
    """``exp(x)`` and ``exp(x) - 1`` of float32 up to 88, each to a few units in the last place.

    Both come of one polynomial, where XLA's ``expm1`` is many loops on a CPU. Below -87, ``exp(x)``
    stays at ``exp(-87)``.
    """
    x = jnp.maximum(x, -87.0)
    halvings = jnp.round(x * (1 / math.log(2)))
    rest = (x - halvings * _LOG_2[0]) - halvings * _LOG_2[1]
    value = jnp.full_like(rest, _TAYLOR[-1])
    for coefficient in _TAYLOR[-2::-1]:
        value = value * rest + coefficient
    value = value * (rest * rest) + rest
    # 2^n by its bits.
    exponent = (halvings.astype(jnp.int32) + 127) << 23
    scale = jax.lax.bitcast_convert_type(exponent, jnp.float32)
    # Not ``scale + scale * value``: where exp(x) is a normal number, the product may be too small to
    # be one, and processors that don't fuse it with the sum round it to 0.
    return scale * (1 + value), (scale - 1) + scale * value


def _log1p(x: Array, whole: Array | None = None) -> Array:
    """``log(1 + x)``, ``2 artanh(x / (2 + x))`` where 1 would take its digits.

    Args:
        x: above -1/2, or any above -1 with
        whole: ``1 + x`` where x is below -1/2, if it is known better than x is.
    """
    near = jnp.abs(x) < 0.5
    small = jnp.where(near, x, 0.0)
    ratio = small / (2 + small)
    square = ratio * ratio
    value = jnp.full_like(x, 1 / 15)
    for odd in range(13, 0, -2):
        value = value * square + 1 / odd
    far = 1 + x if whole is None else jnp.where(x < 0, whole, 1 + x)
    return jnp.where(near, 2 * ratio * value, jnp.log(jnp.where(near, 1.0, far)))


def _centred(probs: Array, slope: Array) -> Array:
    """``S (d - E_S d)``."""
    # From the likeliest token on: a student that is nearly sure of it leaves nothing to cancel.
    slope = slope - _at_likeliest(probs, slope)
    return probs * (slope - _expected(probs, slope)[:, None])


def _expected(probs: Array, values: Array) -> Array:
    """``E_S`` of values, ``[T, ...]``."""
    return lanes.total_of(lambda p, value: p * value, 1, probs, values)


def _at_likeliest(probs: Array, values: Array) -> Array:
    """The values at the likeliest tokens, of several the largest value, ``[T, 1, ...]``."""
    best = lanes.largest_number(probs, 1)[:, None]
    return lanes.largest_number(jnp.where(probs == best, values, -jnp.inf), 1)[:, None]


def _log_mean_exp(log_probs: Array, probs: Array, values: Array) -> Array:
    """``log E_S exp(values)``, ``[T, ...]``; the values are 0 at the likeliest token."""
    above_1, far = _mean_exp(probs, values)
    return jnp.where(far, _log_sum_exp(log_probs + values), _log1p(above_1))


def _mean_exp(probs: Array, values: Array) -> tuple[Array, Array]:
    """``E_S exp(values) - 1``, and where that is not the way to take its logarithm, and 0."""
    near = jnp.minimum(values, _FAR)
    above_1 = _expected(probs, _exp_and_expm1(near)[1])
    far = (lanes.largest_number(values, 1) > _FAR) | (above_1 < -0.5)
    return jnp.where(far, 0.0, above_1), far


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
