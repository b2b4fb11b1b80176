"""Advantages of the rollouts of a group, from their rewards.

    centred            R_i - mean R                        Dr. GRPO (2503.20783), PPO without critic
    leave_one_out      R_i - mean_{j != i} R_j             RLOO (2402.14740)
    group_normalised   (R_i - mean R) / (std R + epsilon)  GRPO (2402.03300)

Groups lie along one axis. Equal rewards give zeros, exactly. Integers and booleans are taken as
float32. A reward that is NaN or infinite is not hidden: the group's advantages have no value.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from sdpo_jax.losses import checks

# Rewards that differ by so many roundings are the same reward, added up in another order.
_ROUNDINGS = 4


def centred(rewards: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None) -> Array:
    """Each reward less the mean of its group, of the shape of the rewards.

    Args:
        rewards: ``[..., G]``.
        axis: along which the rollouts of a group lie.
        where: mask of the rewards; others count nowhere, and their advantage is 0.

    Raises:
        ValueError: an argument of another shape or type.
    """
    return _centred(rewards, axis, where)[0]


def leave_one_out(rewards: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None) -> Array:
    """Each reward less the mean of the others in its group, which is ``G / (G - 1)`` ``centred``.

    Args:
        rewards: ``[..., G]``; the only one of a group has an advantage of 0.
        axis: along which the rollouts of a group lie.
        where: mask of the rewards; others count nowhere, and their advantage is 0.

    Raises:
        ValueError: an argument of another shape or type.
    """
    advantage, count, _ = _centred(rewards, axis, where)
    return advantage * (count / jnp.maximum(count - 1, 1))


def group_normalised(
    rewards: ArrayLike,
    *,
    epsilon: ArrayLike = 1e-6,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> Array:
    """Rewards of mean 0 and spread 1 in each group, of the shape of the rewards.

    The spread has ``G - 1`` in its denominator. Where rewards differ by rounding only, by no more
    than 4 roundings of float32 (of float64, if that is their type) at the largest of them,
    advantages are 0: dividing by such a spread would make large numbers of nothing. Rewards of a
    shorter type are taken for what they are.

    Args:
        rewards: ``[..., G]``.
        epsilon: 0 or more, added to the spread. TRL takes 1e-4, verl 1e-6.
        axis: along which the rollouts of a group lie.
        where: mask of the rewards; others count nowhere, and their advantage is 0.

    Raises:
        ValueError: an argument of another shape, type or range.
    """
    advantage, count, equal = _centred(rewards, axis, where)
    # In units of a power of two, which costs no digit, so that no square is too large or too small.
    largest = lax.stop_gradient(abs(advantage)).max(axis, keepdims=True, initial=0.0)
    power = jnp.where(equal | ~jnp.isfinite(largest), 0, jnp.frexp(largest)[1])
    scaled = jnp.ldexp(advantage, -power)
    square = (scaled * scaled).sum(axis, keepdims=True) / jnp.maximum(count - 1, 1)
    least = jnp.ldexp(checks.wide(checks.number("epsilon", epsilon, 0)), -power)
    spread = jnp.sqrt(jnp.where(equal, 1.0, square)) + least
    return jnp.where(equal, 0.0, scaled / spread)


def _centred(rewards: ArrayLike, axis: int, where: ArrayLike | None) -> tuple[Array, Array, Array]:
    """Centred rewards, how many there are in a group, and whether they are all the same."""
    given = jnp.asarray(rewards)
    if not (jnp.issubdtype(given.dtype, jnp.integer) or given.dtype == jnp.bool_):
        given = checks.floating("rewards", given)
    if not isinstance(axis, int) or not -given.ndim <= axis < given.ndim:
        raise ValueError(f"axis: {axis}; allowed: an axis of rewards of shape {given.shape}")
    mask = checks.mask(where, given.shape)
    if mask is None:
        mask = jnp.ones(given.shape, bool)
    reward = checks.kept(checks.wide(given), mask)
    infinity = jnp.array(jnp.inf, reward.dtype)
    least = jnp.where(mask, reward, infinity).min(axis, keepdims=True, initial=jnp.inf)
    most = jnp.where(mask, reward, -infinity).max(axis, keepdims=True, initial=-jnp.inf)
    size = jnp.maximum(abs(least), abs(most))
    apart = most - least
    equal = (apart <= _ROUNDINGS * jnp.finfo(reward.dtype).eps * size) & jnp.isfinite(size)
    count = mask.sum(axis, keepdims=True, dtype=reward.dtype)
    # Differences from the least are exactly 0 where all are equal; their mean then is, too.
    above = checks.kept(reward - jnp.where(count > 0, least, 0.0), mask)
    mean = above.sum(axis, keepdims=True) / jnp.maximum(count, 1)
    return checks.kept(above - mean, mask), count, equal
