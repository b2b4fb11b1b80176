"""The world: what a network reads and writes, and what its answers are worth.

An answer has T tokens of V. What it is worth is Eq. 1's reward of a problem of the family
(``sdpo_jax.problems``), feedback comes from the oracles (``sdpo_jax.oracles``). Asked, the network
reads a start and writes an answer:

    start s_1 ... s_T

A teacher reads k attempts in front of it, each with what was said of it:

    (kind score a_1 ... a_T) x k   start s_1 ... s_T

``kind`` says how to take the score, which is one of some bins over [0, 1]; each token of an attempt
carries a mark: silent, good or bad. Ids, in order: V tokens, 3 V tokens of an attempt (V for each
mark), the bins, the kinds, the start. Places tell the positions of an answer, and those of an
attempt, apart; of where an attempt stands they say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax import Oracle, Problem, binary, continuous, oracles, ordinal, problems
from sdpo_jax.engine.checks import integer

# Feedback on an attempt, and two that hold an answer instead: a good one, and the best.
FEEDBACK = ("binary", "ordinal", "continuous", "critique")
KINDS = (*FEEDBACK, "demonstration", "solution")

SILENT, GOOD, BAD = range(3)
MARKS = 3

# What a token's quality must exceed for a critic to call it good, or fall short of to be bad.
BAR = 0.5

LEVELS = 5


class Feedback(NamedTuple):
    """What is said of attempts, as ids are made of it.

    Attributes:
        kind: ``[...]`` integers, places in ``KINDS``.
        score: ``[...]`` in [0, 1].
        marks: ``[T, ...]`` integers: ``SILENT``, ``GOOD`` or ``BAD``.
    """

    kind: Array
    score: Array
    marks: Array


def kinds(names: Sequence[str]) -> Array:
    """Kinds of feedback by name, as the numbers that programs take, ``[len(names)]``.

    Raises:
        ValueError: an unknown name.
    """
    for name in names:
        if name not in KINDS:
            raise ValueError(f"kind: {name!r}; allowed: {', '.join(KINDS)}")
    return jnp.asarray([KINDS.index(name) for name in names], jnp.int32)


def oracle_of(kind: ArrayLike) -> Oracle:
    """The oracle of a kind of feedback ``[*runs]``, as numbers: one program for all kinds.

    A critique scores as continuous feedback does; so do the kinds that hold an answer.
    """
    made = [binary(), ordinal(LEVELS), continuous()]
    chosen = jnp.minimum(jnp.asarray(kind), 2)
    most = max(len(each.cuts) for each in made)

    def padded(values: np.ndarray, filling: float) -> np.ndarray:
        return np.pad(values, (0, most - len(values)), constant_values=filling)

    gains = np.array([0.0 if each.gain is None else each.gain for each in made], np.float32)
    bases = np.array([each.base for each in made], np.float32)
    # A cut that nothing rises at says nothing.
    cuts = np.stack([padded(each.cuts, 1.0) for each in made], axis=1)
    rises = np.stack([padded(each.rises, 0.0) for each in made], axis=1)
    at = (jnp.asarray(each)[..., chosen] for each in (gains, bases, cuts, rises))
    gain, base, cut, rise = at
    return Oracle(gain, base, cut, rise)


def feedback(
    problem: Problem,
    attempts: Array,
    reward: Array,
    kind: Array,
    noise: Array,
    hint_noise: Array,
) -> Feedback:
    """What an oracle of a kind says of attempts.

    Args:
        problem: with runs ``[*runs]``.
        attempts: ``[T, N, *runs]``.
        reward: ``[N, *runs]``, their true rewards.
        kind: ``[*runs]``, places in ``KINDS``.
        noise: ``[N, *runs]``, what is added to the rewards before the oracle sees them.
        hint_noise: ``[T, N, *runs]``, errors of the critic on each token.

    Returns:
        With kind and score ``[N, *runs]``, marks ``[T, N, *runs]``, silent but of a critique.
    """
    seen = oracles.noisy_reward(reward, noise)
    score = oracles.feedback(oracle_of(kind), seen)
    vocabulary = jnp.arange(problem.quality.shape[1]).reshape((-1,) + (1,) * (attempts.ndim - 1))
    chosen = attempts[:, None] == vocabulary
    hint = jnp.where(chosen, problem.quality[:, :, None], 0.0).sum(1) + hint_noise
    spoken = jnp.where(hint > BAR, GOOD, jnp.where(hint < -BAR, BAD, SILENT))
    marks = jnp.where(kind == KINDS.index("critique"), spoken, SILENT)
    return Feedback(jnp.broadcast_to(kind, score.shape), score, marks)


@dataclass(frozen=True)
class World:
    """Sizes of what is read and written.

    Attributes:
        length: T, tokens of an answer.
        vocab_size: V.
        attempts: k, in a teacher's context.
        bins: of scores.
        say: what is said of attempts, with the arguments and the result of ``feedback``, which it
            is by default; one of your own is taken in pretraining and in training.
    """

    length: int = 6
    vocab_size: int = 8
    attempts: int = 1
    bins: int = 16
    say: Callable[..., Feedback] = feedback

    def __post_init__(self) -> None:
        for name, least in (("length", 1), ("vocab_size", 2), ("attempts", 1), ("bins", 2)):
            integer(name, getattr(self, name), least)

    @property
    def ids(self) -> int:
        """How many ids there are."""
        return self.start + 1

    @property
    def start(self) -> int:
        """The id that asks for an answer."""
        return (1 + MARKS) * self.vocab_size + self.bins + len(KINDS)

    @property
    def places(self) -> int:
        """How many places there are."""
        return self.length + 2

    @property
    def context_length(self) -> int:
        """Ids in front of the start, of a teacher."""
        return self.attempts * (self.length + 2)

    @property
    def answer_places(self) -> Array:
        """Places ``[T]`` of the start and all tokens of an answer but the last."""
        return jnp.arange(self.length)

    @property
    def context_places(self) -> Array:
        """Places ``[C]`` of a teacher's context."""
        one = [self.length, self.length + 1, *range(self.length)]
        return jnp.asarray(one * self.attempts)


