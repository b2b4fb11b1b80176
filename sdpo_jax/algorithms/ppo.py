"""PPO-clip: several steps on each batch, the ratio to the policy that sampled it clipped.

    L = -(1/N) sum_i sum_t min(r_it A_i, clip(r_it, 1 - eps, 1 + eps) A_i)
    A_i = R_i - mean R,   r_it = pi_t(s_it) / pi_old_t(s_it)

Schulman et al. (1707.06347), Eq. 7. A batch serves ``Sizes.epochs`` steps; with one, the ratio is 1
and this is REINFORCE. The original takes A from a learned value of the state with GAE; a sequence
here has no state but its prefix, and the mean of the batch is the usual baseline without a critic
(for one, see ``process_reward_learned``). A descent gradient, ``[T, V, *runs]``.
"""

from __future__ import annotations

from typing import Any

from jax import Array
from jax.typing import ArrayLike

from sdpo_jax import surrogate
from sdpo_jax.algorithms.base import Stateful, Update
from sdpo_jax.baseline import less_mean
from sdpo_jax.config import Config, Sizes
from sdpo_jax.lanes import NO_FENCE, Fence
from sdpo_jax.policy import Policy


def _update(
    *,
    policy: Policy,
    tokens: Array,
    signal: Array,
    memory: Any,
    step: ArrayLike,
    sizes: Sizes,
    config: Config,
    fence: Fence = NO_FENCE,
) -> Update:
    advantage = fence(lambda: less_mean(signal))
    batch, memory = surrogate.batch(memory, step, sizes, policy, tokens, advantage, fence)
    gradient = surrogate.gradient(policy, batch, config.clip)
    return Update(gradient, memory=memory, cost=surrogate.cost(step, sizes))


ppo = Stateful("ppo", surrogate.no_batch, _update)
