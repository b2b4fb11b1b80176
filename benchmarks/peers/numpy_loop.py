"""Plain NumPy: one run at a time, vectorised over rollouts, positions and tokens."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.peers.common import CONSTANTS, check, final_values, sample_problem


def prepare(algorithm: str, oracle: str, runs: int) -> Callable[[int], dict[str, np.ndarray]]:
    """See the package."""
    check(algorithm, oracle)

    def train(first_seed: int) -> dict[str, np.ndarray]:
        seeds = range(first_seed, first_seed + runs)
        curves = np.stack([_train_one(seed, algorithm, oracle) for seed in seeds], axis=-1)
        return final_values(*curves)

    return train


def _train_one(seed: int, algorithm: str, oracle: str) -> np.ndarray:
    """Curves of reward, credit and entropy, ``[3, S]``."""
    c = CONSTANTS
    rng = np.random.default_rng(seed)
    problem = sample_problem(rng)
    quality, logits = problem.quality, problem.logits
    token_scores = problem.token_scores()
    reference = _softmax(logits)
    positions = np.arange(c.length)[:, None]
    curves = np.empty((3, c.steps))

    for step in range(c.steps):
        policy = _softmax(logits)
        edges = policy.cumsum(-1)[:, None, :-1]
        tokens = (rng.random((c.length, c.rollouts, 1)) >= edges).sum(-1)
        score = token_scores[positions, tokens].sum(0)
        score += problem.bigram[tokens[:-1], tokens[1:]].sum(0)
        reward = 1 / (1 + np.exp(-score / c.length))

        if algorithm == "sdpo":
            heard = reward if oracle == "continuous" else reward > 0.5
            shift = c.feedback_strength * heard[:, None, None] * quality
            gradient = policy - _softmax(logits + shift).mean(0)
        else:
            advantage = reward - reward.mean()
            chosen = tokens[..., None] == np.arange(c.vocab_size)
            gradient = -(advantage[:, None] * (chosen - policy[:, None])).mean(1)

        gradient += c.kl_weight * (policy - reference)
        entropy = -(policy * np.log(policy)).sum(-1).mean()
        curves[:, step] = reward.mean(), _credit(-gradient, quality), entropy
        logits = logits - c.learning_rate * gradient
    return curves


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _credit(direction: np.ndarray, quality: np.ndarray) -> float:
    """Pearson correlation over tokens, mean over positions; 0 where a row has no spread."""
    direction = direction - direction.mean(-1, keepdims=True)
    quality = quality - quality.mean(-1, keepdims=True)
    covariance = (direction * quality).sum(-1)
    spread = np.sqrt((direction**2).sum(-1) * (quality**2).sum(-1))
    return (covariance / np.where(spread > 0, spread, np.inf)).mean()
