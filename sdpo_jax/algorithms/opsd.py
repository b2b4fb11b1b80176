"""On-policy self-distillation: the student learns from itself with the solution at hand.

    g = grad JSD_b(S, Q),   Q = softmax(l_0 + k onehot(s*)),   s* the sequence of largest reward

Zhao et al. (2601.18734): the generalised Jensen-Shannon divergence (b is ``divergence_mix``, theirs
1/2) to a frozen teacher that has read the solution; reading adds k = ``demonstration_strength`` to
the logits of its tokens. It is told the solution and asks for no reward at all. A descent gradient,
``[T, V, *runs]``.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sdpo_jax.algorithm import Cost, Update
from sdpo_jax.algorithms.numbers import DemonstrationStrength, Mix
from sdpo_jax.policies import Policy
from sdpo_jax.teachers.divergences import jensen_shannon, student_of


def opsd(
    *,
    policy: Policy,
    reference: Policy,
    solution: Array,
    divergence_mix: Mix = 0.5,
    demonstration_strength: DemonstrationStrength = 2.0,
) -> Update:
    """``solution`` is ``[T, *runs]``."""
    vocab_size = policy.probs.shape[1]
    vocabulary = jnp.arange(vocab_size).reshape((1, vocab_size) + (1,) * (solution.ndim - 1))
    shown = jnp.where(solution[:, None] == vocabulary, demonstration_strength, 0.0)
    shift = reference.logits - policy.logits + shown
    gradient = jensen_shannon(student_of(policy), shift, divergence_mix)
    return Update(gradient, cost=Cost(0, 0))
