"""Process reward: each token is paid what it adds to the expected reward, exactly.

    A_it = V(s_<=t) - V(s_<t),   V(s_<=t) = E[R | s_1 .. s_t] under the policy
    g = -(1/N) sum_i A_it (onehot(s_it) - pi_t)

Lightman et al. (2305.20050) and the stepwise outcome model of GLoRe (Havrilla et al., 2402.10963)
train a model of V; this is the model that they would have without any error, from all ``V ** T``
sequences. A is the advantage of a token given those before it, and its expected gradient is the
exact gradient of ``-E[R]``: the least noise that credit along a sequence can have. Counted as one
reward for every sequence a step. A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from sdpo_jax import problems
from sdpo_jax.algorithm import Algorithm, Cost, Update
from sdpo_jax.credit import prefixes
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.policies import FactoredPolicy, mean_score
from sdpo_jax.problems import AnyProblem


def _init(*, problem: AnyProblem) -> Array:
    return problems.all_rewards(problem)


def _update(*, policy: FactoredPolicy, tokens: Array, memory: Array) -> Update:
    value = materialise(lambda: prefixes.exact(memory, policy.probs, tokens))
    advantage = materialise(lambda: value[1:] - value[:-1])
    cost = Cost(tokens.shape[1], jnp.float32(memory.shape[0]))
    return Update(-mean_score(policy.probs, tokens, advantage), memory=memory, cost=cost)


process_reward = Algorithm("process_reward", _init, _update)
