"""Whole training runs of a network: pure functions, so that ``jit`` and ``vmap`` are the caller's.

A run has one problem, that of its seed, and starts from a given network. Each step samples rollouts
of the student, who reads no context, lets an oracle score them, and takes a step of Adam on a
method's loss. Seed, learning rate, kind of feedback, noise and a method's numbers are all traced:
``vmap`` over any of them. A seed's random numbers depend on nothing else, so that two methods at
one seed share problem, uniform numbers and noise, and differences are paired.

>>> from sdpo_jax.in_context import METHODS, Lab, Setting, Transformer, World, kinds, train
>>> world = World(length=3, vocab_size=4)
>>> network = Transformer(world.ids, world.vocab_size, world.places, width=8)
>>> lab = Lab(world, network, METHODS["grpo"], steps=4)
>>> run = lambda seed, rate: train(lab, network.init(jax.random.key(0)), seed, Setting(rate))
>>> over = jax.vmap(jax.vmap(run, (0, None)), (None, 0))
>>> jax.jit(over)(jnp.arange(2), jnp.array([0.001, 0.01])).curves["reward"].shape
(2, 2, 4)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.typing import ArrayLike

from sdpo_jax import Problem, losses, policies, problems
from sdpo_jax.credit import reward_models
from sdpo_jax.credit.preferences import Pairs
from sdpo_jax.credit.reward_models import RewardModel
from sdpo_jax.engine.checks import integer
from sdpo_jax.engine.streams import Stream
from sdpo_jax.in_context import worlds
from sdpo_jax.in_context.methods import NUMBERS, TEACHERS, Batch, Method, Teacher
from sdpo_jax.in_context.network import Causal, Params
from sdpo_jax.in_context.worlds import World

CONTINUOUS = worlds.KINDS.index("continuous")

# What is recorded; NaN where it is not measured.
CURVES = ("reward", "entropy", "gap", "drift", "teacher_reward", "teacher_saves")


@dataclass(frozen=True)
class Lab:
    """What is static of a training run.

    Attributes:
        world: sizes of what is read and written.
        network: who learns.
        method: how.
        steps: of training.
        rollouts: a step, N; each asks for one reward.
        every: so many steps after each other the drift is measured, and the teacher.
        watch: whether the teacher's own answers are measured, too.
    """

    world: World
    network: Causal
    method: Method
    steps: int = 150
    rollouts: int = 32
    every: int = 10
    watch: bool = False

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("rollouts", 2), ("every", 1)):
            integer(name, getattr(self, name), least)
        if self.rollouts < self.world.attempts:
            raise ValueError(
                f"rollouts: {self.rollouts}; allowed: {self.world.attempts} or more, as many "
                "attempts as a context holds"
            )


class Setting(NamedTuple):
    """What is traced of a training run; each one number.

    Attributes:
        learning_rate: of Adam.
        kind: of feedback, a place in ``KINDS``; see ``kinds``.
        noise: standard deviation of what the oracle adds to the reward.
        hint_noise: standard deviation of a critic's errors.
        numbers: of the method, by the names in ``NUMBERS``; those not given have their defaults.
    """

    learning_rate: ArrayLike
    kind: ArrayLike = CONTINUOUS
    noise: ArrayLike = 0.1
    hint_noise: ArrayLike = 0.45
    numbers: Mapping[str, ArrayLike] = {}


class Result(NamedTuple):
    """What comes out of a training run.

    Attributes:
        curves: by the names in ``CURVES``, ``[steps]`` each, all of them from the rollouts of a
            step, which the student wrote before it: ``reward``, their mean true reward;
            ``entropy`` of the student, ``gap``, KL(teacher || student), and ``drift``,
            KL(student || first network), in nats a token; ``teacher_reward``, the mean true reward
            of answers that the teacher writes; ``teacher_saves``, how many nats a token of the best
            answer it saves the student. ``gap`` and the last two are NaN without a teacher; all
            but the first three are NaN at steps between those at which they are measured.
        params: of the student, after the last step.
    """

    curves: dict[str, Array]
    params: Params


class Draw(NamedTuple):
    """Random numbers of a step, the same for every method.

    Attributes:
        uniforms: ``[T, N]``, from which tokens are sampled.
        noise: ``[N]``, standard normal, on the rewards.
        hints: ``[T, N]``, standard normal, on a critic's hints.
    """

    uniforms: Array
    noise: Array
    hints: Array


class State(NamedTuple):
    """What the next step needs.

    Attributes:
        student: its parameters.
        average: those of an averaged teacher; ``None`` where the method asks for none.
        memory: Adam's.
        reward_model: ``None`` where none is learned.
    """

    student: Params
    average: Params
    memory: Any
    reward_model: RewardModel | None


class _Seen(NamedTuple):
    reward: Array
    logits: Array
    context: Array | None


def train(lab: Lab, first: Params, seed: ArrayLike, setting: Setting) -> Result:
    """Train a student from the parameters ``first``.

    Args:
        lab: what is static.
        first: parameters of ``lab.network``, such as one checkpoint of ``Pretrained.params``.
        seed: an integer, or a typed key: of the problem and all that is random.
        setting: what is traced.

    Raises:
        ValueError: numbers that the method has none of.
    """
    run = Run(lab, first, seed, setting)
    optimizer = optax.adam(jnp.asarray(setting.learning_rate))
    method = lab.method
    model = None
    if method.learns_reward:
        length, vocab_size = lab.world.length, lab.world.vocab_size
        model = RewardModel(jnp.zeros((length, vocab_size)), jnp.zeros((vocab_size, vocab_size)))
    average = first if _asks(method, "average") else None
    state = State(first, average, optimizer.init(first), model)

    def step(state: State, index: Array) -> tuple[State, dict[str, Array]]:
        batch, model, seen = run.batch(state, index)
        student, memory = state.student, state.memory

        def epoch(_: Any, both: tuple[Params, Any]) -> tuple[Params, Any]:
            student, memory = both
            gradient = jax.grad(lambda params: run.loss(params, batch))(student)
            updates, memory = optimizer.update(gradient, memory)
            return optax.apply_updates(student, updates), memory

        if method.epochs == 1:
            student, memory = epoch(0, (student, memory))
        else:
            student, memory = lax.fori_loop(0, method.epochs, epoch, (student, memory))
        average = state.average
        if average is not None:
            average = losses.ema(average, student, rate=run.numbers["teacher_rate"])
        return State(student, average, memory, model), run.record(state, batch, seen, index)

    state, curves = lax.scan(step, state, jnp.arange(lab.steps))
    return Result(curves, state.student)


def problem_of(lab: Lab, seed: ArrayLike) -> Problem:
    """The problem of a seed: that of the grid's runs of the same seed and sizes."""
    return problems.sample_problem(seed, lab.world.length, lab.world.vocab_size)


