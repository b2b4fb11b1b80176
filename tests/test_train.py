"""The training run: optimisers, seeds, records, transformations, and parts of one's own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sdpo_jax
from sdpo_jax import (
    ALGORITHMS,
    METRICS,
    ORACLES,
    Algorithm,
    Config,
    Metric,
    Oracle,
    Problem,
    Program,
    Sizes,
    Update,
    teachers,
)
from sdpo_jax.algorithm import what_is_told
from sdpo_jax.program import needs_teacher

SIZES = Sizes(length=3, vocab_size=4, rollouts=5, steps=10, final_window=4)
SEEDS = np.arange(4)
# The paper's, one with lessons, and some with memories: what differs for the engine.
SOME_ALGORITHMS = [
    *("sdpo", "reinforce", "advantage_weighted", "hybrid"),
    *("sdpo_jsd_trust", "sdft", "rlhf", "scar"),
]
NAMES = [field.name for field in fields(Config)]


def numbers(**changes):
    """Numbers with which a run of a few steps does move, and is held back; for four runs."""
    config = replace(Config(learning_rate=1.0, kl_weight=0.5, noise=0.2), **changes)
    leaves = {name: np.float32(getattr(config, name)) for name in NAMES}
    return Config(**{name: np.broadcast_to(leaf, SEEDS.shape) for name, leaf in leaves.items()})


def program(algorithm="sdpo", **options):
    return Program(algorithm, **{"sizes": SIZES, **options})


# Compiled once for each program and shape, so tests keep to a few of both.
train = jax.jit(sdpo_jax.train, static_argnames="program")
init = jax.jit(sdpo_jax.init, static_argnames="program")
step = jax.jit(sdpo_jax.step, static_argnums=0)

CURVES = program(metrics=("reward", "entropy"), record=("reward", "entropy"))


def close(found, expected, **names):
    # A few roundings of numbers of size 1 to 10, over a few steps.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, **names)


def same(first, second):
    leaves = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(np.array_equal(one, other) for one, other in leaves)


# Optimisers

SLOPE = np.arange(12, dtype=np.float32).reshape(3, 4) / 8 - 0.5


def leans(*, policy, config):
    """An algorithm of one's own that needs no rollouts: a parabola, steeper in some runs."""
    tilt = SLOPE.reshape(SLOPE.shape + (1,) * (policy.logits.ndim - 2))
    return Update(config.feedback_strength * (policy.logits - tilt))


def clipped(learning_rate):
    return optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(learning_rate))


def plain_steps(rates, gradients):
    return (-rates * gradient for gradient in gradients)


def adams_steps(rates, gradients):
    first = second = 0.0
    for count, gradient in enumerate(gradients, start=1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        spread = np.sqrt(second / (1 - 0.999**count)) + 1e-8
        yield -rates * (first / (1 - 0.9**count)) / spread


def momentums_steps(rates, gradients):
    velocity = 0.0
    for gradient in gradients:
        velocity = 0.9 * velocity + gradient
        yield -rates * velocity


def clipped_steps(rates, gradients):
    for gradient in gradients:
        norm = np.sqrt((gradient**2).sum((0, 1)))
        assert norm.min() < 0.5 < norm.max()
        yield -rates * gradient * np.minimum(1, 0.5 / norm)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (optax.sgd, plain_steps),
        (optax.adam, adams_steps),
        (partial(optax.sgd, momentum=0.9), momentums_steps),
        (clipped, clipped_steps),
    ],
    ids=["sgd", "adam", "momentum", "clipped"],
)
def test_an_optimiser_sees_one_run_at_a_time(optimizer, expected):
    optimised = program(leans, optimizer=optimizer)
    rates = np.array([0.0, 0.3, 0.8, 0.3])
    config = numbers(learning_rate=rates, feedback_strength=np.array([1.5, 1.5, -0.7, 0.1]))

    @jax.jit
    def descend():
        setting, state = sdpo_jax.init(SEEDS, optimised, config)
        logits, directions = [state.params], []
        for index in range(3):
            state, view = sdpo_jax.step(optimised, setting, state, index)
            logits.append(state.params)
            directions.append(view.direction)
        return logits, directions

    found, directions = descend()
    gradients = [-np.asarray(direction, np.float64) for direction in directions]
    logits = np.asarray(found[0], np.float64)
    for after, change in zip(found[1:], expected(rates, gradients), strict=True):
        logits = logits + change
        close(after, logits)
    # A learning rate of 0 leaves the logits as they are.
    np.testing.assert_array_equal(found[-1][..., 0], found[0][..., 0])


