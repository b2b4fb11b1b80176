"""Knowledge distillation from a fixed teacher.

    L = tau^2 KL(Q_tau || S_tau),   g = tau (S_tau - Q_tau),   Q = softmax(l_0 + beta c)

Hinton, Vinyals and Dean (1503.02531): both distributions at temperature tau (``temperature``),
whose square keeps the gradient's size. The teacher is the first policy shown the whole table c once
and for all: what SDPO's teacher would be with full feedback if it did not follow its student. It
asks for no reward. A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sdpo_jax.config import Config
from sdpo_jax.divergence import forward_kl, log_softmax
from sdpo_jax.methods.base import Cost, Update
from sdpo_jax.policy import Policy


def distillation(*, policy: Policy, reference: Policy, knowledge: Array, config: Config) -> Update:
    """``knowledge`` (c) is ``[T, V, *runs]``."""
    temperature = jnp.asarray(config.temperature)
    shift = reference.logits - policy.logits + config.feedback_strength * knowledge
    student = log_softmax(policy.logits / temperature)
    return Update(temperature * forward_kl(student, shift / temperature), cost=Cost(0, 0))
