"""What an algorithm is: a pure function whose parameters name what it is told.

The training loop gives an algorithm, by keyword, those of the following that its signature asks
for, and nothing else; so what an algorithm may know can be read off its first line.

{table}

A parameter that has a number as its default is a number of the algorithm's own
(``sdpo_jax.engine.own_numbers``): an input of the program and an axis of a grid. Any other
parameter must have a default, and keeps it.

It returns an ``Update``, or the descent gradient alone: the parameters' update is that of the
optimiser for ``sign g + lambda (pi - pi_ref)``, a gradient of the logits at the contexts that the
rollouts visit. A factored policy has one context a position: arrays ``[T, V, *runs]``. Any other
has one a position and rollout: there everything that is ``[T, V, ...]`` below has an axis of
contexts in front of the runs, N of the policy's and 1 of what does not depend on the rollout, and a
gradient is that of a mean over them. ``Policy`` functions such as ``mean_score`` know both.

What it returns is checked where it is traced.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sdpo_jax.engine import own_numbers
from sdpo_jax.engine.checks import WHOLE, as_float32, can_be_key, name_of, numbers, shown
from sdpo_jax.engine.own_numbers import OwnNumber


class Information(StrEnum):
    """What can be told of the task, from the least to the most."""

    FEEDBACK = "feedback"
    REWARD = "true reward"
    HINTS = "hints"
    KNOWLEDGE = "knowledge table"
    REWARD_MODEL = "reward of any sequence"
    SOLUTION = "solution"


class Piece(NamedTuple):
    """Something that a step knows and can tell.

    Attributes:
        shape: of the array, or its type.
        meaning: in words.
        tells: what it says about the task.
        at_first: whether it is there before step 0, for an ``init``.
    """

    shape: str
    meaning: str
    tells: tuple[Information, ...] = ()
    at_first: bool = False


# ``teacher`` and ``lessons`` are what the oracle says times what the table knows. What ``signal``
# tells depends on ``learn_from_feedback`` (see ``information``).
STEP: Mapping[str, Piece] = MappingProxyType({
    "policy": Piece("Policy", "the student: logits, probabilities", at_first=True),
    "reference": Piece("Policy", "the policy of step 0", at_first=True),
    "params": Piece("the policy's own", "the student's parameters; a factored policy's are its "
                    "logits", at_first=True),
    "read": Piece("function", "from parameters to the logits at this step's contexts; with "
                  "``tokens`` of one's own at those that they visit"),
    "tokens": Piece("[T, N, *runs] int32", "the sampled sequences"),
    "signal": Piece("[N, *runs]", "the true reward, or the oracle's feedback where "
                    "``learn_from_feedback`` is 1 (between: a blend)"),
    "feedback": Piece("[N, *runs]", "the oracle's feedback", (Information.FEEDBACK,)),
    "teacher": Piece("Teacher", "the self-teacher, with all that it was shown",
                     (Information.FEEDBACK, Information.KNOWLEDGE)),
    "lessons": Piece("Lessons", "what the self-teacher was shown, lesson by lesson",
                     (Information.FEEDBACK, Information.KNOWLEDGE)),
    "knowledge": Piece("[T, V, *runs]", "the table of token quality that is known",
                       (Information.KNOWLEDGE,), at_first=True),
    "panel": Piece("[M, T, V, *runs]", "``Sizes.teachers`` such tables, the first that one",
                   (Information.KNOWLEDGE,), at_first=True),
    "problem": Piece("Problem", "the reward of any sequence whatever",
                     (Information.REWARD_MODEL,), at_first=True),
    "solution": Piece("[T, *runs] int32", "the sequence of largest reward",
                      (Information.SOLUTION,), at_first=True),
    "memory": Piece("the algorithm's own", "what it kept from the step before (``Algorithm``)"),
    "key": Piece("Key", "a stream of random numbers of its own"),
    "step": Piece("scalar int32", "index of the step, from 0"),
    "runs": Piece("tuple of int", "the shape of the runs", at_first=True),
    "contexts": Piece("int", "contexts of a position: 1 of a factored policy, N of any other",
                      at_first=True),
    "sizes": Piece("Sizes", "the sizes", at_first=True),
    "config": Piece("Config", "the hyperparameters", at_first=True),
})  # fmt: skip

TOLD_AT_FIRST = tuple(name for name, piece in STEP.items() if piece.at_first)


def _table() -> str:
    """``STEP`` as a table of the documentation."""
    rows = [(f"``{name}``", piece.shape, piece.meaning) for name, piece in STEP.items()]
    rows = [("parameter", "shape", "meaning"), *rows]
    first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
    rule = f"{'=' * first} {'=' * second} {'=' * 40}"
    lines = [f"{a:{first}} {b:{second}} {c}" for a, b, c in rows]
    return "\n".join((rule, lines[0], rule, *lines[1:], rule))


__doc__ = (__doc__ or "").format(table=_table())


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
        gradient: ``[T, V, *runs]``, the descent gradient of the logits (see above for contexts).
        info: by name ``[*runs]``, what metrics may want to know of the step.
        memory: what an ``Algorithm`` with an ``init`` keeps for the next step.
        cost: what the step took, where that is not N rollouts with one query each.
        tokens: ``[T, N, *runs]``, the sequences at whose contexts the gradient stands, where they
            are not this step's rollouts.
    """

    gradient: Array
    info: Mapping[str, Array] | None = None
    memory: Any = ()
    cost: Cost | None = None
    tokens: Array | None = None


