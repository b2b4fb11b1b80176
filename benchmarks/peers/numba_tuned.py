"""Numba tuned by hand.

Inner loops run over rollouts, so that LLVM vectorises them; the exponential is a polynomial,
because a call into the C library would stop it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit, prange, uint64  # pyright: ignore[reportMissingImports]

from benchmarks.peers.common import check, final_values
from benchmarks.peers.numba_parallel import (
    BIGRAM_SCALE,
    F32,
    FEEDBACK_STRENGTH,
    INIT_SCALE,
    KL_WEIGHT,
    LEARNING_RATE,
    PATTERN_WEIGHT,
    QUALITY_SCALE,
    N,
    S,
    T,
    V,
)

# No signed zeros, no exact order of sums; infinities and NaN do not occur.
_compiled = njit(fastmath=True, error_model="numpy")
_inlined = njit(fastmath=True, error_model="numpy", inline="always")


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


@njit(parallel=True)
def _train_all(first_seed, curves, sdpo, binary):
    for run in prange(len(curves)):
        _train_one(first_seed + run, curves[run], sdpo, binary)


@_compiled
def _train_one(seed, curves, sdpo, binary):
    """Write curves of reward, credit and entropy, ``[3, S]``."""
    random = np.empty((T, N), np.float32)
    drawn = np.empty((4, T * V + V * V), np.float32)
    counter = uint64(seed) << uint64(32)
    for i in range(len(drawn)):
        counter = _fill(counter, drawn[i])
    quality = QUALITY_SCALE * _normals(drawn[0], drawn[1], 0, T)
    logits = INIT_SCALE * _normals(drawn[2], drawn[3], 0, T)
    bigram = BIGRAM_SCALE * _normals(drawn[0], drawn[1], T * V, V)
    single = quality.copy()
    for t in range(T):
        single[t, int(V * drawn[2, T * V + t])] += PATTERN_WEIGHT

    worth = np.empty((T, V), np.float32)
    for t in range(T):
        worth[t] = quality[t] - quality[t].mean()
    policy = np.empty((T, V), np.float32)
    reference = np.empty((T, V), np.float32)
    gradient = np.empty((T, V), np.float32)
    tokens = np.empty((T, N), np.int32)
    score = np.empty(N, np.float32)
    reward = np.empty(N, np.float32)
    push = np.empty(N, np.float32)
    weights = np.empty((V, N), np.float32)

    for step in range(S):
        entropy = _softmax(logits, policy)
        if step == 0:
            reference[:] = policy
        counter = _fill(counter, random.ravel())
        _sample(policy, random, tokens)
        _score(single, bigram, tokens, score)
        mean_reward = F32(0)
        for n in range(N):
            reward[n] = F32(1) / (F32(1) + _exp(-score[n] / F32(T)))
            mean_reward += reward[n] / F32(N)

        if sdpo:
            for n in range(N):
                heard = F32(reward[n] > F32(0.5)) if binary else reward[n]
                push[n] = FEEDBACK_STRENGTH * heard
            _sdpo(policy, logits, quality, push, weights, gradient)
        else:
            for n in range(N):
                push[n] = (reward[n] - mean_reward) / F32(N)
            _reinforce(policy, tokens, push, gradient)

        for t in range(T):
            for v in range(V):
                gradient[t, v] += KL_WEIGHT * (policy[t, v] - reference[t, v])
                logits[t, v] -= LEARNING_RATE * gradient[t, v]
        curves[0, step] = mean_reward
        curves[1, step] = _credit(gradient, worth)
        curves[2, step] = entropy


@_compiled
def _softmax(logits, policy):
    """Fill ``policy`` and return its entropy, the mean over positions."""
    entropy = F32(0)
    for t in range(T):
        total = F32(0)
        for v in range(V):
            policy[t, v] = _exp(logits[t, v])
            total += policy[t, v]
        expected = F32(0)
        for v in range(V):
            policy[t, v] /= total
            expected += policy[t, v] * logits[t, v]
        entropy += np.log(total) - expected
    return entropy / F32(T)


@_compiled
def _sample(policy, uniform, tokens):
    edges = np.empty(V - 1, np.float32)
    for t in range(T):
        edge = F32(0)
        for v in range(V - 1):
            edge += policy[t, v]
            edges[v] = edge
        for n in range(N):
            token = np.int32(0)
            for v in range(V - 1):
                token += np.int32(uniform[t, n] >= edges[v])
            tokens[t, n] = token


@_compiled
def _score(single, bigram, tokens, score):
    for n in range(N):
        total = single[0, tokens[0, n]]
        for t in range(1, T):
            total += single[t, tokens[t, n]] + bigram[tokens[t - 1, n], tokens[t, n]]
        score[n] = total


@_compiled
def _sdpo(policy, logits, quality, push, weights, gradient):
    total = np.empty(N, np.float32)
    for t in range(T):
        total[:] = 0
        for v in range(V):
            for n in range(N):
                weights[v, n] = _exp(logits[t, v] + push[n] * quality[t, v])
                total[n] += weights[v, n]
        for n in range(N):
            total[n] = F32(1) / (F32(N) * total[n])
        for v in range(V):
            teacher = F32(0)
            for n in range(N):
                teacher += weights[v, n] * total[n]
            gradient[t, v] = policy[t, v] - teacher


@_compiled
def _reinforce(policy, tokens, push, gradient):
    total = F32(0)
    for n in range(N):
        total += push[n]
    for t in range(T):
        for v in range(V):
            gradient[t, v] = policy[t, v] * total
        for n in range(N):
            gradient[t, tokens[t, n]] -= push[n]


@_compiled
def _credit(gradient, worth):
    """Pearson correlation over tokens of minus the gradient, mean over positions."""
    credit = F32(0)
    for t in range(T):
        mean = F32(0)
        for v in range(V):
            mean += gradient[t, v] / F32(V)
        covariance = F32(0)
        spread = F32(0)
        spread_of_worth = F32(0)
        for v in range(V):
            direction = mean - gradient[t, v]
            covariance += direction * worth[t, v]
            spread += direction * direction
            spread_of_worth += worth[t, v] * worth[t, v]
        if spread > 0:
            credit += covariance / np.sqrt(spread * spread_of_worth)
    return credit / F32(T)


@_inlined
def _exp(x):
    """``exp`` for -87 < x < 87, to 2e-7: a power of two, times a polynomial on +-log(2)/2."""
    x *= F32(1.4426950408889634)
    whole = np.rint(x)
    x -= whole
    value = F32(1.5403530e-4)
    value = value * x + F32(1.3333558e-3)
    value = value * x + F32(9.6181291e-3)
    value = value * x + F32(5.5504109e-2)
    value = value * x + F32(2.4022651e-1)
    value = value * x + F32(6.9314718e-1)
    value = value * x + F32(1)
    return value * np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@_compiled
def _fill(counter, uniform):
    """Fill an array with uniform numbers on [0, 1); splitmix64 of a counter."""
    for i in range(len(uniform)):
        x = (counter + uint64(i)) * uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> uint64(27))) * uint64(0x94D049BB133111EB)
        uniform[i] = F32(np.int32((x ^ (x >> uint64(31))) >> uint64(40))) * F32(2.0**-24)
    return counter + uint64(len(uniform))


@_compiled
def _normals(first, second, begin, rows):
    """Box-Muller: ``[rows, V]`` standard normals from two rows of uniform numbers."""
    normals = np.empty((rows, V), np.float32)
    for i in range(rows * V):
        radius = np.sqrt(F32(-2) * np.log(F32(1) - first[begin + i]))
        angle = F32(2 * np.pi) * second[begin + i]
        normals[i // V, i % V] = radius * np.cos(angle)
    return normals
