"""The metrics: against SciPy, NumPy and the problem's own exact quantities."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

import sdpo_jax
from sdpo_jax import METRICS, Config, Program, Sizes, Teacher, Update, View, credit_correlation
from sdpo_jax.policies import Factored, policy
from sdpo_jax.program import needs_teacher

LENGTH, VOCAB_SIZE, ROLLOUTS, RUNS = 3, 3, 5, 4


_FIELDS = [each.name for each in fields(View)]


def view(**known):
    """A step of which nothing is known but this."""
    return View(
        **(dict.fromkeys(_FIELDS) | {"numbers": {}, "kind": Factored(), "sizes": Sizes()} | known)
    )


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@cache
def step(length=LENGTH, vocab_size=VOCAB_SIZE):
    """A step of which everything is known."""
    rows = (length, vocab_size, RUNS)
    batch = np.random.default_rng(9).uniform(size=(ROLLOUTS, RUNS)).astype(np.float32)
    return View(
        seed=np.arange(RUNS),
        step=np.int32(3),
        config=Config(),
        problem=sdpo_jax.sample_problem(np.arange(RUNS), length, vocab_size),
        oracle=sdpo_jax.continuous(),
        knowledge=normal(1, *rows),
        reference=policy(normal(2, *rows)),
        policy=policy(2 * normal(3, *rows)),
        tokens=np.zeros((length, ROLLOUTS, RUNS), np.int32),
        reward=batch,
        feedback=batch**2,
        teacher=Teacher(normal(4, *rows), abs(normal(5, RUNS))),
        update=Update(normal(6, *rows), {"weight": abs(normal(7, RUNS))}),
        direction=normal(8, *rows),
    )


@cache
def measured(name):
    return np.asarray(jax.jit(METRICS[name].measure)(step()))


def pearson(direction, worth):
    """``np.corrcoef`` of each row, mean over rows, of each run."""
    return np.array(
        [
            np.mean([np.corrcoef(*rows)[0, 1] for rows in zip(first, second, strict=True)])
            for first, second in zip(
                np.moveaxis(direction, -1, 0), np.moveaxis(worth, -1, 0), strict=True
            )
        ]
    )


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_has_a_title_and_one_number_for_each_run(name):
    assert METRICS[name].title.strip()
    assert measured(name).shape == (RUNS,)
    assert np.isfinite(measured(name)).all()


def test_titles_differ():
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_says_whether_it_reads_the_teacher(name):
    without = replace(step(), teacher=None)
    if METRICS[name].needs_teacher:
        with pytest.raises((AssertionError, AttributeError)):
            jax.eval_shape(METRICS[name].measure, without)
    else:
        assert jax.eval_shape(METRICS[name].measure, without).shape == (RUNS,)


@pytest.mark.parametrize("name", METRICS)
def test_what_enumerates_all_sequences_is_costly(name):
    def shape():
        return jax.eval_shape(METRICS[name].measure, step(8, 8)).shape

    # Of a factored policy the entropy of sequences is that of positions.
    if METRICS[name].costly and name != "exact_entropy":
        with pytest.raises(ValueError, match="8 \\*\\* 8"):
            shape()
    else:
        assert shape() == (RUNS,)


def test_reward_and_feedback_are_means_over_rollouts():
    np.testing.assert_allclose(measured("reward"), step().reward.mean(0), rtol=1e-6)
    np.testing.assert_allclose(measured("mean_feedback"), step().feedback.mean(0), rtol=1e-6)


def test_entropy_and_drift():
    probs = softmax(step().policy.logits.astype(np.float64), axis=1)
    first = softmax(step().reference.logits.astype(np.float64), axis=1)
    entropy = stats.entropy(probs, axis=1).mean(0)
    drift = stats.entropy(probs, first, axis=1).mean(0)
    # Differences of numbers of size 1 to 5.
    np.testing.assert_allclose(measured("entropy"), entropy, rtol=0, atol=2e-6)
    np.testing.assert_allclose(measured("drift"), drift, rtol=0, atol=2e-6)


def test_the_weight_is_the_algorithms_own():
    np.testing.assert_array_equal(measured("weight"), step().update.info["weight"])


def test_the_weight_of_an_algorithm_without_one_is_nan():
    weight = METRICS["weight"].measure(replace(step(), update=Update(step().update.gradient)))
    assert weight.shape == (RUNS,)
    assert np.isnan(weight).all()


def test_the_divergence_is_the_teachers():
    np.testing.assert_array_equal(measured("divergence"), step().teacher.divergence)


def test_credit_is_pearsons_correlation():
    direction = np.asarray(step().direction)
    quality = np.asarray(step().problem.quality)
    found = measured("credit")
    np.testing.assert_allclose(found, pearson(direction, quality), rtol=0, atol=1e-6)
    # Section 2.6 has the advantage of q in its place, which differs by a constant of each row.
    advantage = quality - (np.asarray(step().policy.probs) * quality).sum(1, keepdims=True)
    np.testing.assert_allclose(found, pearson(direction, advantage), rtol=0, atol=1e-6)


@cache
def correlation():
    return jax.jit(credit_correlation)


def test_correlation_does_not_see_scale_and_turns_with_the_sign():
    direction, worth = normal(1, 4, 6, 3), normal(2, 4, 6, 3)
    expected = pearson(direction, worth)
    assert len(set(np.sign(expected))) == 2
    for factor in (1, 1e-6, 1e6, -1e-3):
        found = correlation()(np.float32(factor) * direction, worth)
        np.testing.assert_allclose(found, np.sign(factor) * expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(correlation()(worth, worth), 1, rtol=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.1, -3.3])
def test_rows_without_spread_count_as_nothing(level):
    direction, worth = normal(1, 4, 6, 3), normal(2, 4, 6, 3)
    rows = pearson(direction[:2], worth[:2]) / 2
    flat = np.full_like(worth[2:], np.float32(level))
    for first, second in ((flat, worth[2:]), (direction[2:], flat), (flat, flat)):
        found = correlation()(
            np.concatenate((direction[:2], first)), np.concatenate((worth[:2], second))
        )
        np.testing.assert_allclose(found, rows, rtol=0, atol=1e-6)


def test_exact_metrics_are_the_problems_own():
    probs, problem = step().policy.probs, step().problem
    expected = sdpo_jax.expected_reward(problem, probs)
    np.testing.assert_allclose(measured("expected_reward"), expected, rtol=1e-6)
    share = sdpo_jax.optimality(problem, expected)
    np.testing.assert_allclose(measured("optimality"), share, rtol=1e-5)
    advantage = np.asarray(sdpo_jax.token_advantage(problem, probs))
    found = pearson(np.asarray(step().direction), advantage)
    # Advantages are differences of rewards about ten times as large.
    np.testing.assert_allclose(measured("exact_credit"), found, rtol=0, atol=1e-5)


def test_the_exact_policy_gradient_has_an_exact_credit_of_one_where_the_policy_is_uniform():
    uniform = policy(np.zeros_like(step().policy.logits))
    gradient = uniform.probs * sdpo_jax.token_advantage(step().problem, uniform.probs)
    known = view(problem=step().problem, policy=uniform, direction=gradient)
    np.testing.assert_allclose(METRICS["exact_credit"].measure(known), 1, rtol=1e-5)


def test_a_metric_of_the_teacher_has_it_computed():
    sizes = Sizes(length=3, vocab_size=4, rollouts=5, steps=2, final_window=1)
    plain = Program("reinforce", sizes)
    asking = Program("reinforce", sizes, metrics=("divergence",), record=("divergence",))
    assert not needs_teacher(plain)
    assert needs_teacher(asking)
    assert needs_teacher(Program("sdpo", sizes))

    def curve(algorithm):
        program = Program(algorithm, sizes, asking.metrics, asking.record)
        return jax.jit(lambda: sdpo_jax.train(3, program).curves["divergence"])()

    heard, learned = curve("reinforce"), curve("sdpo")
    assert heard[0] > 0
    # Both meet the same rollouts at step 0 and another policy after it.
    np.testing.assert_allclose(heard[0], learned[0], rtol=1e-5)
    assert heard[1] != learned[1]
