"""Self-Distillation Policy Optimization (Eq. 3).

    g = -(1/N) sum_i (softmax(l + beta f_i c) - pi)

The policy moves towards the mean of its own teachers: the same policy shown the feedback f_i and
the table c. Its push is as large as the teacher is sure, whatever the reward: feedback scales it
and never turns it round. A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

from jax import Array

from sdpo_jax.algorithm import Update
from sdpo_jax.policies import Policy
from sdpo_jax.teachers import Teacher


def sdpo(*, policy: Policy, teacher: Teacher) -> Update:
    """Eq. 3. ``policy.probs`` and ``teacher.mean`` are ``[T, V, *runs]``."""
    gradient: Array = policy.probs - teacher.mean
    return Update(gradient)