def test_a_batch_of_runs_is_each_run_alone():
    optimised = program(leans, metrics=("entropy",), optimizer=clipped)
    config = numbers(learning_rate=np.array([0.1, 0.3, 0.8, 0.3]))
    together = train(SEEDS, optimised, config)
    for run in range(len(SEEDS)):
        alone = train(SEEDS[[run]], optimised, jax.tree.map(lambda leaf, i=run: leaf[[i]], config))
        jax.tree.map(lambda one, many, i=run: close(one[..., 0], many[..., i]), alone, together)


def test_runs_may_have_any_number_of_axes():
    flat = train(SEEDS, CURVES, numbers())
    folded = train(SEEDS.reshape(2, 2), CURVES, jax.tree.map(lambda x: x[:2], numbers()))
    assert folded.logits.shape == (3, 4, 2, 2)
    jax.tree.map(lambda x, y: close(x.reshape(*x.shape[:-2], 4), y), folded, flat)


def test_the_defaults_are_the_papers():
    result = jax.eval_shape(sdpo_jax.train, 0)
    assert result.logits.shape == (6, 8)
    assert set(result.final) == set(result.mean) == {"reward", "credit", "entropy"}
    assert result.curves == {}


# Seeds and problems


def dealt(setting, state, view):
    """What a run is dealt: its problem, first logits, first rollouts and what is drawn later."""
    return {
        "problem": setting.problem,
        "knowledge": setting.knowledge,
        "logits": state.params,
        "tokens": view.tokens,
        "keys": (setting.rollout_key, setting.noise_key, setting.hint_key),
    }


@partial(jax.jit, static_argnames="algorithm")
def deal(seed, config, oracle=None, algorithm="reinforce", **options):
    setting, state = sdpo_jax.init(seed, program(algorithm), config, oracle, **options)
    return dealt(setting, state, sdpo_jax.step(program(algorithm), setting, state, 0)[1])


@pytest.mark.parametrize("algorithm", SOME_ALGORITHMS)
def test_runs_of_one_seed_are_paired_whatever_the_algorithm(algorithm):
    setting, state = init(SEEDS, program(algorithm), numbers())
    _, view = step(program(algorithm), setting, state, 0)
    assert same(dealt(setting, state, view), deal(SEEDS, numbers()))


def test_runs_of_one_seed_are_paired_whatever_the_oracle_and_the_numbers():
    other = numbers(learning_rate=0.1, kl_weight=0, feedback_strength=3, noise=0, bias=0.1)

    @jax.jit
    def deal_all(config):
        return [deal(SEEDS, config, oracle()) for oracle in ORACLES.values()]

    expected = deal(SEEDS, numbers())
    for name, found in zip(ORACLES, deal_all(other), strict=True):
        assert same(found, expected), name


def test_seeds_differ_in_everything():
    first, second = deal(SEEDS, numbers()), deal(SEEDS + 4, numbers())
    for name, value in first.items():
        assert not same(value, second[name]), name
        assert not any(same(leaf[..., 0], leaf[..., 1]) for leaf in varying(value)), name


def varying(tree):
    # The weight of the pattern is a number that all seeds share.
    return [leaf for leaf in jax.tree.leaves(tree) if np.unique(leaf).size > 1]


def test_the_problem_may_have_a_seed_of_its_own():
    config = numbers(knowledge=0.5)
    plain = deal(SEEDS, config)
    assert same(plain, deal(SEEDS, config, problem_seed=SEEDS))
    other_problem = deal(SEEDS, config, problem_seed=SEEDS + 4)
    other_luck = deal(SEEDS + 4, config, problem_seed=SEEDS)
    for name in ("problem", "knowledge"):
        assert not same(plain[name], other_problem[name])
        assert same(plain[name], other_luck[name])
    for name in ("logits", "tokens", "keys"):
        assert same(plain[name], other_problem[name])
        assert not same(plain[name], other_luck[name])


