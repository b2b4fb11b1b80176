"""SDFT: the policy distilled into itself from a demonstration, its own best rollout.

    g = grad KL(S || Q),   Q = softmax(theta + k onehot(s_best)),   theta <- (1 - r) theta + r l

Shenfeld et al. (2601.19897): reverse KL, on the policy's own samples, to the policy that has read a
demonstration; its implicit reward is ``log Q(s) - log S(s)``. The demonstration is the rollout of
the step with the largest signal (none where all are alike), reading it adds
k = ``demonstration_strength`` to the logits of its tokens, and the reader is the averaged student
(r is ``teacher_rate``). The divergence is taken over all tokens and not only the sampled ones. A
descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from sdpo_jax.algorithm import Algorithm, Update
from sdpo_jax.algorithms.numbers import DemonstrationStrength, TeacherRate
from sdpo_jax.algorithms.self_distillation import average, first_average
from sdpo_jax.credit import preferences
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.policies import Policy, at_contexts
from sdpo_jax.policies.tables import token_sums
from sdpo_jax.teachers.divergences import reverse_kl, student_of


def _update(
    *,
    policy: Policy,
    tokens: Array,
    signal: Array,
    params: Any,
    read: Callable[[Any], Array],
    memory: Any,
    teacher_rate: TeacherRate = 0.05,
    demonstration_strength: DemonstrationStrength = 2.0,
) -> Update:
    kept = materialise(lambda: average(memory, params, teacher_rate))
    base = read(kept)
    pair = materialise(lambda: preferences.best_and_worst(tokens, signal))

    def gradient() -> Array:
        shown = token_sums(pair.first, jnp.ones_like(pair.verdict), policy.probs.shape[1])
        shown = at_contexts(shown, policy, 2)
        shift = base - policy.logits + demonstration_strength * shown
        return pair.verdict[0] * reverse_kl(student_of(policy), shift)

    return Update(materialise(gradient), memory=kept)


sdft = Algorithm("sdft", first_average, _update)
