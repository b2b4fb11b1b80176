"""Steps, whole runs and exact metrics against ``reference``, which shares no line with them."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import METRICS, ORACLES, Program, Sizes, State
from sdpo_jax.engine import streams
from sdpo_jax.engine.streams import Stream
from tests import reference
from tests.every_number import Numbers
from tests.quickly import QUICKLY

SIZES = Sizes(length=4, vocab_size=5, rollouts=6, steps=12, final_window=5)
SMALL = Sizes(length=3, vocab_size=3, rollouts=6, steps=12, final_window=5)
SEEDS = np.array([5, 17, 2])
RUNS = len(SEEDS)

# Another number for each run, so that a number that reaches the wrong run is seen.
CONFIG = Numbers(
    learning_rate=np.array([0.1, 1.0, 0.5]),
    kl_weight=np.array([0.3, 0.05, 1.0]),
    feedback_strength=np.array([1.5, 0.7, -1.0]),
    hybrid_threshold=np.array([0.1, 0.15, 0.05]),
    noise=np.array([0.2, 0.4, 0.6]),
    bias=np.array([0.1, -0.3, 0.3]),
    hint_noise=np.array([0.45, 0.2, 0.8]),
    knowledge=np.array([0.6, 1.0, 0.2]),
    sign=np.array([1.0, 1.0, 0.5]),
    learn_from_feedback=np.zeros(RUNS),
    quality_scale=np.array([1.0, 0.7, 1.5]),
    bigram_scale=np.array([0.3, 0.5, 0.8]),
    pattern_weight=np.array([0.3, 0.8, -0.5]),
    init_scale=np.array([0.1, 0.5, 1.0]),
)
VARIANTS = {
    "as defined": CONFIG,
    "reversed": replace(CONFIG, sign=np.array([-1.0, -1.0, -0.5])),
    "from feedback": replace(CONFIG, learn_from_feedback=np.array([0.3, 1.0, 0.7])),
}

FEEDBACK = {
    "binary": (sdpo_jax.binary(), reference.binary()),
    "ordinal of 5": (sdpo_jax.ordinal(), reference.ordinal(5)),
    "ordinal of 3": (sdpo_jax.ordinal(3), reference.ordinal(3)),
    "continuous": (sdpo_jax.continuous(), reference.continuous()),
    "constant": (sdpo_jax.constant(0.6), reference.constant(0.6)),
    "critique by position": (sdpo_jax.critique("position"), reference.critique("position")),
    "critique by token": (sdpo_jax.critique(), reference.critique("token")),
    "critique of the sampled": (sdpo_jax.critique("sampled"), reference.critique("sampled")),
}

# At the slopes here, beta times the range of a row up to 5.1, interpolation from so many nodes errs
# by less than float32 does.
NODES = 16

CELLS = [
    *itertools.product(reference.ALGORITHMS, FEEDBACK, [0]),
    ("sdpo", "continuous", NODES),
]
CHEAP = tuple(name for name, metric in METRICS.items() if not metric.costly)
COSTLY = tuple(name for name, metric in METRICS.items() if metric.costly)
# Of a factored policy it is the entropy of positions, which is compared with the cheap ones.
COSTLY = tuple(name for name in COSTLY if name != "exact_entropy")

# What is compared is of order 1 and takes some ten operations in a row, each rounded to 6e-8.
ROUNDING = 6e-7


@cache
def drawn(sizes):
    """All chance of ``sizes.steps`` steps of all runs, as arrays."""
    length, vocab_size, rollouts = sizes.length, sizes.vocab_size, sizes.rollouts
    keys = {name: streams.stream(SEEDS, name) for name in Stream}

    def of_step(index):
        # A cipher block serves three positions in a row.
        thirds = streams.uniforms(keys[Stream.ROLLOUTS], index, (-(-length // 3), rollouts))
        return {
            "uniforms": jnp.stack(thirds, 1).reshape(-1, rollouts, RUNS)[:length],
            "noise": streams.normals(keys[Stream.NOISE], index, (rollouts,)),
            "hints": streams.normals(keys[Stream.HINTS], index, (length, vocab_size, rollouts)),
        }

    def everything():
        problem = sdpo_jax.sample_problem(
            SEEDS,
            length,
            vocab_size,
            CONFIG.quality_scale,
            CONFIG.bigram_scale,
            CONFIG.pattern_weight,
        )
        return {
            "problem": vars(problem),
            "best": sdpo_jax.best_sequence(problem),
            "errors": streams.normals(keys[Stream.KNOWLEDGE], 0, (length, vocab_size)),
            "first": streams.normals(keys[Stream.INIT], 0, (length, vocab_size)),
            "steps": jax.vmap(of_step)(jnp.arange(sizes.steps)),
        }

    return jax.tree.map(np.asarray, jax.jit(everything, compiler_options=QUICKLY)())


@cache
def compiled_init(sizes, nodes):
    program = Program(sizes=sizes, teacher_nodes=nodes)

    def function(config, oracle, table):
        own = config.own(program)
        return sdpo_jax.init(SEEDS, program, config.config, oracle, knowledge=table, numbers=own)

    return jax.jit(function, compiler_options=QUICKLY)


@cache
def compiled_step(program):
    def function(setting, state, index):
        state, view = sdpo_jax.step(program, setting, state, index)
        found = {
            "tokens": view.tokens,
            "reward": view.reward,
            "feedback": view.feedback,
            "mean_teacher": view.teacher.mean,
            "gradient": view.update.gradient,
            "direction": view.direction,
            "logits": state.params,
        }
        return found, {name: METRICS[name].measure(view) for name in program.metrics}

    return jax.jit(function, compiler_options=QUICKLY)


def one_step(program, config, oracle, logits, table, index):
    """What the library's step finds, and its metrics."""
    init = compiled_init(program.sizes, program.teacher_nodes)
    setting, first = init(config, oracle, table)
    setting = setting._replace(numbers=config.own(program))
    return compiled_step(program)(setting, State(logits, first.optimizer), index)


