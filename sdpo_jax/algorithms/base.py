"""What an algorithm is: a pure function whose parameters name what it is told.

The training loop gives an algorithm, by keyword, those of the following that its signature asks
for, and nothing else; so what an algorithm may know can be read off its first line.

=============== ============================ ==================================================
parameter       shape                        meaning
=============== ============================ ==================================================
``policy``      ``Policy``                   the student: logits, probabilities
``reference``   ``Policy``                   the policy of step 0
``tokens``      ``[T, N, *runs]`` int32      the sampled sequences
``signal``      ``[N, *runs]``               the true reward, or the oracle's feedback where
                                             ``learn_from_feedback`` is 1 (between: a blend)
``feedback``    ``[N, *runs]``               the oracle's feedback
``teacher``     ``Teacher``                  the self-teacher, with all that it was shown
``lessons``     ``Lessons``                  what the self-teacher was shown, lesson by lesson
``knowledge``   ``[T, V, *runs]``            the table of token quality that is known
``panel``       ``[M, T, V, *runs]``         ``Sizes.teachers`` such tables, the first that one
``problem``     ``Problem``                  the reward of any sequence whatever
``solution``    ``[T, *runs]`` int32         the sequence of largest reward
``memory``      the algorithm's own             what it kept from the step before (``Stateful``)
``key``         ``Key``                      a stream of random numbers of its own
``step``        scalar int32                 index of the step, from 0
``sizes``       ``Sizes``                    the sizes
``config``      ``Config``                   the hyperparameters
``fence``       ``Fence``                    materialises what is read twice (see ``lanes``)
=============== ============================ ==================================================

Any other parameter must have a default, and keeps it.

It returns an ``Update``, or the descent gradient alone: the policy's update is
``l <- l - lr (sign g + lambda (pi - pi_ref))``. What it returns is checked where it is traced.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sdpo_jax.checks import as_float32, numbers, shown


class Cost(NamedTuple):
    """What one step took from the world, each a number or ``[*runs]``.

    Attributes:
        rollouts: sequences that the policy sampled.
        queries: times that the reward or the oracle was asked.
    """

    rollouts: Any
    queries: Any


class Update(NamedTuple):
    """What an algorithm wants.

    Attributes:
        gradient: ``[T, V, *runs]``, the descent gradient of the logits.
        weight: ``[*runs]``, for algorithms that mix two: how much the first counts.
        memory: what a ``Stateful`` algorithm keeps for the next step.
        cost: what the step took, where that is not N rollouts with one query each.
    """

    gradient: Array
    weight: Array | None = None
    memory: Any = ()
    cost: Cost | None = None


@dataclass(frozen=True)
class Stateful:
    """An algorithm with a memory; one without is a function and carries nothing.

    Attributes:
        name: what it is called in messages and labels.
        init: the memory before step 0. Of the table above it may ask for what is there by then:
            ``policy`` (of step 0), ``reference``, ``knowledge``, ``panel``, ``problem``,
            ``solution``, ``sizes``, ``config`` and ``fence``.
        update: a function like any algorithm, told ``memory``; it returns ``Update.memory``, of the
            same structure, shapes and types.
    """

    name: str
    init: Callable[..., Any]
    update: Callable[..., Update]

    @property
    def __name__(self) -> str:
        return self.name


Algorithm = Callable[..., Update | Array] | Stateful

TOLD: Mapping[str, str] = {
    "policy": "the student",
    "reference": "the policy of step 0",
    "tokens": "the sampled sequences",
    "signal": "the reward, or the feedback instead",
    "feedback": "the oracle's feedback",
    "teacher": "the self-teacher",
    "lessons": "what the self-teacher was shown",
    "knowledge": "a table of token quality",
    "panel": "several tables of token quality",
    "problem": "the reward of any sequence",
    "solution": "the best sequence",
    "memory": "what it kept itself",
    "key": "random numbers",
    "step": "the index of the step",
    "sizes": "the sizes",
    "config": "the hyperparameters",
    "fence": "nothing: a tool that makes code faster",
}

# What there is before step 0.
TOLD_AT_FIRST = (
    "policy",
    "reference",
    "knowledge",
    "panel",
    "problem",
    "solution",
    "sizes",
    "config",
    "fence",
)


def name_of(algorithm: Any) -> str:
    """What an algorithm is called: its ``__name__``, that of what it wraps, or its class's."""
    if isinstance(algorithm, partial):
        return name_of(algorithm.func)
    name = getattr(algorithm, "__name__", None)
    return name if isinstance(name, str) else type(algorithm).__name__


# Bounded, since they keep the user's functions.
@lru_cache(1024)
def what_is_told(algorithm: Algorithm) -> tuple[str, ...]:
    """The names of the parameters of an algorithm's steps: what it is told at each.

    A parameter with a default that is none of the above keeps it.
    """
    return _asked(algorithm.update if isinstance(algorithm, Stateful) else algorithm, tuple(TOLD))


@lru_cache(1024)
def what_is_told_at_first(algorithm: Algorithm) -> tuple[str, ...]:
    """The names of the parameters of an algorithm's ``init``; none where it has no memory."""
    return _asked(algorithm.init, TOLD_AT_FIRST) if isinstance(algorithm, Stateful) else ()


