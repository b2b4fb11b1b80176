"""The numbers and sizes of an experiment: what is allowed, and what is said where it is not."""

from __future__ import annotations

import math
from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdpo_jax import ALGORITHMS, Config, Program, Sizes
from sdpo_jax import config as configs
from sdpo_jax.config import check_config, check_sizes
from sdpo_jax.policies import MAX_VOCAB_SIZE
from sdpo_jax.program import checked_numbers, numbers_of_program

FIELDS = [field.name for field in fields(Config)]
# Every number of a part's own, with an algorithm whose program has it.
OWN = {
    number: (name, rule.rule)
    for name in ALGORITHMS
    for number, rule in numbers_of_program(Program(name)).items()
}
NAMES = [*FIELDS, *OWN]
ANYTHING = {
    *("bias", "sign", "pattern_weight"),
    *("demonstration_strength", "entropy_bonus", "final_strength"),
}
FRACTIONS = {
    *("knowledge", "learn_from_feedback"),
    *("dense_share", "divergence_mix", "teacher_rate", "trust"),
}
POSITIVE = {"hybrid_threshold", "dpo_strength", "attention_temperature", "temperature"}
STRENGTH = {"feedback_strength"}
NOT_NEGATIVE = set(NAMES) - ANYTHING - FRACTIONS - POSITIVE - STRENGTH

TINY = math.ulp(0.0)
# The least number that is still itself in float32.
LEAST = float(np.finfo(np.float32).tiny)
ABOVE_ONE = math.nextafter(1.0, 2.0)

ACCEPTED = [
    *((name, value) for name in sorted(ANYTHING) for value in (-1e6, -LEAST, 0.0, 1e6)),
    *(("feedback_strength", value) for value in (-1e3, -LEAST, 0.0, 1e3)),
    *((name, value) for name in sorted(FRACTIONS) for value in (0.0, LEAST, 1.0)),
    *((name, value) for name in sorted(POSITIVE) for value in (LEAST, 1e6)),
    *((name, value) for name in sorted(NOT_NEGATIVE) for value in (-0.0, 0.0, LEAST, 1e6)),
]
REFUSED = [
    *(("feedback_strength", value, "-1000 to 1000") for value in (-1000.001, 1000.001)),
    *((name, value, "0 to 1") for name in sorted(FRACTIONS) for value in (-TINY, ABOVE_ONE)),
    *((name, value, "above 0") for name in sorted(POSITIVE) for value in (-TINY, 0.0)),
    *((name, -TINY, "0 or more") for name in sorted(NOT_NEGATIVE)),
]
ALLOWED = (
    dict.fromkeys(ANYTHING, "any finite number")
    | dict.fromkeys(FRACTIONS, "0 to 1")
    | dict.fromkeys(POSITIVE, "above 0")
    | dict.fromkeys(NOT_NEGATIVE, "0 or more")
    | dict.fromkeys(STRENGTH, "-1000 to 1000")
)


def refusal(check, *arguments):
    with pytest.raises(ValueError) as error:
        check(*arguments)
    message = str(error.value)
    assert "\n" not in message
    return message


def check_value(name, value):
    configs.check_value(name, value, OWN[name][1] if name in OWN else None)


def check_all(name, value):
    """As part of all the numbers of a program."""
    if name in OWN:
        checked_numbers(Program(OWN[name][0]), None, {name: value})
    else:
        check_config(Config(**{name: value}))


def test_the_numbers_of_parts_are_those_that_were_meant():
    assert OWN.keys() == {
        *("hybrid_threshold", "clip", "preference_sharpness", "dpo_strength", "model_rate"),
        *("dense_share", "attention_temperature", "divergence_mix", "teacher_rate", "trust"),
        *("demonstration_strength", "temperature", "entropy_bonus", "final_strength"),
        *("quality_scale", "bigram_scale", "pattern_weight", "init_scale"),
    }


def test_the_defaults_are_allowed():
    check_config(Config())
    check_sizes(Sizes())


@pytest.mark.parametrize(("name", "value"), ACCEPTED)
def test_the_bounds_are_allowed(name, value):
    check_value(name, value)
    check_all(name, value)


@pytest.mark.parametrize(("name", "value", "allowed"), REFUSED)
def test_just_past_a_bound_is_refused(name, value, allowed):
    assert refusal(check_value, name, value) == f"{name}: {value!r}; allowed: {allowed}"
    assert refusal(check_all, name, value).startswith(f"{name}: {value!r}; ")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_every_number_must_be_finite(name, value):
    message = refusal(check_all, name, value)
    assert message == f"{name}: {value!r}; allowed: {ALLOWED[name]}"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_a_number_is_refused(name):
    for value in ("loud", 1j, [0.1, [0.2]], object):
        message = refusal(check_value, name, value)
        assert message == f"{name}: {value!r} is not a number; allowed: {ALLOWED[name]}"


