"""Process reward from a learned value of prefixes: a stepwise outcome model.

    A_it = V(s_<=t) - V(s_<t),   V(s_<=t) = c_t + sum_{t' <= t} w[t', s_t']
    (c, w) <- (c, w) - rho grad (1/N) sum_i mean_t (R_i - V(s_i,<=t))^2 / 2
    g = -(1/N) sum_i A_it (onehot(s_it) - pi_t)

GLoRe (Havrilla et al., 2402.10963): a model that is asked at every prefix for the outcome of the
whole sequence, fitted on the policy's own rollouts, rate rho = ``model_rate / (1 + T / 2)``, by the
mean number of a prefix's features; it is also the critic of an actor-critic method. The model is
linear, so it knows neither bigrams nor the reward's sigmoid: that is its error
(``tests/test_dense_credit.py`` measures it against ``process_reward``). It is told the reward of
its rollouts and nothing else. A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sdpo_jax.algorithm import Algorithm, Update
from sdpo_jax.algorithms.numbers import ModelRate
from sdpo_jax.config import Sizes
from sdpo_jax.credit import prefixes
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.policies import Policy, mean_score


def _init(*, sizes: Sizes, runs: tuple[int, ...]) -> prefixes.Model:
    # Rewards lie in (0, 1): from the middle the constants have the least way to go.
    constant = jnp.full((sizes.length + 1, *runs), 0.5, jnp.float32)
    return prefixes.Model(constant, jnp.zeros((sizes.length, sizes.vocab_size, *runs), jnp.float32))


def _update(
    *,
    policy: Policy,
    tokens: Array,
    signal: Array,
    memory: prefixes.Model,
    model_rate: ModelRate = 0.1,
) -> Update:
    model = materialise(lambda: prefixes.fit(memory, tokens, signal, model_rate))
    value = materialise(lambda: prefixes.model_values(model, tokens))
    advantage = materialise(lambda: value[1:] - value[:-1])
    return Update(-mean_score(policy.probs, tokens, advantage), memory=model)


process_reward_learned = Algorithm("process_reward_learned", _init, _update)