def told(world: World, attempts: Array, said: Feedback) -> Array:
    """Ids ``[T + 2, ...]`` of attempts ``[T, ...]`` and what was said of them."""
    base = (1 + MARKS) * world.vocab_size
    bins = jnp.clip((said.score * world.bins).astype(jnp.int32), 0, world.bins - 1)
    tokens = world.vocab_size * (1 + said.marks) + attempts
    kind, score = base + world.bins + said.kind, base + bins
    return jnp.concatenate((kind[None], score[None], tokens.astype(jnp.int32)))


def contexts(world: World, ids: Array) -> Array:
    """Contexts of k attempts ``[C, N]``, from ids ``[T + 2, N]`` of each: its own and the next.

    Rollout i reads of i, i + 1, ..., i + k - 1, modulo N, its own last.
    """
    others = [jnp.roll(ids, -j, axis=1) for j in reversed(range(world.attempts))]
    return jnp.concatenate(others)


def shown(world: World, answer: Array, kind: str) -> Array:
    """Contexts ``[C, N]`` that hold an answer ``[T, N]``, k times, as a demonstration or solution.

    Raises:
        ValueError: another kind.
    """
    if kind not in KINDS[len(FEEDBACK) :]:
        raise ValueError(f"kind: {kind!r}; allowed: {', '.join(KINDS[len(FEEDBACK) :])}")
    said = Feedback(
        jnp.full(answer.shape[1:], KINDS.index(kind)),
        jnp.ones(answer.shape[1:]),
        jnp.full(answer.shape, SILENT),
    )
    return jnp.tile(told(world, answer, said), (world.attempts, 1))


def asked(world: World, answer: Array) -> Array:
    """What is read while an answer ``[T, N]`` is written: the start and all but its last token."""
    start = jnp.full((1, answer.shape[1]), world.start, jnp.int32)
    return jnp.concatenate((start, answer[:-1].astype(jnp.int32)))


class Lesson(NamedTuple):
    """Examples to learn reading from.

    Attributes:
        context: ``[C, B]`` ids.
        answer: ``[T, B]``, the best of each problem.
        kind: ``[B]``.
    """

    context: Array
    answer: Array
    kind: Array


def lessons(
    world: World,
    key: Array,
    count: int,
    *,
    noise: ArrayLike = 0.1,
    hint_noise: ArrayLike = 0.45,
    informed: ArrayLike = 0.5,
    kind: Array | None = None,
) -> Lesson:
    """Examples from the whole family: each has a problem of its own, drawn anew.

    An attempt is uniform, or, with the probability ``informed``, the solution with each token
    drawn again with a probability that is itself uniform: as good as any that a policy writes on
    its way. A demonstration is of the second sort.

    Args:
        world: sizes.
        key: a typed key.
        count: B.
        noise: standard deviation of what the oracles add to the reward, 0 or more.
        hint_noise: standard deviation of a critic's errors, 0 or more.
        informed: from 0 to 1.
        kind: ``[B]``; by default drawn, each of ``KINDS`` as often.
    """
    keys = jax.random.split(key, 8)
    length, vocab_size = world.length, world.vocab_size
    problem = problems.sample_problem(jax.random.split(keys[0], count), length, vocab_size)
    solution = problems.best_sequence(problem)[0]
    if kind is None:
        kind = jax.random.randint(keys[1], (count,), 0, len(KINDS))
    shape = (world.attempts, count)
    drawn = jax.random.randint(keys[2], (length, *shape), 0, vocab_size)
    is_informed = jax.random.uniform(keys[3], shape) < informed
    holds_answer = kind >= len(FEEDBACK)
    redrawn = jax.random.uniform(keys[4], shape)
    redrawn = jnp.where(is_informed | holds_answer, redrawn, 1.0)
    redrawn = jnp.where(kind == KINDS.index("solution"), 0.0, redrawn)
    again = jax.random.uniform(keys[5], (length, *shape)) < redrawn
    attempts = jnp.where(again, drawn, solution[:, None])
    reward = problems.reward(problem, attempts)
    said = world.say(
        problem,
        attempts,
        reward,
        kind,
        jnp.asarray(noise) * jax.random.normal(keys[6], shape),
        jnp.asarray(hint_noise) * jax.random.normal(keys[7], (length, *shape)),
    )
    said = said._replace(score=jnp.where(holds_answer, 1.0, said.score))
    ids = told(world, attempts, said)
    context = jnp.moveaxis(ids, 1, 0).reshape(world.context_length, count)
    return Lesson(context, solution, kind)
