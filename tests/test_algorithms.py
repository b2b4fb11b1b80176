"""What the algorithms' gradients are on average, by summing over every batch that can occur."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import ALGORITHMS, ORACLES
from sdpo_jax.program import algorithm_of
from tests import reference
from tests.all_in_one import all_in_one
from tests.enumeration import ROLLOUTS, SHAPES, TAU, TOLERANCE, Case


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def case(request) -> Case:
    return Case(*request.param)


FEEDBACK = {
    "binary": reference.binary(),
    "ordinal": reference.ordinal(5),
    "continuous": reference.continuous(),
    # Without errors a critic that names tokens tells the table itself.
    "critique": reference.continuous(),
    "constant": reference.constant(1.0),
}


def test_feedback_covers_the_registry():
    # A judge changes what is seen, and not what is said of it.
    assert FEEDBACK.keys() == {name for name in ORACLES if ORACLES[name]().judge is None}


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
    parents = case.ours(parent, sdpo_jax.continuous())
    np.testing.assert_allclose(mixed, parents, rtol=1e-6, atol=1e-7)


@pytest.fixture(scope="module")
def every(case):
    """By name the gradients of all algorithms, of every batch."""
    algorithms = all_in_one({name: algorithm_of(name) for name in ALGORITHMS})
    return case.update(algorithms, sdpo_jax.continuous()).memory[1]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_gradient_leaves_the_sum_of_a_positions_logits(every, algorithm):
    assert abs(every[algorithm]).max() > 1e-3
    np.testing.assert_allclose(every[algorithm].sum(1), 0, atol=1e-6)
