"""Algorithms with a memory, and what else the engine tells an algorithm that asks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import ALGORITHMS, Algorithm, Config, Cost, Program, Sizes, Update
from sdpo_jax.algorithm import STEP, TOLD_AT_FIRST
from sdpo_jax.program import algorithm_of
from tests.quickly import QUICKLY

SIZES = Sizes(length=3, vocab_size=4, rollouts=5, steps=7, final_window=3)
SEEDS = np.arange(3)


def trained(algorithm, config=None, **options):
    program = Program(algorithm, **{"sizes": SIZES, **options})
    run = jax.jit(lambda config: sdpo_jax.train(SEEDS, program, config), compiler_options=QUICKLY)
    return run(Config(learning_rate=1.0) if config is None else config)


def momentum_at_first(*, policy):
    return jnp.zeros_like(policy.logits)


def with_momentum(*, policy, tokens, signal, memory):
    gradient = ALGORITHMS["reinforce"](policy=policy, tokens=tokens, signal=signal).gradient
    velocity = 0.9 * memory + gradient
    return Update(velocity, memory=velocity, cost=Cost(2, jnp.float32(3)))


MOMENTUM = Algorithm("momentum", momentum_at_first, with_momentum)


def test_a_memory_goes_from_step_to_step():
    import optax

    config = Config(learning_rate=1.0, kl_weight=0.0)
    remembered = trained(MOMENTUM, config)
    # The same recursion, kept by the optimiser instead.
    expected = trained("reinforce", config, optimizer=lambda rate: optax.sgd(rate, momentum=0.9))
    np.testing.assert_allclose(remembered.logits, expected.logits, rtol=1e-5, atol=1e-6)
    assert abs(remembered.logits - trained("reinforce", config).logits).max() > 0.01


def test_an_algorithm_without_memory_carries_nothing():
    _, state = sdpo_jax.init(SEEDS, Program("reinforce", SIZES))
    assert jax.tree.leaves(state.memory) == []
    assert len(jax.tree.leaves(state)) == 1
    _, state = sdpo_jax.init(SEEDS, Program(MOMENTUM, SIZES))
    assert [leaf.shape for leaf in jax.tree.leaves(state.memory)] == [(3, 4, 3)]


def test_a_memory_survives_a_users_own_vmap_and_a_grid():
    program = Program(MOMENTUM, SIZES)
    config = Config(learning_rate=1.0)
    over_seeds = jax.jit(
        jax.vmap(lambda seed: sdpo_jax.train(seed, program, config).final["reward"]),
        compiler_options=QUICKLY,
    )
    grid = sdpo_jax.run_grid(
        {"algorithm": {"momentum": MOMENTUM}, "seed": SEEDS}, config=config, sizes=SIZES
    )
    np.testing.assert_allclose(over_seeds(SEEDS), grid.reward.values[0], atol=1e-6)


def test_costs_are_counted():
    metrics = ("rollouts", "queries")
    found = trained(MOMENTUM, metrics=metrics)
    np.testing.assert_allclose(found.mean["rollouts"], [2, 2, 2], rtol=1e-6)
    np.testing.assert_allclose(found.mean["queries"], [3, 3, 3], rtol=1e-6)
    usual = trained("reinforce", metrics=metrics)
    np.testing.assert_allclose(usual.mean["rollouts"], [5, 5, 5], rtol=1e-6)
    np.testing.assert_allclose(usual.mean["queries"], [5, 5, 5], rtol=1e-6)


def test_an_algorithm_is_told_what_it_asks_for():
    found = {}

    def first(**told):
        found["first"] = told
        return jnp.zeros(())

    def asks(*, policy, reference, panel, problem, solution, memory, key, step, sizes, lessons):
        found["later"] = {
            "policy": policy, "reference": reference, "panel": panel, "problem": problem,
            "solution": solution, "memory": memory, "key": key, "step": step, "sizes": sizes,
            "lessons": lessons,
        }  # fmt: skip
        return Update(jnp.zeros_like(policy.logits), memory=memory)

    def at_first(
        *, policy, reference, params, knowledge, panel, problem, solution, runs, contexts, sizes,
        config,
    ):  # fmt: skip
        return first(
            policy=policy, reference=reference, params=params, knowledge=knowledge, panel=panel,
            problem=problem, solution=solution, runs=runs, contexts=contexts, sizes=sizes,
            config=config,
        )  # fmt: skip

    algorithm = Algorithm("asks", at_first, asks)
    program = Program(algorithm, SIZES)
    setting, state = sdpo_jax.init(SEEDS, program, Config(knowledge=0.5))
    sdpo_jax.step(program, setting, state._replace(params=state.params + 1.0), 2)
    assert set(found["first"]) == set(TOLD_AT_FIRST)
    later = found["later"]
    np.testing.assert_array_equal(later["reference"].logits, state.params)
    np.testing.assert_array_equal(later["policy"].logits, state.params + 1.0)
    np.testing.assert_array_equal(later["solution"], sdpo_jax.best_sequence(setting.problem)[0])
    assert later["sizes"] == SIZES
    assert int(later["step"]) == 2
    # The first of the panel is the teacher's table; the others have errors of their own.
    panel = later["panel"]
    assert panel.shape == (SIZES.teachers, 3, 4, 3)
    np.testing.assert_array_equal(panel[0], setting.knowledge)
    errors = (panel - 0.5 * setting.problem.quality) / np.sqrt(0.75)
    assert abs(np.corrcoef(errors.reshape(SIZES.teachers, -1)) - np.eye(4)).max() < 0.5
    assert abs(errors.std() - 1) < 0.2


def test_knowledge_of_one_is_a_panel_of_equals():
    def asks(*, policy, panel):
        return Update(jnp.zeros_like(policy.logits) + (panel - panel[0]).max())

    setting, _ = sdpo_jax.init(SEEDS, Program(asks, SIZES), Config(knowledge=1.0))
    assert (setting.panel == setting.problem.quality).all()


@pytest.mark.parametrize(
    ("algorithm", "words"),
    [
        (lambda policy, gossip: None, ["'gossip'", *STEP]),
        (lambda policy, memory: None, ["'memory'", "in an Algorithm with an init only"]),
        (
            Algorithm("mine", lambda tokens: None, lambda policy, memory: None),
            ["'tokens'", *TOLD_AT_FIRST],
        ),
        (Algorithm("mine", lambda: None, lambda policy, gossip: None), ["'gossip'", *STEP]),
    ],
    ids=["no such thing", "no memory", "too early", "no such thing later"],
)
def test_what_an_algorithm_can_not_be_told_is_refused(algorithm, words):
    with pytest.raises(ValueError) as error:
        algorithm_of(algorithm)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


# Lessons


def lessons_of(oracle, nodes, config):
    seen = {}

    def looks(*, policy, lessons, teacher):
        seen["lessons"], seen["teacher"], seen["policy"] = lessons, teacher, policy
        return Update(jnp.zeros_like(policy.logits))

    program = Program(looks, SIZES, teacher_nodes=nodes)
    setting, state = sdpo_jax.init(SEEDS, program, config, oracle)
    logits = np.random.default_rng(1).normal(size=state.params.shape).astype(np.float32)
    _, view = sdpo_jax.step(program, setting, state._replace(params=jnp.asarray(logits)), 1)
    return seen, setting, view


@pytest.mark.parametrize(
    ("oracle", "nodes"),
    [
        (sdpo_jax.binary(), 0),
        (sdpo_jax.ordinal(), 0),
        (sdpo_jax.continuous(), 0),
        (sdpo_jax.continuous(), 16),
        (sdpo_jax.critique(), 0),
    ],
    ids=["binary", "ordinal", "continuous", "continuous by nodes", "critique"],
)
def test_lessons_make_the_average_over_the_rollouts_that_were_heard(oracle, nodes):
    # So much noise that some rollouts are clipped to a feedback of 0.
    config = Config(noise=0.6, bias=-0.1)
    seen, _, view = lessons_of(oracle, nodes, config)
    lessons, policy = seen["lessons"], seen["policy"]
    feedback = np.asarray(view.feedback, np.float64)
    heard = feedback != 0
    assert heard.any(0).all()
    if oracle.gain is not None or len(oracle.cuts) == 1:
        assert not heard.all()
    np.testing.assert_allclose(lessons.weights.sum(0), 1, atol=1e-5)
    teachers = jax.nn.softmax(policy.logits[:, :, None] + lessons.shift, axis=1)
    found = np.einsum("tvk...,k...->tv...", teachers, lessons.weights)
    # The plain average counts a rollout without feedback, whose teacher is the student.
    share = heard.mean(0)
    expected = (seen["teacher"].mean - (1 - share) * policy.probs) / share
    np.testing.assert_allclose(found, expected, atol=3e-6)


def test_where_nothing_is_heard_lessons_weigh_nothing():
    for oracle, nodes in ((sdpo_jax.binary(), 0), (sdpo_jax.continuous(), 8)):
        seen, _, view = lessons_of(oracle, nodes, Config(bias=-2.0))
        assert (view.feedback == 0).all()
        np.testing.assert_array_equal(seen["lessons"].weights, 0)
