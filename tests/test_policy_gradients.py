"""Algorithms that learn from one number a rollout, against sums over batches and plain losses."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import ALGORITHMS, Config, Program, Sizes, policies
from sdpo_jax.algorithms.dpo import pair_gradient
from sdpo_jax.credit import clipped, preferences, reward_models
from sdpo_jax.engine import streams
from sdpo_jax.policies import tables
from tests import reference
from tests.enumeration import ROLLOUTS, SHAPES, TOLERANCE, Case


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def case(request) -> Case:
    return Case(*request.param)


def policy_gradient(case, batch, advantages):
    """``-(1/N) sum_i A_i (onehot(s_i) - pi)`` of one batch, A ``[N]`` or ``[N, T]``."""
    total = np.zeros_like(case.probs)
    for sequence, advantage in zip(batch, advantages, strict=True):
        total -= np.reshape(advantage, (-1, 1)) * case.scores(tuple(sequence)) / len(batch)
    return total


def enumerated(case, advantages):
    """The expectation of ``policy_gradient`` with ``advantages(rewards)`` of each batch."""
    return sum(
        p * policy_gradient(case, batch, advantages(case.rewards[list(pair)]))
        for p, batch, pair in zip(case.batch_probability, case.batches, case.pairs, strict=True)
    )


def exact_gradient(case, problem=None):
    """The gradient of ``-E[R]``."""
    problem = case.problem if problem is None else problem
    return -case.probs * reference.token_advantage(problem, case.probs)


# One step on a batch


def test_rloo_is_the_exact_policy_gradient(case):
    exact = exact_gradient(case)
    assert abs(exact).max() > 0.01
    np.testing.assert_allclose(case.expected(case.ours("rloo")), exact, **TOLERANCE)


@pytest.mark.parametrize("algorithm", ["ppo", "dr_grpo"])
def test_at_a_ratio_of_one_the_clipped_objective_is_the_plain_gradient(case, algorithm):
    np.testing.assert_allclose(case.ours(algorithm), case.ours("reinforce"), rtol=1e-5, atol=1e-7)
    # As well at the first of several steps on a batch.
    sizes = Sizes(**{**vars(case.sizes), "epochs": 3})
    kept = case.ours(algorithm, sizes=sizes, step=6)
    np.testing.assert_allclose(kept, case.ours("reinforce"), rtol=1e-5, atol=1e-7)


def test_grpo_divides_by_the_groups_spread_and_the_length(case):
    def advantages(rewards):
        return (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-6) / len(case.probs)

    expected = enumerated(case, advantages)
    assert abs(expected).max() > 0.01
    # Batches of one sequence twice have no spread: 1e-6 multiplies what rounding leaves of 0.
    np.testing.assert_allclose(case.expected(case.ours("grpo")), expected, rtol=1e-5, atol=1e-6)


def test_grpo_is_no_gradient_of_the_expected_reward(case):
    found, exact = case.expected(case.ours("grpo")), exact_gradient(case)
    ratio = found / exact
    assert ratio.max() > 1.01 * ratio.min()


@pytest.mark.parametrize("algorithm", ["rloo", "grpo", "dr_grpo", "ppo", "dpo", "dpo_best_worst"])
def test_one_rollout_or_equal_rewards_leave_the_policy_as_it_is(algorithm):
    sizes = Sizes(length=2, vocab_size=3, rollouts=1, steps=2, final_window=1)
    result = sdpo_jax.train(0, Program(algorithm, sizes), Config(kl_weight=0.0, learning_rate=9.0))
    _, first = sdpo_jax.init(0, Program(algorithm, sizes), Config())
    np.testing.assert_allclose(result.logits, first.params, atol=1e-5)


# Several steps on a batch


def clipped_loss(logits, old_logits, tokens, advantage, clip):
    """The objective as published, for one run; A is ``[N]`` or ``[T, N]``."""
    chosen, before = (
        jnp.take_along_axis(jax.nn.log_softmax(each), tokens, axis=1)
        for each in (logits, old_logits)
    )
    ratio = jnp.exp(chosen - before)
    clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
    return -jnp.minimum(ratio * advantage, clipped * advantage).sum() / tokens.shape[1]


@pytest.mark.parametrize("clip", [0.0, 0.2, 10.0])
@pytest.mark.parametrize("per_token", [False, True], ids=["per rollout", "per token"])
def test_off_the_policy_the_gradient_is_that_of_the_published_objective(clip, per_token):
    draw = np.random.default_rng(0)
    length, vocab_size, rollouts = 3, 4, 7
    old, new = draw.normal(size=(2, length, vocab_size)).astype(np.float32)
    tokens = jnp.asarray(draw.integers(0, vocab_size, (length, rollouts)))
    shape = (length, rollouts) if per_token else (rollouts,)
    advantage = draw.normal(size=shape).astype(np.float32)
    sizes = Sizes(length=length, vocab_size=vocab_size, rollouts=rollouts, epochs=2)
    before, after = policies.policy(jnp.asarray(old)), policies.policy(jnp.asarray(new))
    memory = clipped.no_batch(sizes, (), 1)
    first = clipped.batch(before, tokens, advantage)
    _, memory = clipped.learned_from(first, memory, 0, sizes)
    # The rollouts of the step between are another batch's, and not looked at.
    second = clipped.batch(after, tokens[:, ::-1], 5 * advantage)
    batch, _ = clipped.learned_from(second, memory, 1, sizes)
    expected = jax.grad(clipped_loss)(jnp.asarray(new), old, tokens, advantage, clip)
    found = clipped.gradient(after, batch, clip)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    if clip == 0.2:
        open_ = clipped.gradient(after, batch, 10.0)
        assert abs(found - open_).max() > 0.01


@pytest.mark.parametrize("algorithm", ["ppo", "grpo"])
def test_a_batch_serves_so_many_steps(algorithm):
    sizes = Sizes(length=2, vocab_size=3, rollouts=6, steps=6, final_window=1, epochs=3)
    program = Program(algorithm, sizes, metrics=("rollouts", "queries"))
    setting, state = sdpo_jax.init(0, program, Config(learning_rate=1.0))
    memories = []
    for index in range(6):
        state, view = sdpo_jax.step(program, setting, state, index)
        memories.append(state.memory)
        assert int(view.update.cost.rollouts) == (6 if index % 3 == 0 else 0)
    for index, (one, other) in enumerate(itertools.pairwise(memories)):
        same = all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
        assert same == (index % 3 != 2), index
    result = sdpo_jax.train(0, program)
    np.testing.assert_allclose(result.mean["queries"], 2, rtol=1e-6)


def test_without_further_epochs_nothing_is_kept():
    _, state = sdpo_jax.init(0, Program("ppo", Sizes(length=2, vocab_size=3)))
    assert jax.tree.leaves(state.memory) == []


# Preferences


def test_preferences_follow_bradley_and_terry():
    runs, pairs = 4000, 3
    draw = np.random.default_rng(3)
    signal = np.repeat(draw.uniform(size=(2 * pairs + 1, 1)), runs, axis=1).astype(np.float32)
    tokens = jnp.zeros((2, 2 * pairs + 1, runs), jnp.int32)
    key = streams.stream(np.arange(runs), streams.Stream.ALGORITHM)
    found = preferences.judged_pairs(tokens, jnp.asarray(signal), 3.0, key, 0)
    assert found.verdict.shape == (pairs, runs)
    gap = signal[:pairs, 0] - signal[pairs : 2 * pairs, 0]
    expected = 1 / (1 + np.exp(-3.0 * gap))
    error = np.sqrt(expected * (1 - expected) / runs)
    assert (abs((found.verdict > 0).mean(1) - expected) < 4 * error).all()
    # The verdicts of different pairs and steps are independent of each other.
    later = preferences.judged_pairs(tokens, jnp.asarray(signal), 3.0, key, 1)
    both = np.concatenate((found.verdict, later.verdict))
    off = np.corrcoef(both) - np.eye(2 * pairs)
    assert abs(off).max() < 4 / np.sqrt(runs)


def test_the_best_is_put_before_the_worst():
    tokens = jnp.asarray([[[0], [1], [2], [3]]])
    pairs = preferences.best_and_worst(tokens, jnp.asarray([[0.3], [0.9], [0.1], [0.1]]))
    assert (int(pairs.first[0, 0, 0]), int(pairs.second[0, 0, 0])) == (1, 2)
    assert float(pairs.verdict[0, 0]) == 1
    level = preferences.best_and_worst(tokens, jnp.full((4, 1), 0.4))
    assert float(level.verdict[0, 0]) == 0


def dpo_loss(logits, reference_logits, winners, losers, strength):
    """Eq. 7 of 2305.18290 for one run."""
    log_ratio = jax.nn.log_softmax(logits) - jax.nn.log_softmax(reference_logits)
    won, lost = (
        jnp.take_along_axis(log_ratio, tokens, axis=1).sum(0) for tokens in (winners, losers)
    )
    return -jnp.log(jax.nn.sigmoid(strength * (won - lost))).mean()


@pytest.mark.parametrize("strength", [0.1, 3.0])
def test_dpos_gradient_is_that_of_its_loss(strength):
    draw = np.random.default_rng(1)
    logits, first = draw.normal(size=(2, 3, 4)).astype(np.float32)
    one, other = jnp.asarray(draw.integers(0, 4, (2, 3, 5)))
    verdict = jnp.asarray([1.0, -1.0, -1.0, 1.0, 1.0])
    winners, losers = jnp.where(verdict > 0, one, other), jnp.where(verdict > 0, other, one)
    expected = jax.grad(dpo_loss)(jnp.asarray(logits), first, winners, losers, strength)
    pairs = preferences.Pairs(one, other, verdict)
    student, start = policies.policy(jnp.asarray(logits)), policies.policy(jnp.asarray(first))
    found = pair_gradient(student, start, pairs, strength)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["dpo", "dpo_best_worst"])
def test_dpo_is_the_sum_over_all_pairs_where_the_better_always_wins(case, algorithm):
    found = case.expected(case.ours(algorithm, preference_sharpness=1e9, dpo_strength=1.5))
    log_ratio = np.log(case.probs) - np.log(reference.softmax(case.first_logits))
    expected = np.zeros_like(case.probs)
    for p, pair, batch in zip(case.batch_probability, case.pairs, case.batches, strict=True):
        first, second = case.rewards[list(pair)]
        # One sequence against itself moves nothing.
        sign = 1 if first >= second else -1
        rows = np.arange(len(case.probs))
        margin = log_ratio[rows, batch[0]].sum() - log_ratio[rows, batch[1]].sum()
        weight = 1.5 * sign * reference.sigmoid(-1.5 * sign * margin)
        expected -= p * weight * (case.scores(batch[0]) - case.scores(batch[1]))
    assert abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


# A learned reward model


def scores_of(model, tokens):
    """``r`` of one run's sequences ``[T, N]``, as published: linear in tokens and bigrams."""
    value = jnp.take_along_axis(model.token, tokens, axis=1).sum(0)
    return value + model.bigram[tokens[:-1], tokens[1:]].sum(0)


