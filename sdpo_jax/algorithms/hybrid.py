"""The hybrid: SDPO while teacher and student disagree, REINFORCE when they agree (Eq. 6).

    g = a g_sdpo + (1 - a) g_reinforce,    a = sigmoid((KL - tau) / (tau / 3))

KL is the mean over rollouts and positions of ``KL(teacher || student)``, tau the
``hybrid_threshold``. A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

from typing import Annotated

import jax
from jax import Array

from sdpo_jax.algorithm import Update
from sdpo_jax.algorithms.reinforce import reinforce
from sdpo_jax.algorithms.sdpo import sdpo
from sdpo_jax.engine.own_numbers import Number
from sdpo_jax.policies import Policy
from sdpo_jax.teachers import Teacher


def hybrid(
    *,
    policy: Policy,
    tokens: Array,
    signal: Array,
    teacher: Teacher,
    hybrid_threshold: Annotated[
        float,
        Number(above=0, title="divergence at which the hybrid's weight is 1/2, tau (nats)"),
    ] = 0.15,
) -> Update:
    """Eq. 6. ``tokens`` are ``[T, N, *runs]``, ``signal`` (R) is ``[N, *runs]``."""
    weight = jax.nn.sigmoid((teacher.divergence - hybrid_threshold) / (hybrid_threshold / 3))
    first = sdpo(policy=policy, teacher=teacher).gradient
    second = reinforce(policy=policy, tokens=tokens, signal=signal).gradient
    return Update(weight * first + (1 - weight) * second, info={"weight": weight})
