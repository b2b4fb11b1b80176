"""PyTorch batched as in ``torch_batched``, tuned by hand.

Rollouts, the longest of a run's axes, come last, where inner loops run, and the teachers share
one product instead of a softmax each.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import Tensor  # pyright: ignore[reportMissingImports]

from benchmarks.peers.common import CONSTANTS
from benchmarks.peers.torch_batched import prepare_with, updated


def prepare(algorithm: str, oracle: str, runs: int) -> Callable[[int], dict[str, np.ndarray]]:
    """See the package."""
    return prepare_with(train_step, algorithm, oracle, runs)


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
    edges = policy.cumsum(-1)[..., :-1]
    tokens = (uniform[:, :, None] >= edges[..., None]).sum(2)
    score = token_scores.gather(-1, tokens).sum(1)
    pairs = c.vocab_size * tokens[:, :-1] + tokens[:, 1:]
    score = score + bigram.flatten(1).gather(-1, pairs.flatten(1)).view_as(pairs).sum(1)
    reward = torch.sigmoid(score / c.length)

    if algorithm == "sdpo":
        heard = reward if oracle == "continuous" else (reward > 0.5).float()
        # softmax(l + x) = pi exp(x) / sum_v pi exp(x); the longest axis, of rollouts, is last.
        ratio = torch.exp(c.feedback_strength * quality[..., None] * heard[:, None, None])
        total = (policy[..., None] * ratio).sum(2, keepdim=True)
        gradient = policy - policy * (ratio / total).mean(-1)
    else:
        advantage = reward - reward.mean(-1, keepdim=True)
        chosen = tokens[:, :, None] == torch.arange(c.vocab_size)[:, None]
        gradient = -(advantage[:, None, None] * (chosen.float() - policy[..., None])).mean(-1)

    return updated(logits, reference, quality, reward, policy, gradient)
