"""Equal numbers are worth nothing beside each other, in every algorithm that compares rollouts."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from sdpo_jax import ALGORITHMS, Algorithm, Config, Sizes, policies
from sdpo_jax.algorithm import what_is_told
from sdpo_jax.credit import baselines

LENGTH, VOCAB_SIZE = 3, 4
COUNTS = (1, 2, 3, 7, 32, 33, 100)
# Of which some have no exact mean: 32 times 0.8 is not 25.6.
VALUES = np.float32([0.8, 0.1, 1 / 3, 0.6, 0.2, 1.0, 0.0, 0.7071, 1e-30, 12345.678])

COMPARING = [
    *("reinforce", "rloo", "grpo", "dr_grpo", "ppo", "advantage_weighted"),
    *("dpo_best_worst", "sdft"),
]


@pytest.mark.parametrize("count", COUNTS)
def test_equal_numbers_have_no_advantage(count):
    values = np.tile(VALUES, (count, 1))
    for advantage in (baselines.less_mean, baselines.standardised):
        np.testing.assert_array_equal(advantage(jnp.asarray(values)), 0)


@pytest.mark.parametrize("count", COUNTS[1:])
def test_neither_do_numbers_that_differ_by_a_rounding(count):
    values = np.tile(VALUES[:8], (count, 1))
    values[1::2] = np.nextafter(values[1::2], np.float32(2))
    for advantage in (baselines.less_mean, baselines.standardised):
        np.testing.assert_array_equal(advantage(jnp.asarray(values)), 0)


@pytest.mark.parametrize("count", COUNTS[1:])
def test_numbers_that_differ_are_compared_as_in_float64(count):
    draw = np.random.default_rng(count)
    # A difference in one rollout, down to a hundred roundings.
    values = np.tile(np.float32([0.8, 0.8, 0.8, 0.3]), (count, 1))
    values[0] += np.float32([0.1, 1e-3, 1e-5, 0.5])
    random = draw.uniform(size=(count, 4)).astype(np.float32)
    for each in (values, random):
        exact = each.astype(np.float64)
        centred = exact - exact.mean(0)
        found = baselines.less_mean(jnp.asarray(each))
        # A sum of N terms is rounded N times.
        np.testing.assert_allclose(found, centred, rtol=0, atol=6e-8 * count)
        scaled = centred / (exact.std(0, ddof=1) + 1e-6)
        found = baselines.standardised(jnp.asarray(each))
        np.testing.assert_allclose(found, scaled, rtol=1e-5, atol=1e-5)


def test_what_is_no_number_stays_so():
    values = jnp.asarray([[np.nan, np.inf], [0.5, 0.5]])
    for each in (values, values[::-1]):
        assert not np.isfinite(baselines.less_mean(each)).any()
        assert np.isnan(baselines.standardised(each)).any(0).all()


def gradient(algorithm, signal, tokens, knowledge):
    draw = np.random.default_rng(1)
    runs = signal.shape[1]
    policy = policies.policy(jnp.asarray(draw.normal(size=(LENGTH, VOCAB_SIZE, runs)), jnp.float32))
    told = {
        "policy": policy,
        "reference": policy,
        "tokens": jnp.asarray(tokens),
        "signal": jnp.asarray(signal),
        "knowledge": jnp.asarray(knowledge, jnp.float32),
        "params": policy.logits,
        "read": lambda params, tokens=None: params,
        "memory": policy.logits if algorithm == "sdft" else (),
        "step": 0,
        "sizes": Sizes(length=LENGTH, vocab_size=VOCAB_SIZE, rollouts=len(signal)),
        "config": Config(),
    }
    function = ALGORITHMS[algorithm]
    function = function.update if isinstance(function, Algorithm) else function
    names = [name for name in what_is_told(function)]
    return np.asarray(function(**{name: told[name] for name in names}).gradient)


# Each compiles every operation of an algorithm; ``COUNTS`` as a whole is for the arithmetic above.
@pytest.mark.parametrize("count", [1, 3, 32])
@pytest.mark.parametrize("algorithm", COMPARING)
def test_equal_signals_teach_nothing(algorithm, count):
    draw = np.random.default_rng(count)
    signal = np.tile(VALUES[:8], (count, 1))
    tokens = draw.integers(0, VOCAB_SIZE, (LENGTH, count, 8), dtype=np.int32)
    table = draw.normal(size=(LENGTH, VOCAB_SIZE, 8))
    np.testing.assert_array_equal(gradient(algorithm, signal, tokens, table), 0)
    if count > 2:
        signal[0] = 0.4
        # Two that are compared may not be one and the same.
        tokens[0, 0] = (tokens[0, 1] + 1) % VOCAB_SIZE
        assert (abs(gradient(algorithm, signal, tokens, table)).max((0, 1)) > 0).all()


def test_a_table_of_equal_entries_credits_no_token():
    draw = np.random.default_rng(0)
    signal = draw.uniform(size=(7, 8)).astype(np.float32)
    tokens = draw.integers(0, VOCAB_SIZE, (LENGTH, 7, 8), dtype=np.int32)
    table = np.broadcast_to(VALUES[:8], (LENGTH, VOCAB_SIZE, 8))
    np.testing.assert_array_equal(gradient("advantage_weighted", signal, tokens, table), 0)
