"""SCAR: the reward shared out among the tokens by their Shapley values, exactly.

    A_it = a phi_it + (1 - a) 1[t = T] R_i,   less its mean over the rollouts
    g = -(1/N) sum_i A_it (onehot(s_it) - pi_t)

Cao et al. (2505.20417); phi as in ``sdpo_jax.credit.shapley``, a the ``dense_share``. Theirs
leaves out tokens from the text that the reward model reads; here an absent token is drawn from the
policy of step 0, exactly, so that phi of a token needs all ``(V + 1) ** T`` partial sequences: a
table made before step 0. What a token gets is its own share and not a return, since positions are
independent. A real system would ask for 2 ** T rewards a rollout, and that is what is counted.
A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax.algorithm import Algorithm, Cost, Update
from sdpo_jax.algorithms.numbers import DenseShare
from sdpo_jax.credit import shapley
from sdpo_jax.credit.baselines import less_mean
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.policies import FactoredPolicy, mean_score
from sdpo_jax.problems import AnyProblem


def shared_out(phi: Array, signal: Array, dense_share: ArrayLike) -> Array:
    """``A`` from Shapley values ``[T, N, *runs]`` and rewards ``[N, *runs]``."""
    credit = jnp.asarray(dense_share * phi)
    # Not `.at[-1].add`: a scatter is no part of one kernel.
    last = jnp.expand_dims(jnp.arange(len(phi)) == len(phi) - 1, tuple(range(1, phi.ndim)))
    return less_mean(jnp.where(last, credit + (1 - dense_share) * signal, credit), 1)


def _init(*, problem: AnyProblem, reference: FactoredPolicy) -> Array:
    return shapley.coalition_values(problem, reference.probs)


def _update(
    *,
    policy: FactoredPolicy,
    tokens: Array,
    signal: Array,
    memory: Array,
    dense_share: DenseShare = 1.0,
) -> Update:
    phi = materialise(lambda: shapley.exact(memory, tokens, policy.probs.shape[1]))
    advantage = materialise(lambda: shared_out(phi, signal, dense_share))
    length, rollouts = tokens.shape[:2]
    cost = Cost(rollouts, jnp.float32(rollouts * 2**length))
    return Update(-mean_score(policy.probs, tokens, advantage), memory=memory, cost=cost)


scar = Algorithm("scar", _init, _update)
