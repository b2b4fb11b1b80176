"""What an algorithm is told about the task, read off its parameters.

A comparison is fair between algorithms that are told the same. What an algorithm is told is what
its parameters name (``sdpo_jax.algorithm``), so this is derived and can't be declared wrongly.
"""

from __future__ import annotations

from sdpo_jax.algorithm import (
    STEP,
    AlgorithmLike,
    Information,
    what_is_told,
    what_is_told_at_first,
)
from sdpo_jax.oracles import Oracle

__all__ = ["Information", "information", "most"]


def information(
    algorithm: AlgorithmLike, oracle: Oracle | None = None, learn_from_feedback: float = 1.0
) -> tuple[Information, ...]:
    """What an algorithm is told, from the least to the most.

    Args:
        algorithm: an algorithm.
        oracle: the feedback type; with hints, what reads the teacher hears them.
        learn_from_feedback: as in ``Config``: below 1, ``signal`` holds the true reward.
    """
    names = (*what_is_told(algorithm), *what_is_told_at_first(algorithm))
    told = {piece for name in names for piece in STEP[name].tells}
    if "signal" in names:
        if learn_from_feedback > 0:
            told.add(Information.FEEDBACK)
        if learn_from_feedback < 1:
            told.add(Information.REWARD)
    if oracle is not None and oracle.hints is not None and {"teacher", "lessons"} & set(names):
        told.add(Information.HINTS)
    return tuple(piece for piece in Information if piece in told)


def most(
    algorithm: AlgorithmLike, oracle: Oracle | None = None, learn_from_feedback: float = 1.0
) -> str:
    """The most that an algorithm is told: the group in which it is compared."""
    return str(information(algorithm, oracle, learn_from_feedback)[-1])