def test_a_typed_key_is_a_seed():
    keys = jax.vmap(jax.random.key)(SEEDS)
    assert same(deal(keys, numbers()), deal(SEEDS, numbers()))
    split = deal(jax.random.split(jax.random.key(0), 4), numbers())
    assert len(np.unique(split["logits"])) == 3 * 4 * 4


OWN = Problem(
    quality=np.array([[1, -1, 0, 0.5], [0, 2, -2, 0], [0.3, 0, 0, -1]], np.float32),
    bigram=np.arange(16, dtype=np.float32).reshape(4, 4) / 8 - 1,
    target=np.array([1, 3, 2]),
    pattern_weight=np.float32(0.7),
)


def test_a_problem_of_ones_own():
    config = jax.tree.map(lambda leaf: leaf[0], numbers())
    setting, state = init(3, program(), config, problem=OWN)
    _, view = step(program("reinforce"), setting, state, 0)
    found = dealt(setting, state, view)
    assert same(found["problem"], OWN)
    np.testing.assert_array_equal(found["knowledge"], OWN.quality)
    scores = []
    for sequence in np.asarray(found["tokens"]).T:
        score = sum(OWN.quality[t, token] for t, token in enumerate(sequence))
        score += sum(OWN.bigram[pair] for pair in pairwise(sequence))
        scores.append((score + 0.7 * (sequence == OWN.target).sum()) / 3)
    np.testing.assert_allclose(view.reward, 1 / (1 + np.exp(-np.array(scores))), rtol=1e-6)
    # All but the problem is as it is dealt without.
    for name in ("logits", "tokens", "keys"):
        plain = deal(SEEDS, numbers())[name]
        assert same(found[name], jax.tree.map(lambda leaf: leaf[..., 3], plain))


def test_a_table_of_ones_own_is_what_the_teacher_knows():
    config = numbers(knowledge=0.3, kl_weight=0)
    setting, _ = init(SEEDS, program(), config)
    quality = np.asarray(setting.problem.quality)
    knowing, misled = (
        train(SEEDS, CURVES, config, knowledge=sign * quality).curves["reward"].mean(1)
        for sign in (1, -1)
    )
    assert knowing[0] == misled[0]
    # Their rewards part by several times what 20 sequences leave to chance (about 0.03).
    assert misled[-1] < knowing[0] - 0.1 < knowing[0] + 0.1 < knowing[-1]


def test_knowledge_is_the_correlation_of_the_table_with_the_truth():
    levels, each = (0.0, 0.3, 0.9, 1.0), 1000
    config = Config(knowledge=jnp.repeat(jnp.array(levels), each))
    scale = {"quality_scale": 0.7}

    @jax.jit
    def tables():
        setting, _ = sdpo_jax.init(jnp.arange(4 * each), program(), config, numbers=scale)
        return setting.knowledge, setting.problem.quality

    known, true = (
        np.asarray(table, np.float64).reshape(12, 4, each).swapaxes(0, 1).reshape(4, -1)
        for table in tables()
    )
    count = known.shape[1]
    for table, quality, rho in zip(known, true, levels, strict=True):
        # Five standard errors.
        error = 5 * (1 - rho**2) / np.sqrt(count) + 1e-6
        assert abs(np.corrcoef(table, quality)[0, 1] - rho) < error
        assert abs(table.std() / 0.7 - 1) < 5 / np.sqrt(2 * count)
        assert abs(table.mean()) < 5 * 0.7 / np.sqrt(count)
    np.testing.assert_array_equal(known[3], true[3])


# Records

# One metric of each kind; the one of an expected value is costly.
KINDS = ("reward", "entropy", "expected_reward")
ONES = {
    f"windowed {windowed}, costly {costly}": Metric(
        lambda view: jnp.ones_like(view.reward[0]), "one", windowed=windowed, costly=costly
    )
    for windowed in (True, False)
    for costly in (True, False)
}


@cache
def recorded(every):
    metrics = (*KINDS, *ONES.items())
    recording = program("reinforce", metrics=metrics, record=KINDS, record_every=every)
    # The rate makes up for the small gradients.
    return train(SEEDS, recording, numbers(learning_rate=20))


def test_the_kinds_of_metrics_are_all_there():
    assert {(METRICS[name].windowed, METRICS[name].costly) for name in KINDS} == {
        (metric.windowed, metric.costly) for metric in METRICS.values()
    }


