"""A ladder of probe problems, each with one difficulty more, and how far each algorithm climbs.

One position and two tokens; more tokens; more positions; bigrams; noise in the feedback. An
algorithm that falls at a rung does so for a reason that is stated, and is expected to.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import jax
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import ALGORITHMS, Program, Sizes
from tests.every_number import Numbers

SEEDS = 12
# Climb like another one of the ladder, of which they are variants.
VARIANTS = {"grpo", "ppo", "dense_reward", "process_reward", "rlhf", "sdpo_reverse"}
SOLVED, FAILED = 0.85, 0.75

_PLAIN = Numbers(
    quality_scale=1.5,
    bigram_scale=0.0,
    pattern_weight=0.0,
    kl_weight=0.0,
    learn_from_feedback=1.0,
    demonstration_strength=3.0,
    model_rate=0.5,
    dense_share=0.5,
)
_SIZES = Sizes(rollouts=16, steps=200, final_window=20)
RUNGS = {
    "two tokens": (replace(_SIZES, length=1, vocab_size=2), _PLAIN),
    "tokens": (replace(_SIZES, length=1, vocab_size=6), _PLAIN),
    "positions": (replace(_SIZES, length=4, vocab_size=4), _PLAIN),
    "bigrams": (replace(_SIZES, length=4, vocab_size=4), replace(_PLAIN, bigram_scale=2.0)),
    "noise": (replace(_SIZES, length=4, vocab_size=4), replace(_PLAIN, noise=0.5)),
}

# Learning rate, what else differs, and what the algorithm is told, which says where it falls.
#
# "reward": solves all that can be learned from rewards; noise in them costs it.
# "asks": the reward of any sequence or the solution: noise in the feedback does not reach it.
# "table": q itself, so noise costs nothing, but bigrams are not in q: it ends where q points.
# "stays": a fixed teacher of finite strength, which its student can match and not pass.
# "nothing": pushed where rollouts and table agree to be bad as much as where they agree to be good.
LADDER = {
    "reinforce": (10.0, {}, "reward"),
    "grpo": (3.0, {}, "reward"),
    "ppo": (10.0, {}, "reward"),
    "dpo": (10.0, {"preference_sharpness": 100.0}, "reward"),
    "rlhf": (0.3, {"preference_sharpness": 30.0}, "reward"),
    "sdft": (1.0, {}, "reward"),
    "process_reward_learned": (10.0, {}, "reward"),
    "dense_reward": (10.0, {}, "reward"),
    "scar": (10.0, {}, "asks"),
    "process_reward": (10.0, {}, "asks"),
    "opsd": (30.0, {"demonstration_strength": 8.0}, "asks"),
    "sdpo": (3.0, {}, "table"),
    "sdpo_reverse": (3.0, {}, "table"),
    "sdpo_jsd": (30.0, {}, "table"),
    "distillation": (3.0, {"feedback_strength": 0.5}, "stays"),
    "advantage_weighted": (10.0, {}, "nothing"),
}


@partial(jax.jit, static_argnames="program", compiler_options={"xla_backend_optimization_level": 1})
def _train(program, config):
    own = config.own(program)
    return sdpo_jax.train(np.arange(SEEDS), program, config.config, numbers=own).final["optimality"]


def told(*what):
    """The algorithms of the ladder that are told one of these."""
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in VARIANTS else [])
        for name in LADDER
        if LADDER[name][2] in what
    ]


@cache
def climbed(algorithm):
    """Mean optimality over seeds on each rung."""
    rate, numbers, _ = LADDER[algorithm]
    found = {}
    for rung, (sizes, config) in RUNGS.items():
        program = Program(algorithm, sizes, metrics=("optimality",))
        given = replace(config, learning_rate=rate, **numbers)
        found[rung] = float(_train(program, given).mean())
    return found


@pytest.mark.parametrize("algorithm", told("reward", "asks"))
def test_what_learns_from_rewards_solves_tokens_positions_and_bigrams(algorithm):
    found = climbed(algorithm)
    for rung in ("two tokens", "tokens", "positions", "bigrams"):
        assert found[rung] > SOLVED, found


@pytest.mark.parametrize("algorithm", told("reward"))
def test_noise_costs_those_who_learn_from_the_feedback(algorithm):
    found = climbed(algorithm)
    assert found["noise"] < found["positions"] - 0.05, found


@pytest.mark.parametrize("algorithm", told("asks", "table"))
def test_noise_does_not_reach_those_who_need_no_feedback(algorithm):
    found = climbed(algorithm)
    assert abs(found["noise"] - found["positions"]) < 0.02, found


@pytest.mark.parametrize("algorithm", told("table"))
def test_a_table_of_quality_solves_what_quality_decides_and_no_bigrams(algorithm):
    found = climbed(algorithm)
    for rung in ("two tokens", "tokens", "positions"):
        assert found[rung] > SOLVED, found
    assert found["bigrams"] < FAILED, found


def test_a_fixed_teacher_is_matched_and_not_passed():
    found = climbed("distillation")
    for rung in ("tokens", "positions", "bigrams"):
        assert 0.2 < found[rung] < FAILED, found


def test_a_product_of_two_advantages_solves_nothing():
    found = climbed("advantage_weighted")
    for rung, value in found.items():
        assert value < 0.3, (rung, found)


def test_every_rung_is_a_registered_algorithms():
    assert set(LADDER) <= set(ALGORITHMS)
