"""Dense reward for free: the reward spread over the tokens by the reward model's attention.

    r_it = b a_it R_i + (1 - b) 1[t = T] R_i,   a_i = softmax_t(|contribution_it| / temperature)
    A_it = sum_{t' >= t} r_it',   less its mean over the rollouts
    g = -(1/N) sum_i A_it (onehot(s_it) - pi_t)

Chan et al. (2402.00782); b is the ``dense_share``. A token's attention is here its absolute
contribution to the score: quality, match with the target, and half of each bigram that it is in.
A is the return, as in the original's PPO without discount, so b = 0 is REINFORCE; with b > 0 the
later positions are paid less, and by how much depends on attention to the earlier ones. A descent
gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp
from jax import Array

from sdpo_jax import problems
from sdpo_jax.algorithm import Update
from sdpo_jax.algorithms.numbers import DenseShare
from sdpo_jax.credit.baselines import less_mean
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.engine.own_numbers import Number
from sdpo_jax.policies import Policy, mean_score, tables
from sdpo_jax.problems import EquationOne, Problem


def dense_reward(
    *,
    policy: Policy,
    tokens: Array,
    signal: Array,
    problem: EquationOne,
    dense_share: DenseShare = 1.0,
    attention_temperature: Annotated[
        float, Number(above=0, title="temperature of the attention that spreads it")
    ] = 1.0,
) -> Update:
    """``tokens`` are ``[T, N, *runs]``, ``signal`` (R) is ``[N, *runs]``."""

    def advantages() -> Array:
        sizes = abs(contributions(problem, tokens))
        # The largest is taken off before it can become infinite.
        weight = jax.nn.softmax((sizes - sizes.max(0)) / attention_temperature, axis=0)
        # What is still to be paid at each position: all of it at the first.
        share, shares = jnp.ones_like(signal), []
        for t in range(tokens.shape[0]):
            shares.append(share)
            share = share - dense_share * weight[t]
        return less_mean(jnp.stack(shares) * signal, 1)

    return Update(-mean_score(policy.probs, tokens, materialise(advantages)))


def contributions(problem: Problem, tokens: Array) -> Array:
    """What each token adds to the score, ``[T, N, *runs]``; they sum to T times the score."""
    own = tables.pick(problems.token_scores(problem), tokens)
    half = 0.5 * tables.pick_bigrams(problem.bigram, tokens)
    edge = jnp.zeros_like(own[:1])
    return own + jnp.concatenate((half, edge)) + jnp.concatenate((edge, half))
