"""PPO-clip: several steps on each batch, the ratio to the policy that sampled it clipped.

    L = -(1/N) sum_i sum_t min(r_it A_i, clip(r_it, 1 - eps, 1 + eps) A_i)
    A_i = R_i - mean R,   r_it = pi_t(s_it) / pi_old_t(s_it)

Schulman et al. (1707.06347), Eq. 7. A batch serves ``Sizes.epochs`` steps; with one, the ratio is 1
and this is REINFORCE. The original takes A from a learned value of the state with GAE; a sequence
here has no state but its prefix, and the mean of the batch is the usual baseline without a critic
(for one, see ``process_reward_learned``). A descent gradient, ``[T, V, *runs]``.
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
from sdpo_jax.credit.baselines import less_mean
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
    advantage = materialise(lambda: less_mean(signal))
    return clipped.step_on(memory, step, sizes, policy, params, read, tokens, advantage, clip)


ppo = Algorithm("ppo", clipped.no_batch, _update)
