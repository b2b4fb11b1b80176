"""Two losses in one: distillation while teacher and student disagree, then policy gradient.

L = a L_distillation + (1 - a) L_policy,   a = sigmoid((KL - tau) / (tau / 3))
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jax.typing import ArrayLike

from sdpo_jax.losses import checks


def hybrid(distillation: ArrayLike, policy_gradient: ArrayLike, *, weight: ArrayLike) -> Array:
    """``a distillation + (1 - a) policy_gradient``, of the shape of the two.

    Args:
        distillation: values a token, or a reduced loss.
        policy_gradient: of the same shape.
        weight: a, from 0 to 1: a number, or an array of the shape of the two; without a gradient.
            1 is distillation alone. From ``hybrid_weight``, or fixed.

    Raises:
        ValueError: an argument of another shape, type or range.
    """
    first = checks.floating("distillation", distillation)
    second = checks.floating("policy_gradient", policy_gradient)
    checks.alike("policy_gradient", second, first.shape)
    if jnp.ndim(weight):
        share = checks.alike("weight", checks.floating("weight", weight), first.shape)
        if not isinstance(share, Tracer):
            outside = np.asarray(checks.wide(share))
            outside = outside[~((outside >= 0) & (outside <= 1))]
            if outside.size:
                raise ValueError(f"weight: holds {outside[0]:g}; allowed: 0 to 1")
        share = checks.within(share, 0, 1)
    else:
        share = checks.number("weight", weight, 0, 1)
    share = lax.stop_gradient(checks.wide(share))
    return share * checks.wide(first) + (1 - share) * checks.wide(second)


def hybrid_weight(divergence: ArrayLike, *, threshold: ArrayLike) -> Array:
    """``a = sigmoid((KL - tau) / (tau / 3))``, without a gradient; 1/2 at the threshold tau.

    Args:
        divergence: the mean of ``KL(teacher || student)`` over tokens, or any other measure of how
            far the two are apart; of any shape.
        threshold: above 0, tau.

    Raises:
        ValueError: an argument of another type or range.
    """
    kl = checks.wide(checks.floating("divergence", divergence))
    tau = checks.number("threshold", threshold, 0, above=True)
    return lax.stop_gradient(jax.nn.sigmoid((kl - tau) / (tau / 3)))
