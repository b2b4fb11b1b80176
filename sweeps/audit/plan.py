"""What the audit runs: cells, seeds and budgets, in full and for a first look."""

from __future__ import annotations

from dataclasses import dataclass

from sdpo_jax import Sizes
from sdpo_jax.oracles.judges import BIASES
from sweeps.audit.contenders import CONTENDERS, FEEDBACK_ONLY

# Tuning and evaluation never share a seed: a seed draws the problem and everything else.
# Seeds below 40,000 were looked at while ranges and rules were set.
FIRST_EVALUATION_SEED = 40_000
FIRST_TUNING_SEED = 1_000_000

# Teachers of an oracle with a gain from so many nodes, whatever beta: one program for all.
TEACHER_NODES = 20

REFERENCE_NOISE = 0.2


@dataclass(frozen=True)
class Plan:
    """The numbers of an audit.

    Attributes:
        seeds: seeds of the evaluation.
        tuning_seeds: seeds of the tuning.
        settings: tuning settings of each contender in each cell.
        sizes: of all experiments but the scaling.
        oracles: those of the league of those told only the feedback, and of the crossover.
        noise: their noise levels.
        knowledge: rho of the crossover.
        feedback_only, reward_models, taught, solved: contenders by what they are told.
        taught_oracles: oracles of the league of those taught.
        bias_contenders: who meets the biased judges.
        biases: which biases.
        strengths: their strengths, from 0.
        bias_noise: noise levels of the plain oracle that biases are held against.
        sources: oracles that look at something else than the reward.
        frontier: contenders of the frontier and the knob that is swept.
        frontier_knowledge: rho of the frontier.
        floors: least entropies (nats) at which rewards are compared.
        scaling: pairs (T, V).
        scaling_contenders: who is scaled.
        scaling_settings: tuning settings of each.
        scaling_knowledge: rho of the scaled teachers.
        credit: contenders whose credit is measured at matched policies.
        credit_seeds: seeds of that.
    """

    seeds: int
    tuning_seeds: int
    settings: int
    sizes: Sizes
    oracles: tuple[str, ...]
    noise: tuple[float, ...]
    knowledge: tuple[float, ...]
    feedback_only: tuple[str, ...]
    reward_models: tuple[str, ...]
    taught: tuple[str, ...]
    taught_oracles: tuple[str, ...]
    solved: tuple[str, ...]
    bias_contenders: tuple[str, ...]
    biases: tuple[str, ...]
    strengths: tuple[float, ...]
    bias_noise: tuple[float, ...]
    sources: tuple[str, ...]
    frontier: dict[str, tuple[str, tuple[float, ...]]]
    frontier_knowledge: tuple[float, ...]
    floors: tuple[float, ...]
    scaling: tuple[tuple[int, int], ...]
    scaling_contenders: tuple[str, ...]
    scaling_settings: int
    scaling_knowledge: tuple[float, ...]
    credit: tuple[str, ...]
    credit_seeds: int

    @property
    def evaluation(self) -> range:
        """Seeds that contenders are judged on."""
        return range(FIRST_EVALUATION_SEED, FIRST_EVALUATION_SEED + self.seeds)

    @property
    def tuning(self) -> range:
        """Seeds that their settings are chosen on."""
        return range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.tuning_seeds)


def full(seeds: int = 256) -> Plan:
    """The audit as it is reported."""
    taught = tuple(c.name for c in CONTENDERS.values() if c.group == "knowledge table")
    kl_weights = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    return Plan(
        seeds=seeds,
        tuning_seeds=32,
        settings=30,
        sizes=Sizes(),
        oracles=("binary", "ordinal", "continuous", "critique"),
        noise=(0.0, REFERENCE_NOISE, 0.5),
        knowledge=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        feedback_only=FEEDBACK_ONLY,
        reward_models=("scar", "scar_sampled", "process_reward", "dense_reward"),
        taught=taught,
        taught_oracles=("binary", "continuous"),
        solved=("opsd",),
        bias_contenders=("sdpo", "rloo", "grpo", "dpo", "rlhf", "sdft"),
        biases=BIASES,
        strengths=(0.0, 0.25, 0.5, 0.75, 1.0),
        bias_noise=(0.0, 0.1, 0.2, 0.3, 0.5, 0.8),
        sources=("references", "rubric", "preference", "self_judge"),
        frontier={
            "sdpo": ("kl_weight", kl_weights),
            "sdpo_reverse": ("kl_weight", kl_weights),
            "sdpo_jsd": ("kl_weight", kl_weights),
            "sdpo_entropy": ("entropy_bonus", (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)),
            "sdpo_mixture_probs": ("kl_weight", kl_weights),
            "sdpo_mixture_logits": ("kl_weight", kl_weights),
            "sdpo_annealed": ("final_strength", (0.0, 0.1, 0.2, 0.4, 0.6, 0.8)),
            "sdpo_forward_trust": ("trust", (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
            "hybrid": ("hybrid_threshold", (0.02, 0.05, 0.15, 0.3, 0.6, 1.2)),
            "sdft": ("kl_weight", kl_weights),
        },
        frontier_knowledge=(0.7, 1.0),
        floors=(0.0, 0.5, 1.0, 1.5, 1.75),
        scaling=((3, 8), (6, 8), (12, 8), (6, 16), (6, 32), (12, 32)),
        scaling_contenders=("rloo", "grpo", "rlhf", "sdft", "sdpo"),
        scaling_settings=30,
        scaling_knowledge=(0.5, 1.0),
        credit=(
            *("sdpo", "sdpo_reverse", "sdpo_jsd", "rloo", "grpo", "dpo", "rlhf", "sdft"),
            *("scar", "process_reward", "process_reward_learned", "dense_reward"),
            "advantage_weighted",
        ),
        credit_seeds=64,
    )


def quick() -> Plan:
    """A first look: small problems, few settings, a contender or two of each kind."""
    return Plan(
        seeds=16,
        tuning_seeds=4,
        settings=15,
        sizes=Sizes(length=3, vocab_size=4, rollouts=16, steps=60, final_window=10),
        oracles=("continuous",),
        noise=(REFERENCE_NOISE,),
        knowledge=(0.0, 0.5, 1.0),
        feedback_only=("reinforce", "sdft"),
        reward_models=("process_reward",),
        taught=("sdpo", "sdpo_entropy"),
        taught_oracles=("continuous",),
        solved=("opsd",),
        bias_contenders=("sdft",),
        biases=("leniency", "anchoring"),
        strengths=(0.0, 0.5),
        bias_noise=(0.0, 0.2, 0.5),
        sources=("references",),
        frontier={
            "sdpo": ("kl_weight", (0.0, 0.1, 1.0)),
            "sdpo_entropy": ("entropy_bonus", (0.0, 0.1, 1.0)),
        },
        frontier_knowledge=(1.0,),
        floors=(0.0, 1.0),
        scaling=((3, 4), (4, 4)),
        scaling_contenders=("reinforce", "sdpo"),
        scaling_settings=6,
        scaling_knowledge=(1.0,),
        credit=("sdpo", "reinforce", "process_reward"),
        credit_seeds=8,
    )