def of_run(tree, run):
    """One run of a tree of arrays ``[..., runs]``, its floats in float64."""

    def cut(leaf):
        leaf = np.asarray(leaf)[..., run]
        return leaf.astype(np.float64) if leaf.dtype.kind == "f" else leaf

    return jax.tree.map(cut, tree)


def reference_problem(sizes, run):
    return reference.Problem(**of_run(drawn(sizes)["problem"], run))


def reference_numbers(config, run):
    names = [field.name for field in fields(reference.Numbers)]
    return reference.Numbers(**{name: float(getattr(config, name)[run]) for name in names})


def first_logits(sizes, run):
    return CONFIG.init_scale[run] * of_run(drawn(sizes)["first"], run)


def logits_and_table(seed, sizes):
    """Logits far from uniform and a teacher's table that is not q, ``[T, V, runs]`` each."""
    shape = (2, sizes.length, sizes.vocab_size, RUNS)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def in_a_shared_structure(oracle):
    """An oracle of levels with cuts that no reward reaches up to four; others as they are."""
    missing = 4 - len(oracle.cuts)
    if oracle.gain is not None:
        return oracle
    cuts = np.pad(oracle.cuts, (0, missing), constant_values=2.0)
    return replace(oracle, cuts=cuts, rises=np.pad(oracle.rises, (0, missing)))


def expect_no_noisy_reward_at_a_cut(oracle, noisy):
    """Rounding may not decide between two levels of feedback; the seeds are chosen so."""
    distance = np.abs(np.subtract.outer(noisy, oracle.cuts))
    assert distance.min(initial=1.0) > 1e-5


def distance_to_an_edge(policy, uniforms):
    """How far each uniform is from where the token changes, ``[T, N]``."""
    edges = reference.cumulative(policy)
    return np.abs(uniforms[:, :, None] - edges[:, None]).min(2)


def credit_error(direction, error):
    """How far an error of each entry of the direction can move its correlation with anything."""
    return np.mean(2 * error / np.std(direction, axis=1))


def allowed(name, direction, error):
    """What an error of the step's arrays may come to in a metric."""
    if name == "credit":
        return credit_error(direction, error)
    # The weight is steepest at tau, 3 / (4 tau), and no tau is below 0.05.
    return 15 * error if name == "weight" else error


def expect_within(error, got, expected, what):
    """As ``assert_allclose``, with an error for each number."""
    np.testing.assert_allclose(got / error, expected / error, rtol=0, atol=1, err_msg=what)


def test_every_oracle_is_compared():
    plain = {name for name in ORACLES if ORACLES[name]().judge is None}
    assert {name.split()[0] for name in FEEDBACK} == plain


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("algorithm", "feedback", "nodes"), CELLS)
def test_one_step(algorithm, feedback, nodes, variant):
    oracle, plain_oracle = FEEDBACK[feedback]
    # A structure of its own is a compilation of its own: for one algorithm only.
    given = oracle if algorithm == "sdpo" else in_a_shared_structure(oracle)
    config, index = VARIANTS[variant], 7
    logits, table = logits_and_table(3, SIZES)
    program = Program(algorithm, SIZES, CHEAP, teacher_nodes=nodes)
    found, metrics = one_step(program, config, given, logits, table, index)
    chance = drawn(SIZES)["steps"]
    for run in range(RUNS):
        got = of_run(found, run)
        expected = reference.step(
            algorithm,
            plain_oracle,
            reference_problem(SIZES, run),
            reference_numbers(config, run),
            of_run(table, run),
            first_logits(SIZES, run),
            of_run(logits, run),
            reference.Draws(
                got["tokens"],
                of_run(chance["noise"][index], run),
                of_run(chance["hints"][index], run),
            ),
        )
        expect_no_noisy_reward_at_a_cut(oracle, expected.noisy)
        for name in found.keys() - {"tokens"}:
            expect_within(ROUNDING, got[name], getattr(expected, name), f"{name}, run {run}")
        for name in CHEAP:
            error = allowed(name, expected.direction, ROUNDING)
            value = expected.metrics[name]
            expect_within(error, metrics[name][run], value, f"{name}, run {run}")


