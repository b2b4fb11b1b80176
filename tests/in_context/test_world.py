"""What is read and written: ids, feedback from the grid's own oracles, examples, refusals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdpo_jax import binary, continuous, oracles, ordinal, problems
from sdpo_jax.in_context import (
    KINDS,
    METHODS,
    Feedback,
    Lab,
    Method,
    Pretraining,
    Transformer,
    World,
    kinds,
    lessons,
    worlds,
)
from sdpo_jax.in_context.methods import SCORE
from sdpo_jax.in_context.worlds import BAD, FEEDBACK, GOOD, LEVELS, SILENT

WORLD = World(length=3, vocab_size=4, bins=4)


@pytest.mark.parametrize("place", range(3))
def test_feedback_is_that_of_the_grids_oracles(place):
    seen = jnp.linspace(0, 1, 41)
    mine = oracles.feedback(worlds.oracle_of(place), seen)
    theirs = oracles.feedback([binary(), ordinal(LEVELS), continuous()][place], seen)
    np.testing.assert_array_equal(mine, theirs)


def test_kinds_are_data():
    seen = jnp.linspace(0, 1, 21)
    over = jax.jit(jax.vmap(lambda kind: oracles.feedback(worlds.oracle_of(kind), seen)))
    found = over(kinds(FEEDBACK))
    for row, made in zip(
        found, (binary(), ordinal(LEVELS), continuous(), continuous()), strict=True
    ):
        np.testing.assert_array_equal(row, oracles.feedback(made, seen))


def test_marks_are_of_a_critique_only_and_say_what_quality_says():
    problem = problems.sample_problem(5, 3, 4)
    attempts = jnp.asarray([[0, 1, 2], [3, 2, 1], [1, 1, 0]])
    reward = problems.reward(problem, attempts)
    nothing = jnp.zeros(3), jnp.zeros((3, 3))
    say = jax.jit(
        jax.vmap(lambda kind: worlds.feedback(problem, attempts, reward, kind, *nothing).marks)
    )
    *silent, marks = np.asarray(say(kinds(FEEDBACK)))
    assert FEEDBACK[-1] == "critique"
    assert (np.asarray(silent) == SILENT).all()
    quality = np.asarray(problem.quality)
    for t in range(3):
        for i in range(3):
            worth = quality[t, attempts[t, i]]
            expected = GOOD if worth > 0.5 else BAD if worth < -0.5 else SILENT
            assert marks[t, i] == expected


def test_ids_of_a_context():
    said = Feedback(jnp.asarray([3]), jnp.asarray([0.6]), jnp.asarray([[GOOD], [SILENT], [BAD]]))
    ids = worlds.told(WORLD, jnp.asarray([[2], [0], [3]]), said)
    # 4 tokens, 12 of attempts, 4 bins, kinds, the start.
    assert ids[:, 0].tolist() == [20 + 3, 16 + 2, 4 * 2 + 2, 4 * 1 + 0, 4 * 3 + 3]
    assert WORLD.start == 4 + 12 + 4 + len(KINDS) == WORLD.ids - 1


def test_a_rollout_reads_its_own_attempt_last():
    world = World(length=1, vocab_size=4, attempts=3)
    ids = jnp.stack([10 * row + jnp.arange(5) for row in range(3)])
    found = worlds.contexts(world, ids)
    assert found[:, 4].tolist() == [1, 11, 21, 0, 10, 20, 4, 14, 24]


def test_examples_are_of_the_best_answer_and_reproducible():
    world = World(length=3, vocab_size=4, attempts=2)
    make = jax.jit(lambda key, kind: lessons(world, key, 8, kind=kind))
    of_solutions = jnp.full(8, KINDS.index("solution"))
    one, two = (make(jax.random.key(1), of_solutions) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    shown = worlds.shown(world, one.answer, "solution")
    np.testing.assert_array_equal(one.context, shown)
    other = make(jax.random.key(2), of_solutions)
    assert (other.answer != one.answer).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: World(length=0), "length: 0"),
        (lambda: World(vocab_size=1), "vocab_size: 1"),
        (lambda: kinds(["ternary"]), "kind: 'ternary'; allowed: binary"),
        (lambda: worlds.shown(WORLD, jnp.zeros((3, 1), int), "binary"), "kind: 'binary'"),
        (lambda: Transformer(9, 4, 5, width=6, heads=4), "heads: 4; allowed: a divisor"),
        (lambda: Pretraining(checkpoints=(5, 2)), r"checkpoints: \(5, 2\); allowed: ascending"),
        (lambda: Pretraining(informed=1.5), "informed: 1.5; allowed: 0 to 1"),
        (lambda: Pretraining(noise=-1), "noise: -1; allowed: 0 or more"),
        (
            lambda: Lab(World(attempts=4), None, METHODS["grpo"], rollouts=2),
            "rollouts: 2; allowed: 4",
        ),
        (lambda: Method("mine", "Mine", SCORE, print, teacher="wise"), "teacher: 'wise'"),
        (lambda: Method("mine", "Mine", SCORE, print, context="hearsay"), "context: 'hearsay'"),
        (lambda: Method("mine", "Mine", SCORE, print, numbers=("luck",)), "numbers: 'luck'"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
