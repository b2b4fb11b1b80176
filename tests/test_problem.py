"""The problem: Eq. 1 by a loop, and the exact quantities by enumeration."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from sdpo_jax import policies, problems
from sdpo_jax.engine import streams
from sdpo_jax.policies import MAX_VOCAB_SIZE
from sdpo_jax.problems import MAX_SEQUENCES, Problem

# The seeds are fixed; bounds are 4 standard errors, or a p-value of 1e-3.
LEVEL = 1e-3

# Rounding of a reward: a sum of at most 20 numbers below 5, over T, through a slope of 1/4.
ROUNDING = 2e-6

SMALL = [(1, 4), (2, 3), (3, 5), (4, 3), (5, 2)]


def random_problem(length, vocab_size, runs=(), seed=0):
    """All parts of the score of a size, so that none can hide behind another."""
    rng = np.random.default_rng(seed)
    return Problem(
        quality=rng.normal(size=(length, vocab_size, *runs)).astype(np.float32),
        bigram=rng.normal(size=(vocab_size, vocab_size, *runs)).astype(np.float32),
        target=rng.integers(0, vocab_size, (length, *runs)).astype(np.int32),
        pattern_weight=rng.uniform(0.5, 1.5, runs).astype(np.float32),
    )


def random_probs(length, vocab_size, runs=(), seed=1):
    logits = np.random.default_rng(seed).normal(size=(length, vocab_size, *runs))
    return scipy.special.softmax(logits, axis=1).astype(np.float32)


def one_run(tree, index):
    return jax.tree.map(lambda leaf: leaf[(..., *index)], tree)


def reward_of(problem, sequence):
    """Eq. 1 of one sequence and one problem, term by term."""
    length = len(sequence)
    score = 0.0
    for t, token in enumerate(sequence):
        score += float(problem.quality[t, token])
        if token == problem.target[t]:
            score += float(problem.pattern_weight)
    for here, there in itertools.pairwise(sequence):
        score += float(problem.bigram[here, there])
    return scipy.special.expit(score / length)


def enumerated(problem):
    """All sequences ``[M, T]``, in lexicographic order, and their rewards."""
    length, vocab_size = problem.quality.shape
    sequences = np.array(list(itertools.product(range(vocab_size), repeat=length)))
    return sequences, np.array([reward_of(problem, each) for each in sequences])


def sequence_probs(sequences, probs):
    return np.prod([probs[t].astype(np.float64)[sequences[:, t]] for t in range(len(probs))], 0)


def expectation_of(problem, probs):
    sequences, rewards = enumerated(problem)
    return sequence_probs(sequences, probs) @ rewards


def advantage_of(problem, probs):
    """The mean over the sequences that have the token, less the mean over all."""
    sequences, rewards = enumerated(problem)
    weights = sequence_probs(sequences, probs)
    advantage = np.zeros(probs.shape)
    for t, token in np.ndindex(*probs.shape):
        chosen = sequences[:, t] == token
        advantage[t, token] = np.average(rewards[chosen], weights=weights[chosen])
    return advantage - weights @ rewards


@functools.cache
def compiled(name):
    return jax.jit(getattr(problems, name))


# --- the reward ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "vocab_size"),
    [
        *itertools.product((1, 2, 3, 4, 6, 7), (2, 3, 8)),
        # Tables of three, two and one positions.
        *itertools.product((2, 5), (16, 17, 64, 70)),
        (7, 1000),
        (3, MAX_VOCAB_SIZE),
    ],
)
def test_the_reward_is_equation_1(length, vocab_size):
    problem = random_problem(length, vocab_size, seed=length)
    tokens = np.random.default_rng(9).integers(0, vocab_size, (length, 40))
    # The target itself, and the last token throughout.
    tokens[:, 0] = problem.target
    tokens[:, 1] = vocab_size - 1
    expected = [reward_of(problem, sequence) for sequence in tokens.T]
    found = compiled("reward")(problem, tokens)
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("part", ["quality", "bigram", "pattern_weight"])
def test_each_part_of_the_score_counts_by_itself(part):
    full = random_problem(4, 3)
    others = {"quality", "bigram", "pattern_weight"} - {part}
    problem = replace(full, **{name: np.zeros_like(getattr(full, name)) for name in others})
    tokens = np.array(list(itertools.product(range(3), repeat=4))).T
    expected = [reward_of(problem, sequence) for sequence in tokens.T]
    found = compiled("reward")(problem, tokens)
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)


def test_the_reward_of_a_match_can_be_read_off():
    problem = Problem(
        quality=np.zeros((4, 3), np.float32),
        bigram=np.zeros((3, 3), np.float32),
        target=np.array([0, 1, 2, 0]),
        pattern_weight=np.float32(2),
    )
    tokens = np.array([[0, 1, 2, 0], [0, 1, 2, 1], [1, 2, 0, 1]]).T
    found = compiled("reward")(problem, tokens)
    np.testing.assert_allclose(found, scipy.special.expit([2.0, 1.5, 0.0]), rtol=1e-6)


@pytest.mark.parametrize(("length", "vocab_size"), [(5, 3), (3, 70)])
@pytest.mark.parametrize("runs", [(3,), (2, 3)])
def test_the_reward_of_runs_behind(length, vocab_size, runs):
    problem = random_problem(length, vocab_size, runs)
    tokens = np.random.default_rng(2).integers(0, vocab_size, (length, 7, *runs))
    found = compiled("reward")(problem, tokens)
    assert found.shape == (7, *runs)
    for index in np.ndindex(runs):
        alone, sequences = one_run(problem, index), one_run(tokens, index)
        expected = [reward_of(alone, sequence) for sequence in sequences.T]
        np.testing.assert_allclose(one_run(found, index), expected, rtol=0, atol=ROUNDING)


# --- drawing a problem --------------------------------------------------------------------------


@functools.cache
def drawn(length=4, vocab_size=4, count=4096, **scales):
    """Problems of the seeds 0 to ``count``."""
    draw = jax.jit(lambda seed: problems.sample_problem(seed, length, vocab_size, **scales))
    return jax.tree.map(np.asarray, draw(np.arange(count, dtype=np.uint32)))


@pytest.mark.parametrize("runs", [(), (2,), (2, 3)])
def test_shapes_and_types_of_a_drawn_problem(runs):
    seeds = np.arange(math.prod(runs), dtype=np.int32).reshape(runs)

    def draw(seed):
        return problems.check_problem(problems.sample_problem(seed, 5, 3), (5, 3, *runs))

    problem = jax.eval_shape(draw, seeds)
    assert problem.pattern_weight.shape == runs
    for values in (problem.quality, problem.bigram, problem.pattern_weight):
        assert values.dtype == jnp.float32
    assert jnp.issubdtype(problem.target.dtype, jnp.integer)


@pytest.mark.parametrize(("name", "scale"), [("quality", 1.0), ("bigram", 0.3)])
def test_qualities_and_bigrams_are_normal_with_the_scales_of_the_paper(name, scale):
    values = getattr(drawn(), name).astype(np.float64) / scale
    assert scipy.stats.kstest(values.ravel(), "norm").pvalue > LEVEL
    assert abs(values.mean()) < 4 / np.sqrt(values.size)
    assert abs(values.std() - 1) < 4 / np.sqrt(2 * values.size)
    # Between tokens, between positions and between the seeds that follow each other.
    for axis in range(3):
        rolled = np.corrcoef(values.ravel(), np.roll(values, 1, axis).ravel())[0, 1]
        assert abs(rolled) < 4 / np.sqrt(values.size)


def test_qualities_and_bigrams_are_independent():
    problem = drawn()
    found = np.corrcoef(problem.quality.ravel(), problem.bigram.ravel())[0, 1]
    assert abs(found) < 4 / np.sqrt(problem.quality.size)


@pytest.mark.parametrize("vocab_size", [4, 5])
def test_targets_are_uniform_and_independent_between_positions(vocab_size):
    target = drawn(vocab_size=vocab_size).target
    for row in target:
        assert scipy.stats.chisquare(np.bincount(row, minlength=vocab_size)).pvalue > LEVEL
    for first, second in itertools.combinations(target, 2):
        joint = np.bincount(first * vocab_size + second, minlength=vocab_size**2)
        assert scipy.stats.chisquare(joint).pvalue > LEVEL


def test_targets_reach_all_of_a_large_vocabulary():
    target = drawn(length=1, vocab_size=1000, count=50).target
    assert target.min() >= 0
    assert 900 < target.max() < 1000


def test_each_scale_acts_on_its_own_part():
    base = drawn()
    changed = drawn(quality_scale=2.0, bigram_scale=0.6, pattern_weight=0.75)
    np.testing.assert_array_equal(changed.quality, 2 * base.quality)
    np.testing.assert_allclose(changed.bigram, 2 * base.bigram, rtol=1e-6)
    np.testing.assert_array_equal(changed.target, base.target)
    assert (base.pattern_weight == np.float32(0.3)).all()
    assert (changed.pattern_weight == 0.75).all()
    quiet = drawn(bigram_scale=0.0)
    np.testing.assert_array_equal(quiet.bigram, 0)
    np.testing.assert_array_equal(quiet.quality, base.quality)


def test_scales_may_differ_between_runs():
    scales = np.float32([0.5, 1.0, 2.0])
    draw = jax.jit(lambda seed, *scales: problems.sample_problem(seed, 4, 4, *scales))
    found = draw(np.uint32([7, 7, 8]), scales, 2 * scales, 3 * scales)
    for i, (seed, scale) in enumerate(zip((7, 7, 8), scales, strict=True)):
        unit = one_run(drawn(), (seed,))
        np.testing.assert_allclose(found.quality[..., i], scale * unit.quality, rtol=1e-6)
        np.testing.assert_allclose(found.bigram[..., i], 2 * scale * (unit.bigram / 0.3), rtol=1e-6)
        np.testing.assert_array_equal(found.target[..., i], unit.target)
    np.testing.assert_array_equal(found.pattern_weight, 3 * scales)


# --- the best sequence --------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "vocab_size"), SMALL)
def test_the_best_sequence_is_that_of_all_sequences(length, vocab_size):
    many = random_problem(length, vocab_size, (25,), seed=vocab_size)
    tokens, reward = compiled("best_sequence")(many)
    assert tokens.shape == (length, 25)
    for run in range(25):
        sequences, rewards = enumerated(one_run(many, (run,)))
        np.testing.assert_array_equal(tokens[:, run], sequences[rewards.argmax()])
        assert abs(float(reward[run]) - rewards.max()) < ROUNDING


@pytest.mark.parametrize(("length", "vocab_size"), [(2, 3), (4, 3), (5, 2)])
def test_ties_give_the_lowest_tokens(length, vocab_size):
    # Scores of small whole numbers: exact, and often equal.
    rng = np.random.default_rng(5)
    many = Problem(
        quality=rng.integers(0, 2, (length, vocab_size, 25)).astype(np.float32),
        bigram=rng.integers(0, 2, (vocab_size, vocab_size, 25)).astype(np.float32),
        target=rng.integers(0, vocab_size, (length, 25)),
        pattern_weight=np.ones(25, np.float32),
    )
    tokens, _ = compiled("best_sequence")(many)
    ties = 0
    for run in range(25):
        sequences, rewards = enumerated(one_run(many, (run,)))
        best = sequences[np.isclose(rewards, rewards.max(), rtol=0, atol=1e-9)]
        ties += len(best) > 1
        np.testing.assert_array_equal(tokens[:, run], best[0])
    assert ties >= 8


def test_the_best_sequence_of_a_problem_too_large_to_enumerate():
    # Bigrams that vanish leave each position to itself.
    problem = replace(random_problem(30, 20), bigram=np.zeros((20, 20), np.float32))
    tokens, reward = compiled("best_sequence")(problem)
    matches = np.arange(20) == problem.target[:, None]
    singles = problem.quality + matches * problem.pattern_weight
    np.testing.assert_array_equal(tokens, singles.argmax(1))
    assert abs(float(reward) - scipy.special.expit(singles.max(1).mean())) < ROUNDING


# --- expectations -------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "vocab_size"), SMALL)
def test_the_expected_reward_is_the_sum_over_all_sequences(length, vocab_size):
    problem = random_problem(length, vocab_size, seed=3)
    for seed in range(3):
        probs = random_probs(length, vocab_size, seed=seed)
        found = float(compiled("expected_reward")(problem, probs))
        assert abs(found - expectation_of(problem, probs)) < ROUNDING


def test_the_expected_reward_is_the_mean_of_samples():
    problem, probs, rollouts = random_problem(5, 6), random_probs(5, 6), 2**16

    @jax.jit
    def rewards_of(problem, probs):
        drawn = policies.sample(streams.stream(1, 2), 0, probs, rollouts)
        return problems.reward(problem, policies.tokens(drawn, 5, 6))

    rewards = np.asarray(rewards_of(problem, probs), np.float64)
    error = rewards.std() / np.sqrt(rollouts)
    assert error < 1e-3
    assert abs(rewards.mean() - float(compiled("expected_reward")(problem, probs))) < 4 * error


@pytest.mark.parametrize(("length", "vocab_size"), SMALL)
def test_the_advantage_is_the_conditional_mean_less_the_mean(length, vocab_size):
    problem, probs = random_problem(length, vocab_size), random_probs(length, vocab_size)
    found = compiled("token_advantage")(problem, probs)
    np.testing.assert_allclose(found, advantage_of(problem, probs), rtol=0, atol=ROUNDING)


def test_a_tokens_advantage_does_not_need_its_probability():
    problem, probs = random_problem(3, 3), random_probs(3, 3)
    without = np.array(probs)
    without[1] = [0, 1, 0]
    found = compiled("token_advantage")(problem, without)
    for token in range(3):
        certain = np.array(without)
        certain[1] = np.eye(3)[token]
        gain = expectation_of(problem, certain) - expectation_of(problem, without)
        assert abs(float(found[1, token]) - gain) < ROUNDING


@pytest.mark.parametrize(("length", "vocab_size"), [(1, 4), (4, 3)])
def test_probs_times_advantage_is_the_gradient_by_the_logits(length, vocab_size):
    problem = random_problem(length, vocab_size, seed=8)
    logits = np.random.default_rng(3).normal(size=(length, vocab_size))
    probs = scipy.special.softmax(logits, 1).astype(np.float32)
    found = probs * np.asarray(compiled("token_advantage")(problem, probs))
    gradient = jax.grad(lambda x: problems.expected_reward(problem, jax.nn.softmax(x, 1)))
    np.testing.assert_allclose(found, jax.jit(gradient)(logits.astype(np.float32)), atol=ROUNDING)

    differences = np.zeros_like(logits)
    sequences, rewards = enumerated(problem)
    for place in np.ndindex(*logits.shape):
        for sign in (1, -1):
            moved = logits.copy()
            moved[place] += sign * 1e-4
            weights = sequence_probs(sequences, scipy.special.softmax(moved, 1))
            differences[place] += sign * (weights @ rewards) / 2e-4
    np.testing.assert_allclose(found, differences, rtol=0, atol=ROUNDING)
    assert abs(differences).max() > 1000 * ROUNDING


@pytest.mark.parametrize("runs", [(3,), (2, 3)])
def test_exact_quantities_of_runs_behind(runs):
    problem, probs = random_problem(3, 4, runs), random_probs(3, 4, runs)
    expected = compiled("expected_reward")(problem, probs)
    advantage = compiled("token_advantage")(problem, probs)
    tokens, reward = compiled("best_sequence")(problem)
    scaled = compiled("optimality")(problem, expected)
    assert expected.shape == reward.shape == scaled.shape == runs
    for index in np.ndindex(runs):
        alone, policy = one_run(problem, index), one_run(probs, index)
        sequences, rewards = enumerated(alone)
        mean = expectation_of(alone, policy)
        assert abs(float(expected[index]) - mean) < ROUNDING
        np.testing.assert_allclose(
            one_run(advantage, index), advantage_of(alone, policy), rtol=0, atol=ROUNDING
        )
        np.testing.assert_array_equal(one_run(tokens, index), sequences[rewards.argmax()])
        assert abs(float(reward[index]) - rewards.max()) < ROUNDING
        # A quotient of differences of about 0.3.
        share = (mean - rewards.mean()) / (rewards.max() - rewards.mean())
        assert abs(float(scaled[index]) - share) < 10 * ROUNDING


def test_optimality_is_0_for_the_uniform_policy_and_1_for_the_best():
    problem = random_problem(4, 3, seed=6)
    sequences, rewards = enumerated(problem)
    best, middle, worst = rewards.max(), rewards.mean(), rewards.min()
    uniform = compiled("expected_reward")(problem, problems.uniform_probs(problem))
    played = np.eye(3, dtype=np.float32)[sequences[rewards.argmax()]]
    certain = compiled("expected_reward")(problem, played)
    given = jnp.stack([uniform, certain, jnp.float32(0.25 * best + 0.75 * middle), worst])
    found = jax.vmap(compiled("optimality"), (None, 0))(problem, given)
    expected = [0, 1, 0.25, (worst - middle) / (best - middle)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=10 * ROUNDING)


# --- limits and errors --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(21, 2), (7, 8), (3, 128), (1, 2**21)])
def test_as_many_sequences_as_the_limit_are_enumerated(size):
    problems.check_enumerable(*size)


def test_the_largest_enumeration():
    problem, probs = random_problem(7, 8), random_probs(7, 8)
    assert MAX_SEQUENCES == 8**7
    singles = problem.quality + (np.arange(8) == problem.target[:, None]) * problem.pattern_weight
    score, weights = singles[0].astype(np.float64), probs[0].astype(np.float64)
    for t in range(1, 7):
        score = score.reshape(-1, 8, 1) + problem.bigram + singles[t]
        weights = weights.reshape(-1, 1) * probs[t]
    expected = scipy.special.expit(score.ravel() / 7) @ weights.ravel()
    assert abs(float(compiled("expected_reward")(problem, probs)) - expected) < ROUNDING


@pytest.mark.parametrize("size", [(22, 2), (1, 2**21 + 1), (8, 8), (2, 1449)])
def test_more_sequences_are_refused_with_their_number(size):
    length, vocab_size = size
    with pytest.raises(ValueError) as error:
        problems.check_enumerable(length, vocab_size)
    message = str(error.value)
    for word in (f"{vocab_size} ** {length} = {vocab_size**length}", str(MAX_SEQUENCES)):
        assert word in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["expected_reward", "token_advantage", "optimality"])
def test_exact_quantities_refuse_what_they_can_not_enumerate(name):
    problem, probs = random_problem(22, 2), random_probs(22, 2)
    given = jnp.float32(0.5) if name == "optimality" else probs
    with pytest.raises(ValueError, match=r"2 \*\* 22 = 4194304 sequences.* at most 2097152"):
        getattr(problems, name)(problem, given)


@pytest.mark.parametrize(
    ("change", "shape", "words"),
    [
        ({"quality": np.zeros((3, 4))}, (4, 3), ["problem.quality", "(3, 4)", "(4, 3)"]),
        ({"quality": np.zeros((4, 3, 1))}, (4, 3), ["problem.quality", "(4, 3, 1)", "(4, 3)"]),
        ({"bigram": np.zeros((3, 4))}, (4, 3), ["problem.bigram", "(3, 4)", "(3, 3)"]),
        ({"target": np.zeros(3)}, (4, 3), ["problem.target", "(3,)", "(4,)"]),
        ({"target": np.zeros((4, 2))}, (4, 3), ["problem.target", "(4, 2)", "(4,)"]),
        ({}, (4, 3, 2), ["problem.quality", "(4, 3)", "(4, 3, 2)"]),
    ],
)
def test_a_problem_of_another_shape_is_refused(change, shape, words):
    problem = replace(random_problem(4, 3), **change)
    with pytest.raises(ValueError) as error:
        problems.check_problem(problem, shape)
    message = str(error.value)
    assert "allowed" in message
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("runs", [(), (2,), (2, 3)])
def test_a_problem_of_the_right_shape_is_accepted(runs):
    problems.check_problem(random_problem(4, 3, runs), (4, 3, *runs))
