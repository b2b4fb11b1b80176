"""What the study runs: contenders, seeds and budgets, in full and for a first look.

Tuning and evaluation never share a seed: a seed draws the problem and everything else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from sdpo_jax.in_context import METHODS, Pretraining, World
from sdpo_jax.in_context.methods import READ, SCORE, SOLUTION

FIRST_EVALUATION_SEED = 50_000
FIRST_TUNING_SEED = 1_000_000
PRETRAINING_SEED = 0

# Of a plan's number of settings.
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
_FEW = (3e-4, 1e-3, 3e-3)

GROUPS = (SCORE, READ, SOLUTION)


@dataclass(frozen=True)
class Contender:
    """A method in the study: what it tries.

    Attributes:
        method: a name in ``METHODS``.
        rates: learning rates.
        knobs: numbers of its own and the values tried, of which every product is a setting.
    """

    method: str
    rates: tuple[float, ...] = RATES
    knobs: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def settings(self) -> int:
        """How many settings it tries."""
        return len(self.rates) * math.prod(len(each) for each in self.knobs.values())

    @property
    def told(self) -> str:
        """The group that it is compared in."""
        return METHODS[self.method].told


CONTENDERS = {
    contender.method: contender
    for contender in (
        Contender("reinforce"),
        Contender("rloo"),
        Contender("grpo"),
        Contender("ppo", _FEW, {"clip": (0.2, 0.5)}),
        Contender("dpo", (1e-3, 3e-3, 1e-2), {"dpo_strength": (0.1, 1.0)}),
        Contender("rlhf", (1e-3, 3e-3, 1e-2), {"model_rate": (0.1, 1.0)}),
        Contender("sdpo_live_forward"),
        Contender("sdpo_live_reverse"),
        Contender("sdpo_ema_forward", _FEW, {"teacher_rate": (0.05, 0.3)}),
        Contender("sdpo_frozen_forward"),
        Contender("sdpo_trust_forward", _FEW, {"trust": (0.5, 0.9)}),
        Contender("sdpo_composed_forward", (1e-3, 3e-3, 1e-2), {"strength": (1.0, 3.0)}),
        # Its strength is a factor of the gradient, which Adam divides out again.
        Contender("sdpo_composed_reverse"),
        Contender("grpo_sdpo", _FEW, {"weight": (0.2, 0.5)}),
        Contender("sdft"),
        Contender("opsd"),
    )
}

# Teachers that do not start from the student's own logits, and those that do.
PLAIN = tuple(
    name
    for name, contender in CONTENDERS.items()
    if METHODS[name].teacher in ("live", "ema", "frozen", "trust") and contender.told == READ
)
COMPOSED = tuple(
    name for name in CONTENDERS if METHODS[name].teacher in ("composed", "composed_live")
)

# Who stands for its kind where one is enough.
REFERENCE = "grpo"
MAIN = "sdpo_composed_forward"


@dataclass(frozen=True)
class Plan:
    """The numbers of a study.

    Attributes:
        seeds: of the evaluation.
        tuning_seeds: of the tuning.
        steps: of training.
        rollouts: a step.
        every: steps between measurements of the drift and of the teacher.
        window: the last steps, whose mean is what a run ends with.
        width: of the network.
        layers: of the network.
        length: T.
        vocab_size: V.
        noise: of the oracles.
        kinds: of feedback.
        contenders: names in ``CONTENDERS``.
        pretraining: of the networks.
        attempts: k of the networks, the first of which all else uses.
        strengths: of the composed teacher.
        small: T and V of the world in which credit is exact.
        small_pretraining: of its network.
        watched: methods whose teachers are looked at along the way.
        credit: methods whose credit is measured.
        credit_batches: batches a seed.
        credit_steps: of the reference method, after which credit is measured again.
        block: training runs in one call of a program.
    """

    seeds: int
    tuning_seeds: int
    steps: int
    rollouts: int
    every: int
    window: int
    width: int
    layers: int
    length: int
    vocab_size: int
    noise: float
    kinds: tuple[str, ...]
    contenders: tuple[str, ...]
    pretraining: Pretraining
    attempts: tuple[int, ...]
    strengths: tuple[float, ...]
    small: tuple[int, int]
    small_pretraining: Pretraining
    watched: tuple[str, ...]
    credit: tuple[str, ...]
    credit_batches: int
    credit_steps: int
    block: int

    @property
    def evaluation(self) -> range:
        """Seeds that contenders are judged on."""
        return range(FIRST_EVALUATION_SEED, FIRST_EVALUATION_SEED + self.seeds)

    @property
    def tuning(self) -> range:
        """Seeds that their settings are chosen on."""
        return range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.tuning_seeds)

    def world(self, attempts: int) -> World:
        """The world whose contexts hold so many attempts."""
        return World(self.length, self.vocab_size, attempts)


def full(seeds: int = 32) -> Plan:
    """The study as it is reported."""
    return Plan(
        seeds=seeds,
        tuning_seeds=16,
        steps=80,
        rollouts=32,
        every=10,
        window=10,
        width=32,
        layers=2,
        length=6,
        vocab_size=8,
        noise=0.1,
        kinds=("binary", "continuous", "critique"),
        contenders=tuple(CONTENDERS),
        pretraining=Pretraining(checkpoints=(0, 100, 200, 400, 1600)),
        attempts=(1, 2, 4),
        strengths=(0.1, 0.3, 1.0, 3.0, 10.0),
        small=(3, 4),
        small_pretraining=Pretraining(checkpoints=(0, 1600)),
        watched=("sdpo_live_forward", "sdpo_composed_forward"),
        credit=(
            *("reinforce", "grpo", "sdpo_live_forward"),
            *("sdpo_composed_forward", "sdpo_composed_reverse", "opsd"),
        ),
        credit_batches=8,
        credit_steps=20,
        block=16,
    )


def quick() -> Plan:
    """A first look: a tiny network and world, few contenders."""
    small = Pretraining(checkpoints=(0, 30, 60), batch=32, examples=128)
    return Plan(
        seeds=8,
        tuning_seeds=2,
        steps=20,
        rollouts=16,
        every=10,
        window=5,
        width=16,
        layers=1,
        length=3,
        vocab_size=4,
        noise=0.1,
        kinds=("binary", "critique"),
        contenders=("grpo", "sdpo_live_forward", "sdpo_composed_forward"),
        pretraining=small,
        attempts=(1,),
        strengths=(0.3, 1.0),
        small=(3, 4),
        small_pretraining=small,
        watched=("sdpo_composed_forward",),
        credit=("grpo", "sdpo_composed_forward"),
        credit_batches=2,
        credit_steps=10,
        block=16,
    )
