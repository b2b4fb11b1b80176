"""NumPy batched over runs on a leading axis: the loop's equations, one axis more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.peers.common import CONSTANTS, check, final_values, sample_problems


def prepare(algorithm: str, oracle: str, runs: int) -> Callable[[int], dict[str, np.ndarray]]:
    """See the package."""
    check(algorithm, oracle)

    def train(first_seed: int) -> dict[str, np.ndarray]:
        return final_values(*_train_all(first_seed, runs, algorithm, oracle))

    return train


def _train_all(first_seed: int, runs: int, algorithm: str, oracle: str) -> np.ndarray:
    """Curves of reward, credit and entropy, ``[3, S, runs]``."""
    c = CONSTANTS
    problem = sample_problems(first_seed, runs)
    token_scores, bigram, quality, logits = (
        array.astype(np.float32)
        for array in (problem.token_scores(), problem.bigram, problem.quality, problem.logits)
    )
    reference = _softmax(logits)
    rng = np.random.default_rng([first_seed, runs])
    run = np.arange(runs)[:, None, None]
    curves = np.empty((3, c.steps, runs), np.float32)

    for step in range(c.steps):
        policy = _softmax(logits)
        edges = policy.cumsum(-1)[:, :, None, :-1]
        uniform = rng.random((runs, c.length, c.rollouts, 1), dtype=np.float32)
        tokens = (uniform >= edges).sum(-1)
        score = np.take_along_axis(token_scores, tokens, -1).sum(1)
        score += bigram[run, tokens[:, :-1], tokens[:, 1:]].sum(1)
        reward = 1 / (1 + np.exp(-score / c.length))

        if algorithm == "sdpo":
            heard = reward if oracle == "continuous" else (reward > 0.5).astype(np.float32)
            shift = c.feedback_strength * heard[:, :, None, None] * quality[:, None]
            gradient = policy - _softmax(logits[:, None] + shift).mean(1)
        else:
            advantage = reward - reward.mean(-1, keepdims=True)
            chosen = tokens[..., None] == np.arange(c.vocab_size)
            score = chosen - policy[:, :, None]
            gradient = -(advantage[:, None, :, None] * score).mean(2)

        gradient += c.kl_weight * (policy - reference)
        curves[0, step] = reward.mean(-1)
        curves[1, step] = _credit(-gradient, quality)
        curves[2, step] = -(policy * np.log(policy)).sum(-1).mean(-1)
        logits -= c.learning_rate * gradient
    return curves


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _credit(direction: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Pearson correlation over tokens, mean over positions; 0 where a row has no spread."""
    direction = direction - direction.mean(-1, keepdims=True)
    quality = quality - quality.mean(-1, keepdims=True)
    covariance = (direction * quality).sum(-1)
    spread = np.sqrt((direction**2).sum(-1) * (quality**2).sum(-1))
    return (covariance / np.where(spread > 0, spread, np.inf)).mean(-1)