def test_the_reward_model_is_fitted_by_its_loss():
    draw = np.random.default_rng(2)
    model = reward_models.RewardModel(
        *(jnp.asarray(draw.normal(size=shape), jnp.float32) for shape in ((3, 4), (4, 4)))
    )
    one, other = jnp.asarray(draw.integers(0, 4, (2, 3, 6)))
    verdict = jnp.asarray([1.0, -1.0, -1.0, 1.0, 1.0, -1.0])
    np.testing.assert_allclose(reward_models.score(model, one), scores_of(model, one), rtol=1e-5)

    def loss(model):
        margin = verdict * (scores_of(model, one) - scores_of(model, other))
        return -jnp.log(jax.nn.sigmoid(margin)).mean()

    slope = jax.grad(loss)(model)
    found = reward_models.fit(model, preferences.Pairs(one, other, verdict), 0.3)
    for after, before, gradient in zip(found, model, slope, strict=True):
        np.testing.assert_allclose(after, before - 0.3 * gradient, rtol=1e-5, atol=1e-6)


def test_rlhf_follows_the_exact_gradient_of_its_model(case):
    draw = np.random.default_rng(4)
    vocab_size = case.probs.shape[1]
    token, bigram = draw.normal(size=case.probs.shape), draw.normal(size=(vocab_size, vocab_size))
    memory = reward_models.RewardModel(case.spread(token), case.spread(bigram))
    found = case.expected(case.ours("rlhf", memory=memory, model_rate=0.0))

    def value(sequence):
        steps = itertools.pairwise(sequence)
        own = sum(token[t, v] for t, v in enumerate(sequence))
        return own + sum(bigram[a, b] for a, b in steps)

    expected = np.zeros_like(case.probs)
    for p, sequence in zip(case.probability, case.sequences, strict=True):
        expected -= p * value(sequence) * case.scores(sequence)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_reward_model_learns_the_order_of_rewards():
    sizes = Sizes(length=3, vocab_size=3, rollouts=32, steps=300, final_window=1)
    # The policy stays where it is, so that the model is asked about what it was shown.
    config = Config(learning_rate=0.0)
    own = {"init_scale": 0.0, "model_rate": 1.0, "preference_sharpness": 20.0}
    program = Program("rlhf", sizes)

    @jax.jit
    def learn():
        setting, state = sdpo_jax.init(np.arange(4), program, config, numbers=own)

        def body(state, index):
            return sdpo_jax.step(program, setting, state, index)[0], None

        state, _ = jax.lax.scan(body, state, jnp.arange(sizes.steps))
        return setting.problem, state.memory

    problem, model = learn()
    everything = jnp.asarray(list(itertools.product(range(3), repeat=3))).T
    tokens = jnp.repeat(everything[..., None], 4, axis=-1)
    rewards, values = sdpo_jax.reward(problem, tokens), reward_models.score(model, tokens)
    for run in range(4):
        assert np.corrcoef(rewards[:, run], values[:, run])[0, 1] > 0.95