def sample(
    network: Causal,
    world: World,
    streams: Sequence[tuple[Params, Array | None]],
    combine: Any,
    uniforms: Array,
) -> Array:
    """Answers ``[T, N]``, token by token, with each stream's keys and values kept.

    Args:
        network: who writes.
        world: sizes.
        streams: parameters, and the context ``[C, N]`` that they read or ``None``, of each.
        combine: from their logits ``[N, V]`` to those that are sampled from.
        uniforms: ``[T, N]`` in [0, 1), one for each token.
    """
    count = uniforms.shape[1]
    caches = []
    for params, context in streams:
        if context is None:
            nothing = jnp.zeros((0, count), jnp.int32), jnp.zeros(0, jnp.int32)
            caches.append(network.begin(params, *nothing, world.length))
        else:
            caches.append(network.begin(params, context, world.context_places, world.length))

    def write(state: tuple[Any, Array], at: tuple[Array, Array]) -> tuple[Any, Array]:
        caches, token = state
        place, uniform = at
        found = [
            network.extend(params, cache, token, place)
            for (params, _), cache in zip(streams, caches, strict=True)
        ]
        probs = jax.nn.softmax(combine([logits for logits, _ in found]))
        below = jnp.cumsum(probs, axis=-1)
        token = (below < uniform[:, None] * below[:, -1:]).sum(-1)
        token = jnp.minimum(token, world.vocab_size - 1).astype(jnp.int32)
        return ([cache for _, cache in found], token), token  # pyright: ignore[reportReturnType]

    start = jnp.full(count, world.start, jnp.int32)
    return lax.scan(write, (caches, start), (world.answer_places, uniforms))[1]


