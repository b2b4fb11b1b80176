"""Networks that read and write: caches, gradients, frequencies, against independent sums."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdpo_jax import compiler_options, losses, problems
from sdpo_jax.in_context import GRU, METHODS, Lab, Own, Setting, Transformer, World, without_cache
from sdpo_jax.in_context.exact import all_answers, answer_probs, conditionals, expected_reward
from sdpo_jax.in_context.methods import TEACHERS, Batch
from sdpo_jax.in_context.train import Run, State, read, sample, taught

WORLD = World(length=3, vocab_size=4, bins=4)
SIZES = WORLD.ids, WORLD.vocab_size, WORLD.places
NETWORKS = {
    "transformer": Transformer(*SIZES, width=8, layers=2, heads=2),
    "gru": GRU(*SIZES, width=8, layers=2),
}
TRANSFORMER = NETWORKS["transformer"]
jit = partial(jax.jit, compiler_options=compiler_options())


def params_of(network, seed=0):
    """Away from the first parameters, where answers are far from uniform."""
    return jax.tree.map(lambda leaf: 1.5 * leaf, network.init(jax.random.key(seed)))


def random_ids(key, shape, most):
    return jax.random.randint(jax.random.key(key), shape, 0, most)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("context", [False, True])
def test_token_by_token_is_as_at_once(name, context):
    network = NETWORKS[name]
    params = params_of(network)
    answer = random_ids(1, (3, 5), 4)
    before = random_ids(2, (WORLD.context_length, 5), WORLD.ids) if context else None
    whole = jit(partial(read, network, WORLD))(params, answer, before)

    @jit
    def in_turn(params):
        if before is None:
            cache = network.begin(params, jnp.zeros((0, 5), int), jnp.zeros(0, int), 3)
        else:
            cache = network.begin(params, before, WORLD.context_places, 3)
        token, found = jnp.full(5, WORLD.start), []
        for t in range(3):
            logits, cache = network.extend(params, cache, token, WORLD.answer_places[t])
            found.append(logits)
            token = answer[t]
        return jnp.stack(found, axis=1)

    np.testing.assert_allclose(in_turn(params), whole, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_with_and_without_a_cache_the_same_is_written(name):
    network = NETWORKS[name]
    params = params_of(network)
    uniforms = jax.random.uniform(jax.random.key(3), (3, 64))
    context = random_ids(4, (WORLD.context_length, 64), WORLD.ids)
    written = [
        jit(partial(sample, each, WORLD, combine=lambda logits: logits[0]))(
            streams=[(params, context)], uniforms=uniforms
        )
        for each in (network, without_cache(network))
    ]
    np.testing.assert_array_equal(*written)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_position_looks_ahead(name):
    network = NETWORKS[name]
    answer = random_ids(5, (3, 1), 4)
    logits = jit(partial(read, network, WORLD, params_of(network)))
    for t in range(2):
        other = answer.at[t].set((answer[t] + 1) % 4)
        one, two = logits(answer, None), logits(other, None)
        np.testing.assert_array_equal(one[:, : t + 1], two[:, : t + 1])
        assert abs(one[:, t + 1 :] - two[:, t + 1 :]).max() > 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_finite_differences(name):
    network = NETWORKS[name]
    with jax.enable_x64():
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params_of(network))
        answer = random_ids(6, (3, 4), 4)
        context = random_ids(7, (WORLD.context_length, 4), WORLD.ids)

        @jax.jit
        def loss(params):
            logits = read(network, WORLD, params, answer, context)
            return -losses.token_log_probs(logits, answer.T).mean()

        gradient = jax.jit(jax.grad(loss))(params)
        along = jax.tree.map(
            lambda leaf: jnp.asarray(np.random.default_rng(leaf.size).normal(size=leaf.shape)),
            params,
        )
        step = 1e-5
        ahead, behind = (
            loss(jax.tree.map(lambda leaf, by, s=s: leaf + s * by, params, along))
            for s in (step, -step)
        )
        exact = sum(
            (g * by).sum()
            for g, by in zip(jax.tree.leaves(gradient), jax.tree.leaves(along), strict=True)
        )
        np.testing.assert_allclose((ahead - behind) / (2 * step), exact, rtol=1e-6)


def test_what_is_written_has_the_exact_probabilities():
    params = params_of(TRANSFORMER)
    probs = np.asarray(jit(partial(answer_probs, TRANSFORMER, WORLD))(params))
    np.testing.assert_allclose(probs.sum(), 1, rtol=1e-5)
    count = 100_000
    uniforms = jax.random.uniform(jax.random.key(8), (3, count))
    tokens = jit(partial(sample, TRANSFORMER, WORLD, combine=lambda logits: logits[0]))(
        streams=[(params, None)], uniforms=uniforms
    )
    found = np.bincount(np.asarray((tokens[0] * 4 + tokens[1]) * 4 + tokens[2]), minlength=64)
    # Pearson's statistic of 63 degrees of freedom is above 120 once in 10^5.
    assert ((found - count * probs) ** 2 / (count * probs)).sum() < 120
    by_hand = jax.nn.log_softmax(read(TRANSFORMER, WORLD, params, all_answers(WORLD), None))
    chosen = np.take_along_axis(np.asarray(by_hand), all_answers(WORLD).T[..., None], axis=2)
    np.testing.assert_allclose(probs, np.exp(chosen.sum((1, 2))), rtol=1e-4)


def test_reinforce_over_all_answers_is_the_gradient_of_the_expected_reward():
    params = params_of(TRANSFORMER)
    problem = problems.sample_problem(3, 3, 4)
    answers = jnp.asarray(all_answers(WORLD))
    rewards = problems.reward(problem, answers)
    probs = jit(partial(answer_probs, TRANSFORMER, WORLD))(params)
    np.testing.assert_allclose(rewards, problems.all_rewards(problem), atol=1e-6)

    def loss(params):
        logits = read(TRANSFORMER, WORLD, params, answers, None)
        values = losses.reinforce(losses.token_log_probs(logits, answers.T), rewards)
        return (jax.lax.stop_gradient(probs)[:, None] * values).sum()

    found = jit(jax.grad(loss))(params)
    exact = jit(jax.grad(lambda p: expected_reward(TRANSFORMER, WORLD, p, problem)))(params)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(-one, other, atol=2e-6)


def test_what_follows_each_prefix_is_what_the_network_says():
    params = params_of(TRANSFORMER)
    found = conditionals(TRANSFORMER, WORLD, params)
    logits = read(TRANSFORMER, WORLD, params, jnp.asarray([[2], [1], [0]]), None)
    np.testing.assert_allclose(found[2][2 * 4 + 1], jax.nn.softmax(logits[0, 2]), atol=1e-6)


# Teachers


LAB = Lab(WORLD, TRANSFORMER, METHODS["sdpo_composed_forward"], steps=2, rollouts=8)


def teacher_logits(name, numbers, context, answer, student, first):
    params = {"student": student, "first": first, "average": student}
    return taught(LAB, TEACHERS[name], params, answer, context, numbers)


def test_a_composed_teacher_of_strength_0_is_the_student():
    student, first = params_of(TRANSFORMER, 1), params_of(TRANSFORMER, 2)
    answer = random_ids(1, (3, 5), 4)
    context = random_ids(2, (WORLD.context_length, 5), WORLD.ids)
    own = read(TRANSFORMER, WORLD, student, answer, None)
    for name in ("composed", "composed_live"):
        found = teacher_logits(name, {"strength": 0.0}, context, answer, student, first)
        np.testing.assert_allclose(found, own, atol=1e-6)
    at_one = teacher_logits("composed_live", {"strength": 1.0}, context, answer, student, first)
    live = teacher_logits("live", {}, context, answer, student, first)
    np.testing.assert_allclose(at_one, live, atol=1e-5)


def test_a_teacher_that_is_given_nothing_is_the_student():
    student = params_of(TRANSFORMER, 1)
    answer = random_ids(1, (3, 5), 4)
    found = teacher_logits("live", {}, None, answer, student, student)
    np.testing.assert_array_equal(found, read(TRANSFORMER, WORLD, student, answer, None))
    loss = METHODS["sdpo_live_forward"].loss
    batch = Batch(answer.T, jnp.ones(5), teacher=found)
    gradient = jax.grad(lambda logits: loss(logits, batch, {}))(found)
    np.testing.assert_allclose(gradient, 0, atol=1e-7)


def test_a_trust_region_lies_between_first_and_student():
    student, first = params_of(TRANSFORMER, 1), params_of(TRANSFORMER, 2)
    answer = random_ids(1, (3, 5), 4)
    context = random_ids(2, (WORLD.context_length, 5), WORLD.ids)
    ends = [
        teacher_logits("trust", {"trust": trust}, context, answer, student, first)
        for trust in (0.0, 1.0)
    ]
    for end, name in zip(ends, ("frozen", "live"), strict=True):
        np.testing.assert_allclose(
            end, teacher_logits(name, {}, context, answer, student, first), atol=1e-5
        )


def test_with_a_table_for_a_network_a_composed_teacher_is_the_tilted_policy():
    """A table that adds beta times a token's mark to its logits: Eq. 2 with the mark as q."""
    beta = 0.7

    def apply(table, ids, places):
        # A context shows by its length; its marks are those of the last T ids before the start.
        logits = table[places]
        if len(ids) > WORLD.length:
            attempt = ids[WORLD.context_length - WORLD.length : WORLD.context_length]
            mark, token = attempt // 4 - 1, attempt % 4
            sign = jnp.where(mark == 1, 1.0, jnp.where(mark == 2, -1.0, 0.0))
            q = jax.nn.one_hot(token, 4) * sign[:, None]
            logits = logits + jnp.concatenate((jnp.zeros((len(ids) - 3, 4)), beta * q))
        return logits

    network = Own(lambda key: jax.random.normal(key, (WORLD.places, 4)), apply)
    lab = Lab(WORLD, network, METHODS["sdpo_composed_forward"], steps=1, rollouts=8)
    first = network.init(jax.random.key(0))
    student = network.init(jax.random.key(1))
    run = Run(lab, first, 5, Setting(0.1, kind=3, hint_noise=0.0))
    batch, _, _ = run.batch(State(student, None, None, None), jnp.int32(0))
    quality = np.asarray(run.problem.quality)
    tokens = np.asarray(batch.tokens)
    tilted = np.broadcast_to(np.asarray(student)[None, :3], (8, 3, 4)).copy()
    for i in range(8):
        for t in range(3):
            worth = quality[t, tokens[i, t]]
            tilted[i, t, tokens[i, t]] += beta * (worth > 0.5) - beta * (worth < -0.5)
    np.testing.assert_allclose(batch.teacher, tilted, atol=1e-5)
