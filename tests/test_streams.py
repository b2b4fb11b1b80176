"""Random streams: the cipher bit for bit, the distributions, what a draw depends on."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.extend.random import threefry_2x32

from sdpo_jax.engine import streams
from sdpo_jax.engine.streams import Key, Stream

SEEDS = (0, 1, 7, 2**31, 2**32 - 1)

# The tests of a distribution draw this many; their seeds are fixed, and the bounds are 4 standard
# errors or a p-value of 1e-3.
DRAWS = 2**17
LEVEL = 1e-3

# Two units in the last place of the largest normal, 5.77: its radius and the product are rounded.
# The cosine and the sine are good to 3e-8.
ROUNDING = 1e-6


def fold_in(seed, name):
    return jax.random.key_data(jax.random.fold_in(jax.random.key(seed), name))


def key_of(seed, name=0):
    return streams.stream(np.uint32(seed), name)


def plain(key, step, count):
    """The cipher blocks of one run by JAX's own threefry."""
    high = np.full(count, step, np.uint32)
    counters = np.concatenate((high, np.arange(count, dtype=np.uint32)))
    return np.split(np.asarray(threefry_2x32(jnp.stack(key), counters)), 2)


@functools.cache
def sampler(name, shape):
    draw = getattr(streams, name)
    return jax.jit(lambda seed, stream, step: draw(streams.stream(seed, stream), step, shape))


def drawn(name, seed, stream=1, step=0, shape=(DRAWS,)):
    found = sampler(name, shape)(np.uint32(seed), np.uint32(stream), np.uint32(step))
    return jax.tree.map(np.asarray, found)


def reference_normals(high, low):
    """Box and Muller's transform in float64, on the angle that is 1/8 turn behind ``low``."""
    radius = np.sqrt(-2 * np.log(((high >> 8) + 1.0) * 2.0**-24))
    angle = 2 * np.pi * (low * 2.0**-32 - 1 / 8)
    return radius * np.cos(angle), radius * np.sin(angle)


def correlation_bound(count):
    return 4 / np.sqrt(count)


# --- the cipher ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        # Random123's known answers for threefry2x32 with 20 rounds.
        ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_the_cipher_gives_the_published_answers(counter, key, expected):
    found = streams._threefry(Key(*map(jnp.uint32, key)), *map(jnp.uint32, counter))
    assert tuple(map(int, found)) == expected


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", [Stream.PROBLEM, Stream.KNOWLEDGE, 12345, 2**32 - 1])
def test_a_stream_is_a_key_of_jax_with_its_number_folded_in(seed, name):
    found = streams.stream(np.uint32(seed), name)
    np.testing.assert_array_equal(found, fold_in(seed, name))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_may_be_a_python_integer(seed):
    np.testing.assert_array_equal(streams.stream(seed, 1), fold_in(seed, 1))


def test_seeds_may_be_an_array():
    found = streams.stream(np.array(SEEDS, np.int64), 3)
    assert found.high.shape == (len(SEEDS),)
    np.testing.assert_array_equal(jnp.stack(found, -1), [fold_in(seed, 3) for seed in SEEDS])


def test_typed_keys_are_used_as_they_are():
    keys = jax.random.split(jax.random.key(9), (2, 3))
    expected = jax.random.key_data(jax.vmap(jax.vmap(lambda key: jax.random.fold_in(key, 2)))(keys))
    # Both words of a split key count, where a plain seed leaves the high one 0.
    assert (jax.random.key_data(keys)[..., 0] != 0).all()
    np.testing.assert_array_equal(jnp.stack(streams.stream(keys, 2), -1), expected)
    np.testing.assert_array_equal(streams.stream(jax.random.key(5), 2), streams.stream(5, 2))


@pytest.mark.parametrize("step", [0, 1, 299, 2**31 - 1])
def test_words_are_the_cipher_of_step_and_index(step):
    key = key_of(17, 2)
    high, low = streams.words(key, step, (3, 5))
    assert high.dtype == low.dtype == jnp.uint32
    expected = plain(key, step, 15)
    np.testing.assert_array_equal((high.ravel(), low.ravel()), expected)


