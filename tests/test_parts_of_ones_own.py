"""Algorithms, metrics, optimisers and oracles of one's own: what works, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial, wraps
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sdpo_jax
from sdpo_jax import (
    Algorithm,
    Config,
    Function,
    Metric,
    Network,
    Oracle,
    Program,
    Sizes,
    Update,
)
from sdpo_jax.algorithm import Cost, name_of, what_is_told
from sdpo_jax.algorithms import ALGORITHMS
from sdpo_jax.engine import streams
from sdpo_jax.policies import POLICIES
from sdpo_jax.problems import PROBLEMS

SIZES = Sizes(length=3, vocab_size=4, rollouts=5, steps=3, final_window=2)
SEEDS = np.arange(2)


def plain(*, policy):
    return policy.probs


def traced(algorithm="reinforce", oracle=None, config=None, seeds=SEEDS, **options):
    program = Program(algorithm, **{"sizes": SIZES, **options})
    return jax.eval_shape(lambda: sdpo_jax.train(seeds, program, config, oracle))


def refusal(call):
    with pytest.raises(ValueError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def returning(make):
    def mine(*, policy):
        return make(policy)

    return mine


SHAPES = {
    "scalar": lambda probs: 0.0,
    "one": lambda probs: jnp.ones(1),
    "no positions": lambda probs: probs[0],
    "one token": lambda probs: probs[:, :1],
    "no runs": lambda probs: probs[..., 0],
    "rollouts": lambda probs: jnp.zeros((5, 2)),
    "none": lambda probs: None,
    "complex": lambda probs: probs + 1j,
    "a flag": lambda probs: probs > 0,
    "a list": lambda probs: [probs],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_gradient_of_another_shape_or_type_is_refused(shape):
    mine = returning(lambda policy: Update(SHAPES[shape](policy.probs)))
    message = refusal(lambda: traced(mine))
    assert message.startswith("algorithm: mine returns a gradient")
    assert refusal(lambda: traced(returning(lambda policy: SHAPES[shape](policy.probs)))) == message


def test_the_message_has_both_shapes_also_from_a_grid_and_before_anything_is_compiled():
    mine = returning(lambda policy: Update(policy.probs[:, :1]))
    assert "shape (3, 1, 2); allowed: (3, 4, 2)" in refusal(lambda: traced(mine))
    compiled = []
    message = refusal(
        lambda: sdpo_jax.run_grid(
            {"algorithm": {"good": plain, "bad": mine}}, sizes=SIZES, progress=compiled.append
        )
    )
    assert message.startswith("algorithm: mine returns a gradient of shape (3, 1, ")
    assert compiled == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("info", 1.0),
        ("info", {"weight": jnp.ones(5)}),
        ("info", {"weight": 1.0}),
        ("info", {"weight": "half"}),
        ("tokens", jnp.ones(5)),
        ("tokens", jnp.ones((1, 5), int)),
        ("cost", 7),
        ("cost", Cost(jnp.ones(5), 1)),
        ("memory", jnp.ones(2)),
    ],
)
def test_whatever_else_an_algorithm_returns_is_checked_too(field, value):
    mine = returning(lambda policy: Update(policy.probs, **{field: value}))
    assert refusal(lambda: traced(mine)).startswith(
        "algorithm: mine returns " + ("a " if field in ("cost", "memory") else "") + field
    )


MEMORIES = {
    "type": lambda memory: memory.astype(jnp.int32),
    "shape": lambda memory: memory[None],
    "structure": lambda memory: (memory, memory),
    "none": lambda memory: None,
    "text": lambda memory: "text",
}


@pytest.mark.parametrize("kind", MEMORIES)
def test_a_memory_that_changes_is_refused(kind):
    def update(*, policy, memory):
        return Update(policy.probs, memory=MEMORIES[kind](memory))

    mine = Algorithm("mine", lambda policy: jnp.zeros_like(policy.probs[0, 0]), update)
    message = refusal(lambda: traced(mine))
    assert message.startswith("algorithm: mine returns a memory ")
    assert message.endswith("as before the step")


@pytest.mark.parametrize(
    "measure",
    [
        lambda view: view.feedback,
        lambda view: view.feedback.mean(),
        lambda view: 1.0,
        lambda view: None,
        lambda view: "text",
    ],
)
@pytest.mark.parametrize("costly", [True, False])
def test_a_metric_of_another_shape_is_refused(measure, costly):
    metric = Metric(measure, "mine", costly=costly)
    message = refusal(lambda: traced(metrics=(("mine", metric),)))
    assert message.startswith("metrics: mine returns a value")


@pytest.mark.parametrize("part", ["gain", "base", "cuts", "rises"])
def test_an_oracle_of_another_shape_is_refused(part):
    oracle = sdpo_jax.continuous()
    wrong = replace(oracle, **{part: np.zeros((5, 3), np.float32)})
    assert refusal(lambda: traced(oracle=wrong)).startswith("oracle: ")


@pytest.mark.parametrize("shape", [(3,), (5,), (1, 2), (2, 1)])
def test_numbers_that_are_not_one_a_run_are_refused(shape):
    message = refusal(lambda: traced(config=Config(noise=np.zeros(shape))))
    assert message.startswith(f"noise: shape {shape}; allowed: (2,) or ()")


# Functions of all kinds


def scaled(*, policy, scale):
    return scale * policy.probs


class Scaled:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, *, policy, scale=2.0):
        return self.scale * scale * policy.probs


def decorated(algorithm):
    @wraps(algorithm)
    def inner(*args, **kwargs):
        return algorithm(*args, **kwargs)

    return inner


KINDS = {
    "function": (lambda *, policy: 2 * policy.probs, "<lambda>"),
    "partial": (partial(scaled, scale=2), "scaled"),
    "object": (Scaled(1.0), "Scaled"),
    "decorated": (decorated(partial(scaled, scale=2).func), "scaled"),
    "compiled": (jax.jit(plain), "plain"),
    "positional": (plain, "plain"),
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "decorated"])
def test_an_algorithm_is_any_function_whose_parameters_have_names(kind):
    algorithm, name = KINDS[kind]
    assert name_of(algorithm) == name
    assert what_is_told(algorithm) == ("policy",)
    assert traced(algorithm).logits.shape == (3, 4, 2)
    assert sdpo_jax.plan_grid({"algorithm": [algorithm]}, width=16, sizes=SIZES).total == 1


def test_a_default_is_kept_and_a_fixed_parameter_is_not_told():
    def takes(*, policy, signal, power=2.0):
        return power * policy.probs

    assert what_is_told(takes) == ("policy", "signal")
    assert what_is_told(partial(takes, signal=None)) == ("policy",)
    assert what_is_told(decorated(takes)) == ("policy", "signal")
    program = partial(Program, sizes=SIZES, metrics=("reward",))
    one, other = (
        sdpo_jax.train(SEEDS, program(algorithm), Config(kl_weight=0.0))
        for algorithm in (takes, lambda *, policy: 2.0 * policy.probs)
    )
    np.testing.assert_array_equal(one.logits, other.logits)


def test_a_returned_array_is_the_gradient():
    wrapped = returning(lambda policy: Update(policy.probs))
    program = partial(Program, sizes=SIZES, metrics="reward")
    one, other = (sdpo_jax.train(SEEDS, program(each)).logits for each in (plain, wrapped))
    np.testing.assert_array_equal(one, other)


@dataclass
class Unhashable:
    scale: float = 1.0

    def __call__(self, *, policy):
        return policy.probs


@pytest.mark.parametrize(
    "part",
    [
        {"metrics": (("mine", Unhashable()),)},
        {"optimizer": Unhashable()},
        {"policy": Network(Unhashable(), Unhashable())},
        {"problem": Function(Unhashable())},
        {"problem": Function(lambda tokens, data: 0.5, sample=Unhashable())},
    ],
)
def test_a_part_that_can_be_no_key_is_refused(part):
    (name,) = part
    options = {"algorithm": "reinforce", "sizes": SIZES, "metrics": ("reward",), **part}
    for refused in (
        lambda: sdpo_jax.train(SEEDS, Program(**options)),
        lambda: sdpo_jax.plan_grid({}, width=16, **options),
        lambda: (
            sdpo_jax.plan_grid({name: [options.pop(name)]}, width=16, **options)
            if name in ("policy", "problem", "optimizer")
            else sdpo_jax.train(SEEDS, Program(**options))
        ),
    ):
        message = refusal(refused)
        assert message.startswith(f"{name}: ") and "has no hash; allowed: " in message


@pytest.mark.parametrize(
    ("algorithm", "words"),
    [
        (5, "5; allowed: a name"),
        (None, "None; allowed: a name"),
        (dict, "allowed: a name"),
        (Unhashable(), "Unhashable has no hash"),
        (lambda *args: 0, "'*args', which names nothing"),
        (lambda **kwargs: 0, "'**kwargs', which names nothing"),
        (lambda policy, /: 0, "'policy', which names nothing"),
        (max, "algorithm: max"),
        (Algorithm("mine", 3, plain), "allowed: a name, a function or an Algorithm"),
        (Algorithm("mine", plain, None), "allowed: a name, a function or an Algorithm"),
    ],
)
def test_what_is_no_algorithm_is_refused(algorithm, words):
    message = refusal(lambda: traced(algorithm))
    assert message.startswith("algorithm: ")
    assert words in message


def largest(view):
    return view.policy.probs.max((0, 1))


def test_a_metric_may_be_a_function_or_a_name_alone():
    assert list(traced(metrics=largest).final) == ["largest"]
    assert list(traced(metrics=[largest, "reward"], record=["largest"]).curves) == ["largest"]
    assert list(traced(metrics=(("mine", largest),), record="mine").curves) == ["mine"]
    assert Program(metrics="reward") == Program(metrics=("reward",)) == Program(metrics=["reward"])
    assert hash(Program(metrics=[largest])) == hash(Program(metrics=(largest,)))
    data = sdpo_jax.plan_grid({}, width=16, sizes=SIZES, metrics=largest, record="largest")
    assert data.total == 1


@pytest.mark.parametrize(
    "metrics",
    [
        *(
            ("reward", "reward"),
            ("reward", ("reward", largest)),
            ("reward", ("reward_mean", largest)),
        ),
        *((("", largest),), (("finite_steps", largest),), (("finished", largest),), 5, (5,)),
        *((lambda view: view.reward[0],), (Metric(largest, "largest"),), (("mine", 5),), (("a",),)),
        *((("mine", Metric(5, "five")),), b"reward", (("mine", Metric),)),
    ],
)
def test_what_is_no_metric_is_refused(metrics):
    assert refusal(lambda: traced(metrics=metrics)).startswith("metrics: ")


# Optimisers


def warm(rate):
    return optax.sgd(optax.warmup_constant_schedule(0.0, rate, 10))


def injected(rate):
    return optax.inject_hyperparams(optax.adam)(learning_rate=rate)


@pytest.mark.parametrize("optimizer", [warm, injected, partial(optax.sgd, momentum=0.9)])
def test_a_schedule_on_the_rate_of_a_run_is_that_of_each_run_alone(optimizer):
    program = Program(plain, SIZES, metrics=("reward",), optimizer=optimizer)
    rates = np.float32([0.1, 0.5])
    train = partial(sdpo_jax.train, program=program)
    together = train(SEEDS, config=Config(learning_rate=rates)).logits
    for run in range(2):
        alone = train(SEEDS[run], config=Config(learning_rate=rates[run])).logits
        np.testing.assert_allclose(together[..., run], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (optax.lbfgs, "lbfgs needs"),
        (optax.polyak_sgd, "polyak_sgd needs"),
        (optax.sgd(0.1), "allowed: a function from a learning rate"),
        ("adam", "'adam'; allowed: a function from a learning rate"),
        (None, "None; allowed: a function from a learning rate"),
        (lambda rate: rate, "makes"),
        (lambda rate: None, "makes None"),
    ],
)
def test_what_no_step_can_use_is_refused(optimizer, words):
    message = refusal(lambda: traced(optimizer=optimizer))
    assert message.startswith("optimizer: ")
    assert words in message
    if callable(optimizer):
        plan = partial(sdpo_jax.plan_grid, {}, width=16, sizes=SIZES, optimizer=optimizer)
        assert refusal(plan) == message


# Subclasses


class MyConfig(Config):
    pass


class MySizes(Sizes):
    pass


class MyOracle(Oracle):
    pass


def test_a_subclass_is_refused_where_its_fields_would_be_dropped():
    assert "config: a MyConfig" in refusal(lambda: traced(config=MyConfig()))
    assert "sizes: a MySizes" in refusal(lambda: traced(sizes=MySizes()))
    mine = MyOracle(**vars(sdpo_jax.continuous()))
    assert "oracle: a MyOracle" in refusal(lambda: traced(oracle=mine))
    for name, value in (("config", MyConfig()), ("sizes", MySizes()), ("oracle", mine)):
        refusal(lambda name=name, value=value: sdpo_jax.run_grid({}, **{name: value}))


def test_the_librarys_own_algorithms_need_no_check():
    assert all(name_of(algorithm) == name for name, algorithm in ALGORITHMS.items())


def test_a_run_that_broke_down_has_no_value():
    def broken(*, policy, step):
        return policy.probs * jnp.where(step == 1, jnp.nan, 1.0)

    sizes = Sizes(length=1, vocab_size=2, rollouts=2, steps=3, final_window=1)
    result = sdpo_jax.train(jnp.arange(2), Program(broken, sizes, record=("reward",)))
    assert result.finite_steps.tolist() == [1, 1]
    for name in ("reward", "entropy"):
        assert np.isnan(result.final[name]).all() and np.isnan(result.mean[name]).all()
    assert np.isfinite(result.curves["reward"][0]).all()


def tilted(by):
    """Two tokens at one position, the second more likely by a constant."""
    tilt = jnp.asarray([[0.0, 1.0]])
    return Network(lambda key: jnp.zeros(()), lambda params, tokens: params + by * tilt)


@pytest.mark.parametrize("way", ["train", "run_grid"])
@pytest.mark.parametrize(
    ("registry", "kind", "of"),
    [
        (ALGORITHMS, "algorithm", lambda by: returning(lambda policy: by * policy.probs)),
        (POLICIES, "policy", tilted),
        (PROBLEMS, "problem", lambda by: Function(lambda tokens: by * tokens.mean())),
    ],
    ids=["algorithm", "policy", "problem"],
)
def test_a_name_stands_for_what_is_registered_now(way, registry, kind, of):
    sizes = Sizes(length=1, vocab_size=2, rollouts=8, steps=2, final_window=1)
    metrics = ("entropy", "reward")
    found = []
    for by in (0.25, 1.0):
        registry["mine"] = of(by)
        try:
            chosen = {"algorithm": "reinforce", kind: "mine"}
            if way == "train":
                program = Program(sizes=sizes, metrics=metrics, **chosen)
                final = sdpo_jax.train(0, program).final
            else:
                data = sdpo_jax.run_grid({"seed": [0]}, sizes=sizes, metrics=metrics, **chosen)
                final = {name: data[name].item() for name in metrics}
        finally:
            del registry["mine"]
        found.append([float(final[name]) for name in metrics])
    assert found[0] != found[1]


def test_a_metric_draws_from_the_seed_that_it_sees():
    def drawn(view):
        return streams.uniforms(streams.stream(view.seed, streams.Stream.ALGORITHM), 0, (1,))[0][0]

    sizes = Sizes(length=1, vocab_size=2, rollouts=2, steps=1, final_window=1)
    # Two runs, whose seeds have the shape of a raw key.
    data = sdpo_jax.run_grid({"seed": [3, 2**32 - 1]}, sizes=sizes, metrics=[drawn])
    expected = drawn(SimpleNamespace(seed=np.asarray([3, 2**32 - 1])))
    np.testing.assert_array_equal(data.drawn.values, expected)
