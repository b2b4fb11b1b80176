"""The factored policy: softmax, sampling, packing, entropy, divergence, score."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from sdpo_jax import policies
from sdpo_jax.engine import streams
from sdpo_jax.policies import GROUP, MAX_VOCAB_SIZE

# 33 is the first vocabulary that has cumulative sums in parts, and 513 the first in parts of parts.
VOCAB_SIZES = (2, 3, 5, 8, 32, 33, 48, 65, 513, 1000, MAX_VOCAB_SIZE)

# The seeds are fixed; a test of frequencies fails for one true sampler in a thousand.
LEVEL = 1e-3

# 0, 1 and 2 axes of runs.
RUNS = ((), (3,), (2, 3))


def random(shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(0.0, scale, shape).astype(np.float32)


def probs_of(logits):
    return scipy.special.softmax(logits.astype(np.float64), axis=1).astype(np.float32)


def one_at_a_time(function, runs, *arrays):
    """``function`` of each run by itself, put together with the runs behind."""
    flat = [each.reshape(*each.shape[: each.ndim - len(runs)], -1) for each in arrays]
    alone = [np.asarray(function(*(each[..., i] for each in flat))) for i in range(math.prod(runs))]
    together = np.stack(alone, -1)
    return together.reshape(*together.shape[:-1], *runs)


@functools.cache
def sampler(length, vocab_size, rollouts):
    """Sampled tokens of a seed and probabilities, compiled once for each size."""

    def draw(seed, step, probs):
        key = streams.stream(seed, streams.Stream.ROLLOUTS)
        drawn = policies.sample(key, step, probs, rollouts)
        return policies.tokens(drawn, length, vocab_size)

    return jax.jit(draw)


def sampled(probs, rollouts, seed=0, step=0):
    found = sampler(*probs.shape[:2], rollouts)(np.uint32(seed), step, probs)
    assert found.dtype == jnp.int32
    return np.asarray(found)


def counts_of(tokens, vocab_size):
    return np.stack([np.bincount(row, minlength=vocab_size) for row in tokens])


# --- softmax, entropy, divergence ---------------------------------------------------------------


@functools.cache
def compiled():
    return jax.jit(policies.policy)


@pytest.mark.parametrize("vocab_size", [2, 3, 8, 65])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_a_policy_is_the_softmax_of_its_logits(vocab_size, scale):
    logits = random((4, vocab_size), scale=scale)
    found = compiled()(logits)
    exact = logits.astype(np.float64)
    np.testing.assert_array_equal(found.logits, logits)
    # The largest exponent, about 60 at scale 10, is rounded to 2**-19.
    np.testing.assert_allclose(found.probs, scipy.special.softmax(exact, 1), rtol=1e-5, atol=1e-37)
    np.testing.assert_allclose(
        found.log_normalizer, scipy.special.logsumexp(exact, 1), rtol=1e-6, atol=1e-6
    )


def test_extreme_logits_stay_finite():
    logits = np.float32([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4 - 1], [-1e4, 0, -1e4]])
    found = compiled()(logits)
    np.testing.assert_allclose(found.probs, probs_of(logits), rtol=1e-6)
    expected = scipy.special.logsumexp(logits.astype(np.float64), 1)
    np.testing.assert_allclose(found.log_normalizer, expected, rtol=1e-6)
    entropy = scipy.stats.entropy(probs_of(logits), axis=1).mean()
    # A difference of two numbers of 1e4, each with the rounding 1e-3 / 2.
    assert abs(float(policies.entropy(found)) - entropy) < 1e-3


@pytest.mark.parametrize("runs", RUNS)
def test_entropy_and_divergence_are_means_over_positions(runs):
    logits, others = random((4, 5, *runs), 1, 2.0), random((4, 5, *runs), 2, 2.0)

    @jax.jit
    def compute(logits, others):
        first, second = policies.policy(logits), policies.policy(others)
        return policies.entropy(first), policies.kl_divergence(first, second)

    entropy, divergence = compute(logits, others)
    first, second = (scipy.special.softmax(x.astype(np.float64), 1) for x in (logits, others))
    assert entropy.shape == divergence.shape == runs
    np.testing.assert_allclose(entropy, scipy.stats.entropy(first, axis=1).mean(0), atol=2e-6)
    np.testing.assert_allclose(
        divergence, scipy.stats.entropy(first, second, axis=1).mean(0), atol=4e-6
    )


def test_the_ends_of_entropy_and_divergence():
    uniform = compiled()(jnp.full((3, 7), 2.5))
    certain = compiled()(50.0 * jnp.eye(3, 7))
    assert abs(float(policies.entropy(uniform)) - np.log(7)) < 1e-6
    assert abs(float(policies.entropy(certain))) < 1e-5
    assert abs(float(policies.kl_divergence(uniform, uniform))) < 1e-6
    assert abs(float(policies.kl_divergence(certain, uniform)) - np.log(7)) < 1e-5
    # The other way round, six sevenths of the mass are 50 nats short.
    expected = 50 * 6 / 7 - np.log(7)
    assert abs(float(policies.kl_divergence(uniform, certain)) - expected) < 1e-4


# --- packing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("vocab_size", VOCAB_SIZES)
def test_tokens_undoes_pack(vocab_size, length):
    given = np.random.default_rng(length).integers(0, vocab_size, (length, 50, 2))
    given[:, 0] = vocab_size - 1
    packed = policies.pack(jnp.asarray(given), vocab_size)
    assert packed.codes.shape == (-(-length // GROUP), 50, 2)
    assert packed.codes.dtype == jnp.int32
    np.testing.assert_array_equal(policies.tokens(packed, length, vocab_size), given)


def test_the_first_token_of_a_group_is_in_the_high_bits():
    given = jnp.array([[1], [2], [3], [4]])
    packed = policies.pack(given, 5)
    np.testing.assert_array_equal(packed.codes, [[(1 << 6) | (2 << 3) | 3], [4 << 6]])


@pytest.mark.parametrize(("length", "vocab_size"), [(4, 5), (7, 65)])
def test_sampled_codes_are_packed_tokens(length, vocab_size):
    probs = probs_of(random((length, vocab_size)))
    drawn = jax.jit(policies.sample, static_argnums=3)(streams.stream(0, 2), 0, probs, 30)
    unpacked = policies.tokens(drawn, length, vocab_size)
    # What lies past the end is token 0 in both.
    np.testing.assert_array_equal(policies.pack(unpacked, vocab_size).codes, drawn.codes)


# --- sampling -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "vocab_size"),
    [(1, 2), (2, 3), (4, 2), (6, 8), (7, 5), (4, 64), (4, 65), (2, 100), (2, MAX_VOCAB_SIZE)],
)
def test_tokens_come_as_often_as_their_probabilities_say(length, vocab_size):
    probs = probs_of(random((length, vocab_size), seed=vocab_size))
    rollouts = 2**16
    tokens = sampled(probs, rollouts)
    assert tokens.shape == (length, rollouts)
    assert tokens.min() >= 0
    assert tokens.max() < vocab_size
    for row, exact in zip(counts_of(tokens, vocab_size), probs.astype(np.float64), strict=True):
        pvalue = scipy.stats.chisquare(row, exact / exact.sum() * rollouts).pvalue
        assert pvalue > LEVEL / length


@pytest.mark.parametrize(("length", "vocab_size"), [(7, 3), (4, 65)])
def test_positions_are_independent(length, vocab_size):
    probs = probs_of(random((length, vocab_size), seed=4))
    rollouts = 2**16
    # In three classes of tokens, so that each pair of them is met often.
    classes = sampled(probs, rollouts, seed=3) % 3
    shares = np.stack([probs[:, kind::3].sum(1) for kind in range(3)], 1).astype(np.float64)
    pairs = [(t, u) for t in range(length) for u in range(t)]
    for t, u in pairs:
        joint = np.bincount(classes[t] * 3 + classes[u], minlength=9)
        expected = np.outer(shares[t], shares[u]).ravel()
        pvalue = scipy.stats.chisquare(joint, expected / expected.sum() * rollouts).pvalue
        assert pvalue > LEVEL / len(pairs)


def test_rollouts_and_steps_are_independent():
    probs = np.tile(np.float32([0.5, 0.25, 0.25]), (2, 1))
    first, second = (sampled(probs, 2**16, step=step) for step in (0, 1))
    for x, y in ((first[0], second[0]), (first[0, 1:], first[0, :-1]), (first[1], second[0])):
        assert scipy.stats.chi2_contingency(np.histogram2d(x, y, bins=3)[0]).pvalue > LEVEL


@pytest.mark.parametrize("vocab_size", [4, 65])
def test_probability_0_is_never_sampled_and_1_always(vocab_size):
    rng = np.random.default_rng(0)
    probs = np.zeros((4, vocab_size), np.float32)
    # First, last and middle token certain; then half of the tokens impossible.
    probs[[0, 1, 2], [0, vocab_size - 1, 2]] = 1
    possible = rng.permutation(vocab_size)[: vocab_size // 2]
    probs[3, possible] = 1 / len(possible)
    tokens = sampled(probs, 2**16)
    for t, certain in enumerate((0, vocab_size - 1, 2)):
        assert (tokens[t] == certain).all()
    assert set(np.unique(tokens[3])) == set(possible)


def test_a_token_is_the_count_of_cumulative_probabilities_its_uniform_has_reached(monkeypatch):
    # Exactly on an edge the next token begins, so that a uniform of 0 skips probability 0.
    probs = np.float32([[0, 0.25, 0, 0.5, 0.25, 0]] * 3)
    below = np.nextafter(np.float32([0.25, 0.75, 1]), np.float32(0))
    uniform = np.concatenate((np.float32([0, 0.25, 0.75]), below))[None]
    monkeypatch.setattr(streams, "uniforms", lambda *_: (jnp.asarray(uniform),) * 3)
    codes = jax.jit(lambda key: policies.sample(key, 0, probs, 6))(streams.stream(0, 0))
    found = policies.tokens(codes, 3, 6)
    np.testing.assert_array_equal(found, [[1, 3, 4, 1, 3, 4]] * 3)


def test_a_token_meets_its_own_positions_uniform():
    # The n-th uniform of a block and group, inverted by hand.
    probs = probs_of(random((5, 6), seed=8))
    thirds = np.stack(streams.uniforms(streams.stream(0, streams.Stream.ROLLOUTS), 0, (2, 40)), 1)
    edges = np.cumsum(probs.astype(np.float64), 1)
    expected = [np.searchsorted(edges[t], thirds.reshape(6, 40)[t], side="right") for t in range(5)]
    np.testing.assert_array_equal(sampled(probs, 40), expected)


# --- score --------------------------------------------------------------------------------------


def score_of(probs, tokens, weights):
    (length, vocab_size), rollouts = probs.shape, tokens.shape[1]
    weights = np.broadcast_to(weights, tokens.shape)
    total = np.zeros((length, vocab_size))
    for t in range(length):
        for i in range(rollouts):
            onehot = np.zeros(vocab_size)
            onehot[tokens[t, i]] = 1
            total[t] += weights[t, i] * (onehot - probs[t])
    return total / rollouts


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("leading", [(9,), (4, 9)])
def test_the_mean_score_is_the_loop_over_rollouts(leading, runs):
    rng = np.random.default_rng(3)
    probs = probs_of(random((4, 5, *runs)))
    tokens = rng.integers(0, 5, (4, 9, *runs)).astype(np.int32)
    weights = random((*leading, *runs), seed=7) + np.float32(0.5)
    found = jax.jit(policies.mean_score)(probs, tokens, weights)
    exact = (each.astype(np.float64) for each in (probs, weights))
    expected = one_at_a_time(lambda p, w, s: score_of(p, s.astype(int), w), runs, *exact, tokens)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_the_mean_score_is_the_gradient_of_the_weighted_log_likelihood():
    logits, weights = random((4, 5)), random((70,), seed=2)
    tokens = np.random.default_rng(1).integers(0, 5, (4, 70))

    def likelihood(logits):
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens, axis=1)
        return (chosen.sum(0) * weights).mean()

    expected = jax.jit(jax.grad(likelihood))(logits)
    found = policies.mean_score(jnp.asarray(probs_of(logits)), jnp.asarray(tokens), weights)
    np.testing.assert_allclose(found, expected, atol=1e-6)


# --- axes of runs -------------------------------------------------------------------------------


@pytest.mark.parametrize("runs", RUNS[1:])
@pytest.mark.parametrize("vocab_size", [5, 65])
def test_runs_behind_are_the_runs_one_at_a_time(vocab_size, runs):
    logits = random((4, vocab_size, *runs), 1)
    seeds = np.arange(10, 10 + math.prod(runs), dtype=np.uint32).reshape(runs)

    @jax.jit
    def compute(logits, seed):
        made = policies.policy(logits)
        drawn = policies.sample(streams.stream(seed, 2), 3, made.probs, 6)
        return [*made, policies.tokens(drawn, 4, vocab_size)]

    together = compute(logits, seeds)
    for i, found in enumerate(together):
        expected = one_at_a_time(lambda *run, i=i: compute(*run)[i], runs, logits, seeds)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
