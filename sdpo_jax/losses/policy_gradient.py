"""Policy gradients as losses of the sampled tokens' log probabilities.

    reinforce       -A log pi(s_t)
    clipped_ratio   -min(r A, clip(r, 1 - low, 1 + high) A),   r = pi(s_t) / pi_old(s_t)
                    of tokens, or of whole sequences (GSPO)
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
LEVELS = ("token", "sequence", "sequence_token")


def reinforce(
    log_probs: ArrayLike, advantages: ArrayLike, *, where: ArrayLike | None = None
) -> Array:
    """``-A log pi(s_t)``, ``[..., T]`` (Williams 1992).

    Args:
        log_probs: ``[..., T]``, from ``token_log_probs``.
        advantages: ``[...]``, one a sequence, or ``[..., T]``; without a gradient.
        where: mask ``[..., T]``; where it is false the value and its gradient are 0.

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
    dual_clip: ArrayLike | None = None,
    level: str = "token",
    where: ArrayLike | None = None,
) -> Array:
    """PPO's clipped objective as a loss, ``[..., T]`` (Schulman et al., 1707.06347, Eq. 7).

        -min(r A, clip(r, 1 - clip, 1 + clip_high) A),   with a dual clip at most -dual_clip A
                                                         where A < 0

    The ratio r is that of each token, or of its whole sequence (GSPO: Zheng et al., 2507.18071,
    Eq. 7, a geometric mean over the tokens that count):

        "token"            r_t = pi(s_t) / pi_old(s_t)
        "sequence"         r_t = r = exp(mean_u log(pi(s_u) / pi_old(s_u)))
        "sequence_token"   r_t = sg(r) pi(s_t) / sg(pi(s_t)),   GSPO-token, Eq. 14

    The last two have the same values, and with one advantage a sequence the same gradient of any
    sum in which the tokens of a sequence weigh the same; their own advantages are for
    ``"sequence_token"``. GSPO's loss is ``sequence_mean`` of it, with clips of 3e-4 and 4e-4.

    The ratio is not cut. Where A < 0 nothing bounds it but ``dual_clip``: above ``exp(88)``, where
    float32 ends, value and gradient are infinite without.

    Args:
        log_probs: ``[..., T]``, from ``token_log_probs``.
        old_log_probs: ``[..., T]``, of the policy that sampled the tokens; without a gradient.
        advantages: ``[...]``, one a sequence, or ``[..., T]``; without a gradient.
        clip: 0 or more.
        clip_high: 0 or more, ``clip`` by default. DAPO (Yu et al., 2503.14476) takes 0.28 with a
            ``clip`` of 0.2.
        dual_clip: above 1, the largest ratio where A < 0 (Ye et al., 1912.09729, Eq. 5); none by
            default. verl takes 3.
        level: ``"token"``, ``"sequence"`` or ``"sequence_token"``.
        where: mask ``[..., T]``; where it is false the value and its gradient are 0.

    Raises:
        ValueError: an argument of another shape, type or range.

    >>> import jax.numpy as jnp, numpy as np
    >>> now, old = jnp.log(jnp.array([[0.9, 0.2, 0.5]])), jnp.log(jnp.array([[0.3, 0.4, 0.1]]))
    >>> print(np.asarray(clipped_ratio(now, old, jnp.array([1.0]))).round(3))
    [[-1.2 -0.5 -1.2]]
    >>> print(np.asarray(clipped_ratio(now, old, jnp.array([-1.0]), dual_clip=3.5)).round(3))
    [[3.  0.8 3.5]]
    >>> print(np.asarray(clipped_ratio(now, old, jnp.array([-1.0]), level="sequence")).round(3))
    [[1.957 1.957 1.957]]
    """
    now = checks.floating("log_probs", log_probs, 1)
    checks.one_of("level", level, LEVELS)
    low = checks.number("clip", clip, 0)
    high = low if clip_high is None else checks.number("clip_high", clip_high, 0)
    mask = checks.mask(where, now.shape)
    advantage = _advantages(advantages, now.shape, mask)
    largest = jnp.inf if dual_clip is None else checks.number("dual_clip", dual_clip, 1, above=True)
    difference = _log_ratio("old_log_probs", now, old_log_probs, mask)
    if level != "token":
        difference = _of_sequences(difference, mask, each_its_own=level == "sequence_token")
    ratio = jnp.exp(lax.stop_gradient(difference))
    # The smaller product is that of the ratio between these two; beyond them it is constant.
    lower = jnp.where(advantage < 0, 1 - low, 0.0)
    upper = jnp.where(advantage < 0, largest, 1 + high)
    constant = ((ratio < lower) | (ratio > upper)) & ~jnp.isnan(advantage)
    # An exponential that is left out may be infinite: its gradient would not vanish times 0.
    free = jnp.exp(jnp.where(constant, 0.0, difference))
    used = jnp.where(constant, jnp.where(ratio < lower, lower, upper), free)
    # No comparison is true of NaN: a clip outside its range would be one that never binds.
    used *= jnp.where(jnp.isnan(low + high + largest), jnp.nan, 1.0)
    return checks.kept(-used * advantage, mask)