@pytest.mark.parametrize("every", [1, 4, 30])
def test_curves_have_a_point_every_so_many_steps(every):
    full, sparse = recorded(1), recorded(every)
    for name in KINDS:
        assert full.curves[name].shape == (SIZES.steps, len(SEEDS))
        assert np.ptp(full.curves[name], axis=0).min() > 0.01
        close(sparse.curves[name], full.curves[name][::every], err_msg=name)


@pytest.mark.parametrize("every", [1, 4, 30])
def test_final_and_mean_values_follow_from_the_curves(every):
    curves, result = recorded(1).curves, recorded(every)
    for name in KINDS:
        metric, curve = METRICS[name], np.asarray(curves[name], np.float64)
        window = SIZES.final_window if metric.windowed else 1
        close(result.final[name], curve[-window:].mean(0), err_msg=name)
        close(result.mean[name], curve[:: every if metric.costly else 1].mean(0), err_msg=name)


@pytest.mark.parametrize("every", [1, 4, 30])
def test_what_is_always_one_is_one_in_the_end_and_in_the_mean(every):
    for name in ONES:
        close(recorded(every).final[name], 1, err_msg=name)
        close(recorded(every).mean[name], 1, err_msg=name)


def test_a_costly_metric_is_computed_at_the_recorded_steps_and_the_last():
    computed = {True: [], False: []}

    def counted(costly):
        def measure(view):
            jax.debug.callback(lambda index: computed[costly].append(int(index)), view.step)
            return view.policy.logits[0, 0]

        return Metric(measure, "first logit", windowed=False, costly=costly)

    metrics = (("costly", counted(True)), ("cheap", counted(False)))
    train(SEEDS, program(leans, metrics=metrics, record_every=4), numbers())
    jax.effects_barrier()
    assert sorted(computed[True]) == [0, 4, 8, 9]
    assert sorted(computed[False]) == list(range(SIZES.steps))


# Steps


def test_outside_of_a_trace_a_program_is_compiled_once():
    traced = []

    def watched(view):
        traced.append(view.reward.shape)
        return view.reward.mean(0)

    program = Program("reinforce", replace(SIZES, steps=3, final_window=1), metrics=(watched,))
    first = sdpo_jax.train(SEEDS, program)
    count = len(traced)
    again = sdpo_jax.train(SEEDS + 7, program, Config(noise=0.3, learning_rate=1.0))
    assert len(traced) == count and not np.array_equal(first.params, again.params)
    _, state = sdpo_jax.init(SEEDS, program)
    np.testing.assert_array_equal(sdpo_jax.init(SEEDS, program)[1].params, state.params)
    assert len(traced) == count
    sdpo_jax.train(SEEDS[:2], program)
    assert len(traced) > count


def test_what_a_function_closes_over_may_be_traced():
    def final(share):
        program = Program(lambda *, policy: policy.probs * share, SIZES, metrics=("entropy",))
        return sdpo_jax.train(0, program).final["entropy"]

    shares = jnp.asarray([0.0, 1.0])
    each = [final(share) for share in shares]
    np.testing.assert_allclose(jax.vmap(final)(shares), each, rtol=1e-5)
    assert each[0] != each[1]
    slope = jax.grad(final)(jnp.float32(0.5))
    assert np.isfinite(slope) and slope != 0


def test_train_is_init_and_so_many_steps():
    result = train(SEEDS, CURVES, numbers())
    setting, state = init(SEEDS, program(), numbers())
    for index in range(SIZES.steps):
        state, view = step(program(), setting, state, index)
        close(view.reward.mean(0), result.curves["reward"][index])
    close(state.params, result.logits)


def test_without_noise_the_feedback_is_the_reward():
    setting, state = init(SEEDS, program(), numbers(noise=0, bias=[0, 0.3, -0.3, -2]))
    _, view = step(program(), setting, state, 0)
    np.testing.assert_array_equal(view.feedback[:, 0], view.reward[:, 0])
    for run, bias in enumerate((0.3, -0.3, -2), start=1):
        expected = np.clip(view.reward[:, run] + bias, 0, 1)
        np.testing.assert_allclose(view.feedback[:, run], expected, atol=1e-7)


