"""Whatever the public functions are given, they work or say in one line what is wrong."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import Config, Hints, Judge, Problem, Program, Sizes
from sdpo_jax.oracles.judges import STRENGTHS

SIZES = Sizes(length=2, vocab_size=3, rollouts=4, steps=2, final_window=1)
PROGRAM = Program("reinforce", SIZES, metrics=("reward",))


class Odd:
    """No number, and not even a text."""

    def __repr__(self):
        raise RuntimeError


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


HOSTILE = {
    "None": None,
    "text": "text",
    "bytes": b"bytes",
    "a number as text": "0.1",
    "True": True,
    "a flag": np.bool_(False),
    "nan": float("nan"),
    "inf": float("inf"),
    "-1": -1,
    "0": 0,
    "2.5": 2.5,
    "huge": 10**400,
    "2**63": 2**63,
    "1e39": 1e39,
    "complex": 1j,
    "empty": [],
    "nothing": np.zeros((0, 3)),
    "ragged": [[1], [1, 2]],
    "nested": nested(500),
    "objects": np.array([None, object()]),
    "masked": np.ma.masked_array([1.0, 2.0], [True, False]),
    "float64": np.float64([0.25, 0.5, 0.75, 0.1, 0.2]),
    "strings": ["a", "b"],
    "dates": np.array(["2020-01-01"], "datetime64[D]"),
    "matrix": np.zeros((3, 3)),
    "dict": {"noise": 0.1},
    "set": {1, 2},
    "function": lambda: 0,
    "type": dict,
    "odd": Odd(),
    "key": jax.random.key(0),
    "raw key": jax.random.PRNGKey(0),
    "jax floats": jnp.float32([0.5, -1.0]),
    "config": Config(),
    "program": PROGRAM,
}

PROBLEM = Problem(
    np.ones((2, 3), np.float32), np.ones((3, 3), np.float32), np.array([0, 2]), np.float32(0.3)
)
PROBS = np.full((2, 3), 1 / 3, np.float32)
ORACLE = sdpo_jax.critique()


def train(**changes):
    arguments = {"seed": 0, "program": PROGRAM, **changes}
    return jax.eval_shape(lambda: sdpo_jax.train(**arguments))


@pytest.fixture(scope="module")
def begun():
    return sdpo_jax.init(0, PROGRAM)


def of_config(name, value):
    return train(config=Config(**{name: value}))


def of_sizes(name, value):
    return train(program=replace(PROGRAM, sizes=replace(SIZES, **{name: value})))


def of_program(name, value):
    return train(program=Program(**{**vars(PROGRAM), name: value}))


def of_oracle(name, value):
    return sdpo_jax.feedback(replace(ORACLE, **{name: value}), np.ones(4))


def of_hints(name, value):
    return train(oracle=replace(ORACLE, hints=replace(ORACLE.hints, **{name: value})))


def of_judge(name, value):
    return train(oracle=replace(ORACLE, judge=replace(Judge(), **{name: value})))


def of_problem(name, value):
    return sdpo_jax.best_sequence(replace(PROBLEM, **{name: value}))


def names(record):
    return [field.name for field in fields(record)]


# By function, its arguments by name: what is called with a value, and what an error begins with.
CALLS = {
    "train": {
        name: (lambda value, name=name: train(**{name: value}), name)
        for name in ("seed", "program", "config", "oracle", "problem_seed", "problem", "knowledge")
    },
    "Config": {name: (partial(of_config, name), name) for name in names(Config)},
    "Sizes": {name: (partial(of_sizes, name), "") for name in names(Sizes)},
    "Program": {
        name: (partial(of_program, name), "metrics" if name == "record" else name)
        for name in names(Program)
    },
    "Oracle": {name: (partial(of_oracle, name), "oracle") for name in names(ORACLE)},
    "Hints": {name: (partial(of_hints, name), "oracle") for name in names(Hints)},
    "Judge": {name: (partial(of_judge, name), "oracle") for name in names(Judge)},
    "Problem": {name: (partial(of_problem, name), "problem") for name in names(Problem)},
    "judged": {
        "oracle": (sdpo_jax.judged, "oracle"),
        **{
            name: (lambda value, name=name: sdpo_jax.judged(**{name: value}), "oracle")
            for name in STRENGTHS
        },
    },
    "oracles": {
        "threshold": (sdpo_jax.binary, "threshold"),
        "levels": (sdpo_jax.ordinal, "levels"),
        "reading": (sdpo_jax.critique, "reading"),
        "value": (sdpo_jax.constant, "value"),
        "oracle": (lambda value: sdpo_jax.feedback(value, np.ones(4)), "oracle"),
        "seen": (lambda value: sdpo_jax.feedback(ORACLE, value), "seen"),
    },
    "sample_problem": {
        name: (
            lambda value, name=name: sdpo_jax.sample_problem(
                **{"seed": 0, "length": 2, "vocab_size": 3, name: value}
            ),
            name,
        )
        for name in (
            *("seed", "length", "vocab_size"),
            *("quality_scale", "bigram_scale", "pattern_weight"),
        )
    },
    "rewards": {
        "problem": (lambda value: sdpo_jax.reward(value, [[0], [1]]), "problem"),
        "tokens": (lambda value: sdpo_jax.reward(PROBLEM, value), "tokens"),
        "probs": (lambda value: sdpo_jax.expected_reward(PROBLEM, value), "probs"),
        "of no problem": (lambda value: sdpo_jax.expected_reward(value, PROBS), "problem"),
        "advantage": (lambda value: sdpo_jax.token_advantage(PROBLEM, value), "probs"),
        "advantage of": (lambda value: sdpo_jax.token_advantage(value, PROBS), "problem"),
        "best": (sdpo_jax.best_sequence, "problem"),
        "reward": (lambda value: sdpo_jax.optimality(PROBLEM, value), "reward"),
        "optimality": (lambda value: sdpo_jax.optimality(value, 0.5), "problem"),
        "direction": (lambda value: sdpo_jax.credit_correlation(value, PROBS), "direction"),
        "worth": (lambda value: sdpo_jax.credit_correlation(PROBS, value), "worth"),
    },
}
# Values that a longer name than the argument's own is named by.
NAMED_OTHERWISE = {
    "direction": ("direction", "worth"),
    "record": ("record",),
    "sizes": ("sizes",),
}
ARGUMENTS = [(function, name) for function, given in CALLS.items() for name in given]


def check(call, value, *beginnings):
    try:
        call(value)
    except ValueError as error:
        message = str(error)
        assert "\n" not in message
        assert len(message) < 1200
        assert message.startswith(beginnings), message


@pytest.mark.parametrize(("function", "argument"), ARGUMENTS)
def test_an_argument_works_or_is_refused_in_one_line(function, argument):
    call, beginning = CALLS[function][argument]
    for label, value in HOSTILE.items():
        try:
            check(call, value, *NAMED_OTHERWISE.get(argument, (beginning,)))
        except Exception as error:
            error.add_note(f"{function}, {argument}: {label}")
            raise


def test_a_step_is_given_what_init_made(begun):
    setting, state = begun
    for value in HOSTILE.values():
        check(lambda value: sdpo_jax.step(value, setting, state, 0), value, "program")
        check(lambda value: sdpo_jax.step(PROGRAM, value, state, 0), value, "setting")
        check(lambda value: sdpo_jax.step(PROGRAM, setting, value, 0), value, "state")
        index = partial(sdpo_jax.step, PROGRAM, setting, state)
        check(lambda value, index=index: jax.eval_shape(lambda: index(value)), value, "index")


SEEDS_REFUSED = {
    "float": jnp.array([0.5, -1.0]),
    "flags": jnp.array([True, False]),
    "complex": jnp.array([1j]),
    "raw key": jax.random.PRNGKey(5),
    "raw keys": jax.random.split(jax.random.PRNGKey(5), 3),
    "another cipher": jax.random.key(0, impl="rbg"),
}


@pytest.mark.parametrize("kind", SEEDS_REFUSED)
@pytest.mark.parametrize("name", ["seed", "problem_seed"])
def test_a_seed_of_another_type_is_refused_traced_or_not(kind, name):
    seed = SEEDS_REFUSED[kind]
    with pytest.raises(ValueError, match=rf"^{name}: .*; allowed: .*keys") as error:
        train(**{name: seed})
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=rf"^{name}: .*; allowed: .*keys"):
        jax.eval_shape(lambda seed: sdpo_jax.train(**{"seed": 0, name: seed}), seed)
    with pytest.raises(ValueError, match=r"^seed: .*; allowed: .*keys"):
        jax.eval_shape(lambda seed: sdpo_jax.sample_problem(seed, 2, 3), seed)


@pytest.mark.parametrize("seed", [-1, 2**32, [0, -5], np.int64(2**40), jnp.int32(-1)])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match=r"^seed: .*; allowed: integers from 0 to 2\*\*32 - 1"):
        train(seed=seed)


def test_seeds_of_any_type_name_the_same_runs():
    kinds = [np.arange(3, dtype=kind) for kind in (np.int64, np.uint32, np.int8, np.uint64)]
    kinds += [[0, 1, 2], range(3), (0, 1, 2), jnp.arange(3), jax.vmap(jax.random.key)(np.arange(3))]
    tables = [sdpo_jax.sample_problem(seeds, 2, 3).quality for seeds in kinds]
    assert all(np.array_equal(table, tables[0]) for table in tables)


def test_one_seed_of_the_problem_serves_all_runs():
    setting, _ = sdpo_jax.init(np.arange(3), PROGRAM, problem_seed=7)
    quality = np.asarray(setting.problem.quality)
    assert (quality == quality[..., :1]).all()
    with pytest.raises(ValueError, match=r"^problem_seed: shape \(2,\); allowed: \(3,\) or \(\)"):
        train(seed=np.arange(3), problem_seed=np.arange(2))


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("quality", np.full((2, 3), np.nan), "problem.quality: nan"),
        ("target", [0, 3], "problem.target: 3; allowed: integers from 0 to 2"),
        ("target", [0, -1], "problem.target: -1; allowed: integers from 0 to 2"),
        ("target", [0.0, 1.0], "problem.target: "),
        ("pattern_weight", np.inf, "problem.pattern_weight: inf"),
        ("pattern_weight", [0.1, 0.2], r"problem.pattern_weight: shape \(2,\)"),
    ],
)
def test_a_problem_out_of_range_is_refused(part, value, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        train(problem=replace(PROBLEM, **{part: value}))


def test_a_problem_may_be_lists_and_of_double_precision():
    lists = Problem(*(np.asarray(part, np.float64).tolist() for part in vars(PROBLEM).values()))
    lists = replace(lists, target=[0, 2])
    wide = replace(PROBLEM, quality=PROBLEM.quality.astype(np.float64))
    tokens = [[0, 1], [2, 1]]
    expected = sdpo_jax.reward(PROBLEM, tokens)
    for problem in (lists, wide):
        np.testing.assert_array_equal(sdpo_jax.reward(problem, tokens), expected)
        assert train(problem=problem).logits.dtype == np.float32


def test_a_table_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match=r"^knowledge: nan; allowed: finite numbers"):
        train(knowledge=np.full((2, 3), np.nan))
