"""Dr. GRPO: GRPO without its division by the group's spread and by the length.

    L = -(1/N) sum_i sum_t min(r_it A_i, clip(r_it, 1 - eps, 1 + eps) A_i),   A_i = R_i - mean R

Liu et al. (2503.20783). On sequences of one length both divisors are one number a
step, so what is left is PPO with the group's mean as its baseline: the same function as ``ppo``.
The two have separate names because both are in the literature; a table needs one of them.
"""

from __future__ import annotations

from sdpo_jax.algorithm import Algorithm
from sdpo_jax.algorithms.ppo import ppo

dr_grpo = Algorithm("dr_grpo", ppo.init, ppo.update)
