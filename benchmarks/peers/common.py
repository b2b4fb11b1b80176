"""What the peers share: the constants of the paper, the drawn problems, the final values."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

ALGORITHMS = ("sdpo", "reinforce")
ORACLES = ("continuous", "binary")


@dataclass(frozen=True)
class Constants:
    """The paper's constants, and for those that it leaves open the fitted ones."""

    length: int = 6
    vocab_size: int = 8
    rollouts: int = 32
    steps: int = 300
    final_window: int = 20
    learning_rate: float = 0.02
    kl_weight: float = 0.01
    feedback_strength: float = 1.5
    hybrid_threshold: float = 0.15
    quality_scale: float = 1.0
    bigram_scale: float = 0.3
    pattern_weight: float = 0.3
    init_scale: float = 0.1


CONSTANTS = Constants()


class Problem(NamedTuple):
    """What a seed draws before training; ``sample_problems`` adds a leading axis of runs."""

    quality: np.ndarray  # [T, V]
    bigram: np.ndarray  # [V, V]
    target: np.ndarray  # [T]
    logits: np.ndarray  # [T, V], before step 0

    def token_scores(self) -> np.ndarray:
        """``[T, V]``, what a token adds to the score by itself: quality, and pattern if it fits."""
        matches = self.target[..., None] == np.arange(CONSTANTS.vocab_size)
        return self.quality + CONSTANTS.pattern_weight * matches


def sample_problem(rng: np.random.Generator) -> Problem:
    """Draw one problem and its first logits."""
    length, vocab_size = CONSTANTS.length, CONSTANTS.vocab_size
    return Problem(
        quality=rng.normal(0, CONSTANTS.quality_scale, (length, vocab_size)),
        bigram=rng.normal(0, CONSTANTS.bigram_scale, (vocab_size, vocab_size)),
        target=rng.integers(vocab_size, size=length),
        logits=rng.normal(0, CONSTANTS.init_scale, (length, vocab_size)),
    )


def sample_problems(first_seed: int, runs: int) -> Problem:
    """The problems of so many seeds, stacked along a leading axis."""
    seeds = range(first_seed, first_seed + runs)
    problems = [sample_problem(np.random.default_rng(seed)) for seed in seeds]
    return Problem(*map(np.stack, zip(*problems, strict=True)))


def final_values(
    reward: np.ndarray, credit: np.ndarray, entropy: np.ndarray
) -> dict[str, np.ndarray]:
    """Final values from curves ``[S, runs]``: the last steps' mean; of entropy the last step."""
    window = CONSTANTS.final_window
    return {
        "reward": reward[-window:].mean(0),
        "credit": credit[-window:].mean(0),
        "entropy": entropy[-1],
    }


def check(algorithm: str, oracle: str) -> None:
    """Refuse what the peers do not know.

    Raises:
        ValueError: the name and what is allowed.
    """
    for field, value, allowed in (
        ("algorithm", algorithm, ALGORITHMS),
        ("oracle", oracle, ORACLES),
    ):
        if value not in allowed:
            raise ValueError(f"{field}: {value!r}; allowed: {', '.join(allowed)}")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpp_compiler() -> str | None:
    """The C++ compiler that PyTorch would compile with, if there is one."""
    return shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