def _asked(function: Callable[..., Any], known: tuple[str, ...]) -> tuple[str, ...]:
    fixed = function.keywords if isinstance(function, partial) else {}
    parameters = inspect.signature(function).parameters.values()
    return tuple(
        each.name
        for each in parameters
        if each.name not in fixed and (each.default is each.empty or each.name in known)
    )


def check_algorithm(algorithm: Any) -> None:
    """Refuse what is no algorithm, or asks for what the loop has nothing for.

    Raises:
        ValueError: the algorithm, the parameter and what is allowed, in one line.
    """
    name = name_of(algorithm)
    if isinstance(algorithm, Stateful) and not isinstance(algorithm.name, str):
        raise ValueError(f"algorithm: its name {shown(algorithm.name)}; allowed: a string")
    parts = (algorithm.init, algorithm.update) if isinstance(algorithm, Stateful) else (algorithm,)
    if isinstance(algorithm, type) or not all(callable(part) for part in parts):
        raise ValueError(
            f"algorithm: {shown(algorithm)}; allowed: a name, a function or a Stateful"
        )
    try:
        hash(algorithm)
    except TypeError as error:
        raise ValueError(
            f"algorithm: {name} has no hash; allowed: what can be a key, as functions can"
        ) from error
    for part in parts:
        try:
            parameters = inspect.signature(part).parameters.values()
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"algorithm: {name} has no signature; allowed: a function whose parameters have "
                "names"
            ) from error
        for each in parameters:
            if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.POSITIONAL_ONLY):
                raise ValueError(
                    f"algorithm: {name} takes {str(each).partition(':')[0]!r}, which names nothing "
                    "that it is told; allowed: parameters by name, such as policy and tokens "
                    "(functools.wraps keeps those of a wrapped function)"
                )
    for names, allowed in (
        (what_is_told(algorithm), tuple(TOLD)),
        (what_is_told_at_first(algorithm), TOLD_AT_FIRST),
    ):
        unknown = [each for each in names if each not in allowed]
        if unknown:
            raise ValueError(
                f"algorithm: {name} asks for {unknown[0]!r}; allowed: {', '.join(allowed)}"
            )
    if "memory" in what_is_told(algorithm) and not isinstance(algorithm, Stateful):
        raise ValueError(
            f"algorithm: {name} asks for 'memory'; allowed: in a Stateful algorithm only"
        )


def as_update(algorithm: Algorithm, outcome: Any, logits: Array, memory: Any) -> Update:
    """What an algorithm returned, checked and with the engine's types.

    Args:
        algorithm: whose it is.
        outcome: an ``Update``, or its gradient alone.
        logits: ``[T, V, *runs]``.
        memory: what the algorithm was told it had kept.

    Raises:
        ValueError: an array of another shape or type, and both, in one line.
    """
    runs = logits.shape[2:]
    update = outcome if isinstance(outcome, Update) else Update(outcome)
    what = f"algorithm: {name_of(algorithm)} returns"
    cost = update.cost
    if cost is not None:
        if not isinstance(cost, Cost):
            raise ValueError(f"{what} a cost that is {shown(cost)}; allowed: a Cost or None")
        cost = Cost(*(
            returned(f"{what} a cost in {field}", number, (runs, ()))
            for field, number in zip(Cost._fields, cost, strict=True)
        ))  # fmt: skip
    weight = update.weight
    if weight is not None:
        weight = returned(f"{what} a weight", weight, (runs,))
    check_kept(f"{what} a memory", update.memory, memory)
    return Update(
        returned(f"{what} a gradient", update.gradient, (logits.shape,)),
        weight,
        update.memory,
        cost,
    )


def returned(what: str, value: Any, shapes: tuple[tuple[int, ...], ...]) -> Array:
    """An array of real numbers of one of the shapes, as float32.

    Args:
        what: whose it is, as the beginning of the message.
        value: what was returned.
        shapes: those that are allowed.

    Raises:
        ValueError: its shape or type and those that are allowed, in one line.
    """
    array = numbers(f"{what} that is no array", value, "an array of real numbers")
    if array.shape not in shapes:
        raise ValueError(f"{what} of shape {array.shape}; allowed: {' or '.join(map(str, shapes))}")
    return jnp.asarray(as_float32(array))


def check_kept(what: str, kept: Any, before: Any) -> None:
    """Check that a memory has the structure, shapes and types that it had before the step."""
    structures = [jax.tree.structure(each) for each in (kept, before)]
    if structures[0] != structures[1]:
        given, allowed = (" ".join(str(each).split()) for each in structures)
        raise ValueError(f"{what} of structure {given}; allowed: {allowed}, as before the step")
    olds = jax.tree_util.tree_leaves_with_path(before)
    for (path, old), new in zip(olds, jax.tree.leaves(kept), strict=True):
        given, allowed = (_kind_of(each) for each in (new, old))
        if given != allowed:
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"{what}{where and ' in '}{where} of type {given}; allowed: {allowed}, "
                "as before the step"
            )


def _kind_of(leaf: Any) -> str:
    if not isinstance(leaf, Array | np.ndarray | np.generic | bool | int | float | complex):
        return shown(leaf)
    kind = jax.typeof(leaf)
    return f"{kind.dtype.name}[{','.join(map(str, kind.shape))}]"
