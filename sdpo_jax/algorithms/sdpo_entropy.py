"""SDPO with the policy's entropy in its objective.

    g = g_sdpo + c grad(-H(pi)),   grad(-H) = pi (log pi + H)   at each position

The paper's future work (section 4), with the usual bonus of policy-gradient algorithms (Williams
and Peng 1991); c is ``entropy_bonus``. Unlike the pull to the first policy, it draws towards the
uniform one. A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

from typing import Annotated

from sdpo_jax.algorithm import Update
from sdpo_jax.algorithms.sdpo import sdpo
from sdpo_jax.engine.own_numbers import Number
from sdpo_jax.policies import Policy
from sdpo_jax.teachers import Teacher
from sdpo_jax.teachers.divergences import entropy_gradient


def sdpo_entropy(
    *,
    policy: Policy,
    teacher: Teacher,
    entropy_bonus: Annotated[float, Number(title="weight of the entropy in the objective")] = 0.05,
) -> Update:
    """``policy.probs`` and ``teacher.mean`` are ``[T, V, *runs]``."""
    gradient = sdpo(policy=policy, teacher=teacher).gradient
    return Update(gradient + entropy_bonus * entropy_gradient(policy))
