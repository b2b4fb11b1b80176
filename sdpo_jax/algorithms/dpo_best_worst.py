"""Direct preference optimisation on one pair a step: the best rollout against the worst.

    L = -log sigmoid(beta_d [log(pi / pi_ref)(best) - log(pi / pi_ref)(worst)])

Rafailov et al. (2305.18290), Eq. 7, with the pair that iterative DPO takes from a group (Yuan et
al., 2401.10020). Which is best is what the judge says, errors and all; a tie goes to the first
rollout. A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

from jax import Array

from sdpo_jax.algorithm import Update
from sdpo_jax.algorithms.dpo import pair_gradient
from sdpo_jax.algorithms.numbers import DpoStrength
from sdpo_jax.credit import preferences
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.policies import Policy


def dpo_best_worst(
    *,
    policy: Policy,
    reference: Policy,
    tokens: Array,
    signal: Array,
    dpo_strength: DpoStrength = 1.0,
) -> Update:
    """``tokens`` are ``[T, N, *runs]``, ``signal`` is ``[N, *runs]``."""
    pairs = materialise(lambda: preferences.best_and_worst(tokens, signal))
    return Update(pair_gradient(policy, reference, pairs, dpo_strength, tokens))
