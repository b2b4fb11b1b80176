"""What the methods' gradients are on average, by summing over every batch that can occur."""

from __future__ import annotations

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import METHODS, ORACLES, Config, lanes, streams, teacher
from sdpo_jax import policy as policies
from tests import reference

BETA = 2.0
# Where the weight of the hybrid is far from 0 and from 1.
TAU = 0.4
ROLLOUTS = 2


class Case:
    """An asymmetric problem and every batch of two rollouts, batches in the runs' place."""

    def __init__(self, length: int, vocab_size: int):
        draw = np.random.default_rng(10 * length + vocab_size)
        shape = (length, vocab_size)
        self.problem = reference.Problem(
            quality=draw.normal(0, 1.5, shape),
            bigram=draw.normal(0, 1.0, (vocab_size, vocab_size)),
            target=draw.integers(0, vocab_size, length),
            pattern_weight=0.7,
        )
        # A table that is not q, so that a method which takes one for the other is seen.
        self.table = draw.normal(0, 1.5, shape)
        self.logits = draw.normal(0, 1.0, shape)
        self.probs = reference.softmax(self.logits)
        self.sequences = list(reference.all_sequences(self.problem))
        self.probability = np.array(
            [np.prod([self.probs[t, v] for t, v in enumerate(s)]) for s in self.sequences]
        )
        self.rewards = np.array([reference.reward(self.problem, s) for s in self.sequences])
        pairs = list(itertools.product(range(len(self.sequences)), repeat=ROLLOUTS))
        self.batch_probability = np.array([np.prod(self.probability[list(p)]) for p in pairs])
        batches = np.array([[self.sequences[i] for i in pair] for pair in pairs])
        self.tokens = jnp.asarray(batches.transpose(2, 1, 0))

    def ours(
        self, method: str, oracle: sdpo_jax.Oracle, divergence: float | None = None
    ) -> np.ndarray:
        """The method's gradient for each batch, ``[T, V, batches]``."""
        runs = self.tokens.shape[-1]

        def spread(array: np.ndarray) -> jax.Array:
            return jnp.repeat(jnp.asarray(array, jnp.float32)[..., None], runs, axis=-1)

        problem = sdpo_jax.Problem(
            spread(self.problem.quality),
            spread(self.problem.bigram),
            jnp.repeat(jnp.asarray(self.problem.target)[:, None], runs, axis=-1),
            spread(np.float32(self.problem.pattern_weight)),
        )
        config = Config(feedback_strength=BETA, hybrid_threshold=TAU, hint_noise=0.0)
        policy = policies.policy(spread(self.logits))
        table = spread(self.table)
        reward = sdpo_jax.reward(problem, self.tokens)
        feedback = sdpo_jax.feedback(oracle, reward)
        levels = teacher.prepare(oracle, jnp.full(runs, BETA), table, nodes=16)
        key = streams.stream(jnp.arange(runs), streams.Stream.HINTS)
        taught = teacher.teach(
            oracle, levels, config, table, policy, self.tokens, reward, feedback, key, 0
        )
        if divergence is not None:
            taught = taught._replace(divergence=jnp.full(runs, divergence))
        told = {
            "policy": policy,
            "tokens": self.tokens,
            "signal": reward,
            "feedback": feedback,
            "teacher": taught,
            "knowledge": table,
            "config": config,
            "fence": lanes.NO_FENCE,
        }
        function = METHODS[method]
        return np.asarray(
            function(
                **{name: told[name] for name in inspect.signature(function).parameters}
            ).gradient,
            np.float64,
        )

    def expected(self, gradients: np.ndarray) -> np.ndarray:
        return gradients @ self.batch_probability

    def teachers(self, oracle: reference.Oracle) -> list[np.ndarray]:
        """The teacher of each sequence, ``[T, V]``, from feedback without noise."""
        return [
            reference.softmax(self.logits + BETA * oracle.says(reward) * self.table)
            for reward in self.rewards
        ]

    def scores(self, sequence: tuple[int, ...]) -> np.ndarray:
        return np.eye(self.probs.shape[1])[list(sequence)] - self.probs


@pytest.fixture(scope="module", params=[(2, 3), (3, 2)], ids=["T=2,V=3", "T=3,V=2"])
def case(request) -> Case:
    return Case(*request.param)


