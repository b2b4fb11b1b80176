"""The paper's model for one run, in float64 NumPy, written from its equations and nothing else.

Positions t, tokens v and rollouts i index arrays as in the paper: logits, policy and q are
``[T, V]``, sampled tokens ``[T, N]``, hint errors ``[T, V, N]``. To be read beside the paper, so it
loops where the paper sums.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Problem:
    """q, b, s* and alpha_p of Eq. 1."""

    quality: np.ndarray
    bigram: np.ndarray
    target: np.ndarray
    pattern_weight: float


@dataclass(frozen=True)
class Numbers:
    """The hyperparameters that a step reads."""

    learning_rate: float  # lr
    kl_weight: float  # lambda
    feedback_strength: float  # beta
    hybrid_threshold: float  # tau
    noise: float  # sigma
    bias: float
    hint_noise: float
    sign: float
    learn_from_feedback: float


@dataclass(frozen=True)
class Oracle:
    """A feedback type: what it says of a noisy reward, and the reading of its hints, if any."""

    says: Callable[[float], float]
    hints: str | None = None


@dataclass(frozen=True)
class Draws:
    """The chance of one step."""

    tokens: np.ndarray  # [T, N]
    noise: np.ndarray  # [N], standard normal
    hints: np.ndarray  # [T, V, N], standard normal


@dataclass(frozen=True)
class Step:
    """What one step computes on its way to the next logits."""

    policy: np.ndarray  # [T, V], before the update
    reward: np.ndarray  # [N]
    noisy: np.ndarray  # [N]
    feedback: np.ndarray  # [N]
    mean_teacher: np.ndarray  # [T, V]
    gradient: np.ndarray  # [T, V], of the algorithm alone
    direction: np.ndarray  # [T, V]
    logits: np.ndarray  # [T, V], after the update
    metrics: dict[str, float]


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def entropy(p):
    return -np.sum(p * np.log(p))


def kl(p, q):
    return np.sum(p * np.log(p / q))


# The reward (Eq. 1) and what can be known of it by looking at every sequence.


def reward(problem, sequence):
    length = len(sequence)
    score = 0.0
    for t in range(length):
        score += problem.quality[t, sequence[t]]
    for t in range(length - 1):
        score += problem.bigram[sequence[t], sequence[t + 1]]
    for t in range(length):
        if sequence[t] == problem.target[t]:
            score += problem.pattern_weight
    return sigmoid(score / length)


def all_sequences(problem):
    length, vocab_size = problem.quality.shape
    return itertools.product(range(vocab_size), repeat=length)


def best_sequence(problem):
    return max(all_sequences(problem), key=lambda sequence: reward(problem, sequence))


def expected_reward(problem, policy):
    total = 0.0
    for sequence in all_sequences(problem):
        probability = np.prod([policy[t, v] for t, v in enumerate(sequence)])
        total += probability * reward(problem, sequence)
    return total


def token_advantage(problem, policy):
    """``E[R | s_t = v] - E[R]``: the expected reward of the policy that always plays v at t."""
    advantage = np.empty_like(policy)
    for t, v in np.ndindex(policy.shape):
        forced = policy.copy()
        forced[t] = 0.0
        forced[t, v] = 1.0
        advantage[t, v] = expected_reward(problem, forced) - expected_reward(problem, policy)
    return advantage


def uniform_reward(problem):
    return np.mean([reward(problem, sequence) for sequence in all_sequences(problem)])


def reward_range(problem):
    """From the uniform policy to the best sequence."""
    return reward(problem, best_sequence(problem)) - uniform_reward(problem)


def optimality(problem, policy):
    return (expected_reward(problem, policy) - uniform_reward(problem)) / reward_range(problem)


# The oracles (section 2.2).


def noisy_reward(true_reward, noise, numbers):
    return min(max(true_reward + numbers.noise * noise + numbers.bias, 0.0), 1.0)


def binary():
    return Oracle(lambda noisy: 1.0 if noisy > 0.5 else 0.0)


def ordinal(levels):
    def says(noisy):
        level = 1
        for k in range(1, levels):
            if noisy >= k / levels:
                level = k + 1
        return level / levels

    return Oracle(says)


def continuous():
    return Oracle(lambda noisy: noisy)


def critique(reading):
    return Oracle(lambda noisy: noisy, hints=reading)


def constant(value):
    return Oracle(lambda noisy: value)


# The self-teacher (section 2.3, Eq. 2) and what it may know.


def table_of(quality, knowledge, errors):
    """The table of a teacher whose correlation with q is ``knowledge``; errors vary as q does."""
    return knowledge * quality + np.sqrt(1 - knowledge**2) * errors


def shown(oracle, table, criticised, sequence, t, v):
    """What feedback multiplies in the teacher's logit of token v at t (three readings of Eq. 2)."""
    if oracle.hints == "position":
        return table[t, v] - criticised[t, sequence[t]]
    if oracle.hints == "token":
        return criticised[t, v]
    if oracle.hints == "sampled":
        return criticised[t, v] if v == sequence[t] else 0.0
    return table[t, v]


