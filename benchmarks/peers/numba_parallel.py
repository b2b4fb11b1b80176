"""Numba: one run as loops over scalars, as the equations say it, in parallel over runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit, prange  # pyright: ignore[reportMissingImports]

from benchmarks.peers.common import CONSTANTS, check, final_values

# Globals are constants to Numba.
T, V, N, S = CONSTANTS.length, CONSTANTS.vocab_size, CONSTANTS.rollouts, CONSTANTS.steps
F32 = np.float32
LEARNING_RATE = F32(CONSTANTS.learning_rate)
KL_WEIGHT = F32(CONSTANTS.kl_weight)
FEEDBACK_STRENGTH = F32(CONSTANTS.feedback_strength)
QUALITY_SCALE = F32(CONSTANTS.quality_scale)
BIGRAM_SCALE = F32(CONSTANTS.bigram_scale)
PATTERN_WEIGHT = F32(CONSTANTS.pattern_weight)
INIT_SCALE = F32(CONSTANTS.init_scale)


def prepare(algorithm: str, oracle: str, runs: int) -> Callable[[int], dict[str, np.ndarray]]:
    """See the package."""
    check(algorithm, oracle)
    curves = np.empty((runs, 3, S), np.float32)
    kind = algorithm == "sdpo", oracle == "binary"
    _train_all(0, curves[:1], *kind)

    def train(first_seed: int) -> dict[str, np.ndarray]:
        _train_all(first_seed, curves, *kind)
        return final_values(*curves.transpose(1, 2, 0))

    return train


@njit(parallel=True, fastmath=True)
def _train_all(first_seed, curves, sdpo, binary):
    for run in prange(len(curves)):
        np.random.seed(first_seed + run)
        _train_one(curves[run], sdpo, binary)


@njit(fastmath=True)
def _train_one(curves, sdpo, binary):
    """Write curves of reward, credit and entropy, ``[3, S]``."""
    quality = QUALITY_SCALE * _normals(T, V)
    bigram = BIGRAM_SCALE * _normals(V, V)
    target = np.random.randint(0, V, T)
    logits = INIT_SCALE * _normals(T, V)
    policy = np.empty((T, V), np.float32)
    edges = np.empty((T, V), np.float32)
    tilted = np.empty(V, np.float32)
    teacher = np.empty(V, np.float32)
    gradient = np.empty((T, V), np.float32)
    tokens = np.empty((N, T), np.int64)
    reward = np.empty(N, np.float32)
    for t in range(T):
        _softmax(logits[t], policy[t])
    reference = policy.copy()

    for step in range(S):
        for t in range(T):
            _softmax(logits[t], policy[t])
            edges[t] = np.cumsum(policy[t])
        for n in range(N):
            score = F32(0)
            for t in range(T):
                token = _sample(edges[t])
                tokens[n, t] = token
                score += quality[t, token]
                if token == target[t]:
                    score += PATTERN_WEIGHT
                if t > 0:
                    score += bigram[tokens[n, t - 1], token]
            reward[n] = F32(1) / (F32(1) + np.exp(-score / F32(T)))
        mean_reward = reward.mean()

        if sdpo:
            gradient[:] = policy
            for n in range(N):
                heard = F32(reward[n] > F32(0.5)) if binary else reward[n]
                for t in range(T):
                    for v in range(V):
                        tilted[v] = logits[t, v] + FEEDBACK_STRENGTH * heard * quality[t, v]
                    _softmax(tilted, teacher)
                    for v in range(V):
                        gradient[t, v] -= teacher[v] / F32(N)
        else:
            # The advantages add up to zero, and with them what each takes from all tokens.
            gradient[:] = 0
            for n in range(N):
                for t in range(T):
                    gradient[t, tokens[n, t]] -= (reward[n] - mean_reward) / F32(N)

        credit = F32(0)
        entropy = F32(0)
        for t in range(T):
            for v in range(V):
                gradient[t, v] += KL_WEIGHT * (policy[t, v] - reference[t, v])
                logits[t, v] -= LEARNING_RATE * gradient[t, v]
                entropy -= policy[t, v] * np.log(policy[t, v]) / F32(T)
            credit -= _correlation(gradient[t], quality[t]) / F32(T)
        curves[0, step] = mean_reward
        curves[1, step] = credit
        curves[2, step] = entropy


@njit(fastmath=True)
def _normals(rows, columns):
    drawn = np.empty((rows, columns), np.float32)
    for row in range(rows):
        for column in range(columns):
            drawn[row, column] = np.random.standard_normal()
    return drawn


@njit(fastmath=True)
def _softmax(logits, probs):
    largest = logits[0]
    for v in range(1, V):
        largest = max(largest, logits[v])
    total = F32(0)
    for v in range(V):
        probs[v] = np.exp(logits[v] - largest)
        total += probs[v]
    for v in range(V):
        probs[v] /= total


@njit(fastmath=True)
def _sample(edges):
    uniform = np.random.random()
    token = 0
    for v in range(V - 1):
        token += uniform >= edges[v]
    return token


@njit(fastmath=True)
def _correlation(direction, worth):
    """Pearson correlation; 0 where a row has no spread."""
    direction_mean, worth_mean = direction.mean(), worth.mean()
    covariance, spread, worth_spread = F32(0), F32(0), F32(0)
    for v in range(V):
        x, y = direction[v] - direction_mean, worth[v] - worth_mean
        covariance += x * y
        spread += x * x
        worth_spread += y * y
    return covariance / np.sqrt(spread * worth_spread) if spread > 0 else F32(0)
