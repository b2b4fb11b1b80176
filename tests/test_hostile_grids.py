"""Grids that nobody should ask for: a plan is made, or one line names the argument, and soon."""

from __future__ import annotations

import functools
import itertools
import time
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sdpo_jax
from sdpo_jax import Config, Metric, Oracle, Sizes
from sdpo_jax.algorithm import what_is_told, what_is_told_at_first
from sdpo_jax.algorithms import ALGORITHMS
from sdpo_jax.config import CONFIG_FIELDS, SIZE_FIELDS
from sdpo_jax.grid import execute, limits, plan, programs
from sdpo_jax.metrics import METRICS
from sdpo_jax.program import NAMED_AXES, SEED_AXES

SIZES = Sizes(length=3, vocab_size=4, rollouts=5, steps=7, final_window=3)


@dataclass(frozen=True)
class LargerConfig(Config):
    mine: float = 1.0


@dataclass(frozen=True)
class LargerSizes(Sizes):
    mine: int = 1


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no text")


class Unhashable:
    __hash__ = None

    def __call__(self, *, policy):
        return sdpo_jax.Update(policy.logits)


def takes_what_nobody_has(*, nothing):
    return nothing


def not_a_transformation(rate):
    return rate


def loss_needed(rate):
    return optax.lbfgs(rate)


WORDS = [None, True, False, "", "sdpo", "reward", "\n", "x" * 10_000, b"sdpo", bytearray(b"1")]
NUMBERS = [
    *(0, 1, -1, 2, 5, 2**31, 2**64, 10**400, -(10**400)),
    *(0.0, -0.0, 0.5, 1.5, 1e39, -1e39, 1e-50, float("nan"), float("inf"), 1j),
    *(np.float32(0.5), np.int64(3), np.bool_(True), np.datetime64("2020-01-01")),
]
ARRAYS = [
    *(
        np.array(3),
        np.array([3]),
        np.array([[0.1]]),
        np.array([]),
        np.array(["a"]),
        np.array([None]),
    ),
    *(
        np.ma.masked_array([0.1, 0.2], [True, False]),
        np.array([True]),
        np.zeros(3),
        np.array([1e39]),
    ),
    *(jnp.array([0.1, 0.2]), jnp.array(1), jnp.arange(3), jnp.array([True]), jnp.zeros((0,))),
]
COLLECTIONS = [
    *(
        [],
        (),
        {},
        set(),
        {1},
        [[]],
        [[0.1]],
        [{}],
        [None],
        [""],
        [0.1, [0.2]],
        [0.1, "a"],
        ["a", "a"],
    ),
    *(
        [0.1, 0.10000000001],
        [1e-50],
        [1e39],
        [True],
        [0.5, True],
        [2],
        [float("nan")],
        [Unprintable()],
    ),
    *(range(0), range(3), range(10**30), range(-1, 2), range(2**32 - 1, 2**33), range(2**40)),
    *({5: "sdpo"}, {"": "sdpo"}, {"mine": 5}, {"seed": [1]}, {"a": "b"}, [("a", "sdpo"), ("b",)]),
    *(iter([1]), (each for each in [1]), memoryview(b"12"), "12", [0] * 5, [1, 2, 3]),
]
OBJECTS = [
    *(object(), object, print, max, lambda: None, lambda x: x, Unprintable(), Unhashable()),
    *(functools.partial(max), optax.sgd, optax.sgd(0.1), optax.lbfgs, optax.polyak_sgd),
    *(
        takes_what_nobody_has,
        not_a_transformation,
        loss_needed,
        ALGORITHMS["sdpo"],
        ALGORITHMS["sdft"],
    ),
    *(functools.partial(ALGORITHMS["reinforce"]), functools.partial(optax.adam, b1=0.5)),
    *(Config(), Sizes(), LargerConfig(), LargerSizes(), Config(noise=[0.1]), Config(noise="a")),
    *(Config(noise=jnp.array(0.1)), Sizes(steps="7"), Sizes(steps=True), Sizes(length=10**9)),
    *(sdpo_jax.ordinal(3), sdpo_jax.judged(overlap=0.5), sdpo_jax.Program(), METRICS["reward"]),
    Oracle("a", None, [0.1], [[0.2]]),
    Oracle(0.5, 0.0, np.zeros((2, 3)), np.zeros((2, 3))),
    replace(sdpo_jax.continuous(), judge=5),
]
POOL = [*WORDS, *NUMBERS, *ARRAYS, *COLLECTIONS, *OBJECTS]

ARGUMENTS = (
    *("algorithm", "oracle", "optimizer", "seed", "problem_seed", "config", "sizes", "metrics"),
    *("record", "record_every", "block_width", "teacher_nodes", "curves_over", "quantiles"),
    *("logits", "workers", "progress"),
)


def asked(axes, arguments):
    """What is said of a grid, or ``None`` where it can be trained; nothing is compiled."""
    # Of this thread, so that it counts the same on a busy machine.
    start = time.thread_time()
    try:
        sdpo_jax.run_grid(axes, **{"sizes": SIZES, **arguments})
    except ValueError as error:
        message = str(error)
    except NotTrained:
        message = None
    assert time.thread_time() - start < 2
    return message