def test_noise_is_new_at_each_step_and_has_its_standard_deviation():
    config = Config(noise=0.05)

    @jax.jit
    def first_errors():
        setting, state = sdpo_jax.init(jnp.arange(3000), program("reinforce"), config)
        views = [sdpo_jax.step(program("reinforce"), setting, state, index)[1] for index in (0, 1)]
        return [(view.feedback - view.reward, view.reward) for view in views]

    kept = []
    for error, reward in first_errors():
        # At four standard deviations from either end none is clipped.
        inside = abs(np.asarray(reward) - 0.5) < 0.3
        inner = np.asarray(error, np.float64)[inside]
        assert abs(inner.mean()) < 5 * 0.05 / np.sqrt(inner.size)
        assert abs(inner.std() / 0.05 - 1) < 5 / np.sqrt(2 * inner.size)
        kept.append(np.where(inside, error, 0.0).ravel())
    assert abs(np.corrcoef(*kept)[0, 1]) < 5 / np.sqrt(kept[0].size)


def test_a_run_without_noise_does_not_hear_that_of_its_neighbours():
    quiet = train(SEEDS, CURVES, numbers(noise=0))
    mixed = train(SEEDS, CURVES, numbers(noise=[0, 0.3, 0, 0]))
    for run in (0, 2, 3):
        np.testing.assert_array_equal(quiet.logits[..., run], mixed.logits[..., run])
    assert not same(quiet.logits[..., 1], mixed.logits[..., 1])


def stepped(algorithm, config, oracle=None, own=None):
    """One step from where the policy has left the reference; four runs of one seed."""
    setting, state = init(np.full(4, 5), program(algorithm), config, oracle, numbers=own)
    moved = state.params + np.random.default_rng(2).normal(size=(3, 4, 1)).astype(np.float32)
    _, view = step(program(algorithm), setting, state._replace(params=moved), 3)
    return view


@pytest.mark.parametrize("algorithm", SOME_ALGORITHMS)
def test_the_sign_turns_the_algorithm_round_and_not_the_pull(algorithm):
    view = stepped(algorithm, numbers(sign=[1, -1, 0, 2]))
    probs, reference = np.asarray(view.policy.probs), np.asarray(view.reference.probs)
    # Numbers below 1, so a rounding or two are below 1e-6.
    pull = 0.5 * (probs - reference)
    wish = np.asarray(view.update.gradient)[..., :1] * np.array([1, -1, 0, 2])
    np.testing.assert_allclose(view.direction, -wish - pull, atol=1e-6)
    assert abs(pull).max() > 0.1
    assert abs(wish).max() > 1e-3


def test_the_hybrids_threshold_chooses_between_two_algorithms():
    divergence = stepped("hybrid", numbers()).teacher.divergence[0]
    view = stepped(
        "hybrid",
        numbers(),
        own={"hybrid_threshold": np.float32([1e-6, divergence, 1e6, 2 * divergence])},
    )
    distilled = np.asarray(stepped("sdpo", numbers()).update.gradient)
    reinforced = np.asarray(stepped("reinforce", numbers()).update.gradient)
    # Eq. 6 falls to sigmoid(-3) and no further, however large the threshold is.
    weight = 1 / (1 + np.exp([-np.inf, 0, 3, 1.5]))
    np.testing.assert_allclose(view.update.info["weight"], weight, rtol=1e-5)
    expected = weight * distilled + (1 - weight) * reinforced
    np.testing.assert_allclose(view.update.gradient, expected, atol=1e-6)
    assert abs(distilled - reinforced).max() > 0.01


def reports(*, policy, signal, feedback, memory):
    return Update(jnp.zeros_like(policy.probs), memory=jnp.stack([signal, feedback]))


# An algorithm that learns nothing and remembers what it was told.
hears_the_signal = Algorithm(
    "hears_the_signal",
    lambda policy, sizes: jnp.zeros((2, sizes.rollouts, *policy.logits.shape[2:])),
    reports,
)


def test_the_signal_is_the_reward_the_feedback_or_between():
    share = np.array([0, 0.3, 1, 0.9])
    view = stepped(hears_the_signal, numbers(learn_from_feedback=share), sdpo_jax.binary())
    signal, feedback = np.asarray(view.update.memory)
    np.testing.assert_array_equal(feedback, view.feedback)
    assert set(np.unique(feedback)) == {0.0, 1.0}
    expected = (1 - share) * np.asarray(view.reward) + share * feedback
    np.testing.assert_allclose(signal, expected, atol=2e-7)