def teacher(logits, table, oracle, f, sequence, hint_errors, numbers):
    """The teacher of one rollout, ``[T, V]``, from its feedback f and its hints' errors."""
    criticised = table + numbers.hint_noise * hint_errors
    tilted = logits.copy()
    for t, v in np.ndindex(logits.shape):
        shift = shown(oracle, table, criticised, sequence, t, v)
        tilted[t, v] += numbers.feedback_strength * f * shift
    return softmax(tilted)


# The algorithms' descent gradients (Eqs. 3-6).


def score(policy, t, v):
    """``onehot(v) - pi_t``: the gradient of ``log pi_t(v)`` with respect to the logits at t."""
    onehot = np.zeros(policy.shape[1])
    onehot[v] = 1.0
    return onehot - policy[t]


def sdpo(policy, teachers):
    """Eq. 3."""
    return -sum(each - policy for each in teachers) / len(teachers)


def reinforce(policy, tokens, signals):
    """Eq. 4."""
    length, rollouts = tokens.shape
    gradient = np.zeros_like(policy)
    for i, t in itertools.product(range(rollouts), range(length)):
        advantage = signals[i] - signals.mean()
        gradient[t] -= advantage * score(policy, t, tokens[t, i]) / rollouts
    return gradient


def advantage_weighted(policy, tokens, signals, table):
    """Eq. 5."""
    length, rollouts = tokens.shape
    average = [np.sum(policy[t] * table[t]) for t in range(length)]
    gradient = np.zeros_like(policy)
    for i in range(rollouts):
        excess = [table[t, tokens[t, i]] - average[t] for t in range(length)]
        scale = sum(abs(each) for each in excess) + 1e-8
        for t in range(length):
            advantage = (signals[i] - signals.mean()) * excess[t] / scale
            gradient[t] -= advantage * score(policy, t, tokens[t, i]) / rollouts
    return gradient


def divergence(policy, teachers):
    """Mean over rollouts and positions of ``KL(teacher || student)``."""
    length = len(policy)
    return np.mean([kl(each[t], policy[t]) for each in teachers for t in range(length)])


def hybrid_weight(policy, teachers, tau):
    """``a`` of Eq. 6."""
    return sigmoid((divergence(policy, teachers) - tau) / (tau / 3))


# The paper's own; the others are held against enumeration, automatic gradients and plain loops.
ALGORITHMS = ("sdpo", "reinforce", "advantage_weighted", "hybrid")


def algorithm_gradient(algorithm, policy, tokens, signals, teachers, table, numbers):
    if algorithm == "sdpo":
        return sdpo(policy, teachers)
    if algorithm == "reinforce":
        return reinforce(policy, tokens, signals)
    if algorithm == "advantage_weighted":
        return advantage_weighted(policy, tokens, signals, table)
    if algorithm == "hybrid":
        a = hybrid_weight(policy, teachers, numbers.hybrid_threshold)
        return a * sdpo(policy, teachers) + (1 - a) * reinforce(policy, tokens, signals)
    raise ValueError(algorithm)


