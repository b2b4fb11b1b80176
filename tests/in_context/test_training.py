"""Whole training runs: reproducible, batched, and each method's loss against its own formula."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdpo_jax import compiler_options, losses
from sdpo_jax.in_context import (
    METHODS,
    NUMBERS,
    Lab,
    Pretraining,
    Setting,
    Transformer,
    World,
    kinds,
    pretrain,
    problem_of,
    train,
)
from sdpo_jax.in_context.exact import credit
from sdpo_jax.in_context.methods import Batch

WORLD = World(length=3, vocab_size=4)
NETWORK = Transformer(WORLD.ids, WORLD.vocab_size, WORLD.places, width=8, layers=1, heads=2)
FIRST = NETWORK.init(jax.random.key(0))
jit = partial(jax.jit, compiler_options=compiler_options())


@pytest.fixture(scope="module")
def program():
    lab = Lab(WORLD, NETWORK, METHODS["sdpo_composed_forward"], steps=4, rollouts=8, every=2)

    def run(seed, rate, kind):
        setting = Setting(rate, kind, numbers={"strength": 0.5})
        return train(lab, FIRST, seed, setting)

    return jit(jax.vmap(run))


@pytest.mark.as_shipped
def test_a_run_is_the_same_in_any_place_of_a_block_and_in_any_company(program):
    seeds, rates = jnp.asarray([7, 8, 9]), jnp.asarray([1e-2, 3e-3, 1e-2])
    chosen = kinds(["critique", "binary", "continuous"])
    one = program(seeds, rates, chosen)
    order = jnp.asarray([2, 0, 1])
    other = program(seeds[order], rates[order], chosen[order])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[order], b), one, other)
    alone = program(seeds[:1], rates[:1], chosen[:1])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[:1], b, rtol=1e-4, atol=1e-5), one, alone
    )


def test_what_is_recorded(program):
    curves = program(*(jnp.asarray([each]) for each in (7, 1e-2, 3))).curves
    assert curves["reward"].shape == (1, 4)
    assert np.isfinite([curves[name] for name in ("reward", "entropy", "gap")]).all()
    # Every second step; the student starts as the first network.
    assert np.isnan(curves["drift"][0]).tolist() == [False, True, False, True]
    assert abs(curves["drift"][0, 0]) < 1e-6 < curves["drift"][0, 2]
    assert np.isnan(curves["teacher_reward"]).all()


def test_a_network_at_a_rate_of_0_stays():
    lab = Lab(WORLD, NETWORK, METHODS["grpo"], steps=3, rollouts=8)
    found = jit(lambda seed: train(lab, FIRST, seed, Setting(0.0)).params)(3)
    jax.tree.map(np.testing.assert_array_equal, found, FIRST)


def test_a_number_of_another_method_is_refused():
    lab = Lab(WORLD, NETWORK, METHODS["grpo"], steps=1)
    with pytest.raises(ValueError, match="numbers: 'strength'; allowed for grpo: none"):
        train(lab, FIRST, 0, Setting(0.1, numbers={"strength": 1.0}))


def test_the_problem_of_a_seed_is_the_grids():
    import sdpo_jax

    lab = Lab(WORLD, NETWORK, METHODS["grpo"])
    sizes = sdpo_jax.Sizes(length=3, vocab_size=4)
    theirs = sdpo_jax.problem_of(5, sdpo_jax.Program("sdpo", sizes))
    np.testing.assert_array_equal(problem_of(lab, 5).target, theirs.target)


def test_pretraining_is_repeatable_and_keeps_its_checkpoints():
    plan = Pretraining(checkpoints=(0, 2, 6), batch=8, examples=16)
    program = jit(lambda seed: pretrain(NETWORK, WORLD, plan, seed))
    one, again, other = program(1), program(1), program(2)
    jax.tree.map(np.testing.assert_array_equal, one, again)
    key = jax.random.fold_in(jax.random.key(1), 0)
    before = jax.tree.map(lambda each: each[0], one.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), before, NETWORK.init(key)
    )
    moved = jax.tree.map(lambda each: abs(each[2] - each[1]).max() > 0, one.params)
    assert all(jax.tree.leaves(moved))
    assert not np.array_equal(one.params["out"], other.params["out"])
    assert one.skill.shape == (3, 6)


# Losses


def batch_of(rng, count=6):
    tokens = jnp.asarray(rng.integers(4, size=(count, 3)))
    student, teacher, first = (
        jnp.asarray(rng.normal(size=(count, 3, 4)).astype(np.float32)) for _ in range(3)
    )
    feedback = jnp.asarray(rng.random(count).astype(np.float32))
    return student, Batch(
        tokens, feedback, None, losses.token_log_probs(first, tokens), teacher, feedback
    )


def advantage_gradient(student, batch, advantage):
    """By hand: -(1/NT) A (onehot - pi)."""
    probs = np.asarray(jax.nn.softmax(student))
    onehot = np.eye(4)[np.asarray(batch.tokens)]
    return -np.asarray(advantage)[:, None, None] * (onehot - probs) / batch.tokens.size


@pytest.mark.parametrize("name", ["reinforce", "rloo", "grpo", "dr_grpo", "ppo", "rlhf"])
def test_policy_gradients_are_those_by_hand(name):
    student, batch = batch_of(np.random.default_rng(0))
    f = np.asarray(batch.feedback, float)
    others = (f.sum() - f) / (len(f) - 1)
    advantage = {
        "reinforce": f,
        "rloo": f - others,
        "rlhf": f - others,
        "grpo": (f - f.mean()) / f.std(ddof=1),
        "dr_grpo": f - f.mean(),
        "ppo": f - f.mean(),
    }[name]
    found = jit(jax.grad(lambda logits: METHODS[name].loss(logits, batch, NUMBERS)))(student)
    np.testing.assert_allclose(found, advantage_gradient(student, batch, advantage), atol=1e-5)


@pytest.mark.parametrize("name", ["sdpo_live_forward", "sdpo_live_reverse", "sdft", "opsd"])
def test_distillation_gradients_are_those_by_hand(name):
    student, batch = batch_of(np.random.default_rng(1))
    s, q = (np.asarray(jax.nn.softmax(each), float) for each in (student, batch.teacher))
    by_hand = s - q
    if "reverse" in name:
        ratio = np.log(s) - np.log(q)
        by_hand = s * (ratio - (s * ratio).sum(-1, keepdims=True))
    found = jit(jax.grad(lambda logits: METHODS[name].loss(logits, batch, NUMBERS)))(student)
    np.testing.assert_allclose(found, by_hand / batch.tokens.size, atol=1e-6)


def test_a_composed_teachers_strength_is_a_factor_of_the_reverse_gradient():
    """So Adam divides it out, and the study does not tune it; the forward one's is not."""
    rng = np.random.default_rng(5)
    student, said = (jnp.asarray(rng.normal(size=(6, 3, 5)), jnp.float32) for _ in range(2))

    def gradient(divergence, strength):
        def loss(logits):
            teacher = losses.frozen(logits + strength * said)
            return losses.distillation(logits, teacher, divergence=divergence).mean()

        return jax.grad(loss)(student)

    one, three = (gradient("reverse_kl", strength) for strength in (1.0, 3.0))
    np.testing.assert_allclose(three, 3 * one, rtol=1e-4, atol=1e-7)
    one, three = (gradient("forward_kl", strength) for strength in (1.0, 3.0))
    assert abs(three - 3 * one).max() > 0.1 * abs(one).max()