@pytest.mark.parametrize(
    ("value", "number", "given"),
    [
        (TINY, TINY, "0.0"),
        (LEAST / 2, LEAST / 2, "0.0"),
        (1e39, 1e39, "inf"),
        ([0.1, 1e39], 1e39, "inf"),
        (np.array([1.0, 1e-50]), 1e-50, "0.0"),
    ],
)
@pytest.mark.parametrize("name", sorted(set(NAMES) - FRACTIONS - STRENGTH))
def test_a_number_that_is_another_one_in_float32_is_refused(name, value, number, given):
    message = refusal(check_value, name, value)
    assert message.startswith(f"{name}: {number!r} is {given} as a float32; allowed: ")
    assert ALLOWED[name] in message


def test_a_long_value_is_cut_in_its_message():
    for value in ("x" * 10**6, "a\nb\r\u2028c", 10**400):
        message = refusal(check_config, Config(noise=value))
        assert message.startswith("noise: ")
        assert len(message) < 200
        assert len(message.splitlines()) == 1


def test_a_text_of_digits_is_not_a_number():
    # No array program takes one, though NumPy would convert it.
    assert "'0.5'" in refusal(check_config, Config(noise="0.5"))


def test_one_bad_entry_of_an_array_is_enough():
    for array in (np.array([[0.1, 0.2], [0.3, -0.5]]), jnp.array([[0.1, 0.2], [0.3, -0.5]])):
        assert refusal(check_value, "noise", array) == "noise: -0.5; allowed: 0 or more"
        check_value("noise", abs(array))


@pytest.mark.parametrize("number", [1, np.float32(1), np.int64(1), np.ones(3), jnp.ones((2, 3))])
def test_numbers_may_be_of_any_kind(number):
    for name in NAMES:
        check_value(name, number)


def test_traced_values_pass():
    def checked(value):
        check_config(Config(**dict.fromkeys(FIELDS, value)))
        return value

    assert jax.jit(checked)(-1.0) == -1.0
    assert jnp.isnan(jax.vmap(checked)(jnp.array([jnp.nan]))).all()
    # One traced field hides nothing of the others.
    with pytest.raises(ValueError, match="kl_weight"):
        jax.jit(lambda value: check_config(Config(noise=value, kl_weight=-1.0)))(0.1)


def test_a_configuration_is_a_tree_of_its_numbers():
    leaves, structure = jax.tree.flatten(Config())
    assert len(leaves) == len(FIELDS)
    assert jax.tree.unflatten(structure, leaves) == Config()
    doubled = jax.tree.map(lambda leaf: 2 * leaf, Config())
    assert doubled.learning_rate == 2 * Config().learning_rate


@pytest.mark.parametrize(
    ("name", "bounds", "beyond", "allowed"),
    [
        ("length", (1, 10**6), (0, -1), "1 or more"),
        ("vocab_size", (2, MAX_VOCAB_SIZE), (1, MAX_VOCAB_SIZE + 1), f"2 to {MAX_VOCAB_SIZE}"),
        ("rollouts", (1, 10**6), (0, -1), "1 or more"),
        ("steps", (20, 10**9), (0, -1), "1 or more"),
        ("final_window", (1, 300), (0, 301), "1 to 300"),
        ("epochs", (1, 10**6), (0, -1), "1 or more"),
        ("teachers", (1, 1024), (0, -1, 1025), "1 to 1024"),
        ("samples", (1, 1024), (0, -1, 1025), "1 to 1024"),
        ("top_k", (1, 10**6), (0, -1), "1 or more"),
    ],
)
def test_sizes(name, bounds, beyond, allowed):
    for value in bounds:
        check_sizes(Sizes(**{name: value}))
        check_sizes(Sizes(**{name: np.int64(value)}))
    # A whole number is not enough, and a truth value is not a size.
    for value in (*beyond, float(bounds[0]), 2.5, True, str(bounds[0]), None):
        message = refusal(check_sizes, Sizes(**{name: value}))
        assert message == f"{name}: {value!r}; allowed: integers, {allowed}"


def test_the_final_window_fits_into_the_steps():
    check_sizes(Sizes(steps=1, final_window=1))
    message = refusal(check_sizes, Sizes(steps=19))
    assert message == "final_window: 20; allowed: integers, 1 to 19"
