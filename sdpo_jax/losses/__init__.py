"""Losses for language models: pure functions of arrays, as optax writes its own.

Logits are ``[..., T, V]`` with any batch axes in front, values per token ``[..., T]``; ``where`` is
a mask of the values' shape, true for tokens that count; the others are masked out. Give it to
whatever reads logits and to the reduction: what is masked out, NaN included, then changes no bit of
a loss or a gradient, and a NaN that counts makes both NaN. Nothing is reduced but by a reduction.
Sums are in float32 whatever the type of the logits. Nothing here knows the engine: any model that
gives logits will do.

Shapes and types are checked when a function is called, also while it is traced; so are numbers that
are known then. A number that is traced, such as a ``mix`` that is an argument of a compiled
function, is NaN outside its range, and so is the loss.

>>> import jax, jax.numpy as jnp
>>> from sdpo_jax import losses
>>> student, teacher = jax.random.normal(jax.random.key(0), (2, 4, 16, 100))  # [B, T, V] each
>>> mask = jnp.arange(16) < jnp.array([16, 9, 12, 0])[:, None]  # [B, T]
>>> def loss(student):
...     values = losses.distillation(student, teacher, divergence="reverse_kl", where=mask)
...     return losses.token_mean(values, mask)
>>> jax.jit(jax.grad(loss))(student).shape
(4, 16, 100)
"""

from sdpo_jax.losses.advantages import centred, group_normalised, leave_one_out
from sdpo_jax.losses.distillation import (
    DIVERGENCES,
    distillation,
    importance_weights,
    sampled_token,
)
from sdpo_jax.losses.hybrid import hybrid, hybrid_weight
from sdpo_jax.losses.log_probs import entropy, token_log_probs
from sdpo_jax.losses.policy_gradient import clipped_ratio, kl_penalty, reinforce
from sdpo_jax.losses.preference import dpo
from sdpo_jax.losses.reductions import (
    fixed_length,
    sequence_count,
    sequence_mean,
    token_count,
    token_mean,
)
from sdpo_jax.losses.teachers import composed, ema, frozen, trust_region

__all__ = [
    "DIVERGENCES",
    "centred",
    "clipped_ratio",
    "composed",
    "distillation",
    "dpo",
    "ema",
    "entropy",
    "fixed_length",
    "frozen",
    "group_normalised",
    "hybrid",
    "hybrid_weight",
    "importance_weights",
    "kl_penalty",
    "leave_one_out",
    "reinforce",
    "sampled_token",
    "sequence_count",
    "sequence_mean",
    "token_count",
    "token_log_probs",
    "token_mean",
    "trust_region",
]
