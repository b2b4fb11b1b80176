"""A problem that is any function of one sequence, vectorised here.

    Function(reward, sample=None, quality=None)

    reward(tokens [T], data) -> scalar in [0, 1]
    sample(key) -> data                       what differs from one problem seed to the next
    quality(data) -> [T, V]                   what a teacher's table is a view of, if there is one

``data`` is any pytree. ``sample`` and ``quality`` may ask for ``length`` and ``vocab_size`` by
name; a parameter of any of them that has a number as its default is a number of the problem's own
(``sdpo_jax.engine.own_numbers``). What is exact follows from the reward alone, by enumeration.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sdpo_jax import policies
from sdpo_jax.engine import lanes, streams
from sdpo_jax.engine.checks import numbers, shown
from sdpo_jax.engine.own_numbers import OwnNumber, among, joined, of_function
from sdpo_jax.engine.streams import Key
from sdpo_jax.problems.bigram import check_enumerable, conditional, expectation

_TOLD = frozenset(("tokens", "data", "key", "length", "vocab_size"))


@dataclass(frozen=True)
class Function:
    """A kind of problem: functions of one sequence and of one run.

    Attributes:
        reward: from one sequence ``[T]``, and the data where it has a parameter ``data``, to a
            number in [0, 1].
        sample: from a typed key to the data of one run; no data where there is none.
        quality: from the data to a table ``[T, V]``; what needs one is refused where there is none.
        name: what it is called in labels; the function's own by default.
    """

    reward: Callable[..., Any]
    sample: Callable[..., Any] | None = None
    quality: Callable[..., Any] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            inner = self.reward.func if isinstance(self.reward, partial) else self.reward
            name = getattr(inner, "__name__", type(inner).__name__)
            object.__setattr__(self, "name", name)

    @property
    def knows_quality(self) -> bool:
        """Whether there is a table for a teacher to know."""
        return self.quality is not None

    @property
    def numbers(self) -> Mapping[str, OwnNumber]:
        """Its own numbers by name."""
        functions = (self.reward, self.sample, self.quality)
        return joined(
            number
            for function in functions
            if callable(function)
            for number in of_function(function, f"problem: {self.name}", _TOLD)
        )

    def draw(
        self, key: Key, length: int, vocab_size: int, values: Mapping[str, Any]
    ) -> FunctionProblem:
        """The problems of some runs.

        Args:
            key: ``[*runs]``.
            length: T.
            vocab_size: V.
            values: its own numbers, each one or ``[*runs]``.
        """
        runs = key.high.shape
        spread = {
            name: jnp.broadcast_to(jnp.asarray(value, jnp.float32), runs)
            for name, value in values.items()
        }
        ones = jnp.ones_like(key.high, jnp.float32)
        problem = FunctionProblem(self, length, vocab_size, None, spread, ones)
        if self.sample is None:
            return problem
        sample = problem.one_run(self.sample)
        data = lanes.over_runs(lambda key, own: sample(key, **own), len(runs))
        typed = streams.typed(streams.stream(key, streams.Stream.PROBLEM))
        drawn = data(typed, problem.own(self.sample))
        return FunctionProblem(self, length, vocab_size, drawn, spread, ones)

    def check(self, length: int, vocab_size: int) -> None:
        """Check what the functions return, by tracing them.

        Raises:
            ValueError: what is wrong and what is allowed, in one line.
        """
        owner = f"problem: {self.name}"
        for what in ("reward", "sample", "quality"):
            function = getattr(self, what)
            if not (callable(function) or (function is None and what != "reward")):
                raise ValueError(f"{owner} has a {what} {shown(function)}; allowed: a function")
        _check(self, length, vocab_size)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["data", "values", "ones"],
    meta_fields=["kind", "length", "vocab_size"],
)
@dataclass(frozen=True)
class FunctionProblem:
    """The problems of some runs.

    Attributes:
        kind: the functions.
        length: T.
        vocab_size: V.
        data: what ``sample`` drew, runs behind every array; ``None`` where there is no ``sample``.
        values: the kind's own numbers, ``[*runs]`` each.
        ones: ``[*runs]``, which says what shape the runs have.
    """

    kind: Function
    length: int
    vocab_size: int
    data: Any
    values: Mapping[str, Array]
    ones: Array

    def own(self, function: Callable[..., Any]) -> dict[str, Array]:
        """Those of the numbers that a function has."""
        return among(function, _TOLD, self.values)

    def one_run(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of one run, told the sizes that it asks for."""
        names = inspect.signature(function).parameters
        sizes = {"length": self.length, "vocab_size": self.vocab_size}
        return partial(function, **{name: size for name, size in sizes.items() if name in names})

    def reward(self, tokens: Array) -> Array:
        """The rewards of sequences ``[T, N, *runs]``, ``[N, *runs]``."""
        function = self.one_run(self.kind.reward)
        told = self.kind.sample is not None and "data" in inspect.signature(function).parameters

        def of_one(tokens: Array, data: Any, own: Mapping[str, Any]) -> Array:
            more = {"data": data} if told else {}
            reward = lambda sequence: jnp.asarray(function(sequence, **more, **own))  # noqa: E731
            return jax.vmap(reward, in_axes=1)(tokens)

        over = lanes.over_runs(of_one, self.ones.ndim)
        # Runs of one place where there is nothing that differs between them.
        tokens = jnp.broadcast_to(tokens, (*tokens.shape[:2], *self.ones.shape))
        value = over(tokens, self.data, self.own(self.kind.reward))
        return value.astype(jnp.float32)

    def all_rewards(self) -> Array:
        """The rewards of all sequences, ``[V ** T, *runs]``, the first token slowest."""
        check_enumerable(self.length, self.vocab_size)
        every = policies.all_sequences(self.length, self.vocab_size)
        return self.reward(jnp.asarray(every.reshape(every.shape + (1,) * self.ones.ndim)))

    @property
    def quality(self) -> Array:
        """The table of token quality, ``[T, V, *runs]``.

        Raises:
            ValueError: the kind knows none.
        """
        function = self.kind.quality
        if function is None:
            raise ValueError(
                f"problem: {self.kind.name} knows no quality of tokens, which a table of knowledge "
                "is a view of; allowed: a Function with a quality, or what does without"
            )
        of_one = self.one_run(function)
        told = "data" in inspect.signature(function).parameters
        over = lanes.over_runs(
            lambda data, own, one: of_one(**({"data": data} if told else {}), **own) * one,
            self.ones.ndim,
        )
        return over(self.data, self.own(function), self.ones).astype(jnp.float32)

    def best_sequence(self) -> tuple[Array, Array]:
        """The first sequence of largest reward, ``[T, *runs]``, and its reward."""
        rewards = self.all_rewards()
        best = rewards.argmax(0)
        places = [
            best // self.vocab_size ** (self.length - 1 - t) % self.vocab_size
            for t in range(self.length)
        ]
        return jnp.stack(places).astype(jnp.int32), rewards.max(0)

    def expected_reward(self, probs: Array) -> Array:
        """``E[R]`` of a factored policy ``[T, V, *runs]``."""
        return expectation(self.all_rewards(), probs)

    def token_advantage(self, probs: Array) -> Array:
        """``E[R | s_t = v] - E[R]`` of a factored policy, ``[T, V, *runs]``."""
        given, mean = conditional(self.all_rewards(), probs)
        return given - mean


