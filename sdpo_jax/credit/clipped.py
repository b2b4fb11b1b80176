"""PPO's clipped objective on batches that are kept for several steps.

    L = -(1/N) sum_i sum_t min(r A, clip(r, 1 - eps, 1 + eps) A),   r = pi_t(s_it) / pi_old_t(s_it)

(Schulman et al., 1707.06347, Eq. 7, per token.) In a factored policy the ratio r is a table over
positions and tokens, so all that a batch has to leave behind is how much advantage, up and down,
fell on each token: ``min`` lets the gradient through where ``r <= 1 + eps`` for A > 0 and where
``r >= 1 - eps`` for A < 0. No rollout is stored. Of a policy with contexts the rollouts are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax import policies
from sdpo_jax.algorithm import Cost, Update
from sdpo_jax.config import Sizes
from sdpo_jax.engine import lanes
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.policies import Policy, has_contexts, mean_score, tables

# A token that became likelier by so much had a probability of 2e-35 or less.
_LARGEST_LOG_RATIO = 80.0


class Batch(NamedTuple):
    """What is left of a batch, each ``[T, V, *runs]``.

    Attributes:
        up: ``(1/N) sum_i max(A_it, 0) onehot(s_it)``.
        down: ``(1/N) sum_i min(A_it, 0) onehot(s_it)``.
        log_probs: ``log pi_old``.
    """

    up: Array
    down: Array
    log_probs: Array


class Sequences(NamedTuple):
    """What is left of a batch where the policy has contexts.

    Attributes:
        tokens: ``[T, N, *runs]``.
        advantage: ``[T, N, *runs]``.
        log_probs: ``[T, N, *runs]``, ``log pi_old`` of the tokens.
    """

    tokens: Array
    advantage: Array
    log_probs: Array


Kept = TypeVar("Kept", Batch, Sequences)


def no_batch(sizes: Sizes, runs: tuple[int, ...], contexts: int) -> Any:
    """The memory before step 0: none where each batch serves one step only."""
    length, vocab_size = sizes.length, sizes.vocab_size
    if sizes.epochs == 1:
        return ()
    if contexts == 1:
        table = jnp.zeros((length, vocab_size, *runs), jnp.float32)
        return Batch(*(table for _ in Batch._fields))
    nothing = jnp.zeros((length, sizes.rollouts, *runs), jnp.float32)
    return Sequences(nothing.astype(jnp.int32), nothing, nothing)


def step_on(
    memory: Any,
    step: ArrayLike,
    sizes: Sizes,
    policy: Policy,
    params: Any,
    read: Callable[..., Array],
    tokens: Array,
    advantage: Array,
    clip: ArrayLike,
    scale: float = 1.0,
) -> Update:
    """One step on L: of a batch of its own every ``sizes.epochs``-th step, else of the last one.

    Args:
        memory: from ``no_batch`` or the step before.
        step: index of the step.
        sizes: the sizes.
        policy: the student at this step's contexts.
        params: its parameters.
        read: from parameters, and tokens, to logits at their contexts.
        tokens: ``[T, N, *runs]``, this step's rollouts.
        advantage: ``[N, *runs]`` or ``[T, N, *runs]``, theirs.
        clip: epsilon.
        scale: the gradient is divided by it.
    """
    if has_contexts(policy.logits, tokens):
        kept, memory = learned_from(_sequences(policy, tokens, advantage), memory, step, sizes)
        if sizes.epochs == 1:
            pushed, elsewhere = _gradient_at(policy, kept, clip), None
        else:
            now = policies.policy(read(params, kept.tokens))
            pushed, elsewhere = _gradient_at(now, kept, clip), kept.tokens
    else:
        taken, memory = learned_from(batch(policy, tokens, advantage), memory, step, sizes)
        pushed, elsewhere = gradient(policy, taken, clip), None
    if scale != 1:
        pushed = pushed / scale
    return Update(pushed, memory=memory, cost=cost(step, sizes), tokens=elsewhere)


def batch(policy: Policy, tokens: Array, advantage: Array) -> Batch:
    """What is left of rollouts where all contexts of a position have the same policy.

    Args:
        policy: the student.
        tokens: ``[T, N, *runs]``, this step's rollouts.
        advantage: ``[N, *runs]`` or ``[T, N, *runs]``, theirs.
    """

    def taken() -> Batch:
        rollouts, vocab_size = tokens.shape[1], policy.probs.shape[1]
        up, down = (
            tables.token_sums(tokens, part / rollouts, vocab_size)
            for part in (jnp.maximum(advantage, 0), jnp.minimum(advantage, 0))
        )
        return Batch(up, down, policy.logits - policy.log_normalizer[:, None])

    return materialise(taken)


def _sequences(policy: Policy, tokens: Array, advantage: Array) -> Sequences:
    """As ``batch``, of a policy with contexts."""
    return Sequences(tokens, jnp.broadcast_to(advantage, tokens.shape), _of_tokens(policy, tokens))


def learned_from(fresh: Kept, memory: Any, step: ArrayLike, sizes: Sizes) -> tuple[Kept, Any]:
    """The batch that a step learns from, its own or the one that is kept, and the memory of it.

    Args:
        fresh: this step's batch.
        memory: from ``no_batch`` or the step before.
        step: index of the step; every ``sizes.epochs``-th takes its own batch.
        sizes: the sizes.
    """
    if sizes.epochs == 1:
        return fresh, ()
    begins = jnp.asarray(step) % sizes.epochs == 0
    kept = jax.tree.map(lambda new, old: jnp.where(begins, new, old), fresh, memory)
    return kept, kept


def _of_tokens(policy: Policy, tokens: Array) -> Array:
    """``log pi`` of tokens at their contexts, ``[T, N, *runs]``."""
    return tables.pick(policy.logits, tokens) - policy.log_normalizer


def _gradient_at(policy: Policy, kept: Sequences, clip: ArrayLike) -> Array:
    """As ``gradient``, of a policy at the contexts of what is kept, ``[T, V, N, *runs]``."""
    log_ratio = _of_tokens(policy, kept.tokens) - kept.log_probs
    ratio = jnp.exp(jnp.minimum(log_ratio, _LARGEST_LOG_RATIO))
    through = jnp.where(kept.advantage > 0, ratio <= 1 + clip, ratio >= 1 - clip)
    return -mean_score(policy.probs, kept.tokens, jnp.where(through, ratio * kept.advantage, 0.0))


def gradient(policy: Policy, batch: Batch, clip: ArrayLike) -> Array:
    """The descent gradient of L, ``[T, V, *runs]``.

    At a ratio of 1 it is the plain policy gradient ``-(1/N) sum_i A_it (onehot(s_it) - pi_t)``.
    """
    log_ratio = policy.logits - policy.log_normalizer[:, None] - batch.log_probs
    # Beyond, no token was sampled; an infinite ratio would make NaN of its advantage of 0.
    ratio = jnp.exp(jnp.minimum(log_ratio, _LARGEST_LOG_RATIO))
    push = ratio * (
        jnp.where(ratio <= 1 + clip, batch.up, 0.0) + jnp.where(ratio >= 1 - clip, batch.down, 0.0)
    )
    return policy.probs * lanes.total(push, 1)[:, None] - push


def cost(step: ArrayLike, sizes: Sizes) -> Cost:
    """N rollouts and queries at the steps that take a batch, none at the others."""
    taken = jnp.where(jnp.asarray(step) % sizes.epochs == 0, sizes.rollouts, 0)
    return Cost(taken, taken)