def _of_sequences(difference: Array, mask: Array | None, each_its_own: bool) -> Array:
    """Mean log ratios of sequences, at each token; the gradient is the mean's or the token's."""
    count = difference.shape[-1] if mask is None else mask.sum(-1, keepdims=True)
    mean = difference.sum(-1, keepdims=True) / jnp.maximum(count, 1)
    if not each_its_own:
        return jnp.broadcast_to(mean, difference.shape)
    finite = jnp.where(abs(difference) == jnp.inf, 0.0, difference)
    return lax.stop_gradient(mean) + (finite - lax.stop_gradient(finite))


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
    Nothing is cut: k3 and its gradient are infinite where ``-d`` is above 88, where float32 ends.

    Args:
        log_probs: ``[..., T]``, from ``token_log_probs``.
        reference_log_probs: ``[..., T]``; without a gradient.
        estimator: ``"k1"``, ``"k2"`` or ``"k3"``.
        where: mask ``[..., T]``; where it is false the value and its gradient are 0.

    Raises:
        ValueError: an argument of another shape or type, or an unknown estimator.
    """
    now = checks.floating("log_probs", log_probs, 1)
    checks.one_of("estimator", estimator, ESTIMATORS)
    mask = checks.mask(where, now.shape)
    difference = _log_ratio("reference_log_probs", now, reference_log_probs, mask)
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return difference * difference / 2
    # At -inf the exponential is what counts.
    linear = jnp.maximum(difference, jnp.finfo(difference.dtype).min)
    return checks.never_negative(jnp.expm1(-difference) + linear)


def _log_ratio(name: str, now: Array, before: ArrayLike, mask: Array | None) -> Array:
    """``log pi - log pi_before``."""
    old = checks.alike(name, checks.floating(name, before, 1), now.shape)
    one, other = (checks.kept(checks.wide(each), mask) for each in (now, old))
    other = lax.stop_gradient(other)
    # So that also the gradient is NaN where the other is, which it does not depend on.
    return one * jnp.where(jnp.isnan(other), jnp.nan, 1.0) - other


def _advantages(advantages: ArrayLike, shape: tuple[int, ...], mask: Array | None) -> Array:
    """Of each token, ``[..., T]``; one for a whole sequence is for each of its tokens."""
    array = checks.floating("advantages", advantages)
    if array.shape == shape[:-1]:
        array = jnp.broadcast_to(array[..., None], shape)
    elif array.shape != shape:
        raise ValueError(f"advantages: of shape {array.shape}; allowed: {shape[:-1]} or {shape}")
    return checks.kept(lax.stop_gradient(checks.wide(array)), mask)
