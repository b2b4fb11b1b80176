"""SCAR with Shapley values from a few samples, for sequences too long to enumerate.

    A_it = a phi_it + (1 - a) 1[t = T] R_i,   less its mean over the rollouts

As ``scar``, with the unbiased estimate of phi from ``Sizes.samples`` orders of the positions
(``sdpo_jax.credit.shapley.sampled``), as Cao et al. (2505.20417) do for long texts. A descent
gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

from jax import Array
from jax.typing import ArrayLike

from sdpo_jax.algorithm import Cost, Update
from sdpo_jax.algorithms.numbers import DenseShare
from sdpo_jax.algorithms.scar import shared_out
from sdpo_jax.config import Sizes
from sdpo_jax.credit import shapley
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.engine.streams import Key
from sdpo_jax.policies import FactoredPolicy, mean_score
from sdpo_jax.problems import AnyProblem


def scar_sampled(
    *,
    policy: FactoredPolicy,
    reference: FactoredPolicy,
    tokens: Array,
    signal: Array,
    problem: AnyProblem,
    key: Key,
    step: ArrayLike,
    sizes: Sizes,
    dense_share: DenseShare = 1.0,
) -> Update:
    """``tokens`` are ``[T, N, *runs]``, ``signal`` (R) is ``[N, *runs]``."""
    phi = materialise(
        lambda: shapley.sampled(problem, reference.probs, tokens, sizes.samples, key, step)
    )
    advantage = materialise(lambda: shared_out(phi, signal, dense_share))
    length, rollouts = tokens.shape[:2]
    cost = Cost(rollouts, rollouts * shapley.queries(length, sizes.samples))
    return Update(-mean_score(policy.probs, tokens, advantage), cost=cost)
