"""Policy gradients as losses of the sampled tokens' log probabilities.

    reinforce       -A log pi(s_t)
    clipped_ratio   -min(r A, clip(r, 1 - low, 1 + high) A),   r = pi(s_t) / pi_old(s_t)
    kl_penalty      an estimate of KL(pi || pi_ref) from the sampled tokens

Each ``[..., T]``. A bonus for entropy is ``-coefficient * entropy(logits)``. Which tokens count
how much is a reduction's to say (``reductions``): it is what GRPO, Dr. GRPO and DAPO differ in.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from sdpo_jax.losses import checks

ESTIMATORS = ("k1", "k2", "k3")

# exp of it is finite in float32.
_LARGEST = 80.0


def reinforce(
    log_probs: ArrayLike, advantages: ArrayLike, *, where: ArrayLike | None = None
) -> Array:
    """``-A log pi(s_t)``, ``[..., T]`` (Williams 1992).

    Args:
        log_probs: ``[..., T]``, from ``token_log_probs``.
        advantages: ``[...]``, one a sequence, or ``[..., T]``; without a gradient.
        where: mask ``[..., T]``; elsewhere the value and its gradient are 0.

    Raises:
        ValueError: an argument of another shape or type.
    """
    now = checks.floating("log_probs", log_probs, 1)
    mask = checks.mask(where, now.shape)
    return -_advantages(advantages, now.shape, mask) * checks.kept(checks.wide(now), mask)


def clipped_ratio(
    log_probs: ArrayLike,
    old_log_probs: ArrayLike,
    advantages: ArrayLike,
    *,
    clip: ArrayLike = 0.2,
    clip_high: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """PPO's clipped objective as a loss, ``[..., T]`` (Schulman et al., 1707.06347, Eq. 7).

        -min(r A, clip(r, 1 - clip, 1 + clip_high) A),   r = pi(s_t) / pi_old(s_t)

    Args:
        log_probs: ``[..., T]``, from ``token_log_probs``.
        old_log_probs: ``[..., T]``, of the policy that sampled the tokens; without a gradient.
        advantages: ``[...]``, one a sequence, or ``[..., T]``; without a gradient.
        clip: 0 or more.
        clip_high: 0 or more, ``clip`` by default. DAPO (Yu et al., 2503.14476) takes 0.28 with a
            ``clip`` of 0.2.
        where: mask ``[..., T]``; elsewhere the value and its gradient are 0.

    Raises:
        ValueError: an argument of another shape, type or range.
    """
    now = checks.floating("log_probs", log_probs, 1)
    low = checks.number("clip", clip, 0)
    high = low if clip_high is None else checks.number("clip_high", clip_high, 0)
    mask = checks.mask(where, now.shape)
    advantage = _advantages(advantages, now.shape, mask)
    ratio = jnp.exp(_log_ratio("old_log_probs", now, old_log_probs, mask))
    clipped = jnp.clip(ratio, 1 - low, 1 + high)
    return checks.kept(-jnp.minimum(ratio * advantage, clipped * advantage), mask)


def kl_penalty(
    log_probs: ArrayLike,
    reference_log_probs: ArrayLike,
    *,
    estimator: str = "k3",
    where: ArrayLike | None = None,
) -> Array:
    """An estimate of ``KL(pi || pi_ref)`` from the sampled tokens, ``[..., T]``.

        k1   d
        k2   d^2 / 2                     d = log pi(s_t) - log pi_ref(s_t)
        k3   exp(-d) - 1 + d

    Schulman, "Approximating KL divergence" (2020). As values, for tokens of pi itself: k1 and k3
    are unbiased, k3 is never negative, k2 is close where the two are. As losses: the expected
    gradient of k1 is 0, that of k2 is the gradient of KL(pi || pi_ref), and that of k3 is that of
    KL(pi_ref || pi). So k1 belongs into the reward, and a loss takes k2, or k3 as GRPO does.

    Args:
        log_probs: ``[..., T]``, from ``token_log_probs``.
        reference_log_probs: ``[..., T]``; without a gradient.
        estimator: ``"k1"``, ``"k2"`` or ``"k3"``.
        where: mask ``[..., T]``; elsewhere the value and its gradient are 0.

    Raises:
        ValueError: an argument of another shape or type, or an unknown estimator.
    """
    now = checks.floating("log_probs", log_probs, 1)
    checks.one_of("estimator", estimator, ESTIMATORS)
    mask = checks.mask(where, now.shape)
    ratio = _log_ratio("reference_log_probs", now, reference_log_probs, mask)
    if estimator == "k1":
        return ratio
    return ratio * ratio / 2 if estimator == "k2" else jnp.expm1(-ratio) + ratio


def _log_ratio(name: str, now: Array, before: ArrayLike, mask: Array | None) -> Array:
    """``log pi - log pi_before``, cut where its exponential would be infinite."""
    old = checks.alike(name, checks.floating(name, before, 1), now.shape)
    one, other = (checks.kept(checks.wide(each), mask) for each in (now, old))
    return jnp.clip(one - lax.stop_gradient(other), -_LARGEST, _LARGEST)


def _advantages(advantages: ArrayLike, shape: tuple[int, ...], mask: Array | None) -> Array:
    """Of each token, ``[..., T]``; one for a whole sequence is for each of its tokens."""
    array = checks.floating("advantages", advantages)
    if array.shape == shape[:-1]:
        array = jnp.broadcast_to(array[..., None], shape)
    elif array.shape != shape:
        raise ValueError(f"advantages: of shape {array.shape}; allowed: {shape[:-1]} or {shape}")
    return checks.kept(lax.stop_gradient(checks.wide(array)), mask)
