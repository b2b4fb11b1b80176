"""Numbers of parts: which there are, what is allowed, and which runs are trained for them."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import Config, Number, Program, Sizes, mean_score, run_grid
from sdpo_jax.algorithm import numbers_of

SIZES = Sizes(length=2, vocab_size=3, rollouts=4, steps=6, final_window=2)


def tempered(*, policy, tokens, signal, temperature=0.1):
    weights = jax.nn.softmax(signal / temperature, axis=0)
    return -mean_score(policy.probs, tokens, signal.shape[0] * weights)


def refusal(**options):
    with pytest.raises(ValueError) as error:
        run_grid(options.pop("axes", {}), sizes=SIZES, **options)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message


def trained(axes, **options):
    told = []
    data = run_grid(axes, sizes=SIZES, progress=told.append, **options)
    return data, told[-1].total


def test_which_parameters_are_numbers():
    def mine(
        *, policy, a=0.5, b=3, c: int = 3, d="text", e=None, f=True,
        g: Annotated[float, Number()] = 2
    ):  # fmt: skip
        return policy.probs

    assert list(numbers_of(mine)) == ["a", "b", "g"]
    assert list(numbers_of(partial(mine, a=1.0))) == ["b", "g"]
    assert numbers_of(lambda policy: policy.probs) == {}


def test_a_run_is_trained_once_for_what_it_reads():
    axes = {
        "algorithm": [tempered, "reinforce", "ppo", "grpo"],
        "temperature": [0.03, 0.1, 0.3],
        "clip": [0.1, 0.3],
        "seed": range(5),
    }
    data, runs = trained(axes, config=Config(learning_rate=2.0))
    assert runs == 5 * (3 + 1 + 2 + 2)
    for name, own in (("tempered", {"temperature"}), ("reinforce", set()), ("ppo", {"clip"})):
        mine = data.reward.sel(algorithm=name)
        for axis in ("temperature", "clip"):
            same = (mine == mine.isel({axis: 0})).all()
            assert bool(same) == (axis not in own) or (name, axis) == ("ppo", "clip")
    alone = run_grid(
        {"seed": range(5)}, algorithm="reinforce", sizes=SIZES, config=Config(learning_rate=2.0)
    )
    np.testing.assert_array_equal(
        alone.reward, data.reward.sel(algorithm="reinforce", temperature=0.1, clip=0.3)
    )


def test_repeats_are_right_in_any_order_of_axes_and_in_curves_over_one():
    axes = {"clip": [0.1, 0.3], "seed": range(4), "temperature": [0.1, 0.5]}
    axes["algorithm"] = ["reinforce", tempered, "ppo"]
    whole, runs = trained(axes, record=["reward"])
    assert runs == 4 * (1 + 2 + 2)
    over, _ = trained(axes, record=["reward"], curves_over="seed")
    np.testing.assert_allclose(over.reward_curve, whole.reward_curve.mean("seed"), atol=1e-6)
    over, _ = trained(axes, record=["reward"], curves_over="clip")
    assert (over.reward_curve_count == 2).all()
    plan = sdpo_jax.plan_grid(axes, sizes=SIZES, width=16)
    for run in range(plan.total):
        group, place = plan.trained_as(run)
        labels = plan.coordinates(run)
        given = group.given(np.array([place]))
        assert given["seed"] == labels["seed"]
        for name, value in given["numbers"].items():
            assert value == np.float32({**plan.held, **labels}[name])


def test_numbers_are_held_and_told_in_the_results():
    held = run_grid(
        {"seed": range(3)}, algorithm=tempered, sizes=SIZES, numbers={"temperature": 0.5}
    )
    swept = run_grid({"temperature": [0.1, 0.5], "seed": range(3)}, algorithm=tempered, sizes=SIZES)
    np.testing.assert_array_equal(held.reward, swept.reward.sel(temperature=0.5))
    assert held.attrs["temperature"] == 0.5
    assert "temperature" not in swept.attrs
    fixed = run_grid({"seed": range(3)}, algorithm=partial(tempered, temperature=0.5), sizes=SIZES)
    np.testing.assert_allclose(held.reward, fixed.reward, rtol=1e-5)


def test_numbers_are_traced_and_differentiated():
    def last(temperature):
        program = Program(tempered, SIZES)
        return sdpo_jax.train(3, program, numbers={"temperature": temperature}).logits.sum()

    many = jax.vmap(lambda each: sdpo_jax.train(3, Program(tempered, SIZES), numbers={
        "temperature": each}).final["entropy"])(jnp.array([0.1, 1.0]))  # fmt: skip
    assert many[0] != many[1]
    assert jnp.isfinite(jax.grad(last)(0.3))


def other(*, policy, temperature: Annotated[float, Number(above=0, title="heat (K)")] = 0.1):
    return temperature * policy.probs


def wrong_default(*, policy, heat: Annotated[float, Number(above=0)] = -1.0):
    return heat * policy.probs


def taken(*, policy, noise=0.1):
    return noise * policy.probs


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"axes": {"temprature": [0.1]}, "algorithm": tempered}, ["temprature", "temperature"]),
        ({"axes": {"temperature": [0.1]}, "algorithm": "reinforce"}, ["axes: 'temperature'"]),
        ({"axes": {"clip": [-0.1]}, "algorithm": "ppo"}, ["clip: -0.1; allowed: 0 or more"]),
        ({"axes": {"clip": ["a"]}, "algorithm": "ppo"}, ["clip: 'a' is not a number"]),
        ({"numbers": {"clip": -1.0}, "algorithm": "ppo"}, ["clip: -1.0"]),
        ({"numbers": {"clip": [0.1, 0.2]}, "algorithm": "ppo"}, ["numbers: clip"]),
        ({"numbers": {"clap": 0.1}, "algorithm": "ppo"}, ["numbers: 'clap'; allowed: clip"]),
        ({"numbers": {"clip": 0.1}, "algorithm": "sdpo"}, ["numbers: 'clip'", "quality_scale"]),
        ({"numbers": 3, "algorithm": "ppo"}, ["numbers: 3", "a mapping"]),
        ({"numbers": {"clip": 0.1}, "axes": {"clip": [0.1]}, "algorithm": "ppo"}, ["axis too"]),
        ({"axes": {"algorithm": [tempered, other]}}, ["temperature: ", "one rule for one name"]),
        ({"algorithm": wrong_default}, ["wrong_default", "heat is -1.0; allowed: above 0"]),
        ({"algorithm": taken}, ["taken has a number 'noise'", "the engine's"]),
        ({"banana": 3}, ["banana: no such argument; allowed: algorithm"]),
    ],
)
def test_what_is_refused(options, words):
    message = refusal(**options)
    assert all(word in message for word in words), message


def test_a_title_is_the_axis_name_for_readers():
    data = run_grid({"temperature": [0.1, 0.2]}, algorithm=other, sizes=SIZES)
    assert data.temperature.attrs == {"long_name": "heat", "units": "K"}
    data = run_grid({"temperature": [0.1, 0.2]}, algorithm=tempered, sizes=SIZES)
    assert data.temperature.attrs["long_name"] == "temperature"


def test_a_program_stands_for_its_fields():
    program = Program("ppo", SIZES, ("entropy",))
    one = run_grid({"seed": range(3)}, program, Config(noise=0.2), "ordinal")
    other = run_grid(
        {"seed": range(3)}, algorithm="ppo", sizes=SIZES, metrics=["entropy"],
        config=Config(noise=0.2), oracle="ordinal",
    )  # fmt: skip
    assert one.equals(other)
    changed = run_grid({"seed": range(3)}, program, algorithm="rloo")
    assert changed.attrs["algorithm"] == "rloo"