def no_memory() -> tuple[()]:
    """The memory of an algorithm that keeps nothing."""
    return ()


@dataclass(frozen=True)
class Algorithm:
    """A pair of functions; one function alone stands for the pair that keeps no memory.

    Attributes:
        name: what it is called in messages and labels.
        init: the memory before step 0. Of the table above it may ask for what is there by then:
            ``TOLD_AT_FIRST``; ``policy`` and ``reference`` of a factored policy only, as any other
            has its logits at the contexts of rollouts.
        update: the function of a step, told ``memory``; it returns ``Update.memory``, of the same
            structure, shapes and types.
    """

    name: str
    init: Callable[..., Any]
    update: Callable[..., Update | Array]

    @property
    def __name__(self) -> str:
        return self.name


AlgorithmLike = Callable[..., Update | Array] | Algorithm


@lru_cache(1024)
def pair(algorithm: AlgorithmLike) -> Algorithm:
    """An algorithm as a pair of functions, checked.

    Raises:
        ValueError: as ``check_algorithm``.
    """
    check_algorithm(algorithm)
    return _pair(algorithm)


def _pair(algorithm: Any) -> Algorithm:
    if isinstance(algorithm, Algorithm):
        return algorithm
    return Algorithm(name_of(algorithm), no_memory, algorithm)


# Bounded, since they keep the user's functions.
@lru_cache(1024)
def what_is_told(algorithm: AlgorithmLike) -> tuple[str, ...]:
    """The names of the parameters of an algorithm's steps: what it is told at each."""
    return _asked(_pair(algorithm).update, tuple(STEP))


@lru_cache(1024)
def what_is_told_at_first(algorithm: AlgorithmLike) -> tuple[str, ...]:
    """The names of the parameters of an algorithm's ``init``; none where it has no memory."""
    return _asked(_pair(algorithm).init, TOLD_AT_FIRST)


@lru_cache(1024)
def numbers_of(algorithm: AlgorithmLike) -> Mapping[str, OwnNumber]:
    """The algorithm's own numbers by name.

    Raises:
        ValueError: two rules for one name, or a default that is not allowed.
    """
    both, owner, known = _pair(algorithm), f"algorithm: {name_of(algorithm)}", frozenset(STEP)
    each = (own_numbers.of_function(part, owner, known) for part in (both.init, both.update))
    return own_numbers.joined(number for part in each for number in part)


