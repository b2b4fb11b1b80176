"""Policies: what a training run trains.

A policy is a static, hashable object; its parameters are a pytree with the runs behind every array.

    first(key, length, vocab_size) -> params          before step 0
    read(params, tokens) -> logits                 at the contexts that sequences visit
    after(params, tokens, place) -> logits         at one position of them, ``[V, N, *runs]``
    conditionals(params, length, vocab_size, runs)    after every prefix, for what is exact

``factored`` is the paper's, with one context a position; ``bigram`` and ``Network`` have one a
position and rollout. The gradient of the parameters is the pull-back of that of the logits.
"""

from __future__ import annotations

from typing import Any

from sdpo_jax.engine.checks import can_be_key, shown
from sdpo_jax.policies.bigram import Bigram
from sdpo_jax.policies.contexts import (
    advantages_at,
    exact_entropy,
    prefix_values,
    sample_in_order,
)
from sdpo_jax.policies.factored import Factored, cumulative, sample
from sdpo_jax.policies.heads import (
    ONE_CONTEXT,
    FactoredPolicy,
    Policy,
    at_contexts,
    entropy,
    has_contexts,
    kl_divergence,
    mean_score,
    one_hot,
    policy,
)
from sdpo_jax.policies.network import Network, all_sequences
from sdpo_jax.policies.rollouts import GROUP, MAX_VOCAB_SIZE, Rollouts, pack, token_bits, tokens

__all__ = [
    "GROUP",
    "MAX_VOCAB_SIZE",
    "ONE_CONTEXT",
    "POLICIES",
    "Bigram",
    "Factored",
    "FactoredPolicy",
    "Network",
    "Policy",
    "PolicyKind",
    "Rollouts",
    "advantages_at",
    "all_sequences",
    "at_contexts",
    "cumulative",
    "entropy",
    "exact_entropy",
    "has_contexts",
    "kl_divergence",
    "mean_score",
    "one_hot",
    "pack",
    "policy",
    "policy_kind",
    "prefix_values",
    "sample",
    "sample_in_order",
    "token_bits",
    "tokens",
]

PolicyKind = Factored | Bigram | Network

POLICIES: dict[str, PolicyKind] = {"factored": Factored(), "bigram": Bigram()}


def policy_kind(given: Any) -> PolicyKind:
    """A policy given by name or as itself.

    Raises:
        ValueError: neither, in one line.
    """
    if isinstance(given, str) and given in POLICIES:
        return POLICIES[given]
    if isinstance(given, PolicyKind):
        can_be_key(f"policy: {shown(given)}", given)
        return given
    allowed = ", ".join(POLICIES)
    raise ValueError(f"policy: {shown(given)}; allowed: {allowed}, or a Network")
