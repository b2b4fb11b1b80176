"""What an algorithm is told about the task, read off its parameters.

A comparison is fair between algorithms that are told the same. What an algorithm is told is what
its parameters name (``algorithms.base``), so this is derived and can't be declared wrongly.
"""

from __future__ import annotations

from enum import StrEnum

from sdpo_jax.algorithms.base import Algorithm, what_is_told, what_is_told_at_first
from sdpo_jax.oracle import Oracle


class Information(StrEnum):
    """What can be told, from the least to the most."""

    FEEDBACK = "feedback"
    REWARD = "true reward"
    HINTS = "hints"
    KNOWLEDGE = "knowledge table"
    REWARD_MODEL = "reward of any sequence"
    SOLUTION = "solution"


# ``teacher`` and ``lessons`` are what the oracle says times what the table knows.
_OF_PARAMETER = {
    "feedback": (Information.FEEDBACK,),
    "teacher": (Information.FEEDBACK, Information.KNOWLEDGE),
    "lessons": (Information.FEEDBACK, Information.KNOWLEDGE),
    "knowledge": (Information.KNOWLEDGE,),
    "panel": (Information.KNOWLEDGE,),
    "problem": (Information.REWARD_MODEL,),
    "solution": (Information.SOLUTION,),
}


def information(
    algorithm: Algorithm, oracle: Oracle | None = None, learn_from_feedback: float = 1.0
) -> tuple[Information, ...]:
    """What an algorithm is told, from the least to the most.

    Args:
        algorithm: an algorithm.
        oracle: the feedback type; with hints, what reads the teacher hears them.
        learn_from_feedback: as in ``Config``: below 1, ``signal`` holds the true reward.
    """
    names = (*what_is_told(algorithm), *what_is_told_at_first(algorithm))
    told = {piece for name in names for piece in _OF_PARAMETER.get(name, ())}
    if "signal" in names:
        if learn_from_feedback > 0:
            told.add(Information.FEEDBACK)
        if learn_from_feedback < 1:
            told.add(Information.REWARD)
    if oracle is not None and oracle.hints is not None and {"teacher", "lessons"} & set(names):
        told.add(Information.HINTS)
    return tuple(piece for piece in Information if piece in told)


def most(
    algorithm: Algorithm, oracle: Oracle | None = None, learn_from_feedback: float = 1.0
) -> str:
    """The most that an algorithm is told: the group in which it is compared."""
    return str(information(algorithm, oracle, learn_from_feedback)[-1])