# Sums of up to 81 float32 gradients of size 0.01 to 1, whose weights sum to 1.
TOLERANCE = {"rtol": 1e-5, "atol": 2e-7}

FEEDBACK = {
    "binary": reference.binary(),
    "ordinal": reference.ordinal(5),
    "continuous": reference.continuous(),
    # Without errors a critic that names tokens tells the table itself.
    "critique": reference.continuous(),
    "constant": reference.constant(1.0),
}


def test_feedback_covers_the_registry():
    assert FEEDBACK.keys() == ORACLES.keys()


def test_reinforce_is_the_exact_policy_gradient_but_for_its_baseline(case):
    expected = case.expected(case.ours("reinforce", sdpo_jax.continuous()))
    exact = case.probs * reference.token_advantage(case.problem, case.probs)
    assert abs(exact).max() > 0.01
    scale = (ROLLOUTS - 1) / ROLLOUTS
    np.testing.assert_allclose(expected, -scale * exact, **TOLERANCE)


@pytest.mark.parametrize("feedback", FEEDBACK)
def test_sdpo_is_the_sum_over_all_sequences_of_the_push_to_their_teachers(case, feedback):
    expected = case.expected(case.ours("sdpo", ORACLES[feedback]()))
    teachers = case.teachers(FEEDBACK[feedback])
    exact = sum(p * (t - case.probs) for p, t in zip(case.probability, teachers, strict=True))
    # Chebyshev's nodes leave 1e-5 at the most; binary and ordinal have none.
    np.testing.assert_allclose(expected, -exact, rtol=1e-5, atol=2e-6)


def test_advantage_weighted_is_a_covariance_over_all_sequences(case):
    expected = case.expected(case.ours("advantage_weighted", sdpo_jax.continuous()))
    average = (case.probs * case.table).sum(1)
    mean_reward = case.probability @ case.rewards
    exact = np.zeros_like(case.probs)
    for p, sequence, reward in zip(case.probability, case.sequences, case.rewards, strict=True):
        excess = case.table[np.arange(len(sequence)), sequence] - average
        share = excess / (abs(excess).sum() + 1e-8)
        exact += p * (reward - mean_reward) * share[:, None] * case.scores(sequence)
    assert abs(exact).max() > 0.01
    # The mean over the batch holds the rollout itself: (N - 1) / N of the covariance is left.
    np.testing.assert_allclose(expected, -exact * (ROLLOUTS - 1) / ROLLOUTS, **TOLERANCE)


@pytest.mark.parametrize("feedback", FEEDBACK)
def test_hybrid_is_the_sum_over_all_batches_of_its_blend(case, feedback):
    expected = case.expected(case.ours("hybrid", ORACLES[feedback]()))
    teachers = case.teachers(FEEDBACK[feedback])
    exact, weights = np.zeros_like(case.probs), []
    pairs = itertools.product(range(len(case.sequences)), repeat=ROLLOUTS)
    for p, pair in zip(case.batch_probability, pairs, strict=True):
        taught = [teachers[i] for i in pair]
        tokens = np.array([case.sequences[i] for i in pair]).T
        a = reference.hybrid_weight(case.probs, taught, TAU)
        weights.append(a)
        exact += p * (
            a * reference.sdpo(case.probs, taught)
            + (1 - a) * reference.reinforce(case.probs, tokens, case.rewards[list(pair)])
        )
    assert 0.05 < np.mean(weights) < 0.99
    np.testing.assert_allclose(expected, exact, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("weight", "parent"), [(1.0, "sdpo"), (0.0, "reinforce")])
def test_hybrid_at_weight_one_and_zero_is_its_parent(case, weight, parent):
    # Thresholds alone don't reach 0: where teacher and student agree the weight is sigmoid(-3).
    far = 1e6 if weight else -1e6
    mixed = case.ours("hybrid", sdpo_jax.continuous(), divergence=far)
    np.testing.assert_array_equal(mixed, case.ours(parent, sdpo_jax.continuous()))


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_leaves_the_sum_of_a_positions_logits(case, method):
    gradients = case.ours(method, sdpo_jax.continuous())
    np.testing.assert_allclose(gradients.sum(1), 0, atol=1e-6)
