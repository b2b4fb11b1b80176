"""RLOO: REINFORCE with the mean of the other rollouts as the baseline of each.

    g = -(1/N) sum_i (R_i - mean_{j != i} R_j) (onehot(s_i) - pi)
    R_i - mean_{j != i} R_j = N/(N-1) (R_i - mean R)

Ahmadian et al. (2402.14740), after Kool et al. (2019). Its expectation is the exact gradient
of ``-E[R]``. The paper's A is one number for a whole sequence, so every position gets the same.
A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

from jax import Array

from sdpo_jax.algorithm import Update
from sdpo_jax.credit.baselines import less_mean
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.policies import Policy, mean_score


def rloo(*, policy: Policy, tokens: Array, signal: Array) -> Update:
    """``tokens`` are ``[T, N, *runs]``, ``signal`` (R) is ``[N, *runs]``."""
    return Update(-mean_score(policy.probs, tokens, materialise(lambda: leave_one_out(signal))))


def leave_one_out(reward: Array) -> Array:
    """Each reward less the mean of the others, ``[N, *runs]``; 0 where there are none."""
    rollouts = reward.shape[0]
    return less_mean(reward) * rollouts / max(rollouts - 1, 1)
