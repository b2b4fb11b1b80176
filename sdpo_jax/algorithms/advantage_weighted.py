"""Advantage-weighted credit, the paper's stand-in for Shapley values (Eq. 5).

    A_it = (R_i - mean R) (q[t, s_it] - qbar_t) / (sum_t' |q[t', s_it'] - qbar_t'| + 1e-8)
    g = -(1/N) sum_i A_it (onehot(s_it) - pi_t),        qbar_t = sum_v pi[t, v] q[t, v]

The product of two advantages: positive for a bad token in a bad rollout, so its direction has no
correlation with q by construction. Not a Shapley value. A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sdpo_jax.algorithm import Update
from sdpo_jax.credit.baselines import equal, less_mean
from sdpo_jax.engine import lanes
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.policies import Policy, has_contexts, mean_score, tables


def advantage_weighted(
    *,
    policy: Policy,
    tokens: Array,
    signal: Array,
    knowledge: Array,
) -> Update:
    """Eq. 5. ``tokens`` are ``[T, N, *runs]``, ``signal`` (R) is ``[N, *runs]``."""
    average = materialise(lambda: lanes.total(policy.probs * knowledge, 1))
    chosen = materialise(lambda: tables.take(knowledge, tokens))
    level = equal(knowledge, 1)
    if has_contexts(knowledge, tokens):
        level = level[:, 0]
    else:
        average = average[:, None]
    # Where a position's tokens are all as good, their excess is rounding, and would be divided.
    excess = jnp.where(level, 0.0, chosen - average)
    scale = materialise(lambda: less_mean(signal) / (lanes.total(abs(excess), 0) + 1e-8))
    advantage = materialise(lambda: scale * excess)
    return Update(-mean_score(policy.probs, tokens, advantage))