# Sampling, the step and the loop.


def cumulative(policy):
    """The upper edges of the tokens' shares of [0, 1), without the last, ``[T, V - 1]``."""
    return np.cumsum(policy, axis=1)[:, :-1]


def sample(policy, uniforms):
    """Tokens ``[T, N]`` from uniforms ``[T, N]``: the token whose share the uniform falls into."""
    tokens = np.zeros(uniforms.shape, int)
    edges = cumulative(policy)
    for t, i in np.ndindex(uniforms.shape):
        while tokens[t, i] < edges.shape[1] and uniforms[t, i] >= edges[t, tokens[t, i]]:
            tokens[t, i] += 1
    return tokens


def step(algorithm, oracle, problem, numbers, table, first_logits, logits, draws):
    """One step, ``l <- l - lr (sign g + lambda (pi - pi_ref))``."""
    tokens = draws.tokens
    rollouts = tokens.shape[1]
    policy, first_policy = softmax(logits), softmax(first_logits)
    rewards = np.array([reward(problem, tokens[:, i]) for i in range(rollouts)])
    noisy = np.array([noisy_reward(rewards[i], draws.noise[i], numbers) for i in range(rollouts)])
    feedback = np.array([oracle.says(each) for each in noisy])
    teachers = [
        teacher(logits, table, oracle, feedback[i], tokens[:, i], draws.hints[:, :, i], numbers)
        for i in range(rollouts)
    ]
    blend = numbers.learn_from_feedback
    signals = (1 - blend) * rewards + blend * feedback
    gradient = algorithm_gradient(algorithm, policy, tokens, signals, teachers, table, numbers)
    direction = -(numbers.sign * gradient + numbers.kl_weight * (policy - first_policy))
    metrics = {
        "reward": rewards.mean(),
        "rollouts": rollouts,
        "queries": rollouts,
        "credit": correlation(direction, advantage_of_quality(problem, policy)),
        "entropy": np.mean([entropy(row) for row in policy]),
        "weight": hybrid_weight(policy, teachers, numbers.hybrid_threshold)
        if algorithm == "hybrid"
        else np.nan,
        "divergence": divergence(policy, teachers),
        "drift": np.mean([kl(*rows) for rows in zip(policy, first_policy, strict=True)]),
        "mean_feedback": feedback.mean(),
    }
    return Step(
        policy=policy,
        reward=rewards,
        noisy=noisy,
        feedback=feedback,
        mean_teacher=np.mean(teachers, axis=0),
        gradient=gradient,
        direction=direction,
        logits=logits + numbers.learning_rate * direction,
        metrics=metrics,
    )


def train(algorithm, oracle, problem, numbers, table, first_logits, uniforms, noise, hints):
    """The loop: one step for each of uniforms ``[S, T, N]``, noise and hint errors."""
    logits, steps = first_logits, []
    for u, eps, z in zip(uniforms, noise, hints, strict=True):
        draws = Draws(sample(softmax(logits), u), eps, z)
        steps.append(step(algorithm, oracle, problem, numbers, table, first_logits, logits, draws))
        logits = steps[-1].logits
    return steps


# Metrics (section 2.6).


def advantage_of_quality(problem, policy):
    """``q[t, v] - sum_v' pi q``."""
    return problem.quality - np.sum(policy * problem.quality, axis=1, keepdims=True)


def correlation(direction, worth):
    """Pearson's correlation over tokens, mean over positions."""
    return np.mean([np.corrcoef(rows)[0, 1] for rows in zip(direction, worth, strict=True)])


def exact_metrics(problem, policy, direction):
    """What enumerates all sequences."""
    return {
        "expected_reward": expected_reward(problem, policy),
        "exact_credit": correlation(direction, token_advantage(problem, policy)),
        "optimality": optimality(problem, policy),
    }


def final(name, curve, window):
    """The final value: the last step's of what a policy is, the mean of a window otherwise."""
    return curve[-1] if name in ("entropy", "drift") else np.mean(curve[-window:])
