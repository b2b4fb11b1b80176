"""What a method is: a pure function whose parameters name what it is told.

The training loop gives a method, by keyword, those of the following that its signature asks for,
and nothing else; so what a method may know can be read off its first line.

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
``memory``      the method's own             what it kept from the step before (``Stateful``)
``key``         ``Key``                      a stream of random numbers of its own
``step``        scalar int32                 index of the step, from 0
``sizes``       ``Sizes``                    the sizes
``config``      ``Config``                   the hyperparameters
``fence``       ``Fence``                    materialises what is read twice (see ``lanes``)
=============== ============================ ==================================================

It returns the descent gradient: the update is ``l <- l - lr (sign g + lambda (pi - pi_ref))``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from jax import Array


class Cost(NamedTuple):
    """What one step took from the world, each a number or ``[*runs]``.

    Attributes:
        rollouts: sequences that the policy sampled.
        queries: times that the reward or the oracle was asked.
    """

    rollouts: Any
    queries: Any


class Update(NamedTuple):
    """What a method wants.

    Attributes:
        gradient: ``[T, V, *runs]``, the descent gradient of the logits.
        weight: ``[*runs]``, for methods that mix two: how much the first counts.
        memory: what a ``Stateful`` method keeps for the next step.
        cost: what the step took, where that is not N rollouts with one query each.
    """

    gradient: Array
    weight: Array | None = None
    memory: Any = ()
    cost: Cost | None = None


@dataclass(frozen=True)
class Stateful:
    """A method with a memory; one without is a function and carries nothing.

    Attributes:
        name: what it is called in messages and labels.
        init: the memory before step 0. Of the table above it may ask for what is there by then:
            ``policy`` (of step 0), ``reference``, ``knowledge``, ``panel``, ``problem``,
            ``solution``, ``sizes``, ``config`` and ``fence``.
        update: a function like any method, told ``memory``; it returns ``Update.memory``, of the
            same structure, shapes and types.
    """

    name: str
    init: Callable[..., Any]
    update: Callable[..., Update]

    @property
    def __name__(self) -> str:
        return self.name


Method = Callable[..., Update] | Stateful

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


# Bounded, since they keep the user's functions.
@lru_cache(1024)
def what_is_told(method: Method) -> tuple[str, ...]:
    """The names of the parameters of a method's steps: what it is told at each."""
    update = method.update if isinstance(method, Stateful) else method
    return tuple(inspect.signature(update).parameters)


@lru_cache(1024)
def what_is_told_at_first(method: Method) -> tuple[str, ...]:
    """The names of the parameters of a method's ``init``; none where it has no memory."""
    return tuple(inspect.signature(method.init).parameters) if isinstance(method, Stateful) else ()
