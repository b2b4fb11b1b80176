"""Who takes part: each algorithm with the one or two knobs that are its own.

Every contender gets the same number of tuning settings: the values of its knobs times as many
learning rates as are left, spread over ``decades`` from ``lowest_rate``. Ranges were set by what
tuning seeds show; the tables say what a chosen setting owes to an end of a range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sdpo_jax import ALGORITHMS
from sdpo_jax.information import most


@dataclass(frozen=True)
class Contender:
    """An algorithm in the audit.

    Attributes:
        name: its name in tables.
        algorithm: the name in ``ALGORITHMS``.
        label: for readers.
        lowest_rate: the smallest learning rate tried.
        knobs: fields of ``Config``, or numbers of the algorithm's own, and the values tried.
        epochs: steps on each batch.
        decades: from the smallest learning rate to the largest.
    """

    name: str
    algorithm: str
    label: str
    lowest_rate: float
    knobs: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    epochs: int = 1
    decades: float = 4.0

    @property
    def group(self) -> str:
        """The most that it is told: what it may be compared with."""
        return most(ALGORITHMS[self.algorithm])

    def axes(self, settings: int) -> dict[str, list[float]]:
        """Learning rates and knobs whose product has ``settings`` members."""
        knobs = {name: list(values) for name, values in self.knobs.items()}
        count, rest = divmod(settings, math.prod(len(values) for values in knobs.values()))
        if rest or count < 1:
            raise ValueError(
                f"settings: {settings}; allowed: multiples of the {self.name} knobs' values"
            )
        high = self.lowest_rate * 10**self.decades
        rates = np.geomspace(self.lowest_rate, high, count) if count > 1 else [high / 30]
        return {"learning_rate": [float(f"{rate:.4g}") for rate in rates], **knobs}


_BETA = {"feedback_strength": (0.5, 1.5, 6.0)}
_TRUST = {"trust": (0.5, 0.75, 0.9)}
_RATE = {"teacher_rate": (0.02, 0.1, 0.5)}

CONTENDERS = {
    contender.name: contender
    for contender in (
        # Told the feedback, or the reward in its place.
        Contender("reinforce", "reinforce", "REINFORCE (Dr. GRPO)", 0.1),
        Contender("rloo", "rloo", "RLOO", 0.1),
        Contender("grpo", "grpo", "GRPO", 0.1),
        Contender("ppo", "ppo", "PPO-clip, 4 epochs", 0.1, {"clip": (0.2, 0.5, 1.5)}, epochs=4),
        Contender("dpo", "dpo", "DPO, online pairs", 0.1, {"dpo_strength": (0.03, 0.2, 2.0)}),
        Contender(
            "dpo_best_worst",
            "dpo_best_worst",
            "DPO, best against worst",
            0.1,
            {"dpo_strength": (0.03, 0.3, 3.0)},
        ),
        Contender(
            "rlhf",
            "rlhf",
            "RLHF, learned reward",
            0.1,
            {"model_rate": (0.01, 0.03, 0.1, 0.3, 1.0)},
            decades=2.5,
        ),
        Contender(
            "process_reward_learned",
            "process_reward_learned",
            "Process reward, learned",
            0.1,
            {"model_rate": (0.3, 1.0, 3.0)},
        ),
        Contender(
            "sdft",
            "sdft",
            "SDFT, own best rollout",
            0.03,
            {"demonstration_strength": (1.0, 2.0, 4.0, 8.0, 16.0)},
            decades=2.5,
        ),
        # Told the reward of any sequence.
        Contender("scar", "scar", "SCAR, exact Shapley", 0.1, {"dense_share": (0.5, 0.75, 1.0)}),
        Contender(
            "scar_sampled",
            "scar_sampled",
            "SCAR, sampled",
            0.1,
            {"dense_share": (0.5, 0.75, 1.0)},
        ),
        Contender("process_reward", "process_reward", "Process reward, exact", 0.1),
        Contender(
            "dense_reward",
            "dense_reward",
            "Dense reward for free",
            0.1,
            {"dense_share": (0.1, 0.25, 0.5)},
        ),
        # Told a table of token quality.
        Contender("sdpo", "sdpo", "SDPO", 0.03, _BETA),
        Contender("sdpo_reverse", "sdpo_reverse", "SDPO, reverse KL", 0.01, _BETA),
        Contender("sdpo_jsd", "sdpo_jsd", "SDPO, JSD", 0.3, _BETA),
        Contender("sdpo_forward_ema", "sdpo_forward_ema", "SDPO, EMA", 0.03, _RATE),
        Contender("sdpo_reverse_ema", "sdpo_reverse_ema", "SDPO, reverse, EMA", 0.01, _RATE),
        Contender("sdpo_jsd_ema", "sdpo_jsd_ema", "SDPO, JSD, EMA", 0.1, _RATE),
        Contender("sdpo_forward_trust", "sdpo_forward_trust", "SDPO, trust", 0.03, _TRUST),
        Contender("sdpo_reverse_trust", "sdpo_reverse_trust", "SDPO, reverse, trust", 0.03, _TRUST),
        Contender("sdpo_jsd_trust", "sdpo_jsd_trust", "SDPO, JSD, trust", 0.3, _TRUST),
        Contender("sdpo_jsd_ema_top_k", "sdpo_jsd_ema_top_k", "SDPO, authors' default", 0.1, _RATE),
        Contender(
            "distillation",
            "distillation",
            "Distillation, fixed teacher",
            0.3,
            {"temperature": (0.05, 0.15, 0.5)},
        ),
        Contender("advantage_weighted", "advantage_weighted", "Advantage-weighted", 0.1),
        Contender("hybrid", "hybrid", "Hybrid", 0.03, {"hybrid_threshold": (0.02, 0.05, 0.15)}),
        Contender(
            "sdpo_entropy",
            "sdpo_entropy",
            "SDPO, entropy bonus",
            0.03,
            {"entropy_bonus": (0.003, 0.01, 0.03)},
        ),
        Contender(
            "sdpo_mixture_probs", "sdpo_mixture_probs", "SDPO, panel of probabilities", 0.03, _BETA
        ),
        Contender(
            "sdpo_mixture_logits", "sdpo_mixture_logits", "SDPO, panel of logits", 0.03, _BETA
        ),
        Contender(
            "sdpo_annealed",
            "sdpo_annealed",
            "SDPO, annealed",
            0.03,
            {"final_strength": (0.0, 0.3, 0.6)},
        ),
        # Told the solution.
        Contender(
            "opsd",
            "opsd",
            "OPSD, sees the solution",
            0.1,
            {"demonstration_strength": (4.0, 8.0, 16.0)},
        ),
    )
}

FEEDBACK_ONLY = tuple(c.name for c in CONTENDERS.values() if c.group == "feedback")
