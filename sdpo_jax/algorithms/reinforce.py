"""REINFORCE with the batch mean as its baseline (Eq. 4; Williams 1992).

    g = -(1/N) sum_i (R_i - mean R) (onehot(s_i) - pi)

Its expectation is ``(N - 1)/N`` times the exact gradient of ``-E[R]``, because the baseline
contains the rollout itself. A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

from jax import Array

from sdpo_jax.algorithm import Update
from sdpo_jax.credit.baselines import less_mean
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.policies import Policy, mean_score


def reinforce(*, policy: Policy, tokens: Array, signal: Array) -> Update:
    """Eq. 4. ``tokens`` are ``[T, N, *runs]``, ``signal`` (R) is ``[N, *runs]``."""
    advantage = materialise(lambda: less_mean(signal))
    return Update(-mean_score(policy.probs, tokens, advantage))
