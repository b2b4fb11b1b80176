"""PyTorch batched over runs on a leading axis, compiled where there is a C++ compiler."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import Tensor  # pyright: ignore[reportMissingImports]

from benchmarks.peers.common import (
    CONSTANTS,
    check,
    cores,
    cpp_compiler,
    final_values,
    sample_problems,
)

Step = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


def prepare(algorithm: str, oracle: str, runs: int) -> Callable[[int], dict[str, np.ndarray]]:
    """See the package."""
    return prepare_with(train_step, algorithm, oracle, runs)


def prepare_with(
    step: Step, algorithm: str, oracle: str, runs: int
) -> Callable[[int], dict[str, np.ndarray]]:
    """Training by a step such as ``train_step``, compiled."""
    check(algorithm, oracle)
    torch.set_num_threads(cores())
    step = torch.compile(step, dynamic=False) if cpp_compiler() else step

    @torch.inference_mode()
    def train(first_seed: int) -> dict[str, np.ndarray]:
        c = CONSTANTS
        problem = sample_problems(first_seed, runs)
        quality, bigram, logits, token_scores = (
            torch.tensor(array, dtype=torch.float32)
            for array in (problem.quality, problem.bigram, problem.logits, problem.token_scores())
        )
        reference = logits.softmax(-1)
        torch.manual_seed(first_seed)
        curves = torch.empty(3, c.steps, runs)
        for index in range(c.steps):
            uniform = torch.rand(runs, c.length, c.rollouts)
            logits, *metrics = step(
                logits, reference, quality, token_scores, bigram, uniform, algorithm, oracle
            )
            curves[:, index] = torch.stack(metrics)
        return final_values(*curves.numpy())

    train(0)
    return train


def train_step(
    logits: Tensor,
    reference: Tensor,
    quality: Tensor,
    token_scores: Tensor,
    bigram: Tensor,
    uniform: Tensor,
    algorithm: str,
    oracle: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The next logits ``[runs, T, V]``; then reward, credit and entropy, each ``[runs]``."""
    c = CONSTANTS
    policy = logits.softmax(-1)
    edges = policy.cumsum(-1)[:, :, None, :-1]
    tokens = (uniform[..., None] >= edges).sum(-1)
    score = token_scores.gather(-1, tokens).sum(1)
    pairs = c.vocab_size * tokens[:, :-1] + tokens[:, 1:]
    score = score + bigram.flatten(1).gather(-1, pairs.flatten(1)).view_as(pairs).sum(1)
    reward = torch.sigmoid(score / c.length)

    if algorithm == "sdpo":
        heard = reward if oracle == "continuous" else (reward > 0.5).float()
        shift = c.feedback_strength * heard[:, :, None, None] * quality[:, None]
        gradient = policy - (logits[:, None] + shift).softmax(-1).mean(1)
    else:
        advantage = reward - reward.mean(-1, keepdim=True)
        chosen = (tokens[..., None] == torch.arange(c.vocab_size)).float()
        gradient = -(advantage[:, None, :, None] * (chosen - policy[:, :, None])).mean(2)

    return updated(logits, reference, quality, reward, policy, gradient)


def updated(
    logits: Tensor,
    reference: Tensor,
    quality: Tensor,
    reward: Tensor,
    policy: Tensor,
    gradient: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a step returns, from the algorithm's gradient."""
    c = CONSTANTS
    gradient = gradient + c.kl_weight * (policy - reference)
    entropy = -(policy * policy.log()).sum(-1).mean(-1)
    credit = _credit(-gradient, quality)
    return logits - c.learning_rate * gradient, reward.mean(-1), credit, entropy


def _credit(direction: Tensor, quality: Tensor) -> Tensor:
    """Pearson correlation over tokens, mean over positions; 0 where a row has no spread."""
    direction = direction - direction.mean(-1, keepdim=True)
    quality = quality - quality.mean(-1, keepdim=True)
    covariance = (direction * quality).sum(-1)
    spread = (direction.square().sum(-1) * quality.square().sum(-1)).sqrt()
    return (covariance / spread.where(spread > 0, torch.inf)).mean(-1)
