"""Direct preference optimisation, online: pairs of the step's own rollouts.

    L = -(1/P) sum_p log sigmoid(beta_d [log(pi / pi_ref)(winner_p) - log(pi / pi_ref)(loser_p)])

Rafailov et al. (2305.18290), Eq. 7; pi_ref is the policy of step 0. The original learns from a
fixed set of pairs. Here they are drawn anew at each step, as in online DPO (Guo et al.,
2402.04792): rollout i against i + N/2, the winner by Bradley and Terry on what the judge sees
(``preference_sharpness``). A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax.algorithm import Update
from sdpo_jax.algorithms.numbers import DpoStrength, Sharpness
from sdpo_jax.credit import preferences
from sdpo_jax.credit.preferences import Pairs
from sdpo_jax.engine import lanes
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.engine.streams import Key
from sdpo_jax.policies import Policy, has_contexts, mean_score, tables


def dpo(
    *,
    policy: Policy,
    reference: Policy,
    tokens: Array,
    signal: Array,
    key: Key,
    step: ArrayLike,
    dpo_strength: DpoStrength = 1.0,
    preference_sharpness: Sharpness = 10.0,
) -> Update:
    """``tokens`` are ``[T, N, *runs]``, ``signal`` is ``[N, *runs]``."""
    pairs = materialise(
        lambda: preferences.judged_pairs(tokens, signal, preference_sharpness, key, step)
    )
    return Update(pair_gradient(policy, reference, pairs, dpo_strength, tokens))


def pair_gradient(
    policy: Policy,
    reference: Policy,
    pairs: Pairs,
    strength: ArrayLike,
    tokens: Array | None = None,
) -> Array:
    """The gradient of L for given pairs, ``[T, V, *runs]``.

    Args:
        policy: the student.
        reference: pi_ref.
        pairs: of rollouts.
        strength: beta_d.
        tokens: ``[T, N, *runs]``, all rollouts, which a policy with contexts has its contexts of.
    """
    if tokens is not None and has_contexts(policy.logits, tokens):
        return _pair_gradient_with_contexts(policy, reference, tokens, pairs, strength)
    count, vocab_size = pairs.verdict.shape[0], policy.probs.shape[1]
    # The normalisers are the same for both sequences, and cancel.
    log_ratio = policy.logits - reference.logits

    def pulls() -> Array:
        first, second = (
            lanes.total(tables.pick(log_ratio, tokens), 0) for tokens in (pairs.first, pairs.second)
        )
        margin = strength * pairs.verdict * (first - second)
        return jnp.asarray(strength * pairs.verdict * jax.nn.sigmoid(-margin) / max(count, 1))

    pull = materialise(pulls)
    return tables.token_sums(pairs.second, pull, vocab_size) - tables.token_sums(
        pairs.first, pull, vocab_size
    )


def _pair_gradient_with_contexts(
    policy: Policy, reference: Policy, tokens: Array, pairs: Pairs, strength: ArrayLike
) -> Array:
    """The same where each rollout has contexts of its own, ``[T, V, N, *runs]``."""
    rollouts, count = tokens.shape[1], pairs.verdict.shape[0]
    assert pairs.first_place is not None and pairs.second_place is not None
    normalizers = policy.log_normalizer - reference.log_normalizer
    log_ratio = tables.pick(policy.logits - reference.logits, tokens) - normalizers
    ratio = lanes.total(log_ratio, 0)
    first, second = (
        preferences.of_places(ratio, places) for places in (pairs.first_place, pairs.second_place)
    )
    margin = strength * pairs.verdict * (first - second)
    pull = jnp.asarray(strength * pairs.verdict * jax.nn.sigmoid(-margin) / max(count, 1))
    weights = preferences.to_places(pull, pairs.first_place, rollouts) - preferences.to_places(
        pull, pairs.second_place, rollouts
    )
    return -mean_score(policy.probs, tokens, rollouts * weights)
