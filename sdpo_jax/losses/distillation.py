"""Self-distillation: divergences between a student S and a teacher Q at each position.

    forward_kl   KL(Q || S) = sum_v Q (log Q - log S)
    reverse_kl   KL(S || Q) = sum_v S (log S - log Q)
    jsd          (1 - a) KL(S || M) + a KL(Q || M),   M = (1 - a) S + a Q,   0 < a < 1
                 forward_kl at a = 0, reverse_kl at a = 1

Huebotter et al. (2601.20802) for SDPO, Agarwal et al. (2306.13649), Eq. 1, for the generalised
Jensen-Shannon divergence; a is ``mix``. As a goes to 0 or 1 that divergence itself goes to 0: the
two ends are set to the KLs, as TRL sets them.

The teacher never gets a gradient, ``mix`` and ``temperature`` do. To learn from one sampled token a
position instead of all the vocabulary, there is ``sampled_token``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from sdpo_jax.losses import checks
from sdpo_jax.losses.chunks import in_chunks
from sdpo_jax.losses.log_probs import checked_temperature, tempered

DIVERGENCES = ("forward_kl", "reverse_kl", "jsd")
SUPPORTS = ("student", "teacher", "union")


def distillation(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    divergence: str = "forward_kl",
    mix: ArrayLike = 0.5,
    top_k: int | None = None,
    support: str = "student",
    tail: bool = True,
    temperature: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    chunk: int | None = None,
) -> Array:
    """The divergence of student and teacher at each position, ``[..., T]``, 0 or more.

    A token that both forbid (a logit of -inf) does not count. One that only the second
    distribution of a KL forbids makes it infinite: the forward KL where the student forbids what
    the teacher does not, with the gradient S - Q that it has everywhere; the reverse KL where the
    teacher forbids what the student does not, and there its gradient is infinite or NaN, too.
    Between the ends the Jensen-Shannon divergence is finite, and so is its gradient. A logit of NaN
    or infinity, and a position of which all tokens are forbidden, give NaN.

    Args:
        student_logits: ``[..., T, V]``.
        teacher_logits: of the same shape; without a gradient.
        divergence: ``"forward_kl"`` (of the teacher from the student, covers all that the teacher
            does), ``"reverse_kl"`` (of the student from the teacher, seeks one mode of it) or
            ``"jsd"``.
        mix: a of the Jensen-Shannon divergence, from 0 to 1. At 0 and 1 the divergence jumps, and
            its gradient by ``mix`` is 0.
        top_k: how many tokens are told apart: the likeliest (of equal ones the lower); all of
            them by default.
        support: whose likeliest tokens: the ``"student"``'s, the ``"teacher"``'s, or the
            ``"union"`` of both, ``top_k`` to twice as many.
        tail: whether all other tokens together are one more (a tail bucket); otherwise the
            probabilities of those told apart are renormalised, of student and teacher (NaN where
            one of the two forbids all of them).
        temperature: above 0; both logits are divided by it. The factor ``temperature ** 2`` with
            which Hinton et al. (1503.02531) keep the size of the gradient is the caller's.
        where: mask ``[..., T]``; where it is false the value and its gradient are 0.
        chunk: positions at a time (see ``chunks.in_chunks``).

    Raises:
        ValueError: an argument of another shape, type or range. A ``mix`` or ``temperature`` that
            is traced gives NaN outside its range.

    >>> import jax.numpy as jnp, numpy as np
    >>> student, teacher = jnp.zeros((1, 4)), jnp.log(jnp.array([[0.4, 0.4, 0.1, 0.1]]))
    >>> print(np.asarray(distillation(student, teacher)).round(4))
    [0.1927]
    >>> values = distillation(student, teacher, divergence="jsd", top_k=2, support="union")
    >>> print(np.asarray(values).round(4))
    [0.0507]
    """
    student = checks.floating("student_logits", student_logits, 2)
    teacher = checks.floating("teacher_logits", teacher_logits, 2)
    checks.alike("teacher_logits", teacher, student.shape)
    checks.one_of("divergence", divergence, DIVERGENCES)
    checks.one_of("support", support, SUPPORTS)
    mask = checks.mask(where, student.shape[:-1])
    share = checks.number("mix", mix, 0, 1)
    if top_k is not None and checks.whole("top_k", top_k) >= student.shape[-1]:
        top_k = None
    if divergence == "jsd":
        value = checks.known(mix)
        ends = {None: "jsd_of_any_mix", 0.0: "forward_kl", 1.0: "reverse_kl"}
        divergence = ends.get(value, "jsd")
    formula = _Formula(divergence, top_k, support, checks.boolean("tail", tail))
    numbers = share, checked_temperature(temperature)
    return in_chunks(formula, chunk, student, (teacher, mask), numbers)


def sampled_token(
    student_log_probs: ArrayLike,
    teacher_log_probs: ArrayLike,
    *,
    old_log_probs: ArrayLike | None = None,
    clip: ArrayLike = 2.0,
    where: ArrayLike | None = None,
) -> Array:
    """The reverse KL's gradient, estimated from the tokens that were sampled, ``[..., T]``.

        L_t = w_t sg(log S(s_t) - log Q(s_t)) log S(s_t),   w_t = ``importance_weights``

    sg stops gradients. Its gradient, not its value, has the meaning: with s from S it is that of
    KL(S || Q) in expectation, for each position given those before it.

    Args:
        student_log_probs: ``[..., T]``, from ``token_log_probs``.
        teacher_log_probs: ``[..., T]``, of the same tokens.
        old_log_probs: ``[..., T]``, of the student that sampled them, where it was an earlier one;
            by default w is 1.
        clip: above 0, the largest w.
        where: mask ``[..., T]``; where it is false the value and its gradient are 0.

    Raises:
        ValueError: an argument of another shape, type or range.
    """
    student = checks.floating("student_log_probs", student_log_probs, 1)
    teacher = checks.floating("teacher_log_probs", teacher_log_probs, 1)
    checks.alike("teacher_log_probs", teacher, student.shape)
    mask = checks.mask(where, student.shape)
    log_probs, target = (checks.kept(checks.wide(each), mask) for each in (student, teacher))
    loss = lax.stop_gradient(log_probs - target) * log_probs
    if old_log_probs is None:
        return loss
    return importance_weights(student, old_log_probs, clip=clip, where=where) * loss


def importance_weights(
    log_probs: ArrayLike,
    old_log_probs: ArrayLike,
    *,
    clip: ArrayLike = 2.0,
    where: ArrayLike | None = None,
) -> Array:
    """How much likelier a token is now than when it was sampled, ``[..., T]``, without a gradient.

        w_t = min(pi(s_t) / pi_old(s_t), clip)

    A factor for any loss per token on rollouts of an earlier policy (Huebotter et al., 2601.20802).

    Args:
        log_probs: ``[..., T]``.
        old_log_probs: ``[..., T]``, of the policy that sampled the tokens.
        clip: above 0, the largest weight.
        where: mask ``[..., T]``; where it is false the weight is 0.

    Raises:
        ValueError: an argument of another shape, type or range.
    """
    now = checks.floating("log_probs", log_probs, 1)
    old = checks.floating("old_log_probs", old_log_probs, 1)
    checks.alike("old_log_probs", old, now.shape)
    mask = checks.mask(where, now.shape)
    now, old = (checks.kept(checks.wide(each), mask) for each in (now, old))
    ratio = jnp.exp(now - old)
    largest = checks.number("clip", clip, 0, above=True)
    return lax.stop_gradient(checks.kept(jnp.minimum(ratio, largest), mask))


@dataclass(frozen=True)
class _Formula:
    """From logits to divergences; equal ones are compiled once."""

    name: str
    top_k: int | None
    support: str
    tail: bool

    def __call__(self, student: Array, others: Any, numbers: Any) -> Array:
        teacher, mask = others
        mix, temperature = numbers
        logits = [tempered(each, mask, temperature) for each in (student, teacher)]
        if self.top_k is not None:
            places, twice = _likeliest(logits, self.top_k, self.support)
            logits = [_buckets(each, places, twice, self.tail) for each in logits]
        first, second = (jax.nn.log_softmax(each) for each in logits)
        values = checks.never_negative(_divergence(self.name, first, second, mix))
        return checks.kept(values, mask)


def _divergence(name: str, student: Array, teacher: Array, mix: Array) -> Array:
    """From log probabilities ``[..., V]`` to ``[...]``."""
    if name == "forward_kl":
        return _kl(teacher, student)
    if name == "reverse_kl":
        return _kl(student, teacher)
    if name == "jsd":
        return _jensen_shannon(student, teacher, mix)
    # A mix that is not known before the program runs. What is not chosen is made of zeros: a
    # gradient of it that is no number would not vanish by being multiplied by 0.
    at_start, at_end = mix == 0, mix == 1
    between = _jensen_shannon(student, teacher, jnp.where(at_start | at_end, 0.5, mix))
    forward, reverse = _kl(teacher, student, at_start), _kl(student, teacher, at_end)
    return jnp.where(at_start, forward, jnp.where(at_end, reverse, between))


def _kl(one: Array, other: Array, chosen: Array | bool = True) -> Array:
    """``KL(one || other)`` of log probabilities; 0 log 0 = 0."""
    probs = jnp.exp(one)
    # Not "above 0": what is NaN has to stay in the sum.
    possible = (probs != 0) & chosen
    return _if(possible, probs * (_if(possible, one) - _if(possible, other))).sum(-1)


def _jensen_shannon(student: Array, teacher: Array, mix: Array) -> Array:
    first, second = jnp.exp(student), jnp.exp(teacher)
    mixture = (1 - mix) * first + mix * second
    log_mixture = jnp.log(jnp.where(mixture == 0, 1.0, mixture))
    terms = (1 - mix) * first * (_if(first != 0, student) - log_mixture)
    terms += mix * second * (_if(second != 0, teacher) - log_mixture)
    return terms.sum(-1)


def _if(condition: Array, values: Array) -> Array:
    return jnp.where(condition, values, 0.0)


def _likeliest(logits: list[Array], top_k: int, support: str) -> tuple[Array, Array | None]:
    """Places of the tokens that are told apart, ``[..., k]``; for a union also which come twice."""
    found = {
        name: lax.top_k(lax.stop_gradient(each), top_k)[1]
        for name, each in zip(("student", "teacher"), logits, strict=True)
        if support in (name, "union")
    }
    if support != "union":
        return found[support], None
    first, second = found.values()
    twice = (second[..., :, None] == first[..., None, :]).any(-1)
    places = jnp.concatenate((first, second), axis=-1)
    return places, jnp.concatenate((jnp.zeros_like(twice), twice), axis=-1)


def _buckets(logits: Array, places: Array, twice: Array | None, tail: bool) -> Array:
    """The logits at ``places`` ``[..., k]``, and one of all others together: ``[..., k (+ 1)]``."""
    chosen = jnp.take_along_axis(logits, places, axis=-1)
    if twice is not None:
        # The second time as if both forbade it.
        chosen = jnp.where(twice, -jnp.inf, chosen)
    if not tail:
        # What is no number is not hidden by not being among the likeliest.
        unusable = ~(logits < jnp.inf).all(-1, keepdims=True)
        return jnp.where(unusable, jnp.nan, 1.0) * chosen
    others = jnp.put_along_axis(logits, places, -jnp.inf, axis=-1, inplace=False)
    largest = lax.stop_gradient(others.max(-1, keepdims=True))
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
    total = jnp.exp(others - largest).sum(-1, keepdims=True)
    # A tail of nothing has a logit of -inf, and no gradient.
    nothing = total == 0
    bucket = jnp.where(nothing, -jnp.inf, jnp.log(jnp.where(nothing, 1.0, total)) + largest)
    return jnp.concatenate((chosen, bucket), axis=-1)