# --- what a draw depends on ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["words", "uniforms", "normals"])
def test_runs_trail_and_a_run_gets_the_same_numbers_whatever_the_batch(name):
    draw = getattr(streams, name)
    seeds = np.array([[3, 8, 4], [2**32 - 1, 0, 5]], np.uint32)

    def leaves(seed, step):
        return jnp.stack(jax.tree.leaves(draw(streams.stream(seed, 1), step, (4, 3))))

    batch = jax.jit(leaves)(seeds, 6)
    assert batch.shape[1:] == (4, 3, 2, 3)
    one = jax.jit(leaves)
    alone = np.stack([one(seed, 6) for seed in seeds.ravel()], -1)
    np.testing.assert_array_equal(batch, alone.reshape(batch.shape))
    mapped = jax.jit(jax.vmap(jax.vmap(leaves, (0, None), -1), (0, None), -2))(seeds, 6)
    np.testing.assert_array_equal(batch, mapped)


@pytest.mark.parametrize("name", ["words", "uniforms"])
def test_jit_changes_no_bit(name):
    eager = getattr(streams, name)(key_of(3, 1), 5, (4, 3))
    np.testing.assert_array_equal(eager, drawn(name, 3, 1, 5, (4, 3)))


def test_jit_changes_normals_by_rounding_alone():
    # Compiled code may fuse a multiplication and an addition.
    eager = streams.normals(key_of(3, 1), 5, (4, 64))
    np.testing.assert_allclose(eager, drawn("normals", 3, 1, 5, (4, 64)), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", ["words", "uniforms"])
def test_more_of_the_leading_axis_leaves_the_first_as_they_were(name):
    short = np.stack(drawn(name, 3, shape=(4, 5)))
    np.testing.assert_array_equal(short, np.stack(drawn(name, 3, shape=(9, 5)))[:, :4])


def test_more_normals_of_the_leading_axis_leave_the_first_as_they_were():
    short = drawn("normals", 3, shape=(4, 5))
    np.testing.assert_array_equal(short, drawn("normals", 3, shape=(9, 5))[:4])


def test_no_two_blocks_of_streams_and_steps_are_the_same():
    places = [
        (seed, stream, step) for seed in (0, 1) for stream in Stream for step in (0, 1, 2, 255, 256)
    ]
    blocks = np.stack([drawn("words", *place, (200,)) for place in places])
    high, low = np.moveaxis(blocks, 1, 0).astype(np.uint64).reshape(2, -1)
    # 12,000 blocks of 64 bits: two meet by chance with probability 4e-12.
    assert len(np.unique(high << np.uint64(32) | low)) == len(places) * 200


@pytest.mark.parametrize("other", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_other_seeds_streams_and_steps_are_uncorrelated(other):
    first = drawn("normals", 4, 1, 6, (2**16,))
    second = drawn("normals", 4 + other[0], 1 + other[1], 6 + other[2], (2**16,))
    assert abs(np.corrcoef(first, second)[0, 1]) < correlation_bound(2**16)


# --- distributions ------------------------------------------------------------------------------


def test_uniforms_are_multiples_of_their_resolution():
    for each in drawn("uniforms", 5):
        assert each.dtype == np.float32
        assert each.min() >= 0
        assert each.max() < 1
        integers = each.astype(np.float64) * 2**21
        np.testing.assert_array_equal(integers, np.round(integers))
        # Every one of the 21 bits is set half of the time.
        set_bits = (integers.astype(np.int64)[:, None] >> np.arange(21)) & 1
        np.testing.assert_allclose(set_bits.mean(0), 0.5, atol=4 * 0.5 / np.sqrt(DRAWS))


@pytest.mark.parametrize("seed", [0, 11])
def test_uniforms_are_uniform(seed):
    for each in drawn("uniforms", seed):
        assert abs(each.mean(dtype=np.float64) - 0.5) < 4 * np.sqrt(1 / 12 / DRAWS)
        assert abs(each.var(dtype=np.float64) - 1 / 12) < 4 * np.sqrt(1 / 180 / DRAWS)
        # Half a step makes the mean of the multiples that of the interval.
        assert scipy.stats.kstest(each + 2.0**-22, "uniform").pvalue > LEVEL


def test_the_three_uniforms_of_a_block_are_independent():
    thirds = np.stack(drawn("uniforms", 2))
    for first, second in itertools.combinations(thirds, 2):
        assert abs(np.corrcoef(first, second)[0, 1]) < correlation_bound(DRAWS)
        # Neighbours in the block order as well.
        assert abs(np.corrcoef(first[1:], second[:-1])[0, 1]) < correlation_bound(DRAWS)
        cells = np.histogram2d(first, second, bins=16, range=[[0, 1], [0, 1]])[0]
        assert scipy.stats.chisquare(cells.ravel()).pvalue > LEVEL
    # No bit of a word serves two of them: the lowest bits agree with no other bit.
    bits = (thirds * 2**21).astype(np.int64)[:, None, :] >> np.arange(21)[:, None] & 1
    agreement = np.corrcoef(bits.reshape(63, -1)) - np.eye(63)
    # 1,953 pairs: 6 standard errors are passed by chance with probability 4e-6.
    assert abs(agreement).max() < 6 / np.sqrt(DRAWS)


def test_normals_are_box_and_mullers_transform_of_the_words():
    key = key_of(6, 1)
    high, low = plain(key, 3, DRAWS)
    cosine, sine = reference_normals(high, low)
    found = drawn("normals", 6, 1, 3, (2 * DRAWS,))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.concatenate((cosine, sine)), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("last", [1, 2, 3, 5, 6])
def test_the_cosine_fills_the_first_half_of_the_last_axis_the_sine_the_second(last):
    half = (last + 1) // 2
    pairs = [each.reshape(4, half) for each in reference_normals(*plain(key_of(8, 2), 1, 4 * half))]
    expected = np.concatenate(pairs, axis=1)[:, :last]
    found = drawn("normals", 8, 2, 1, (4, last))
    assert found.shape == (4, last)
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("seed", [0, 11])
def test_normals_are_normal(seed):
    found = drawn("normals", seed).astype(np.float64)
    # The nth moment of a standard normal, and the variance of its nth power.
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((found**power).mean() - moment) < 4 * np.sqrt(variance / DRAWS), power
    assert scipy.stats.kstest(found, "norm").pvalue > LEVEL


def test_the_two_halves_of_normals_are_independent():
    first, second = np.split(drawn("normals", 2, shape=(2 * DRAWS,)), 2)
    for change in (np.abs, np.square, np.asarray):
        found = np.corrcoef(change(first), change(second))[0, 1]
        assert abs(found) < correlation_bound(DRAWS)
    quantiles = [scipy.stats.norm.cdf(each) for each in (first, second)]
    cells = np.histogram2d(*quantiles, bins=16, range=[[0, 1], [0, 1]])[0]
    assert scipy.stats.chisquare(cells.ravel()).pvalue > LEVEL


def test_the_extreme_words_give_finite_normals(monkeypatch):
    extremes = np.array([0, 1, 255, 256, 2**30 - 1, 2**30, 2**31 - 1, 2**31, 2**32 - 1], np.uint32)
    high, low = (each.ravel() for each in np.meshgrid(extremes, extremes))
    monkeypatch.setattr(streams, "words", lambda *_: (jnp.asarray(high), jnp.asarray(low)))
    found = np.asarray(streams.normals(key_of(0), 0, (2 * len(high),)))
    expected = np.concatenate(reference_normals(high, low))
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)
    assert 4 < abs(found).max() < 5.77