def read(network: Causal, world: World, params: Params, answer: Array, context: Array | None):
    """Logits ``[N, T, V]`` of each token of answers ``[T, N]``, after a context ``[C, N]``."""
    ids, places = worlds.asked(world, answer), world.answer_places
    if context is not None:
        ids = jnp.concatenate((context, ids))
        places = jnp.concatenate((world.context_places, places))
    return network.read(params, ids, places, world.length)


def taught(
    lab: Lab,
    teacher: Teacher,
    params: Mapping[str, Params],
    answer: Array,
    context: Array,
    numbers: Mapping[str, Any],
) -> Array:
    """A teacher's logits ``[N, T, V]`` along answers ``[T, N]``, after contexts ``[C, N]``.

    Args:
        lab: sizes and network.
        teacher: one of ``TEACHERS``.
        params: of ``"student"``, ``"first"`` and ``"average"``, those that it asks for.
        answer: ``[T, N]``.
        context: ``[C, N]``.
        numbers: of the method.
    """
    logits = [
        read(lab.network, lab.world, params[whose], answer, context if reads else None)
        for whose, reads in teacher.streams
    ]
    return losses.frozen(teacher.combine(logits, numbers))


def _asks(method: Method, whose: str) -> bool:
    teacher = method.teacher
    return teacher is not None and any(name == whose for name, _ in TEACHERS[teacher].streams)


