"""Knowledge distillation from a fixed teacher.

    L = tau^2 KL(Q_tau || S_tau),   g = tau (S_tau - Q_tau),   Q = softmax(l_0 + beta c)

Hinton, Vinyals and Dean (1503.02531): both distributions at temperature tau (``temperature``),
whose square keeps the gradient's size. The teacher is the first policy shown the whole table c once
and for all: what SDPO's teacher would be with full feedback if it did not follow its student. It
asks for no reward. A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

from typing import Annotated

import jax.numpy as jnp
from jax import Array

from sdpo_jax import policies
from sdpo_jax.algorithm import Cost, Update
from sdpo_jax.config import Config
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.engine.own_numbers import Number
from sdpo_jax.policies import Policy
from sdpo_jax.teachers.divergences import forward_kl, student_of


def distillation(
    *,
    policy: Policy,
    reference: Policy,
    knowledge: Array,
    config: Config,
    temperature: Annotated[
        float, Number(above=0, title="temperature of knowledge distillation")
    ] = 2.0,
) -> Update:
    """``knowledge`` (c) is ``[T, V, *runs]``."""
    tau = jnp.asarray(temperature)

    def cooled() -> tuple[Array, Array]:
        shift = reference.logits - policy.logits + config.feedback_strength * knowledge
        return policy.logits / tau, shift / tau

    # Quotients that are read as they are rounded: a compiler that fuses one with the subtraction of
    # the largest leaves its rounding, which at a low temperature overflows in the exponential.
    logits, shift = materialise(cooled)
    gradient = tau * forward_kl(student_of(policies.policy(logits)), shift)
    return Update(gradient, cost=Cost(0, 0))