def test_a_mixture_is_of_both():
    student, batch = batch_of(np.random.default_rng(2))
    parts = [METHODS[name].loss(student, batch, NUMBERS) for name in ("sdpo_live_forward", "grpo")]
    found = METHODS["grpo_sdpo"].loss(student, batch, {**NUMBERS, "weight": 0.3})
    np.testing.assert_allclose(found, 0.3 * parts[0] + 0.7 * parts[1], rtol=1e-5)


def test_dpo_prefers_what_scored_more_and_learns_nothing_of_equal_scores():
    student, batch = batch_of(np.random.default_rng(3))
    same = batch._replace(feedback=jnp.full(6, 0.5))
    gradient = jit(jax.grad(lambda logits, b: METHODS["dpo"].loss(logits, b, NUMBERS)))
    np.testing.assert_array_equal(gradient(student, same), 0)
    step = student - 0.1 * gradient(student, batch)
    before, after = (losses.token_log_probs(each, batch.tokens).sum(1) for each in (student, step))
    better = jnp.sign(batch.feedback[:3] - batch.feedback[3:])
    assert (better * ((after - before)[:3] - (after - before)[3:]) > 0).all()


def test_credit_of_the_exact_direction_is_1():
    """REINFORCE on so many rollouts that what is sampled is near what is exact."""
    few, many = (
        Lab(WORLD, NETWORK, METHODS["rloo"], steps=1, rollouts=count) for count in (16, 4096)
    )
    found = [
        jit(lambda seed, lab=lab: credit(lab, FIRST, FIRST, seed, Setting(0.0, noise=0.0), 0))(4)
        for lab in (few, many)
    ]
    assert found[1]["alignment"] > 0.95 > found[0]["alignment"]
