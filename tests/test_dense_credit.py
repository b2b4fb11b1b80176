"""Credit for each token: Shapley values, values of prefixes, spread rewards."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import METRICS, Config, Problem, Program, Sizes, problems
from sdpo_jax.algorithms.dense_reward import contributions
from sdpo_jax.credit import prefixes, shapley
from sdpo_jax.engine import streams
from tests import reference
from tests.enumeration import SHAPES, TOLERANCE, Case
from tests.test_policy_gradients import exact_gradient, policy_gradient


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def case(request) -> Case:
    return Case(*request.param)


# Shapley values


def value_of(problem, probs, sequence, present):
    """``v``: the mean reward with the absent positions drawn from ``probs``."""
    total = 0.0
    for other in reference.all_sequences(problem):
        if all(other[t] == sequence[t] for t in present):
            absent = [t for t in range(len(sequence)) if t not in present]
            total += np.prod([probs[t, other[t]] for t in absent]) * reference.reward(
                problem, other
            )
    return total


def shapley_of(problem, probs, sequence):
    """The mean over all orders in which the tokens may come of what each adds when it comes."""
    length = len(sequence)
    values = np.zeros(length)
    for order in itertools.permutations(range(length)):
        for place, t in enumerate(order):
            with_it = value_of(problem, probs, sequence, order[: place + 1])
            without = value_of(problem, probs, sequence, order[:place])
            values[t] += (with_it - without) / math.factorial(length)
    return values


def ours_of(problem, probs, tokens):
    """Exact Shapley values, ``[T, N]``, of one problem and the sequences ``[T, N]``."""
    mine = Problem(
        jnp.asarray(problem.quality, jnp.float32),
        jnp.asarray(problem.bigram, jnp.float32),
        jnp.asarray(problem.target),
        jnp.float32(problem.pattern_weight),
    )
    values = shapley.coalition_values(mine, jnp.asarray(probs, jnp.float32))
    return shapley.exact(values, jnp.asarray(tokens), probs.shape[1]), mine


@pytest.fixture(scope="module")
def asymmetric():
    draw = np.random.default_rng(9)
    problem = reference.Problem(
        draw.normal(size=(4, 3)), draw.normal(size=(3, 3)), draw.integers(0, 3, 4), 0.7
    )
    probs = reference.softmax(draw.normal(size=(4, 3)))
    return problem, probs, draw.integers(0, 3, (4, 6))


def test_shapley_values_are_the_mean_over_all_orders(asymmetric):
    problem, probs, tokens = asymmetric
    found, _ = ours_of(problem, probs, tokens)
    expected = np.stack([shapley_of(problem, probs, s) for s in tokens.T], axis=1)
    assert abs(expected).max() > 0.05
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_shapley_values_sum_to_what_there_is_to_share_out(asymmetric):
    problem, probs, tokens = asymmetric
    found, mine = ours_of(problem, probs, tokens)
    all_of_it = sdpo_jax.reward(mine, tokens) - sdpo_jax.expected_reward(mine, jnp.asarray(probs))
    np.testing.assert_allclose(found.sum(0), all_of_it, atol=1e-6)


def test_a_token_that_does_not_matter_gets_nothing():
    draw = np.random.default_rng(10)
    quality = draw.normal(size=(3, 3))
    quality[1] = 0.4
    problem = reference.Problem(quality, np.zeros((3, 3)), np.zeros(3, int), 0.0)
    probs = reference.softmax(draw.normal(size=(3, 3)))
    found, _ = ours_of(problem, probs, draw.integers(0, 3, (3, 8)))
    np.testing.assert_allclose(found[1], 0, atol=1e-7)
    assert abs(found[0]).min() > 1e-3


def test_tokens_that_do_the_same_get_the_same():
    draw = np.random.default_rng(11)
    quality = draw.normal(size=(3, 3))
    quality[2] = quality[0]
    # Positions 0 and 2 mirror each other: what comes before and after the middle alike.
    bigram = draw.normal(size=(3, 3))
    problem = reference.Problem(quality, bigram + bigram.T, np.array([1, 0, 1]), 0.5)
    probs = reference.softmax(draw.normal(size=(3, 3)))
    probs[2] = probs[0]
    tokens = draw.integers(0, 3, (3, 8))
    tokens[2] = tokens[0]
    found, _ = ours_of(problem, probs, tokens)
    np.testing.assert_allclose(found[0], found[2], atol=1e-6)
    assert abs(found[0] - found[1]).min() > 1e-4


def test_sampled_shapley_values_are_right_on_average(asymmetric):
    problem, probs, tokens = asymmetric
    runs, samples = 2000, 3
    exact, mine = ours_of(problem, probs, tokens)
    spread = jax.tree.map(
        lambda leaf: jnp.repeat(jnp.asarray(leaf)[..., None], runs, axis=-1), (mine, probs, tokens)
    )
    key = streams.stream(np.arange(runs), streams.Stream.ALGORITHM)

    @jax.jit
    def estimate():
        return shapley.sampled(spread[0], spread[1].astype(jnp.float32), spread[2], samples, key, 5)

    found = np.asarray(estimate())
    error = found.std(-1, ddof=1) / np.sqrt(runs)
    assert (abs(found.mean(-1) - exact) < 4 * error + 1e-6).all()
    # Rollouts of a step share the draws: what is shared out differs by their rewards alone.
    shared = found.sum(0) - sdpo_jax.reward(spread[0], spread[2])
    np.testing.assert_allclose(shared, np.broadcast_to(shared[:1], shared.shape), atol=1e-6)


def test_of_equal_draws_the_earlier_position_comes_first():
    order = jnp.asarray([[0.3], [0.1], [0.3], [0.2]])
    rank = (order[:, None] > order[None]).sum(1) + shapley._ties(order)
    np.testing.assert_array_equal(rank[:, 0], [2, 0, 3, 1])


def test_too_many_coalitions_are_refused():
    with pytest.raises(ValueError, match="exact expectations enumerate at most"):
        problem = sdpo_jax.sample_problem(0, 7, 8)
        shapley.coalition_values(problem, jnp.full((7, 8), 1 / 8))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_scar_is_the_sum_over_all_batches_of_its_credit(case, share):
    found = case.expected(case.ours("scar", dense_share=share))
    first = reference.softmax(case.first_logits)
    values = {s: shapley_of(case.problem, first, s) for s in case.sequences}
    expected = np.zeros_like(case.probs)
    for p, pair, batch in zip(case.batch_probability, case.pairs, case.batches, strict=True):
        credit = share * np.array([values[case.sequences[i]] for i in pair])
        credit[:, -1] += (1 - share) * case.rewards[list(pair)]
        expected += p * policy_gradient(case, batch, credit - credit.mean(0))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=5e-7)


# Values of prefixes


def test_the_value_of_a_prefix_is_the_mean_over_its_continuations(case):
    problem = sdpo_jax.Problem(
        jnp.asarray(case.problem.quality, jnp.float32),
        jnp.asarray(case.problem.bigram, jnp.float32),
        jnp.asarray(case.problem.target),
        jnp.float32(case.problem.pattern_weight),
    )
    tokens = np.array(case.sequences).T
    rewards = problems.all_rewards(problem)
    found = prefixes.exact(rewards, jnp.asarray(case.probs, jnp.float32), jnp.asarray(tokens))
    for column, sequence in enumerate(case.sequences):
        for t in range(len(sequence) + 1):
            expected = value_of(case.problem, case.probs, sequence, range(t))
            assert found[t, column] == pytest.approx(expected, abs=1e-6)


def test_process_reward_is_the_exact_policy_gradient(case):
    found = case.expected(case.ours("process_reward"))
    np.testing.assert_allclose(found, exact_gradient(case), **TOLERANCE)


def test_process_reward_has_less_noise_than_one_number_a_rollout(case):
    spread = {
        algorithm: (case.ours(algorithm) ** 2).sum((0, 1)) @ case.batch_probability
        for algorithm in ("process_reward", "rloo")
    }
    assert spread["process_reward"] < 0.8 * spread["rloo"]


def test_the_outcome_model_is_fitted_by_its_loss():
    draw = np.random.default_rng(6)
    model = prefixes.Model(
        *(jnp.asarray(draw.normal(size=shape), jnp.float32) for shape in ((4,), (3, 5)))
    )
    tokens = jnp.asarray(draw.integers(0, 5, (3, 7)))
    reward = jnp.asarray(draw.uniform(size=7), jnp.float32)

    def loss(model):
        total = 0.0
        for t, i in itertools.product(range(4), range(7)):
            value = model.constant[t] + sum(model.token[u, tokens[u, i]] for u in range(t))
            total += (reward[i] - value) ** 2 / 2
        return total / 4 / 7

    slope = jax.grad(loss)(model)
    found = prefixes.fit(model, tokens, reward, 0.3)
    # The rate of 0.3 is over the mean number of features, (T + 2) / 2.
    for after, before, gradient in zip(found, model, slope, strict=True):
        np.testing.assert_allclose(after, before - 0.3 / 2.5 * gradient, rtol=1e-5, atol=1e-6)


def correlations_of_learned_values(bigram_scale):
    """How a fitted model's pay for tokens goes with the exact one, at the first policy."""
    sizes = Sizes(length=3, vocab_size=4, rollouts=32, steps=300, final_window=1)
    config = Config(learning_rate=0.0)
    own = {"model_rate": 0.3, "bigram_scale": bigram_scale, "pattern_weight": 0.0}
    program = Program("process_reward_learned", sizes)
    seeds = np.arange(4)

    @jax.jit
    def learn():
        setting, state = sdpo_jax.init(seeds, program, config, numbers=own)

        def body(state, index):
            return sdpo_jax.step(program, setting, state, index)[0], None

        state, _ = jax.lax.scan(body, state, jnp.arange(sizes.steps))
        everything = jnp.asarray(list(itertools.product(range(4), repeat=3))).T
        tokens = jnp.repeat(everything[..., None], len(seeds), axis=-1)
        rewards = problems.all_rewards(setting.problem)
        probs = jax.nn.softmax(state.params, axis=1)
        return prefixes.exact(rewards, probs, tokens), prefixes.model_values(state.memory, tokens)

    exact, model = (np.diff(np.asarray(values), axis=0) for values in learn())
    return [
        np.corrcoef(exact[..., run].ravel(), model[..., run].ravel())[0, 1]
        for run in range(len(seeds))
    ]


