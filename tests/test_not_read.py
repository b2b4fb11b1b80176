"""What a program does not read: said by ``not_read``, and found in the program itself."""

from __future__ import annotations

from dataclasses import fields, replace

import jax
import numpy as np
import pytest
from jax.interpreters import partial_eval

import sdpo_jax
from sdpo_jax import ALGORITHMS, ORACLES, Config, Metric, Program, Sizes
from sdpo_jax.algorithm import what_is_told, what_is_told_at_first
from sdpo_jax.config import CONFIG_FIELDS, SIZE_FIELDS
from sdpo_jax.program import algorithm_of, not_read

SIZES = Sizes(length=2, vocab_size=3, rollouts=4, steps=3, final_window=1, teachers=2, top_k=2)


def found_unread(program, oracle):
    """The fields of ``Config`` that no output of the traced program depends on."""

    def outcome(config):
        result = sdpo_jax.train(np.arange(2), program, config, oracle)
        return result.final, result.mean, result.logits, result.finite_steps

    numbers = Config(**{name: np.full(2, getattr(Config, name)) for name in CONFIG_FIELDS})
    closed = jax.make_jaxpr(outcome)(numbers)
    _, used = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return {each.name for each, is_used in zip(fields(Config), used, strict=True) if not is_used}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("oracle", ["continuous", "critique"])
def test_nothing_that_a_program_depends_on_is_said_to_be_unread(algorithm, oracle):
    if oracle == "critique" and "hint_noise" in not_read(Program(algorithm), ORACLES[oracle]()):
        pytest.skip("the oracle's hints reach nobody, so the program is that of the other oracle")
    program, oracle = Program(algorithm, SIZES), ORACLES[oracle]()
    said = not_read(program, oracle) & {*CONFIG_FIELDS}
    assert said <= found_unread(program, oracle)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_sizes_that_are_not_read_make_the_same_program(algorithm):
    def text(sizes):
        program = Program(algorithm, sizes)
        return str(jax.make_jaxpr(lambda seed: sdpo_jax.train(seed, program).final)(np.arange(2)))

    told = {*what_is_told(algorithm_of(algorithm)), *what_is_told_at_first(algorithm_of(algorithm))}
    said = not_read(Program(algorithm, SIZES), ORACLES["continuous"]()) & {*SIZE_FIELDS}
    if "sizes" in told:
        assert not said
        return
    assert said >= {"top_k", "samples", "epochs"}
    others = {name: getattr(SIZES, name) + 1 for name in said}
    assert text(SIZES) == text(replace(SIZES, **others))


def test_who_may_see_everything_reads_everything():
    def mine(*, policy, config):
        return config.hint_noise * policy.probs

    seen = Metric(lambda view: view.config.knowledge + 0 * view.reward.mean(0), "seen")
    assert not not_read(Program(mine), ORACLES["continuous"]()) & {*CONFIG_FIELDS}
    assert not not_read(Program("reinforce", metrics=(("seen", seen),)), ORACLES["continuous"]())


def test_runs_that_differ_in_what_is_not_read_are_trained_once():
    axes = {
        "algorithm": ["reinforce", "sdpo", "sdpo_jsd_ema_top_k"],
        "top_k": [1, 2],
        "feedback_strength": [0.5, 1.5],
        "hint_noise": [0.1, 0.9],
        "seed": range(3),
    }
    # Of one number of nodes, so that strengths are no programs.
    plan = sdpo_jax.plan_grid(axes, width=16, sizes=SIZES, teacher_nodes=8)
    trained = {group.program.algorithm: 0 for group in plan.groups}
    for group in plan.groups:
        trained[group.program.algorithm] += len(group.runs)
    assert trained == {"reinforce": 3, "sdpo": 6, "sdpo_jsd_ema_top_k": 12}
    assert len(plan.groups) == 4
    data = sdpo_jax.run_grid(axes, sizes=SIZES, block_width=16, teacher_nodes=8)
    assert np.isfinite(data.entropy).all()
    for name, algorithms in {
        "hint_noise": axes["algorithm"],
        "feedback_strength": ["reinforce"],
        "top_k": ["reinforce", "sdpo"],
    }.items():
        some = data.entropy.sel(algorithm=algorithms)
        first, other = (some.isel({name: place}).values for place in (0, 1))
        np.testing.assert_array_equal(first, other)
    other = data.entropy.sel(algorithm="sdpo").isel(feedback_strength=0).values
    assert (other != data.entropy.sel(algorithm="sdpo").isel(feedback_strength=1).values).any()


def test_sizes_that_nobody_reads_are_no_programs():
    axes = {"algorithm": ["reinforce"], "top_k": range(1, 1200), "seed": [0]}
    assert len(sdpo_jax.plan_grid(axes, sizes=SIZES).groups) == 1
    with pytest.raises(ValueError, match=r"axes: 1,\d{3} programs or more.*allowed: up to 1,000"):
        sdpo_jax.plan_grid(axes | {"algorithm": ["sdpo_jsd_ema_top_k"]}, sizes=SIZES)
    with pytest.raises(ValueError, match=r"axes: 1,\d{3} programs or more.*allowed: up to 1,000"):
        sdpo_jax.plan_grid({"rollouts": range(1, 1200), "seed": [0]}, sizes=SIZES)


def test_a_run_is_given_the_same_whatever_stands_on_axes_that_it_does_not_read():
    one, two = (
        sdpo_jax.plan_grid(
            {"algorithm": ["reinforce"], "hint_noise": values, "seed": range(3)},
            width=16,
            sizes=SIZES,
        ).groups[0]
        for values in ([0.2, 0.3], [0.1, 0.2, 0.3])
    )
    for ours, theirs in zip(*map(jax.tree.leaves, (one.inputs, two.inputs)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