def test_a_signal_that_is_the_feedback_holds_nothing_of_the_reward():
    # Not even a rounding error: by one that goes with R, equal levels could be told apart.
    def difference(*, policy, signal, feedback):
        return Update(jnp.zeros_like(policy.probs), {"weight": abs(signal - feedback).max(0)})

    program = Program(difference, SIZES, metrics=("weight",))
    config = Config(learn_from_feedback=1.0, noise=0.5)
    result = sdpo_jax.train(np.arange(200), program, config, sdpo_jax.ordinal())
    np.testing.assert_array_equal(result.mean["weight"], 0.0)


# Transformations


def test_a_plain_vmap_is_the_same_as_runs_in_the_last_axis():
    config = numbers(noise=[0, 0.1, 0.2, 0.3], learning_rate=[1, 2, 0.5, 1])
    mapped = jax.vmap(lambda seed, config: sdpo_jax.train(seed, CURVES, config), out_axes=-1)
    jax.tree.map(close, jax.jit(mapped)(SEEDS, config), train(SEEDS, CURVES, config))


def test_a_vmap_over_one_thing_at_a_time_is_each_alone():
    def logits(seed, knowledge, oracle):
        config = replace(numbers(), knowledge=knowledge)
        config = jax.tree.map(lambda leaf: jnp.ravel(leaf)[0], config)
        return sdpo_jax.train(seed, CURVES, config, oracle).logits

    over_seeds = jax.vmap(logits, in_axes=(0, None, None), out_axes=-1)
    over_knowledge = jax.vmap(over_seeds, in_axes=(None, 0, None))
    over_oracles = jax.jit(jax.vmap(over_knowledge, in_axes=(None, None, 0)))
    levels = np.array([0.0, 0.6, 1.0], np.float32)
    oracles = [sdpo_jax.continuous(), replace(sdpo_jax.continuous(), gain=np.float32(0.5))]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *oracles)
    found = over_oracles(SEEDS, levels, stacked)
    assert found.shape == (2, 3, 3, 4, 4)
    for oracle, tables in zip(oracles, found, strict=True):
        for knowledge, row in zip(levels, tables, strict=True):
            alone = train(SEEDS, CURVES, numbers(knowledge=knowledge), oracle)
            close(row, alone.logits)


SMOOTH = ("learning_rate", "kl_weight", "feedback_strength", "noise", "bias", "knowledge", "sign")


def test_a_run_can_be_differentiated():
    # Two updates, and tokens that a small change of the numbers does not move.
    sizes = Sizes(length=2, vocab_size=3, rollouts=4, steps=3, final_window=1)
    short = program(sizes=sizes, metrics=("expected_reward",))
    config = Config(learning_rate=0.8, kl_weight=0.5, noise=0.05, knowledge=0.6)

    @jax.jit
    @jax.value_and_grad
    def objective(chosen):
        result = sdpo_jax.train(SEEDS, short, replace(config, **chosen))
        return result.final["expected_reward"].mean()

    point = {name: jnp.float32(getattr(config, name)) for name in SMOOTH}
    _, gradient = objective(point)
    for name in SMOOTH:
        width = 0.02
        high, _ = objective(point | {name: point[name] + width})
        low, _ = objective(point | {name: point[name] - width})
        slope = (high - low) / (2 * width)
        # The difference of two numbers near 0.5 is exact to 1e-7, the quotient to 5e-6; the
        # third derivative leaves a part in a thousand.
        np.testing.assert_allclose(gradient[name], slope, rtol=5e-3, atol=5e-6, err_msg=name)
        assert abs(slope) > 1e-3


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_a_batch_sharded_over_devices_gives_the_same_numbers(tmp_path, kind):
    script = """
import sys, jax, jax.numpy as jnp, numpy as np, sdpo_jax
from jax.sharding import NamedSharding, PartitionSpec
assert len(jax.devices()) == 2
sizes = sdpo_jax.Sizes(length=3, vocab_size=4, rollouts=5, steps=10, final_window=4)
names = ("reward", "entropy")
program = sdpo_jax.Program("sdpo", sizes, metrics=names, record=names)

def run(seed, noise):
    config = sdpo_jax.Config(learning_rate=1.0, kl_weight=0.5, noise=noise)
    return sdpo_jax.train(seed, program, config)

def by_steps(seed, noise):
    config = sdpo_jax.Config(learning_rate=1.0, kl_weight=0.5, noise=noise)
    setting, state = sdpo_jax.init(seed, program, config)
    for index in range(2):
        state, view = sdpo_jax.step(program, setting, state, index)
    return view.policy.probs

mesh = jax.make_mesh((2,), ("runs",), axis_types=(getattr(jax.sharding.AxisType, sys.argv[2]),))
jax.set_mesh(mesh)
inputs = jnp.arange(4), jnp.array([0.05, 0.1, 0.2, 0.3])
plain = jax.jit(by_steps)(*inputs)
inputs = jax.device_put(inputs, NamedSharding(mesh, PartitionSpec("runs")))
found = {}
ways = {"mapped": jax.vmap(run, out_axes=-1), "batch": run}
for name, way in list(ways.items())[: 1 if sys.argv[2] == "Auto" else 2]:
    result = jax.jit(way)(*inputs)
    assert len(result.logits.sharding.device_set) == 2
    assert not result.logits.sharding.is_fully_replicated
    found |= {f"{name} {key}": value for key, value in result.curves.items()}
    found[f"{name} logits"] = result.logits
if sys.argv[2] == "Explicit":
    np.testing.assert_allclose(plain, jax.jit(by_steps)(*inputs), rtol=1e-5, atol=1e-7)
np.savez(sys.argv[1], **found)
"""
    path = tmp_path / "sharded.npz"
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", script, str(path), kind], check=True, env=environment)
    expected = train(SEEDS, CURVES, numbers(noise=[0.05, 0.1, 0.2, 0.3]))
    found = dict(np.load(path))
    for way in ("mapped", "batch") if kind == "Explicit" else ("mapped",):
        close(found.pop(f"{way} logits"), expected.logits)
        for name, curve in expected.curves.items():
            close(found.pop(f"{way} {name}"), curve)
    assert not found


