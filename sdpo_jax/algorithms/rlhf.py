"""RLHF: a reward model learned from preferences, and a policy learned from the reward model.

    r(s) = sum_t w[t, s_t] + sum_t u[s_t, s_{t+1}]
    (w, u) <- (w, u) + rho grad (1/P) sum_p log sigmoid(r(winner_p) - r(loser_p))
    g = -(1/N) sum_i (r(s_i) - mean_{j != i} r(s_j)) (onehot(s_i) - pi)

Ouyang et al. (2203.02155), Eq. 1 (the reward model's loss, by gradient steps of rate rho =
``model_rate``) and, in place of their PPO, RLOO (2402.14740) on the same rollouts. The model has
the form of the true score but not its sigmoid, and starts at 0; its pairs are rollouts i and i +
N/2, judged by Bradley and Terry on what the judge sees, so the judge's errors reach the policy
through the model only. A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax.algorithm import Algorithm, Update
from sdpo_jax.algorithms.numbers import ModelRate, Sharpness
from sdpo_jax.algorithms.rloo import rloo
from sdpo_jax.config import Sizes
from sdpo_jax.credit import preferences, reward_models
from sdpo_jax.credit.reward_models import RewardModel
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.engine.streams import Key
from sdpo_jax.policies import Policy


def _init(*, sizes: Sizes, runs: tuple[int, ...]) -> RewardModel:
    tokens, bigrams = (
        jnp.zeros((count, sizes.vocab_size, *runs), jnp.float32)
        for count in (sizes.length, sizes.vocab_size)
    )
    return RewardModel(tokens, bigrams)


def _update(
    *,
    policy: Policy,
    tokens: Array,
    signal: Array,
    memory: RewardModel,
    key: Key,
    step: ArrayLike,
    preference_sharpness: Sharpness = 10.0,
    model_rate: ModelRate = 0.1,
) -> Update:
    pairs = materialise(
        lambda: preferences.judged_pairs(tokens, signal, preference_sharpness, key, step)
    )
    model = materialise(lambda: reward_models.fit(memory, pairs, model_rate))
    reward = materialise(lambda: reward_models.score(model, tokens))
    gradient = rloo(policy=policy, tokens=tokens, signal=reward).gradient
    return Update(gradient, memory=model)


rlhf = Algorithm("rlhf", _init, _update)
