"""A reward model: a score that is linear in a sequence's tokens and bigrams.

    r(s) = sum_t w[t, s_t] + sum_t u[s_t, s_{t+1}]

It has the form of the true score (Eq. 1), without the sigmoid around it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax.credit.preferences import Pairs
from sdpo_jax.engine import lanes
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.policies import tables


class RewardModel(NamedTuple):
    """A score linear in tokens and bigrams.

    Attributes:
        token: w ``[T, V, *runs]``.
        bigram: u ``[V, V, *runs]``.
    """

    token: Array
    bigram: Array


def score(model: RewardModel, tokens: Array) -> Array:
    """``r`` of sequences ``[T, N, *runs]``: ``[N, *runs]``."""
    bigrams = tables.pick_bigrams(model.bigram, tokens)
    value = lanes.total(tables.pick(model.token, tokens), 0)
    return value + lanes.total(bigrams, 0) if bigrams.shape[0] else value


def fit(model: RewardModel, pairs: Pairs, rate: ArrayLike) -> RewardModel:
    """One gradient step on the mean of ``-log sigmoid(r(winner) - r(loser))``."""
    count, vocab_size = pairs.verdict.shape[0], model.token.shape[1]

    def pulls() -> Array:
        margin = pairs.verdict * (score(model, pairs.first) - score(model, pairs.second))
        return jnp.asarray(rate * pairs.verdict * jax.nn.sigmoid(-margin) / max(count, 1))

    pull = materialise(pulls)
    token, bigram = (
        sums(pairs.first, pull, vocab_size) - sums(pairs.second, pull, vocab_size)
        for sums in (tables.token_sums, tables.bigram_sums)
    )
    return RewardModel(model.token + token, model.bigram + bigram)
