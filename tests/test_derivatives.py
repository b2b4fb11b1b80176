"""Derivatives of a run by every number against differences, also at the ends.

The sampled tokens are held: a run has no derivative by what they would become. Steps are so small
that no token moves, and few so that float32 leaves digits.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import Config, Judge, Program, Sizes
from tests.every_number import FIELDS, Numbers
from tests.quickly import QUICKLY

SIZES = Sizes(length=2, vocab_size=3, rollouts=6, steps=2, final_window=1, samples=1, teachers=2)
SEED = 4
NAMES = FIELDS

# Who reads a number that SDPO does not, and where it is asked: default and ends of its range.
READERS = {
    "hybrid_threshold": ("hybrid", (0.15, 2.0)),
    "learn_from_feedback": ("reinforce", (0.0, 0.4, 1.0)),
    "preference_sharpness": ("dpo", (10.0, 0.0)),
    "dpo_strength": ("dpo", (1.0, 0.1)),
    "model_rate": ("rlhf", (0.1, 0.0)),
    "dense_share": ("dense_reward", (1.0, 0.0)),
    "attention_temperature": ("dense_reward", (1.0, 0.3)),
    "divergence_mix": ("sdpo_jsd", (0.5, 0.2)),
    "teacher_rate": ("sdpo_forward_ema", (0.05, 0.0, 1.0)),
    "trust": ("sdpo_forward_trust", (0.5, 0.0, 1.0)),
    "demonstration_strength": ("sdft", (2.0, 0.0)),
    "temperature": ("distillation", (2.0, 0.5)),
    "entropy_bonus": ("sdpo_entropy", (0.05, 0.0)),
    "final_strength": ("sdpo_annealed", (0.0, 1.0)),
    "clip": ("ppo", (0.2,)),
    "knowledge": ("sdpo", (0.7, 0.0)),
    "noise": ("sdpo", (0.0, 0.05)),
    "hint_noise": ("sdpo", (0.45, 0.2)),
    "bias": ("sdpo", (0.0, 0.1)),
    "learning_rate": ("sdpo", (0.02, 0.0)),
    "kl_weight": ("sdpo", (0.01, 0.0)),
    "init_scale": ("sdpo", (0.1, 0.0)),
    "quality_scale": ("sdpo", (1.0, 0.0)),
    "bigram_scale": ("sdpo", (0.3, 0.0)),
}
# Each the only one of its program, in a place where another is already.
SLOW = {"preference_sharpness", "temperature", "final_strength", "clip", "demonstration_strength"}
# Those by which this run does not move while its tokens are held.
FLAT = {"preference_sharpness", "clip"}


def outcome(algorithm, config, oracle):
    """A smooth number of a run: its last logits against fixed weights, after two large steps."""
    program = Program(algorithm, SIZES, metrics=("mean_feedback",))
    own = config.own(program)
    result = sdpo_jax.train(SEED, program, config.config, oracle, numbers=own)
    weights = np.random.default_rng(0).normal(size=result.logits.shape).astype(np.float32)
    return (result.logits * weights).sum() + result.final["mean_feedback"]


@pytest.fixture(scope="module")
def evaluated():
    """By algorithm, the outcome and its derivative along some numbers, compiled once."""
    kept = {}

    def functions(algorithm):
        if algorithm not in kept:
            # The hints are heard by what reads lessons.
            oracle = sdpo_jax.critique() if algorithm == "sdpo" else sdpo_jax.continuous()

            def moved(config, along):
                return jax.jvp(lambda each: outcome(algorithm, each, oracle), (config,), (along,))

            kept[algorithm] = jax.jit(jax.vmap(moved), compiler_options=QUICKLY)
        return kept[algorithm]

    return functions


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NAMES],
)
def test_a_derivative_is_that_of_differences(evaluated, name):
    algorithm, places = READERS.get(name, ("sdpo", (getattr(Numbers(), name),)))
    base = Numbers(learning_rate=1.0, kl_weight=0.3, knowledge=0.7, noise=0.02)
    for place in places:
        # A fourth-order formula, one-sided where the number must not be negative.
        width = 4e-3
        low = place < 0.1 or name in ("trust", "teacher_rate", "dense_share")
        side = -1 if low and place == 1.0 else 1
        steps, weights = {
            True: (np.arange(5) * side, np.array([-25, 48, -36, 16, -3]) / 12 * side),
            False: (np.array([0, -2, -1, 1, 2]), np.array([0, 1, -8, 8, -1]) / 12),
        }[low]
        values = np.float32(place + width * steps)
        columns = {each: np.full(5, getattr(base, each), np.float32) for each in NAMES}
        along = dict.fromkeys(NAMES, np.zeros(5, np.float32)) | {name: np.ones(5, np.float32)}
        found, slopes = evaluated(algorithm)(
            Numbers(**(columns | {name: values})), Numbers(**along)
        )
        expected = float(np.asarray(found, np.float64) @ weights) / width
        slope = float(slopes[0])
        # Five outcomes of size 1, each right to about 3e-7.
        assert abs(slope - expected) < 1e-3 * abs(expected) + 2e-3, (name, place, slope, expected)
        if name not in FLAT:
            assert abs(slope) > 1e-4, (name, place)


def test_every_derivative_at_the_defaults_is_finite_but_that_of_perfect_knowledge():
    program = Program("sdpo", SIZES, metrics=("reward",))

    @partial(jax.jit, compiler_options=QUICKLY)
    def slopes(config):
        slope = jax.grad(lambda each: sdpo_jax.train(SEED, program, each).logits[0, 0])(config)
        # Forwards too: what does not move by knowledge is not spoilt by its infinite slope.
        _, forward = jax.linearize(lambda each: sdpo_jax.train(SEED, program, each), config)
        moved = jax.tree.map(jnp.zeros_like, config)
        return slope, forward(replace(moved, learning_rate=jnp.float32(1))).logits[0, 0]

    found, forward = slopes(jax.tree.map(jnp.float32, Config()))
    infinite = [each.name for each in fields(Config) if not abs(getattr(found, each.name)) < 1e30]
    assert infinite == ["knowledge"]
    np.testing.assert_allclose(forward, found.learning_rate, rtol=1e-4)


def test_the_derivative_by_perfect_knowledge_is_refused_where_it_is_seen():
    program = Program("sdpo", SIZES, metrics=("reward",))

    def last(knowledge):
        return sdpo_jax.train(SEED, program, Config(knowledge=knowledge)).logits[0, 0]

    with pytest.raises(ValueError, match=r"^knowledge: 1\.0, where its derivative is infinite"):
        jax.grad(last)(1.0)


@pytest.mark.parametrize("look", ["halo", "likelihood"])
def test_a_judge_that_does_not_look_has_the_derivative_of_one_that_begins_to(look):
    program = Program("reinforce", SIZES, metrics=("mean_feedback",))
    config = Config(learn_from_feedback=1.0)

    @partial(jax.jit, compiler_options=QUICKLY)
    @jax.value_and_grad
    def heard(strength):
        oracle = sdpo_jax.judged(**{look: 0.0})
        oracle = replace(oracle, judge=replace(oracle.judge, **{look: strength}))
        return sdpo_jax.train(SEED, program, config, oracle).mean["mean_feedback"]

    (start, slope), (end, _) = heard(0.0), heard(1e-2)
    assert isinstance(Judge().halo, float)
    np.testing.assert_allclose(slope, (end - start) / 1e-2, rtol=2e-2, atol=1e-4)
    assert abs(slope) > 1e-3