# Parts of one's own


LENIENT = Oracle(np.float32(0.5), np.float32(0.25), np.float32([0.4]), np.float32([0.1]))
HIGHEST = Metric(lambda view: view.policy.logits.max((0, 1)), "largest logit", windowed=False)


def praises_the_first_token(*, policy, config):
    gradient = jnp.zeros_like(policy.probs).at[:, 0].set(-1.0)
    return Update(gradient, {"weight": config.learning_rate * policy.probs[0, 0]})


def test_an_algorithm_a_metric_and_an_oracle_of_ones_own():
    metrics = (("highest", HIGHEST), "reward", "mean_feedback", "weight")
    own = program(praises_the_first_token, metrics=metrics, record=("highest",))
    config = Config(learning_rate=0.5, kl_weight=0.0)
    result = train(SEEDS, own, config, LENIENT)
    start = np.asarray(deal(SEEDS, numbers())["logits"])
    rise = np.array([0.5, 0, 0, 0])[:, None]
    close(result.logits, start + SIZES.steps * rise)
    for index, highest in enumerate(result.curves["highest"]):
        close(highest, (start + index * rise).max((0, 1)))
    close(result.final["highest"], result.curves["highest"][-1])

    data = sdpo_jax.run_grid(
        {
            "algorithm": {"mine": praises_the_first_token},
            "oracle": {"lenient": LENIENT},
            "seed": range(4),
        },
        config=config,
        sizes=SIZES,
        metrics=metrics,
        logits=True,
        block_width=4,
    )
    assert data.highest.attrs["long_name"] == HIGHEST.title
    close(data.logits.values[0, 0], np.moveaxis(np.asarray(result.logits), -1, 0))
    for name, expected in result.final.items():
        close(data[name].values[0, 0], expected, err_msg=name)


def test_an_oracle_of_ones_own_is_heard():
    view = stepped(hears_the_signal, numbers(noise=0), LENIENT)
    reward = np.asarray(view.reward)
    expected = 0.25 + 0.5 * reward + 0.1 * (reward >= np.float32(0.4))
    np.testing.assert_allclose(view.feedback, expected, atol=1e-7)


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, praises_the_first_token])
def test_an_algorithm_that_does_not_ask_for_the_teacher_has_none_computed(monkeypatch, algorithm):
    def taught(*_):
        raise InterruptedError

    monkeypatch.setattr(teachers, "teach", taught)
    told = what_is_told(ALGORITHMS.get(algorithm, algorithm))
    asked = "teacher" in told
    assert needs_teacher(program(algorithm)) == (asked or "lessons" in told)
    # Another shape than elsewhere, so that nothing is remembered from there.
    plain = program(algorithm, sizes=replace(SIZES, rollouts=2))
    with pytest.raises(InterruptedError) if asked else nullcontext():
        jax.eval_shape(lambda: sdpo_jax.train(0, plain))