def chosen(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some values, by name, that are numbers of an ``init`` or ``update``."""
    return own_numbers.among(function, frozenset(STEP), values)


def _asked(function: Callable[..., Any], known: tuple[str, ...]) -> tuple[str, ...]:
    fixed = own_numbers.fixed_by_partial(function)
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
    both = _pair(algorithm)
    if not isinstance(both.name, str):
        raise ValueError(f"algorithm: its name {shown(both.name)}; allowed: a string")
    parts = (both.init, both.update)
    if isinstance(algorithm, type) or not all(callable(part) for part in parts):
        raise ValueError(
            f"algorithm: {shown(algorithm)}; allowed: a name, a function or an Algorithm"
        )
    can_be_key(f"algorithm: {name}", algorithm)
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
        (what_is_told(algorithm), tuple(STEP)),
        (what_is_told_at_first(algorithm), TOLD_AT_FIRST),
    ):
        unknown = [each for each in names if each not in allowed]
        if unknown:
            raise ValueError(
                f"algorithm: {name} asks for {unknown[0]!r}; allowed: {', '.join(allowed)}"
            )
    if "memory" in what_is_told(algorithm) and both.init is no_memory:
        raise ValueError(
            f"algorithm: {name} asks for 'memory'; allowed: in an Algorithm with an init only"
        )
    numbers_of(algorithm)


def as_update(
    algorithm: Algorithm, outcome: Any, logits: Array, tokens: Array, memory: Any
) -> Update:
    """What an algorithm returned, checked and with the engine's types.

    Args:
        algorithm: whose it is.
        outcome: an ``Update``, or its gradient alone.
        logits: ``[T, V, *runs]``, or ``[T, V, N, *runs]`` of a policy with contexts.
        tokens: ``[T, N, *runs]``.
        memory: what the algorithm was told it had kept.

    Raises:
        ValueError: an array of another shape or type, and both, in one line.
    """
    runs = tokens.shape[2:]
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
    if not isinstance(update.info, Mapping | None):
        raise ValueError(f"{what} info that is {shown(update.info)}; allowed: a dict of arrays")
    info = {
        str(name): returned(f"{what} info {name!r}", value, (runs,))
        for name, value in (update.info or {}).items()
    }
    elsewhere = update.tokens
    if elsewhere is not None:
        elsewhere = numbers(f"{what} tokens", elsewhere, "an array of integers", WHOLE)
        if elsewhere.shape != tokens.shape:
            raise ValueError(f"{what} tokens of shape {elsewhere.shape}; allowed: {tokens.shape}")
    check_kept(f"{what} a memory", update.memory, memory)
    gradient = returned(f"{what} a gradient", update.gradient, (logits.shape,))
    return Update(gradient, info, update.memory, cost, elsewhere)


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


def check_kept(what: str, kept: Any, before: Any, when: str = "as before the step") -> None:
    """Check that a memory has the structure, shapes and types that it had before the step."""
    structures = [jax.tree.structure(each) for each in (kept, before)]
    if structures[0] != structures[1]:
        given, allowed = (" ".join(str(each).split()) for each in structures)
        raise ValueError(f"{what} of structure {given}; allowed: {allowed}, {when}")
    olds = jax.tree_util.tree_leaves_with_path(before)
    for (path, old), new in zip(olds, jax.tree.leaves(kept), strict=True):
        given, allowed = (_kind_of(each) for each in (new, old))
        if given != allowed:
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"{what}{where and ' in '}{where} of type {given}; allowed: {allowed}, {when}"
            )


def _kind_of(leaf: Any) -> str:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return f"{leaf.dtype.name}[{','.join(map(str, leaf.shape))}]"
    if not isinstance(leaf, Array | np.ndarray | np.generic | bool | int | float | complex):
        return shown(leaf)
    kind = jax.typeof(leaf)
    return f"{kind.dtype.name}[{','.join(map(str, kind.shape))}]"
