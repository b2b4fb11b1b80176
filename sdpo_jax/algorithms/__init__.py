"""The algorithms by name. To add one: a file with its equation, and a line here."""

from __future__ import annotations

from sdpo_jax.algorithm import AlgorithmLike
from sdpo_jax.algorithms.advantage_weighted import advantage_weighted
from sdpo_jax.algorithms.dense_reward import dense_reward
from sdpo_jax.algorithms.distillation import distillation
from sdpo_jax.algorithms.dpo import dpo
from sdpo_jax.algorithms.dpo_best_worst import dpo_best_worst
from sdpo_jax.algorithms.dr_grpo import dr_grpo
from sdpo_jax.algorithms.grpo import grpo
from sdpo_jax.algorithms.hybrid import hybrid
from sdpo_jax.algorithms.opsd import opsd
from sdpo_jax.algorithms.ppo import ppo
from sdpo_jax.algorithms.process_reward import process_reward
from sdpo_jax.algorithms.process_reward_learned import process_reward_learned
from sdpo_jax.algorithms.reinforce import reinforce
from sdpo_jax.algorithms.rlhf import rlhf
from sdpo_jax.algorithms.rloo import rloo
from sdpo_jax.algorithms.scar import scar
from sdpo_jax.algorithms.scar_sampled import scar_sampled
from sdpo_jax.algorithms.sdft import sdft
from sdpo_jax.algorithms.sdpo import sdpo
from sdpo_jax.algorithms.sdpo_annealed import sdpo_annealed
from sdpo_jax.algorithms.sdpo_entropy import sdpo_entropy
from sdpo_jax.algorithms.sdpo_mixture import sdpo_mixture_logits, sdpo_mixture_probs
from sdpo_jax.algorithms.self_distillation import SELF_DISTILLATION

ALGORITHMS: dict[str, AlgorithmLike] = {
    # The paper's.
    "sdpo": sdpo,
    "reinforce": reinforce,
    "advantage_weighted": advantage_weighted,
    "hybrid": hybrid,
    # One number for a rollout.
    "rloo": rloo,
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "ppo": ppo,
    "dpo": dpo,
    "dpo_best_worst": dpo_best_worst,
    "rlhf": rlhf,
    # A number for each token.
    "scar": scar,
    "scar_sampled": scar_sampled,
    "process_reward": process_reward,
    "process_reward_learned": process_reward_learned,
    "dense_reward": dense_reward,
    # A teacher.
    **SELF_DISTILLATION,
    "sdft": sdft,
    "opsd": opsd,
    "distillation": distillation,
    # A teacher, and more diversity.
    "sdpo_entropy": sdpo_entropy,
    "sdpo_mixture_probs": sdpo_mixture_probs,
    "sdpo_mixture_logits": sdpo_mixture_logits,
    "sdpo_annealed": sdpo_annealed,
}