# Errors


def asks_for_the_moon(*, policy, moon):
    return Update(moon)


def refusal(*arguments, **options):
    with pytest.raises(ValueError) as error:
        jax.eval_shape(lambda: sdpo_jax.train(*arguments, **options))
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sizes": replace(SIZES, length=0)}, ["length: 0", "1 or more"]),
        ({"sizes": replace(SIZES, vocab_size=1)}, ["vocab_size: 1", "2 to 1024"]),
        ({"sizes": replace(SIZES, vocab_size=1025)}, ["vocab_size: 1025", "2 to 1024"]),
        ({"sizes": replace(SIZES, rollouts=0)}, ["rollouts: 0", "1 or more"]),
        ({"sizes": replace(SIZES, rollouts=2.5)}, ["rollouts: 2.5", "integers"]),
        ({"sizes": replace(SIZES, steps=0)}, ["steps: 0", "1 or more"]),
        ({"sizes": replace(SIZES, final_window=11)}, ["final_window: 11", "1 to 10"]),
        ({"algorithm": "sdqo"}, ["algorithm: 'sdqo'", *ALGORITHMS]),
        ({"algorithm": asks_for_the_moon}, ["asks_for_the_moon", "'moon'", "policy", "teacher"]),
        ({"metrics": ("rewrad",)}, ["metrics: 'rewrad'", *METRICS]),
        ({"record": ("drift",)}, ["record: 'drift'", "reward, credit, entropy"]),
        ({"record_every": 0}, ["record_every: 0", "1 or more"]),
        ({"teacher_nodes": -1}, ["teacher_nodes: -1", "0, 4, 8"]),
    ],
)
def test_a_bad_program_is_refused(options, words):
    message = refusal(0, Program(**{"sizes": SIZES, **options}))
    for word in words:
        assert word in message


@pytest.mark.parametrize("name", NAMES)
def test_a_number_that_is_none_is_refused(name):
    assert refusal(0, program(), Config(**{name: float("nan")})).startswith(f"{name}: nan; ")


def test_a_bad_number_is_refused_in_any_run():
    noise = np.array([0.1, -0.2, 0.3, 0.0])
    message = refusal(SEEDS, program(), Config(noise=noise))
    assert message == "noise: -0.2; allowed: 0 or more"


def test_an_oracle_that_leaves_the_unit_interval_is_refused():
    loud = replace(sdpo_jax.continuous(), gain=np.float32(2))
    assert "0 to 2" in refusal(0, program(), Config(), loud)


@pytest.mark.parametrize(
    ("part", "shape", "allowed"),
    [
        ("quality", (3, 5), "(3, 4)"),
        ("quality", (3, 4, 2), "(3, 4)"),
        ("bigram", (3, 4), "(4, 4)"),
        ("target", (4,), "(3,)"),
    ],
)
def test_a_problem_of_another_shape_is_refused(part, shape, allowed):
    wrong = replace(OWN, **{part: np.zeros(shape, int)})
    message = refusal(0, program(), problem=wrong)
    assert message == f"problem.{part}: shape {shape}; allowed: {allowed}"


def test_a_table_of_another_shape_is_refused():
    message = refusal(0, program(), knowledge=np.zeros((4, 3)))
    assert message == "knowledge: shape (4, 3); allowed: (3, 4)"


@pytest.mark.parametrize("nodes", [4, 6, 24, 28])
def test_a_number_of_nodes_works_or_is_refused(nodes):
    interpolating = program(teacher_nodes=nodes)
    try:
        jax.eval_shape(lambda: sdpo_jax.train(0, interpolating))
    except ValueError as error:
        assert str(error).startswith(f"teacher_nodes: {nodes}; ")


def test_more_sequences_than_can_be_enumerated_are_refused():
    large = program(sizes=replace(SIZES, length=11), metrics=("optimality",))
    assert "4 ** 11 = 4194304" in refusal(0, large)