def test_sampled_tokens_invert_the_cumulative_probabilities():
    oracle, _ = FEEDBACK["continuous"]
    logits, table = logits_and_table(4, SIZES)
    program = Program("sdpo", SIZES, CHEAP)
    compared = 0
    for index in range(SIZES.steps):
        found, _ = one_step(program, CONFIG, oracle, logits, table, index)
        for run in range(RUNS):
            policy = reference.softmax(of_run(logits, run))
            uniforms = of_run(drawn(SIZES)["steps"]["uniforms"][index], run)
            clear = distance_to_an_edge(policy, uniforms) > 1e-6
            expected = reference.sample(policy, uniforms)
            np.testing.assert_array_equal(of_run(found["tokens"], run)[clear], expected[clear])
            compared += clear.sum()
    assert compared >= 0.99 * SIZES.steps * RUNS * SIZES.length * SIZES.rollouts


@pytest.mark.parametrize(
    ("algorithm", "feedback", "nodes"),
    [
        ("sdpo", "continuous", NODES),
        ("sdpo", "critique by token", 0),
        ("hybrid", "ordinal of 5", 0),
        ("reinforce", "continuous", 0),
        ("advantage_weighted", "continuous", 0),
    ],
)
def test_a_whole_run(algorithm, feedback, nodes):
    oracle, plain_oracle = FEEDBACK[feedback]
    config = replace(CONFIG, learning_rate=np.array([1.0, 3.0, 2.0]))
    # Where nothing asks for the teacher, a run goes without.
    has_teacher = algorithm in ("sdpo", "hybrid")
    names = tuple(name for name in CHEAP if has_teacher or not METRICS[name].needs_teacher)
    program = Program(algorithm, SIZES, names, record=names, teacher_nodes=nodes)
    result = jax.jit(
        lambda config: sdpo_jax.train(
            SEEDS, program, config.config, oracle, numbers=config.own(program)
        )
    )(config)
    # Each step adds its own rounding to what the steps before left in the logits.
    rounding = ROUNDING * np.arange(1, SIZES.steps + 1)
    for run in range(RUNS):
        problem = reference_problem(SIZES, run)
        chance = of_run(drawn(SIZES), run)
        errors = config.quality_scale[run] * chance["errors"]
        steps = reference.train(
            algorithm,
            plain_oracle,
            problem,
            reference_numbers(config, run),
            reference.table_of(problem.quality, config.knowledge[run], errors),
            first_logits(SIZES, run),
            **chance["steps"],
        )
        for step, uniforms in zip(steps, chance["steps"]["uniforms"], strict=True):
            expect_no_noisy_reward_at_a_cut(oracle, step.noisy)
            assert distance_to_an_edge(step.policy, uniforms).min() > 1e-5
        expect_within(rounding[-1], result.logits[..., run], steps[-1].logits, "logits")
        for name in names:
            curve = np.array([step.metrics[name] for step in steps])
            error = np.array(
                [allowed(name, step.direction, e) for step, e in zip(steps, rounding, strict=True)]
            )

            def final(values, name=name):
                return reference.final(name, values, SIZES.final_window)

            what = f"{name}, run {run}"
            expect_within(error, result.curves[name][:, run], curve, what)
            expect_within(final(error), result.final[name][run], final(curve), what)
            expect_within(error.mean(), result.mean[name][run], curve.mean(), what)


def test_exact_metrics_are_those_of_all_sequences():
    oracle, _ = FEEDBACK["continuous"]
    program = Program("sdpo", SMALL, COSTLY)
    for index in range(4):
        logits, table = logits_and_table(index, SMALL)
        found, metrics = one_step(program, CONFIG, oracle, logits, table, index)
        for run in range(RUNS):
            problem = reference_problem(SMALL, run)
            policy = reference.softmax(of_run(logits, run))
            direction = of_run(found["direction"], run)
            expected = reference.exact_metrics(problem, policy, direction)
            advantage = reference.token_advantage(problem, policy)
            errors = {
                "expected_reward": ROUNDING,
                "exact_credit": credit_error(direction, ROUNDING)
                + credit_error(advantage, ROUNDING),
                # Two rewards are rounded, and their difference divided.
                "optimality": 2 * ROUNDING / reference.reward_range(problem),
            }
            for name in COSTLY:
                what = f"{name}, run {run}"
                expect_within(errors[name], metrics[name][run], expected[name], what)


def test_the_best_sequence_is_the_best_of_all():
    best, best_reward = drawn(SMALL)["best"]
    for run in range(RUNS):
        problem = reference_problem(SMALL, run)
        expected = reference.best_sequence(problem)
        assert tuple(best[:, run]) == expected
        assert best_reward[run] == pytest.approx(reference.reward(problem, expected), abs=ROUNDING)