@lru_cache(64)
def _check(kind: Function, length: int, vocab_size: int) -> None:
    owner = f"problem: {kind.name}"
    values = {name: np.float32(number.default) for name, number in kind.numbers.items()}

    def rewards() -> Any:
        key = streams.root(np.zeros((), np.int32))
        problem = kind.draw(key, length, vocab_size, values)
        if kind.quality is not None:
            table = problem.quality
            if table.shape != (length, vocab_size):
                raise ValueError(
                    f"{owner}: quality returns a table of shape {table.shape}; allowed: "
                    f"{(length, vocab_size)}"
                )
        function = problem.one_run(kind.reward)
        told = kind.sample is not None and "data" in inspect.signature(function).parameters
        more = {"data": problem.data} if told else {}
        reward = function(jnp.zeros(length, jnp.int32), **more, **problem.own(kind.reward))
        return numbers(f"{owner}: the reward of one sequence", reward, "one number in [0, 1]")

    try:
        reward = jax.eval_shape(rewards)
    # Whatever a function of the user's raises: it is shown, and is the cause.
    except Exception as error:
        if str(error).startswith("problem: "):
            raise
        raise ValueError(
            f"{owner} fails on one sequence of shape ({length},) ({shown(error)}); allowed: a "
            "function of tokens, and of data where there is a sample"
        ) from error
    if reward.shape != ():
        raise ValueError(
            f"{owner}: the reward of one sequence has shape {reward.shape}; allowed: one number"
        )