def test_a_learned_value_errs_by_what_a_linear_model_can_not_say():
    # Tokens' own parts it can say, but for the sigmoid; of bigrams only what each token has on
    # average.
    assert min(correlations_of_learned_values(bigram_scale=0.0)) > 0.97
    of_bigrams = correlations_of_learned_values(bigram_scale=4.0)
    assert max(of_bigrams) < 0.95
    assert min(of_bigrams) > 0


# The reward spread by attention


def test_contributions_sum_to_the_score(case):
    problem = sdpo_jax.Problem(
        jnp.asarray(case.problem.quality, jnp.float32),
        jnp.asarray(case.problem.bigram, jnp.float32),
        jnp.asarray(case.problem.target),
        jnp.float32(case.problem.pattern_weight),
    )
    tokens = jnp.asarray(np.array(case.sequences).T)
    score = contributions(problem, tokens).sum(0) / len(case.probs)
    np.testing.assert_allclose(jax.nn.sigmoid(score), case.rewards, rtol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_a_spread_reward_is_the_sum_over_all_batches_of_its_returns(case, share):
    temperature = 0.7
    found = case.expected(
        case.ours("dense_reward", dense_share=share, attention_temperature=temperature)
    )
    length = len(case.probs)

    def credit_of(sequence, reward):
        own = [case.problem.quality[t, v] for t, v in enumerate(sequence)]
        for t in range(length):
            own[t] += case.problem.pattern_weight * (sequence[t] == case.problem.target[t])
            if t:
                half = case.problem.bigram[sequence[t - 1], sequence[t]] / 2
                own[t - 1] += half
                own[t] += half
        attention = reference.softmax(np.abs(own) / temperature)
        paid = share * attention * reward
        paid[-1] += (1 - share) * reward
        return np.cumsum(paid[::-1])[::-1]

    expected = np.zeros_like(case.probs)
    for p, pair, batch in zip(case.batch_probability, case.pairs, case.batches, strict=True):
        credit = np.array([credit_of(case.sequences[i], case.rewards[i]) for i in pair])
        expected += p * policy_gradient(case, batch, credit - credit.mean(0))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=5e-7)


def test_a_reward_that_is_not_spread_is_reinforce(case):
    found = case.ours("dense_reward", dense_share=0.0)
    np.testing.assert_allclose(found, case.ours("reinforce"), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("algorithm", "queries"),
    [
        ("scar", 6 * 2**3),
        ("scar_sampled", 6 * 2 * 4),
        ("process_reward", 4**3),
        ("dense_reward", 6),
    ],
)
def test_what_dense_credit_costs_is_counted(algorithm, queries):
    sizes = Sizes(length=3, vocab_size=4, rollouts=6, steps=2, final_window=1)
    program = Program(algorithm, sizes, metrics=("rollouts", "queries"))
    setting, state = sdpo_jax.init(0, program)
    _, view = sdpo_jax.step(program, setting, state, 0)
    assert float(METRICS["queries"].measure(view)) == queries
    assert float(METRICS["rollouts"].measure(view)) == 6
