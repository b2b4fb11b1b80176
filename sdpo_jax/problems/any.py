"""What can be asked of a problem of any kind."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sdpo_jax.engine.checks import (
    as_float32,
    can_be_key,
    numbers,
    over_runs,
    shown,
    under_own_settings,
)
from sdpo_jax.engine.own_numbers import OwnNumber, among, joined, of_function
from sdpo_jax.engine.streams import Key
from sdpo_jax.problems import bigram
from sdpo_jax.problems.bigram import Problem
from sdpo_jax.problems.function import Function, FunctionProblem

AnyProblem = Problem | FunctionProblem

# What Eq. 1's problem is drawn from, beside its numbers.
_TOLD = frozenset(("seed", "length", "vocab_size"))


@dataclass(frozen=True)
class Bigram:
    """The kind of Eq. 1: quality of tokens, coherence of neighbours, matches with a target."""

    name: str = "bigram"
    knows_quality: bool = True

    @property
    def numbers(self) -> Mapping[str, OwnNumber]:
        """The scales of its parts."""
        return joined(of_function(bigram.sample_problem, f"problem: {self.name}", _TOLD))

    def check(self, length: int, vocab_size: int) -> None:
        """There is nothing of a user's to check."""


ProblemKind = Bigram | Function

PROBLEMS: dict[str, ProblemKind] = {"bigram": Bigram()}


def problem_kind(given: Any) -> ProblemKind:
    """A kind of problem given by name, as itself, or as a function of one sequence.

    Raises:
        ValueError: neither, in one line.
    """
    if isinstance(given, str) and given in PROBLEMS:
        return PROBLEMS[given]
    if isinstance(given, ProblemKind):
        can_be_key(f"problem: {shown(given)}", given)
        return given
    if callable(given) and not isinstance(given, type) and _has_names(given):
        return Function(given)
    raise ValueError(
        f"problem: {shown(given)}; allowed: {', '.join(PROBLEMS)}, a function of one sequence, or "
        "a Function"
    )


def _has_names(function: Any) -> bool:
    """Whether it can be a key and says what its parameters are called."""
    try:
        hash(function)
        inspect.signature(function)
    except (TypeError, ValueError):
        return False
    return True


def draw(
    kind: ProblemKind,
    key: Key,
    length: int,
    vocab_size: int,
    values: Mapping[str, Any],
) -> AnyProblem:
    """The problems of some runs; see ``bigram.sample_problem`` and ``Function.draw``."""
    if isinstance(kind, Function):
        return kind.draw(key, length, vocab_size, values)
    # A kind that derives from Eq. 1's may have numbers of its own beside.
    own = among(bigram.sample_problem, _TOLD, values)
    return bigram.sample_problem(key, length, vocab_size, **own)


def kind_of(problem: AnyProblem) -> ProblemKind:
    """The kind that a problem is of."""
    return problem.kind if isinstance(problem, FunctionProblem) else PROBLEMS["bigram"]


@under_own_settings
def reward(problem: AnyProblem, tokens: ArrayLike) -> Array:
    """``R`` of each of N sequences: ``[T, N, *runs]`` integers to ``[N, *runs]``.

    Raises:
        ValueError: as ``bigram.reward``.
    """
    if isinstance(problem, FunctionProblem):
        sizes = problem.length, problem.vocab_size
        return problem.reward(bigram.checked_sequences(tokens, *sizes, problem.ones.shape))
    return bigram.reward(problem, tokens)


def all_rewards(problem: AnyProblem) -> Array:
    """Rewards of all sequences, ``[V ** T, *runs]``, the first token slowest."""
    if isinstance(problem, FunctionProblem):
        return problem.all_rewards()
    return bigram.all_rewards(problem)


@under_own_settings
def best_sequence(problem: AnyProblem) -> tuple[Array, Array]:
    """The sequence of largest reward.

    Returns:
        tokens: ``[T, *runs]`` int32; the lowest tokens where several sequences are best.
        reward: ``[*runs]``, its reward.

    Raises:
        ValueError: no problem, or one too large to enumerate, in one line.
    """
    if isinstance(problem, FunctionProblem):
        return problem.best_sequence()
    return bigram.best_sequence(problem)


@under_own_settings
def expected_reward(problem: AnyProblem, probs: Array) -> Array:
    """``E[R]`` of the factored policy ``probs`` ``[T, V, *runs]``, summed over all sequences.

    Raises:
        ValueError: ``V ** T`` exceeds ``MAX_SEQUENCES``; arguments of another type or shape.
    """
    if isinstance(problem, FunctionProblem):
        return problem.expected_reward(probs)
    return bigram.expected_reward(problem, probs)


@under_own_settings
def token_advantage(problem: AnyProblem, probs: Array) -> Array:
    """``E[R | s_t = v] - E[R]`` of the factored policy ``probs``, ``[T, V, *runs]``.

    Raises:
        ValueError: as ``expected_reward``.
    """
    if isinstance(problem, FunctionProblem):
        return problem.token_advantage(probs)
    return bigram.token_advantage(problem, probs)


@under_own_settings
def optimality(problem: AnyProblem, reward: ArrayLike) -> Array:
    """``(R - R_uniform) / (R_best - R_uniform)``: 0 for the uniform policy, 1 for the best.

    NaN where all sequences are worth the same, so that there is no scale.

    Args:
        problem: the reward landscape.
        reward: ``[..., *runs]``.

    Raises:
        ValueError: ``V ** T`` exceeds ``MAX_SEQUENCES``; arguments of another type or shape.
    """
    if not isinstance(problem, FunctionProblem):
        return bigram.optimality(problem, reward)
    runs = problem.ones.shape
    given: Any = numbers("reward", reward, "numbers")
    over_runs("reward", given, runs, given.shape[: max(given.ndim - len(runs), 0)])
    rewards = problem.all_rewards()
    uniform, best = rewards.mean(0), rewards.max(0)
    return (jnp.asarray(as_float32(given)) - uniform) / (best - uniform)
