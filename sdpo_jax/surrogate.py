"""PPO's clipped objective on batches that are kept for several steps.

    L = -(1/N) sum_i sum_t min(r A, clip(r, 1 - eps, 1 + eps) A),   r = pi_t(s_it) / pi_old_t(s_it)

(Schulman et al., 1707.06347, Eq. 7, per token.) In a factored policy the ratio r is a table over
positions and tokens, so all that a batch has to leave behind is how much advantage, up and down,
fell on each token: ``min`` lets the gradient through where ``r <= 1 + eps`` for A > 0 and where
``r >= 1 - eps`` for A < 0. No rollout is stored.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax import lanes, sequences
from sdpo_jax.algorithms.base import Cost
from sdpo_jax.config import Sizes
from sdpo_jax.lanes import NO_FENCE, Fence
from sdpo_jax.policy import Policy

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


def no_batch(policy: Policy, sizes: Sizes) -> Any:
    """The memory before step 0: none where each batch serves one step only."""
    if sizes.epochs == 1:
        return ()
    return Batch(*(jnp.zeros_like(policy.logits) for _ in Batch._fields))


def batch(
    memory: Any,
    step: ArrayLike,
    sizes: Sizes,
    policy: Policy,
    tokens: Array,
    advantage: Array,
    fence: Fence = NO_FENCE,
) -> tuple[Batch, Any]:
    """The batch that this step learns from, and the memory of it.

    Args:
        memory: from ``no_batch`` or the step before.
        step: index of the step; every ``sizes.epochs``-th takes its own rollouts.
        sizes: the sizes.
        policy: the student.
        tokens: ``[T, N, *runs]``, this step's rollouts.
        advantage: ``[N, *runs]`` or ``[T, N, *runs]``, theirs.
        fence: of this step.
    """

    def taken() -> Batch:
        rollouts, vocab_size = tokens.shape[1], policy.probs.shape[1]
        up, down = (
            sequences.token_sums(tokens, part / rollouts, vocab_size)
            for part in (jnp.maximum(advantage, 0), jnp.minimum(advantage, 0))
        )
        return Batch(up, down, policy.logits - policy.log_normalizer[:, None])

    fresh = fence(taken)
    if sizes.epochs == 1:
        return fresh, ()
    begins = jnp.asarray(step) % sizes.epochs == 0
    kept = Batch(*(jnp.where(begins, new, old) for new, old in zip(fresh, memory, strict=True)))
    return kept, kept


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
