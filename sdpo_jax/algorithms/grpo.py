"""GRPO: the rollouts of a step are a group, whose mean and spread normalise its rewards.

    L = -(1/N) sum_i (1/T) sum_t min(r_it A_i, clip(r_it, 1 - eps, 1 + eps) A_i)
    A_i = (R_i - mean R) / (std R + 1e-6)

Shao et al. (DeepSeekMath, 2402.03300), Eq. 3 and section 4.1.2; std has N - 1 in its denominator.
Like theirs it takes one step on a batch by default, where the clip is idle (``Sizes.epochs``).
Their penalty on the divergence from a reference is the engine's ``kl_weight``, for every algorithm
alike. Dividing by the spread makes the push the same however small the differences between rollouts
are: its gradient is that of no fixed objective. Rollouts of equal reward have an advantage of 0. A
descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax import Array
from jax.typing import ArrayLike

from sdpo_jax.algorithm import Algorithm, Update
from sdpo_jax.algorithms.numbers import Clip
from sdpo_jax.config import Sizes
from sdpo_jax.credit import clipped
from sdpo_jax.credit.baselines import standardised
from sdpo_jax.engine.materialise import materialise
from sdpo_jax.policies import Policy


def _update(
    *,
    policy: Policy,
    tokens: Array,
    signal: Array,
    params: Any,
    read: Callable[..., Array],
    memory: Any,
    step: ArrayLike,
    sizes: Sizes,
    clip: Clip = 0.2,
) -> Update:
    advantage = materialise(lambda: standardised(signal))
    return clipped.step_on(
        memory,
        step,
        sizes,
        policy,
        params,
        read,
        tokens,
        advantage,
        clip,
        sizes.length,
    )


grpo = Algorithm("grpo", clipped.no_batch, _update)