class NotTrained(BaseException):
    pass


@pytest.fixture(autouse=True)
def nothing_is_compiled(monkeypatch):
    def not_trained(*_):
        raise NotTrained

    monkeypatch.setattr(execute.Execution, "results", not_trained)


def names(message, *allowed):
    assert len(message.splitlines()) == 1
    assert len(message) < 1500
    assert message.startswith(tuple(f"{name}" for name in allowed)), message
    assert "allowed: " in message or "enumerate" in message, message


# Fields of what an argument holds, by which an error may name it.
INSIDE = {
    "config": CONFIG_FIELDS,
    "sizes": (*SIZE_FIELDS, "block_width", "axes"),
    "oracle": ("oracle",),
    "algorithm": ("length", "block_width"),
    "metrics": ("record",),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_argument_is_taken_or_refused_by_its_name(name):
    for value in POOL:
        if hasattr(value, "__next__"):
            continue
        message = asked({"noise": [0.1, 0.2]}, {"record": ["reward"], name: value})
        if message is not None:
            names(message, name, *INSIDE.get(name, ()))


@pytest.mark.parametrize("name", [*NAMED_AXES, *SEED_AXES, "noise", "steps", "vocab_size"])
def test_every_axis_is_taken_or_refused_by_its_name(name):
    for value in POOL:
        for axes in ({name: value}, {"pair": {name: value}}, {name: [value]}):
            message = asked(axes, {})
            if message is not None:
                names(message, name, "pair", "axes", "oracle", *SIZE_FIELDS, "block_width")


def test_all_numbers_and_sizes_are_checked_alike():
    values = [1e-50, 1e39, True, "a", [0.1], np.array([1]), 10**400, None]
    for name, value in itertools.product((*CONFIG_FIELDS, *SIZE_FIELDS), values):
        names(asked({name: [value]}, {}), name)


@pytest.mark.parametrize("axes", POOL, ids=lambda value: type(value).__name__)
def test_axes_of_any_type(axes):
    message = asked(axes, {})
    if message is not None:
        names(message, "axes", "seed")


@pytest.mark.parametrize(
    ("axes", "options", "words"),
    [
        ({"noise": [0.1, 0.10000000001]}, {}, ["noise: 0.1 and 0.10000000001", "float32"]),
        ({"learning_rate": [1e-50]}, {}, ["learning_rate: 1e-50 is 0.0 as a float32"]),
        ({"noise": [1e39]}, {}, ["noise: 1e+39 is inf as a float32"]),
        ({"a": {"noise": [0.1, 0.10000000001], "sign": [1, 1]}}, {}, ["a: (0.1, 1.0) and"]),
        ({}, {"config": LargerConfig()}, ["config: a LargerConfig", "a Config"]),
        ({}, {"quantiles": [2]}, ["quantiles: 2.0", "0 to 1"]),
        ({}, {"quantiles": [float("nan")]}, ["quantiles: nan", "0 to 1"]),
        ({}, {"record_every": 1.5}, ["record_every: 1.5", "integers"]),
        ({}, {"block_width": True}, ["block_width: True", "integers"]),
        ({}, {"logits": "yes"}, ["logits: 'yes'", "True or False"]),
        ({"seed": b"12"}, {}, ["seed: b'12'", "sequence"]),
        ({}, {"metrics": ["reward", "reward"]}, ["metrics: 'reward' occurs twice"]),
        ({}, {"metrics": ["reward", ("reward_mean", METRICS["credit"])]}, ["reward_mean"]),
        ({}, {"metrics": [("finite_steps", METRICS["credit"])]}, ["'finite_steps' is taken"]),
        ({}, {"metrics": [("step", METRICS["credit"])]}, ["'step' is taken"]),
        ({}, {"metrics": [("", METRICS["credit"])]}, ["metrics: '' is taken"]),
        *(
            ({name: {"noise": [0.1]}}, {}, [f"axes: {name!r} is taken"])
            for name in ("", "step", "position", "token", "quantile", "finite_steps", "finished")
        ),
        ({"reward_mean": {"noise": [0.1]}}, {}, ["'reward_mean'", "an axis"]),
        ({"algorithm": {5: "sdpo"}}, {}, ["algorithm: label 5"]),
        ({}, {"optimizer": optax.lbfgs}, ["optimizer: lbfgs needs 'value'"]),
    ],
)
def test_what_was_accepted_in_silence_or_raised_raw(axes, options, words):
    message = asked(axes, options)
    assert message is not None
    assert all(word in message for word in words), message


def test_what_works():
    works = [
        {},
        {"noise": jnp.array([0.1, 0.2]), "seed": jnp.arange(3), "rollouts": np.array([2, 3])},
        {"algorithm": [functools.partial(ALGORITHMS["reinforce"]), "sdpo"]},
        {"optimizer": [functools.partial(optax.adam, b1=0.5), optax.sgd]},
        {"seed": np.arange(5, dtype=np.uint64), "problem_seed": (1, 2)},
    ]
    for axes in works:
        assert asked(axes, {}) is None
    named = plan.plan_grid({"algorithm": [functools.partial(ALGORITHMS["reinforce"])]}, width=64)
    assert named.axes[0].labels["algorithm"] == ("reinforce",)
    assert plan.plan_grid({}, width=64).total == 1


def knows_the_problem(name):
    algorithm = ALGORITHMS[name]
    return "problem" in (*what_is_told(algorithm), *what_is_told_at_first(algorithm))


EXACT = ("expected_reward", "exact_credit", "optimality")
MAY_ENUMERATE = [
    *({"algorithm": name, "metrics": ()} for name in ALGORITHMS if knows_the_problem(name)),
    *({"algorithm": "reinforce", "metrics": (name,)} for name in EXACT),
    {"algorithm": "sdpo", "metrics": tuple(name for name in METRICS if name not in EXACT)},
]


@pytest.mark.parametrize(
    "options", MAY_ENUMERATE, ids=lambda value: "-".join(map(str, value.values()))
)
def test_the_plan_refuses_the_sizes_that_can_not_be_enumerated_and_only_they(options):
    """It knows what the engine finds out when it traces a program."""
    # 8 ** 7 sequences are as many as can be; of SCAR's, 9 ** 7, are more.
    for length, vocab_size in ((7, 8), (8, 8)):
        sizes = Sizes(length=length, vocab_size=vocab_size, rollouts=2, steps=1, final_window=1)
        program = sdpo_jax.Program(**options, sizes=sizes)
        try:
            jax.eval_shape(lambda program=program: sdpo_jax.train(0, program))
            traced = None
        except ValueError as error:
            traced = str(error)
        message = asked({}, {**options, "sizes": sizes})
        assert (message is None) == (traced is None), (message, traced)
        if message is not None:
            names(message, "length: ")
            assert str(2**21) in message


def test_sizes_of_every_group_are_checked_first():
    axes = {"algorithm": ["reinforce", "scar"], "vocab_size": [3, 8], "length": [4, 9]}
    message = asked(axes, {})
    assert "length: 9" in message and "scar" in message
    assert asked({**axes, "algorithm": ["reinforce"]}, {}) is None


@pytest.mark.parametrize(
    ("axes", "options", "words"),
    [
        ({"rollouts": [32, 2**20]}, {"sizes": Sizes()}, ["block_width: ", "33,554,432"]),
        ({}, {"sizes": Sizes(), "block_width": 2**20}, ["block_width: ", "1048576"]),
        ({}, {"sizes": Sizes(length=100_000)}, ["block_width: ", "100000"]),
        ({"length": range(1, 61), "rollouts": range(1, 51)}, {}, ["axes: 3,000 programs", "1,000"]),
        ({"noise": np.arange(2e6)}, {}, ["noise: 2,000,000 values", "1,000,000"]),
        ({"seed": range(2**32), "problem_seed": range(2**32)}, {}, ["axes: ", "runs"]),
    ],
)
def test_what_can_not_be_held_or_compiled_is_refused_with_the_number(axes, options, words):
    message = asked(axes, options)
    assert all(word in (message or "") for word in words), message


def test_a_block_must_fit_into_the_machine(monkeypatch):
    def bytes_of(**sizes):
        return limits.block_bytes(sdpo_jax.Program("sdpo", Sizes(**sizes)), False, 64)

    assert bytes_of(rollouts=64) > bytes_of(rollouts=32)
    # What the compiler reports for 4,096 rollouts is 12 megabytes.
    assert 0.5 < bytes_of(rollouts=4096) / 12.1e6 < 2
    monkeypatch.setattr(limits, "machine_memory", lambda: 10**6)
    message = asked({}, {"sizes": Sizes(rollouts=4096)})
    assert "block_width" in message and "GiB" in message
    monkeypatch.setattr(limits, "machine_memory", lambda: None)
    assert asked({}, {"sizes": Sizes(rollouts=4096)}) is None


def test_an_error_in_a_worker_names_its_program(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(programs, "_PROGRAMS", programs._Programs())
    monkeypatch.setattr(programs, "_compiled", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as error:
        sdpo_jax.run_grid({"seed": range(3)}, sizes=SIZES)
    assert error.value.__notes__ == ["in the program of sdpo, continuous"]


def test_programs_are_kept_by_use_and_not_for_ever(monkeypatch):
    kept = programs._Programs(most=2)
    compiled = []
    monkeypatch.setattr(
        programs._Programs,
        "_compile",
        lambda _, program, *rest: compiled.append(program) or program,
    )
    monkeypatch.setattr(programs, "parts_of", lambda program: None)
    inputs = {"seed": np.zeros(4)}
    for program in "abacab":
        assert kept.get(program, False, 16, inputs, None) == program
    assert compiled == ["a", "b", "c", "b"]
    assert len(kept) == 2


def test_a_plan_with_a_metric_of_another_type():
    for metric in (5, "reward", Metric, None):
        names(asked({}, {"metrics": [("mine", metric)]}), "metrics")
