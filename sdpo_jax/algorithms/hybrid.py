"""The hybrid: SDPO while teacher and student disagree, REINFORCE when they agree (Eq. 6).

    g = a g_sdpo + (1 - a) g_reinforce,    a = sigmoid((KL - tau) / (tau / 3))

KL is the mean over rollouts and positions of ``KL(teacher || student)``, tau the
``hybrid_threshold``. A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

import jax
from jax import Array

from sdpo_jax.algorithms.base import Update
from sdpo_jax.algorithms.reinforce import reinforce
from sdpo_jax.algorithms.sdpo import sdpo
from sdpo_jax.config import Config
from sdpo_jax.lanes import NO_FENCE, Fence
from sdpo_jax.policy import Policy
from sdpo_jax.teacher import Teacher


def hybrid(
    *,
    policy: Policy,
    tokens: Array,
    signal: Array,
    teacher: Teacher,
    config: Config,
    fence: Fence = NO_FENCE,
) -> Update:
    """Eq. 6. ``tokens`` are ``[T, N, *runs]``, ``signal`` (R) is ``[N, *runs]``."""
    threshold = config.hybrid_threshold
    weight = jax.nn.sigmoid((teacher.divergence - threshold) / (threshold / 3))
    first = sdpo(policy=policy, teacher=teacher).gradient
    second = reinforce(policy=policy, tokens=tokens, signal=signal, fence=fence).gradient
    return Update(weight * first + (1 - weight) * second, weight)