class Run:
    """One run's problem, random numbers and contexts; what ``train`` and ``exact`` share."""

    def __init__(self, lab: Lab, first: Params, seed: ArrayLike, setting: Setting) -> None:
        for name in setting.numbers:
            if name not in lab.method.numbers:
                allowed = ", ".join(lab.method.numbers) or "none"
                raise ValueError(f"numbers: {name!r}; allowed for {lab.method.name}: {allowed}")
        self.lab, self.first, self.setting = lab, first, setting
        self.numbers = {**NUMBERS, **setting.numbers}
        self.problem = problem_of(lab, seed)
        self.tables = problems.tabulate(self.problem)
        self.solution = problems.best_sequence(self.problem)[0]
        given: Any = jnp.asarray(seed)
        typed = jnp.issubdtype(given.dtype, jax.dtypes.prng_key)
        key = given if typed else jax.random.key(given)
        self.rollouts = jax.random.fold_in(key, Stream.ROLLOUTS)
        self.probes = jax.random.fold_in(key, Stream.ALGORITHM)

    def draw(self, key: Array, count: int) -> Draw:
        """The random numbers of a step of so many rollouts."""
        length = self.lab.world.length
        # One cipher for all of them: it takes longest to compile.
        uniforms = jax.random.uniform(key, (2 * length + 1, count), minval=2.0**-24)
        normal = math.sqrt(2) * lax.erf_inv(2 * uniforms[length:] - 1)
        return Draw(uniforms[:length], normal[0], normal[1:])

    def reward(self, tokens: Array) -> Array:
        """True rewards ``[N]`` of answers ``[T, N]``."""
        world = self.lab.world
        packed = policies.pack(tokens, world.vocab_size)
        return problems.look_up(self.tables, packed, world.length, world.vocab_size)

    def judged(self, tokens: Array, draw: Draw) -> tuple[worlds.Feedback, Array]:
        """What the oracle says of answers ``[T, N]``, and their true rewards."""
        setting, reward = self.setting, self.reward(tokens)
        said = self.lab.world.say(
            self.problem,
            tokens,
            reward,
            jnp.asarray(setting.kind),
            jnp.asarray(setting.noise) * draw.noise,
            jnp.asarray(setting.hint_noise) * draw.hints,
        )
        return said, reward

    def context(self, tokens: Array, said: worlds.Feedback) -> Array:
        """What a teacher of the method reads at each rollout, ``[C, N]``."""
        world, kind = self.lab.world, self.lab.method.context
        if kind == "feedback":
            return worlds.contexts(world, worlds.told(world, tokens, said))
        best = self.solution if kind == "solution" else tokens[:, said.score.argmax()]
        return worlds.shown(world, jnp.broadcast_to(best[:, None], tokens.shape), kind)

    def written(self, params: Params, uniforms: Array) -> Array:
        """Answers ``[T, N]`` of a student."""
        network, world = self.lab.network, self.lab.world
        return sample(network, world, [(params, None)], lambda logits: logits[0], uniforms)

    def logits(self, params: Params, tokens: Array) -> Array:
        """A student's logits ``[N, T, V]`` along answers ``[T, N]``."""
        return read(self.lab.network, self.lab.world, params, tokens, None)

    def params_of(self, state: State) -> dict[str, Params]:
        """Whose parameters a teacher may ask for, by name."""
        return {"student": state.student, "first": self.first, "average": state.average}

    def batch(self, state: State, index: Array) -> tuple[Batch, RewardModel | None, _Seen]:
        """What a step learns from, the reward model then, and what only records look at."""
        lab, method = self.lab, self.lab.method
        draw = self.draw(jax.random.fold_in(self.rollouts, index), lab.rollouts)
        tokens = self.written(state.student, draw.uniforms)
        said, reward = self.judged(tokens, draw)
        logits = self.logits(state.student, tokens)
        old = first = teacher = context = predicted = None
        if method.epochs > 1:
            old = losses.token_log_probs(logits, tokens.T)
        if method.asks_first:
            first = losses.token_log_probs(self.logits(self.first, tokens), tokens.T)
        if method.teacher is not None:
            context = self.context(tokens, said)
            teacher = taught(
                lab,
                TEACHERS[method.teacher],
                self.params_of(state),
                tokens,
                context,
                self.numbers,
            )
        model = state.reward_model
        if model is not None:
            model = reward_models.fit(model, _pairs(tokens, said.score), self.numbers["model_rate"])
            predicted = reward_models.score(model, tokens)
        batch = Batch(tokens.T, said.score, old, first, teacher, predicted)
        return batch, model, _Seen(reward, logits, context)

    def loss(self, params: Params, batch: Batch) -> Array:
        """The method's loss of a student on a batch."""
        return self.lab.method.loss(self.logits(params, batch.tokens.T), batch, self.numbers)

    def record(self, state: State, batch: Batch, seen: _Seen, index: Array) -> dict[str, Array]:
        """``CURVES`` of a step."""
        lab, tokens, logits = self.lab, batch.tokens.T, seen.logits
        nothing = jnp.full((), jnp.nan)
        curves: dict[str, Array] = {name: nothing for name in CURVES}
        curves["reward"] = seen.reward.mean()
        curves["entropy"] = losses.entropy(logits).mean()
        if batch.teacher is not None:
            curves["gap"] = losses.distillation(logits, batch.teacher).mean()

        def drift() -> Array:
            first = self.logits(self.first, tokens)
            return losses.distillation(logits, first, divergence="reverse_kl").mean()

        now = index % lab.every == 0
        curves["drift"] = lax.cond(now, drift, lambda: nothing)
        if lab.watch and seen.context is not None:
            context = seen.context
            found = lax.cond(
                now, lambda: self.watched(state, context, index), lambda: (nothing, nothing)
            )
            curves["teacher_reward"], curves["teacher_saves"] = found
        return curves

    def watched(self, state: State, context: Array, index: Array) -> tuple[Array, Array]:
        """What the teacher's own answers are worth, and what it saves of the best answer's nats."""
        lab = self.lab
        assert lab.method.teacher is not None
        teacher, params = TEACHERS[lab.method.teacher], self.params_of(state)
        solution = jnp.broadcast_to(
            self.solution[:, None], (lab.world.length, context.shape[1])
        ).astype(jnp.int32)
        own, other = (
            losses.token_log_probs(each, solution.T)
            for each in (
                self.logits(state.student, solution),
                taught(lab, teacher, params, solution, context, self.numbers),
            )
        )
        draw = self.draw(jax.random.fold_in(self.probes, index), context.shape[1])
        written = sample(
            lab.network,
            lab.world,
            [(params[whose], context if reads else None) for whose, reads in teacher.streams],
            lambda logits: teacher.combine(logits, self.numbers),
            draw.uniforms,
        )
        return self.reward(written).mean(), (other - own).mean()


def _pairs(tokens: Array, score: Array) -> Pairs:
    """Rollout i against i + N/2; of equal scores neither is preferred."""
    half = len(score) // 2
    verdict = jnp.sign(score[:half] - score[half : 2 * half])
    return Pairs(tokens[:, :half], tokens[:, half : 2 * half], verdict)
