"""NumPy batched over runs, tuned by hand: chunks that fit the cache, a thread a core.

Rollouts, the longest of a run's axes, come last, where NumPy's inner loops run, and the teachers
share products of matrices instead of a softmax each.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.peers.common import CONSTANTS, check, cores, final_values, sample_problems

# Runs of a chunk, whose largest array then takes 1.6 MB.
CHUNK = 256


def prepare(algorithm: str, oracle: str, runs: int) -> Callable[[int], dict[str, np.ndarray]]:
    """See the package."""
    check(algorithm, oracle)
    pool = ThreadPoolExecutor(cores())

    def train(first_seed: int) -> dict[str, np.ndarray]:
        end = first_seed + runs
        chunks = [(seed, min(CHUNK, end - seed)) for seed in range(first_seed, end, CHUNK)]
        curves = pool.map(lambda chunk: _train_chunk(chunk[0], chunk[1], algorithm, oracle), chunks)
        return final_values(*np.concatenate(list(curves), axis=-1))

    return train


def _train_chunk(first_seed: int, runs: int, algorithm: str, oracle: str) -> np.ndarray:
    """Curves of reward, credit and entropy, ``[3, S, runs]``."""
    c = CONSTANTS
    problem = sample_problems(first_seed, runs)
    token_scores, bigram, quality, logits = (
        array.astype(np.float32)
        for array in (problem.token_scores(), problem.bigram, problem.quality, problem.logits)
    )
    # Where each row of the flattened tables begins.
    rows = c.vocab_size * np.arange(runs * c.length).reshape(runs, c.length, 1)
    tables = c.vocab_size**2 * np.arange(runs).reshape(runs, 1, 1)
    worth = _standardised(quality)
    tilt = np.float32(c.feedback_strength) * quality[..., None]
    reference = _softmax(logits)

    rng = np.random.Generator(np.random.SFC64([first_seed, runs]))
    uniform = np.empty((runs, c.length, c.rollouts), np.float32)
    ratio = np.empty((runs, c.length, c.vocab_size, c.rollouts), np.float32)
    curves = np.empty((3, c.steps, runs), np.float32)

    for step in range(c.steps):
        policy = _softmax(logits)
        edges = policy.cumsum(-1)
        rng.random(dtype=np.float32, out=uniform)
        tokens = np.zeros(uniform.shape, np.uint8)
        for v in range(c.vocab_size - 1):
            tokens += (uniform >= edges[..., v, None]).view(np.uint8)
        cells = rows + tokens
        score = token_scores.take(cells).sum(1)
        score += bigram.take(tables + (c.vocab_size * tokens[:, :-1] + tokens[:, 1:])).sum(1)
        reward = 1 / (1 + np.exp(-score / c.length))

        if algorithm == "sdpo":
            heard = reward if oracle == "continuous" else (reward > 0.5).astype(np.float32)
            # softmax(l + x) = pi exp(x) / sum_v pi exp(x), and the mean over rollouts is a product
            # of matrices: only the multiplication and the exponential pass over a large array.
            np.multiply(tilt, heard[:, None, None, :], out=ratio)
            np.exp(ratio, out=ratio)
            total = (policy[:, :, None] @ ratio)[:, :, 0]
            gradient = policy - policy * (ratio @ (1 / (c.rollouts * total))[..., None])[..., 0]
        else:
            advantage = (reward - reward.mean(-1, keepdims=True)) / c.rollouts
            pushes = np.broadcast_to(advantage[:, None], cells.shape)
            pushed = np.bincount(cells.ravel(), pushes.ravel(), policy.size).reshape(policy.shape)
            gradient = policy * advantage.sum(-1)[:, None, None] - pushed.astype(np.float32)

        gradient += np.float32(c.kl_weight) * (policy - reference)
        curves[0, step] = reward.mean(-1)
        curves[1, step] = -np.einsum("rtv,rtv->r", _standardised(gradient), worth) / c.length
        curves[2, step] = -np.einsum("rtv,rtv->r", policy, np.log(policy)) / c.length
        logits -= np.float32(c.learning_rate) * gradient
    return curves


def _softmax(logits: np.ndarray) -> np.ndarray:
    # Logits stay far below overflow, so no maximum is subtracted.
    weights = np.exp(logits)
    weights /= weights.sum(-1, keepdims=True)
    return weights


def _standardised(rows: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and norm 1, whose products are correlations; 0 where there is no spread."""
    rows = rows - rows.mean(-1, keepdims=True)
    norm = np.sqrt(np.einsum("rtv,rtv->rt", rows, rows))
    return rows / np.where(norm > 0, norm, np.inf)[..., None]
