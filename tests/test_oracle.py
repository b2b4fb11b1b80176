"""Oracles: each against its definition, on the cuts too, and what is refused."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import ORACLES, Hints, Oracle, oracles

EVEN = np.linspace(0, 1, 1001, dtype=np.float32)

ZERO = np.float32(0)


def at_and_around(cuts):
    """Each cut and the numbers next to it on either side."""
    cuts = np.asarray(cuts, np.float32)
    infinity = np.float32(np.inf)
    return np.concatenate((np.nextafter(cuts, -infinity), cuts, np.nextafter(cuts, infinity)))


SEEN = np.concatenate((EVEN, at_and_around([0.2, 0.4, 0.5, 0.6, 0.8])))


def likert(seen, levels):
    """level / levels; a reward on a cut, as float32 holds the cut, has the level above it."""
    cuts = (np.arange(1, levels) / levels).astype(np.float32)
    return (1 + np.digitize(seen, cuts)) / levels


# SPEC section 2.
DEFINITIONS = {
    "binary": lambda seen: np.where(seen > 0.5, 1.0, 0.0),
    "ordinal": lambda seen: likert(seen, 5),
    "continuous": lambda seen: seen,
    "critique": lambda seen: seen,
    "constant": lambda seen: np.ones_like(seen),
    # What a judge saw, he says (``test_judge``).
    **dict.fromkeys(("references", "rubric", "preference", "self_judge"), lambda seen: seen),
}


@functools.cache
def heard():
    return jax.jit(oracles.feedback)


def check(given, expected, seen=SEEN):
    found = heard()(given, seen)
    assert found.dtype == jnp.float32
    # A level is the sum of up to ten rises below 1.
    np.testing.assert_allclose(found, expected, rtol=0, atol=10 * 2.0**-24)


@pytest.mark.parametrize("name", ORACLES)
def test_each_oracle_says_what_it_is_defined_to_say(name):
    check(ORACLES[name](), DEFINITIONS[name](SEEN))


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.75])
def test_binary_is_strictly_above_its_threshold(threshold):
    seen = at_and_around([threshold])
    check(oracles.binary(threshold), [0.0, 0.0, 1.0], seen)


@pytest.mark.parametrize("levels", range(2, 12))
def test_a_likert_scale_of_any_number_of_levels(levels):
    seen = np.concatenate((EVEN, at_and_around(np.arange(1, levels) / levels)))
    check(oracles.ordinal(levels), likert(seen, levels), seen)
    found = np.unique(np.asarray(heard()(oracles.ordinal(levels), seen)))
    np.testing.assert_allclose(found, np.arange(1, levels + 1) / levels, atol=1e-6)


def test_two_levels_differ_from_binary():
    # 1/2 and 1 where binary says 0 and 1, and the cut belongs to the level above.
    check(oracles.ordinal(2), [0.5, 1.0, 1.0], at_and_around([0.5]))


@pytest.mark.parametrize("name", ORACLES)
def test_feedback_rises_within_its_range(name):
    found = np.asarray(heard()(ORACLES[name](), np.sort(SEEN)))
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_a_constant_oracle_says_its_value(value):
    check(oracles.constant(value), np.full_like(SEEN, value))


@pytest.mark.parametrize("reading", oracles.READINGS)
def test_a_critique_has_one_reading(reading):
    given = oracles.critique(reading)
    weights = {name: float(getattr(given.hints, name)) for name in oracles.READINGS}
    assert weights == {name: float(name == reading) for name in oracles.READINGS}
    check(given, SEEN)


def test_an_oracle_of_the_users_own():
    # Half of the reward, and a jump where it passes 0.7, on top of 0.1.
    mine = Oracle(np.float32(0.5), np.float32(0.1), np.float32([0.7]), np.float32([0.375]))
    oracles.check_oracle(mine)
    check(mine, 0.1 + 0.5 * SEEN + np.where(np.float32(0.7) <= SEEN, 0.375, 0.0))


def test_a_falling_step_and_a_negative_gain():
    mine = Oracle(
        np.float32(-0.25), np.float32(1), np.float32([0.25, 0.5]), np.float32([-0.5, 0.5])
    )
    oracles.check_oracle(mine)
    dip = (np.float32(0.25) <= SEEN) & (np.float32(0.5) > SEEN)
    check(mine, 1 - 0.25 * SEEN - np.where(dip, 0.5, 0.0))


def test_the_noisy_reward_is_clipped():
    reward = np.float32([0.5, 0.5, 0.9, 0.1, 0.0, 1.0])
    noise = np.float32([0.25, -0.75, 0.2, -0.2, 0.0, 1e9])
    found = oracles.noisy_reward(reward, noise)
    np.testing.assert_array_equal(found, np.float32([0.75, 0.0, 1.0, 0.0, 0.0, 1.0]))


# --- levels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 3, 5, 11])
def test_level_frequencies_count_the_rollouts_of_each_level(levels):
    given = oracles.ordinal(levels)
    # Two runs, and none of the first's rollouts in the upper half.
    seen = np.random.default_rng(levels).uniform(size=(40, 2)).astype(np.float32) * [0.5, 1.0]
    seen = seen.astype(np.float32)
    values = np.asarray(oracles.level_values(given))
    found = jax.jit(oracles.level_frequencies)(given, seen)
    np.testing.assert_allclose(values, np.arange(1, levels + 1) / levels, rtol=1e-6)
    expected = np.zeros((levels, 2))
    for run in range(2):
        said, counts = np.unique(
            np.round(likert(seen[:, run], levels) * levels), return_counts=True
        )
        expected[said.astype(int) - 1, run] = counts / 40
    assert (expected[-1] == 0).any()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # The mean over levels is the mean over rollouts.
    np.testing.assert_allclose(values @ found, heard()(given, seen).mean(0), rtol=1e-6)


@pytest.mark.parametrize("value", [0.25, 1.0])
def test_an_oracle_without_cuts_has_one_level(value):
    given = oracles.constant(value)
    np.testing.assert_array_equal(oracles.level_values(given), [value])
    np.testing.assert_array_equal(oracles.level_frequencies(given, EVEN), [1.0])


def test_binary_has_two_levels():
    given = oracles.binary()
    np.testing.assert_array_equal(oracles.level_values(given), [0.0, 1.0])
    seen = np.float32([0.25, 0.5, 0.75, 1.0])
    np.testing.assert_array_equal(oracles.level_frequencies(given, seen), [0.5, 0.5])


# --- oracles as data ----------------------------------------------------------------------------


def scale_of(threshold, low, high):
    """Five-point scales with cuts of their own, all of one structure."""
    cuts = np.linspace(threshold, 0.9, 4, dtype=np.float32)
    return Oracle(None, np.float32(low), cuts, np.full(4, (high - low) / 4, np.float32))


SCALES = [scale_of(0.1, 0.0, 1.0), scale_of(0.3, 0.2, 0.6), oracles.ordinal()]
SCALE_REFERENCES = [
    lambda seen: np.digitize(seen, np.linspace(0.1, 0.9, 4, dtype=np.float32)) * 0.25,
    lambda seen: 0.2 + np.digitize(seen, np.linspace(0.3, 0.9, 4, dtype=np.float32)) * 0.1,
    lambda seen: likert(seen, 5),
]


def test_one_program_maps_over_a_batch_of_oracles():
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *SCALES)
    found = jax.jit(jax.vmap(oracles.feedback, (0, None)))(stacked, SEEN)
    for row, reference in zip(found, SCALE_REFERENCES, strict=True):
        np.testing.assert_allclose(row, reference(SEEN), atol=1e-6)


def test_an_oracles_arrays_may_carry_runs_behind():
    trailing = jax.tree.map(lambda *leaves: np.stack(leaves, -1), *SCALES)
    oracles.check_oracle(trailing)
    seen = np.stack([SEEN, SEEN[::-1], SEEN], -1)
    found = heard()(trailing, seen)
    frequencies = oracles.level_frequencies(trailing, seen)
    for run, reference in enumerate(SCALE_REFERENCES):
        np.testing.assert_allclose(found[:, run], reference(seen[:, run]), atol=1e-6)
        alone = oracles.level_values(SCALES[run])
        np.testing.assert_allclose(oracles.level_values(trailing)[:, run], alone, rtol=1e-6)
        alone = oracles.level_frequencies(SCALES[run], seen[:, run])
        np.testing.assert_allclose(frequencies[:, run], alone, atol=1e-6)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ORACLES)
def test_the_librarys_own_oracles_are_accepted(name):
    oracles.check_oracle(ORACLES[name]())


def levels(cuts, rises, base=0.0, gain=None, hints=None):
    return Oracle(gain, np.float32(base), np.float32(cuts), np.float32(rises), hints)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (levels([np.nan], [1.0]), ["nan", "finite"]),
        (levels([0.5], [np.inf]), ["inf", "finite"]),
        (levels([], [], base=np.nan), ["nan", "finite"]),
        (levels([*np.arange(1, 20) / 20, np.nan], [0.05] * 20), ["nan", "finite"]),
        (levels([], [], gain=np.float32(np.nan)), ["nan", "finite"]),
        (levels([], [], hints=Hints(ZERO, np.float32(np.nan), ZERO)), ["nan", "finite"]),
        (levels([0.6, 0.4], [0.5, 0.5]), ["cuts", "0.6", "0.4", "ascending"]),
        (levels([0.5, 0.6], [1.0]), ["cuts", "(2,)", "rises", "(1,)", "one rise for each cut"]),
        (levels([0.5], [0.5, 0.5]), ["cuts", "(1,)", "rises", "(2,)", "one rise for each cut"]),
        (levels(0.5, 1.0), ["cuts", "()", "one rise for each cut"]),
        (levels([0.5], [1.5]), ["from 0 to 1.5", "0 to 1"]),
        (levels([0.5], [0.5], base=-0.25), ["from -0.25 to 0.25", "0 to 1"]),
        (levels([], [], base=1.25), ["from 1.25 to 1.25", "0 to 1"]),
        (levels([], [], gain=np.float32(2)), ["from 0 to 2", "0 to 1"]),
        (levels([], [], gain=np.float32(-0.5)), ["from -0.5 to 0", "0 to 1"]),
        # Too low between the cuts alone: the ends are fine.
        (levels([0.4, 0.6], [-0.75, 0.75], base=0.5), ["from -0.25 to 0.5", "0 to 1"]),
        # Too high at the end of a piece, below the cut where it falls again.
        (levels([0.5], [-0.8], gain=np.float32(1), base=0.8), ["from 0.5 to 1.3", "0 to 1"]),
    ],
)
def test_a_refused_oracle_is_told_in_one_line_with_its_numbers(given, words):
    with pytest.raises(ValueError) as error:
        oracles.check_oracle(given)
    message = str(error.value)
    assert message.startswith("oracle: ")
    assert "allowed: " in message
    assert "\n" not in message
    for word in words:
        assert word in message


def test_traced_numbers_are_not_checked():
    @jax.jit
    def heard_of(base):
        given = levels([0.5], [0.5])
        given = Oracle(None, base, given.cuts, given.rises)
        oracles.check_oracle(given)
        return oracles.feedback(given, jnp.float32([0.25, 0.75]))

    np.testing.assert_array_equal(heard_of(7.0), [7.0, 7.5])


@pytest.mark.parametrize("count", [1, 0, -3])
def test_a_scale_has_two_levels_or_more(count):
    with pytest.raises(ValueError, match=f"levels: {count}; allowed: integers, 2 to 10000"):
        oracles.ordinal(count)


def test_an_unknown_reading_is_refused():
    with pytest.raises(ValueError, match="reading: 'tokn'; allowed: position, token, sampled"):
        sdpo_jax.critique("tokn")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_no_number_has_no_feedback(value):
    with pytest.raises(ValueError, match=r"^seen: (nan|-?inf); allowed: .*finite numbers$"):
        oracles.feedback(oracles.ordinal(), jnp.float32([0.5, value]))
