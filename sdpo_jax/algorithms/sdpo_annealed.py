"""SDPO whose teacher is shown less and less.

    beta_k = beta (1 + (final - 1) k / (S - 1)),   g = S - mean_i softmax(l + beta_k f_i c)

A diversity-preserving variant (the paper's future work, section 4): a strong teacher first, for
speed, and ``final_strength`` of it at the last step, so that the pull to the first policy wins back
entropy at the end. A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

from typing import Annotated

import jax.numpy as jnp
from jax.typing import ArrayLike

from sdpo_jax.algorithm import Update
from sdpo_jax.algorithms.self_distillation import pull
from sdpo_jax.config import Sizes
from sdpo_jax.engine.own_numbers import Number
from sdpo_jax.policies import Policy
from sdpo_jax.teachers.divergences import forward_kl
from sdpo_jax.teachers.lessons import Lessons


def sdpo_annealed(
    *,
    policy: Policy,
    lessons: Lessons,
    step: ArrayLike,
    sizes: Sizes,
    final_strength: Annotated[
        float, Number(title="share of beta left at the last step of annealing")
    ] = 0.0,
) -> Update:
    """``lessons.shift`` is ``[T, V, K, *runs]``."""
    done = jnp.asarray(step, jnp.float32) / max(sizes.steps - 1, 1)
    left = 1 + (final_strength - 1) * done
    weaker = lessons.changed(
        lambda each: each._replace(shift=left * each.shift, strength=left * each.strength)
    )
    return Update(pull(forward_kl, policy, policy.logits, weaker))
