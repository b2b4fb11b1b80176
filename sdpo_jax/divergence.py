"""Divergences between a student S and a teacher Q, as gradients of the student's logits.

No gradient flows through the teacher. With the slope ``d_v = dD/dS_v`` every one of them is
``S (d - E_S d)``:

    forward KL   KL(Q || S)                          S - Q
    reverse KL   KL(S || Q)                          S (log(S/Q) - KL(S || Q))
    JSD          (1-a) KL(S || M) + a KL(Q || M)     (1-a) S (log(S/M) - KL(S || M))

with ``M = (1-a) S + a Q``. The generalised Jensen-Shannon divergence goes to 0, not to one of the
KLs, as a goes to 0 or 1.

Arrays are ``[T, V, ..., *runs]``: tokens on axis 1; student and teacher broadcast.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax import lanes
from sdpo_jax.lanes import NO_FENCE, Fence
from sdpo_jax.policy import Policy

# From log S and log Q, and a where there is one, to the gradient.
Divergence = Callable[[Array, Array, ArrayLike], Array]

# exp of it is a positive number that changes no sum of probabilities.
_NOTHING = -80.0


def log_softmax(logits: Array, fence: Fence = NO_FENCE) -> Array:
    """Log probabilities over axis 1."""

    def normalizer() -> Array:
        largest = lanes.largest(logits, 1)
        return largest + jnp.log(lanes.total(jnp.exp(logits - largest[:, None]), 1))

    return logits - fence(normalizer)[:, None]


def forward_kl(student: Array, teacher: Array, mix: ArrayLike = 0.5) -> Array:
    """Gradient of ``KL(Q || S)``; arguments are log probabilities."""
    return jnp.exp(student) - jnp.exp(teacher)


def reverse_kl(student: Array, teacher: Array, mix: ArrayLike = 0.5) -> Array:
    """Gradient of ``KL(S || Q)``; arguments are log probabilities."""
    return _centred(jnp.exp(student), student - teacher)


def jensen_shannon(student: Array, teacher: Array, mix: ArrayLike = 0.5) -> Array:
    """Gradient of the generalised JSD; arguments are log probabilities, ``mix`` is a."""
    probs = jnp.exp(student)
    mixture = (1 - mix) * probs + mix * jnp.exp(teacher)
    # At a = 0 and 1 the mixture is one of the two, and its logarithm finite all the same.
    slope = student - jnp.log(jnp.maximum(mixture, jnp.finfo(probs.dtype).tiny))
    return jnp.asarray((1 - mix) * _centred(probs, slope))


DIVERGENCES: dict[str, Divergence] = {
    "forward": forward_kl,
    "reverse": reverse_kl,
    "jsd": jensen_shannon,
}


def top_k(
    divergence: Divergence, student: Array, teacher: Array, mix: ArrayLike, count: int
) -> Array:
    """The divergence between what is left when only the student's likeliest tokens are told apart.

    Tokens beyond the ``count`` that the student finds likeliest (of equal ones the lower) become
    one tail bucket, of the student and of the teacher, as in the authors' loss (2601.20802). The
    gradient of the bucket's probability is shared by its tokens as they share that probability.

    Args:
        divergence: one of ``DIVERGENCES``.
        student: ``[T, V, ...]``, log probabilities.
        teacher: ``[T, V, ...]``, log probabilities.
        mix: a of the JSD.
        count: k; from V on it is the divergence itself.
    """
    vocab_size = student.shape[1]
    if count >= vocab_size:
        return divergence(student, teacher, mix)
    kept = _rank(student) < count
    buckets = [
        jnp.concatenate((jnp.where(kept, each, _NOTHING), _log_rest(each, kept)), axis=1)
        for each in jnp.broadcast_arrays(student, teacher)
    ]
    gradient = divergence(buckets[0], buckets[1], mix)
    share = jnp.exp(student - buckets[0][:, vocab_size:])
    return jnp.where(kept, gradient[:, :vocab_size], share * gradient[:, vocab_size:])


def entropy_gradient(policy: Policy) -> Array:
    """Gradient of ``-H(pi)``, summed over positions: ``S (log S + H)``, ``[T, V, *runs]``."""
    return _centred(policy.probs, policy.logits - policy.log_normalizer[:, None])


def _centred(probs: Array, slope: Array) -> Array:
    """``S (d - E_S d)``."""
    return probs * (slope - lanes.total(probs * slope, 1)[:, None])


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


def _log_rest(log_probs: Array, kept: Array) -> Array:
    """Log probability of all that is not kept, ``[T, 1, ...]``."""
    rest = lanes.total(jnp.where(kept, 0.0, jnp.exp(log_probs)), 1)[:, None]
    return jnp.log(jnp.maximum(rest, jnp.finfo(rest.dtype).tiny))