# Sums over tokens


def test_sequences_are_read_and_counted():
    draw = np.random.default_rng(5)
    tokens = jnp.asarray(draw.integers(0, 4, (3, 5)))
    weights = draw.normal(size=(3, 5)).astype(np.float32)
    table = draw.normal(size=(3, 4)).astype(np.float32)
    bigram = draw.normal(size=(4, 4)).astype(np.float32)
    picked = tables.pick(jnp.asarray(table), tokens)
    pairs = tables.pick_bigrams(jnp.asarray(bigram), tokens)
    sums = tables.token_sums(tokens, jnp.asarray(weights), 4)
    counts = tables.bigram_sums(tokens, jnp.asarray(weights[0]), 4)
    expected, expected_counts = np.zeros((3, 4)), np.zeros((4, 4))
    for t, i in np.ndindex(3, 5):
        assert picked[t, i] == table[t, tokens[t, i]]
        expected[t, tokens[t, i]] += weights[t, i]
        if t:
            assert pairs[t - 1, i] == bigram[tokens[t - 1, i], tokens[t, i]]
            expected_counts[tokens[t - 1, i], tokens[t, i]] += weights[0, i]
    np.testing.assert_allclose(sums, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(counts, expected_counts, rtol=1e-6, atol=1e-6)


def test_the_registry_holds_what_is_tested_here():
    assert {"rloo", "grpo", "dr_grpo", "ppo", "dpo", "dpo_best_worst", "rlhf"} <= set(ALGORITHMS)
    assert ROLLOUTS == 2
