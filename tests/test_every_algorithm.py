"""Every algorithm under every oracle and reading of hints, against ``reference_algorithms``.

All algorithms of the registry are one algorithm here, which is told all that any of them asks for,
so that one program serves them all; every run has an oracle and numbers of its own.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import ALGORITHMS, ORACLES, Program, Sizes, State
from sdpo_jax.algorithm import what_is_told
from sdpo_jax.engine import streams
from sdpo_jax.engine.streams import Stream
from sdpo_jax.oracles.judges import STRENGTHS
from sdpo_jax.program import algorithm_of
from tests import reference
from tests.all_in_one import all_in_one
from tests.every_number import FIELDS, Numbers, check_value
from tests.quickly import QUICKLY
from tests.reference import softmax
from tests.reference_algorithms import GRADIENTS, Judge, Scene

SIZES = Sizes(
    length=3,
    vocab_size=4,
    rollouts=5,
    steps=4,
    final_window=1,
    epochs=2,
    teachers=2,
    samples=2,
    top_k=2,
)

# Twice the rounding of ``test_reference``: a teacher by interpolation errs as much as a float32.
ROUNDING = 1.2e-6
NODES = 16
SEEDS = np.arange(11, 61)
STEPS = 2
COMPILED = {**QUICKLY, "xla_cpu_use_fusion_emitters": True}


ALL = {name: algorithm_of(name) for name in ALGORITHMS}
TAUGHT = {
    name: algorithm
    for name, algorithm in ALL.items()
    if {"teacher", "lessons"} & {*what_is_told(algorithm)}
}


@cache
def compiled(family, sizes):
    """``init`` and ``step`` of all algorithms at once; how levels and nodes teach, the taught
    ones."""
    algorithms = ALL if family == "each rollout" else TAUGHT
    program = Program(all_in_one(algorithms), sizes, ("reward",), teacher_nodes=NODES)

    def init(seeds, numbers, oracle):
        own = numbers.all_own
        return sdpo_jax.init(seeds, program, numbers.config, oracle, numbers=own)

    def step(setting, state, index):
        state, view = sdpo_jax.step(program, setting, state, index)
        return state, view

    return [jax.jit(each, compiler_options=COMPILED) for each in (init, step)]


# The oracles, and a few judges, each a run under each of two sets of numbers.

LEVELS = {
    "binary": (sdpo_jax.binary(), reference.binary()),
    "ordinal": (sdpo_jax.ordinal(), reference.ordinal(5)),
    "constant": (sdpo_jax.constant(0.6), reference.constant(0.6)),
    "silence": (sdpo_jax.constant(0.0), reference.constant(0.0)),
}
CONTINUOUS = {"continuous": (sdpo_jax.continuous(), reference.continuous())}
READINGS = {
    name: (sdpo_jax.critique(name), reference.critique(name))
    for name in ("position", "token", "sampled")
}
# The three ways in which a batch of rollouts has its teachers.
FAMILIES = {
    "levels": LEVELS,
    "nodes": CONTINUOUS,
    "each rollout": {**LEVELS, **CONTINUOUS, **READINGS},
}

JUDGES = {
    "none": Judge(),
    "references": Judge(overlap=0.8, style=0.2),
    "rubric": Judge(rubric=1.0),
    "preference": Judge(preference=1.0),
    "self_judge": Judge(likelihood=0.5),
    "erring": Judge(
        halo=0.3,
        leniency=0.2,
        severity=0.1,
        central_tendency=0.4,
        heavy_tails=0.7,
        position=0.3,
        anchoring=0.5,
        preference=0.4,
    ),
}

NUMBERS = {
    "usual": Numbers(
        noise=0.3,
        knowledge=0.6,
        feedback_strength=1.5,
        init_scale=0.8,
        pattern_weight=0.5,
        bigram_scale=0.6,
        hint_noise=0.5,
        learn_from_feedback=0.7,
        hybrid_threshold=0.1,
        clip=0.1,
        dense_share=0.6,
        final_strength=0.2,
        teacher_rate=0.3,
        divergence_mix=0.3,
    ),
    # Turned round, and from the true reward; the divergence is the forward KL.
    "turned": Numbers(
        noise=0.5,
        bias=-0.3,
        knowledge=0.9,
        feedback_strength=-1.0,
        init_scale=1.2,
        hint_noise=0.8,
        preference_sharpness=3.0,
        dpo_strength=0.3,
        model_rate=0.8,
        dense_share=1.0,
        attention_temperature=0.4,
        divergence_mix=0.0,
        trust=0.1,
        temperature=0.7,
        entropy_bonus=-0.3,
        final_strength=1.5,
        demonstration_strength=-1.0,
    ),
    # Teachers that are sure, too steep to be interpolated; the divergence is the reverse KL.
    "steep": Numbers(
        noise=0.3,
        knowledge=1.0,
        feedback_strength=25.0,
        init_scale=1.0,
        learn_from_feedback=1.0,
        dense_share=0.0,
        divergence_mix=1.0,
        clip=0.02,
        teacher_rate=1.0,
        demonstration_strength=8.0,
    ),
}


def stacked(trees):
    return jax.tree.map(lambda *each: np.stack([np.float32(one) for one in each], -1), *trees)


def with_four_cuts(oracle):
    """Levels in one structure: cuts that no reward reaches."""
    missing = 4 - len(oracle.cuts)
    if oracle.gain is not None:
        return oracle
    cuts = np.pad(oracle.cuts, (0, missing), constant_values=2.0)
    return replace(oracle, cuts=cuts, rises=np.pad(oracle.rises, (0, missing)))


def as_judged(family, oracle, judge):
    """An oracle in the structure of its family."""
    oracle = with_four_cuts(oracle)
    if family == "each rollout":
        # Hints without errors are the table that others teach.
        hints = oracle.hints or sdpo_jax.Hints(*np.float32([0, 1, 0]))
        cuts, rises = (np.resize(each, 4) for each in (oracle.cuts, oracle.rises))
        gain = 0.0 if oracle.gain is None else oracle.gain
        if not len(oracle.cuts):
            cuts, rises = np.full(4, 2.0), np.zeros(4)
        oracle = replace(oracle, gain=gain, cuts=cuts, rises=rises, hints=hints)
    return sdpo_jax.judged(oracle, **{name: getattr(judge, name) for name in STRENGTHS})


def without_errors(oracle, config):
    return config if oracle.hints else replace(config, hint_noise=0.0)


@cache
def drawn():
    """All chance of the steps but their tokens, and the errors of a panel's tables."""
    length, vocab_size, rollouts = SIZES.length, SIZES.vocab_size, SIZES.rollouts

    def thirds(key, step, shape, count):
        return jnp.concatenate(streams.uniforms(key, step, shape))[:count]

    def of_step(keys, index):
        algorithm = keys[Stream.ALGORITHM]
        return {
            "noise": streams.normals(keys[Stream.NOISE], index, (rollouts,)),
            "hints": streams.normals(keys[Stream.HINTS], index, (length, vocab_size, rollouts)),
            "coins": thirds(algorithm, index, (1,), rollouts // 2),
            "tails": thirds(keys[Stream.JUDGE], index, (2,), rollouts),
            "order": thirds(algorithm, 2 * index + 1, (1, SIZES.samples), length),
            "baseline": thirds(algorithm, 2 * index, (1, SIZES.samples), length),
        }

    def everything():
        keys = {name: streams.stream(SEEDS, name) for name in Stream}
        errors = jax.vmap(
            lambda member: streams.normals(keys[Stream.KNOWLEDGE], member, (length, vocab_size))
        )
        steps = jax.vmap(lambda index: of_step(keys, index))(jnp.arange(STEPS))
        return steps, errors(jnp.arange(SIZES.teachers))

    return jax.tree.map(np.asarray, jax.jit(everything, compiler_options=COMPILED)())


def test_every_algorithm_has_a_reference():
    assert ALGORITHMS.keys() == GRADIENTS.keys()


def test_every_oracle_is_compared():
    said = {name for family in FAMILIES.values() for name in family}
    judged = {name for name in ORACLES if ORACLES[name]().judge is not None}
    assert ORACLES.keys() - judged <= {*said, "critique"}
    for name in judged:
        assert all(
            getattr(ORACLES[name]().judge, each) == np.float32(getattr(JUDGES[name], each))
            for each in STRENGTHS
        )


def cases_of(family):
    """Every oracle under all numbers without a judge, and every judge."""
    oracles = list(FAMILIES[family].values())
    cases = [
        (*both, JUDGES["none"], config)
        for both, config in itertools.product(oracles, NUMBERS.values())
    ]
    judges = [judge for name, judge in JUDGES.items() if name != "none"]
    others = zip(judges, itertools.cycle(oracles), itertools.cycle(NUMBERS.values()), strict=False)
    return cases + [(*both, judge, config) for judge, both, config in others]


def inputs(family, cases):
    oracle = stacked([as_judged(family, ours, judge) for ours, _, judge, _ in cases])
    return oracle, stacked([without_errors(ours, config) for ours, *_, config in cases])


def of_run(tree, run):
    """One run of arrays ``[..., runs]``, its floats in float64."""
    found = {name: np.asarray(each)[..., run] for name, each in tree.items()}
    return {
        name: each.astype(float) if each.dtype.kind == "f" else each for name, each in found.items()
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients(family):
    cases = cases_of(family)
    seeds = SEEDS[: len(cases)]
    oracle, config = inputs(family, cases)
    init, step = compiled(family, SIZES)
    setting, state = init(seeds, config, oracle)
    problem, first = vars(setting.problem), np.asarray(state.params)
    steps, errors = drawn()
    memories = [dict.fromkeys(GRADIENTS) for _ in cases]
    draw = np.random.default_rng(8)
    # The second step is of the first one's batch, where a batch serves two, and of its averages.
    for index in range(STEPS):
        logits = first + draw.normal(0, 0.3, first.shape).astype(np.float32)
        state = State(logits, state.optimizer, state.memory)
        state, view = step(setting, state, index)
        gradients = jax.tree.map(np.asarray, state.memory[1])
        given = {"first_logits": first, "logits": logits, "tokens": view.tokens}
        given |= {name: each[index] for name, each in steps.items()}
        for run, (_, oracle_of_run, judge, _) in enumerate(cases):
            numbers = {name: float(getattr(config, name)[run]) for name in FIELDS}
            plain, own = reference.Problem(**of_run(problem, run)), of_run(given, run)
            own["baseline"] = reference.sample(softmax(own["first_logits"]), own["baseline"])
            scene = Scene(
                problem=plain,
                numbers=numbers,
                panel=reference.table_of(
                    plain.quality,
                    numbers["knowledge"],
                    numbers["quality_scale"] * errors[..., run].astype(float),
                ),
                oracle=oracle_of_run,
                judge=judge,
                index=index,
                steps=SIZES.steps,
                epochs=SIZES.epochs,
                top_k=SIZES.top_k,
                **own,
            )
            where = f"run {run}, step {index}"
            heard = np.asarray(view.feedback)[:, run]
            np.testing.assert_allclose(heard, scene.feedback, rtol=0, atol=ROUNDING, err_msg=where)
            for name in gradients:
                expected, memories[run][name] = GRADIENTS[name](scene, memories[run][name])
                np.testing.assert_allclose(
                    gradients[name][..., run],
                    expected,
                    rtol=0,
                    atol=ROUNDING * max(1.0, abs(expected).max()),
                    err_msg=f"{name}, {where}",
                )


# Any numbers that are allowed.

ENDS = {
    "fractions": [0.0, 1e-30, 0.5, 1 - 2**-24, 1.0],
    "positive": [1e-10, 1e-3, 1.0, 1e6],
    "signs": [0.0, 1e-30, 0.5, 1.0, 1e3, 1e6, -1e-30, -1.0, -1e3, -1e6],
}


def allowed_ends(name):
    """The ends of the range of one of the hyperparameters, and what lies between."""

    def fits(value):
        try:
            check_value(name, value)
        except ValueError:
            return False
        # What is divided by it must stay a float32: logits reach 1e12 here.
        return not (name in ("temperature", "attention_temperature") and value < 1e-20)

    return [value for value in sorted({*itertools.chain(*ENDS.values())}) if fits(value)]


def expect_finite(family, sizes, draws):
    cases = cases_of(family)
    oracle, _ = inputs(family, cases)
    init, step = compiled(family, sizes)
    random = np.random.default_rng(3)
    for draw in range(draws):
        config = Numbers(**{
            name: random.choice(allowed_ends(name), len(cases)).astype(np.float32)
            for name in FIELDS
        })  # fmt: skip
        setting, state = init(SEEDS[: len(cases)], config, oracle)
        first = np.asarray(state.params)
        for index in range(STEPS):
            # As far from the first policy as training may have come.
            moved = random.choice([0.0, 1.0, 30.0, 1e4], len(cases))
            logits = first + (moved * random.normal(size=first.shape)).astype(np.float32)
            state, _ = step(setting, State(logits, state.optimizer, state.memory), index)
            memories, gradients = jax.tree.map(np.asarray, state.memory)
            for name, gradient in gradients.items():
                values = [gradient, *jax.tree.leaves(memories.get(name, ()))]
                finite = np.ones(len(cases), bool)
                for each in values:
                    finite &= np.isfinite(each).reshape(-1, len(cases)).all(0)
                for run in np.flatnonzero(~finite):
                    numbers = {key: float(getattr(config, key)[run]) for key in FIELDS}
                    pytest.fail(f"{name}, draw {draw}, step {index}, run {run}: {numbers}")


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_finite_whatever_the_numbers(family):
    expect_finite(family, SIZES, draws=8)


def test_gradients_of_the_smallest_sizes_are_finite():
    smallest = Sizes(
        length=1,
        vocab_size=2,
        rollouts=1,
        steps=1,
        final_window=1,
        epochs=1,
        teachers=1,
        samples=1,
        top_k=1,
    )
    expect_finite("each rollout", smallest, draws=8)
