"""What a method is: a pure function whose parameters name what it is told.

The training loop gives a method, by keyword, those of the following that its signature asks for,
and nothing else; so what a method may know can be read off its first line.

=============== ============================ ==================================================
parameter       shape                        meaning
=============== ============================ ==================================================
``policy``      ``Policy``                   the student: logits, probabilities
``tokens``      ``[T, N, *runs]`` int32      the sampled sequences
``signal``      ``[N, *runs]``               the true reward, or the oracle's feedback where
                                             ``learn_from_feedback`` is 1 (between: a blend)
``feedback``    ``[N, *runs]``               the oracle's feedback
``teacher``     ``Teacher``                  the self-teacher, with all that it was shown
``knowledge``   ``[T, V, *runs]``            the table of token quality that is known
``config``      ``Config``                   the hyperparameters
``fence``       ``Fence``                    materialises what is read twice (see ``lanes``)
=============== ============================ ==================================================

It returns the descent gradient: the update is ``l <- l - lr (sign g + lambda (pi - pi_ref))``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from jax import Array


class Update(NamedTuple):
    """What a method wants.

    Attributes:
        gradient: ``[T, V, *runs]``, the descent gradient of the logits.
        weight: ``[*runs]``, for methods that mix two: how much the first counts.
    """

    gradient: Array
    weight: Array | None = None


Method = Callable[..., Update]

TOLD: Mapping[str, str] = {
    "policy": "the student",
    "tokens": "the sampled sequences",
    "signal": "the reward, or the feedback instead",
    "feedback": "the oracle's feedback",
    "teacher": "the self-teacher",
    "knowledge": "a table of token quality",
    "config": "the hyperparameters",
    "fence": "nothing: a tool that makes code faster",
}
