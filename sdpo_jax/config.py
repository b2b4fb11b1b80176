"""The constants of an experiment: floats that programs take as input, and sizes that shape them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from sdpo_jax.engine.checks import integer, on_host, shown
from sdpo_jax.engine.own_numbers import ANY, Number
from sdpo_jax.policies import MAX_VOCAB_SIZE

# A float or an array ``[*runs]``, traced or not.
Value = Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Config:
    """The engine's numbers, each a float or an array ``[*runs]``; all are traced.

    Those of algorithms, policies, problems and oracles are the parts' own
    (``sdpo_jax.engine.own_numbers``): the scales of Eq. 1 are its problem's, that of the first
    logits is the policy's.

    Attributes:
        learning_rate: step size, 0 or more.
        kl_weight: lambda, the pull ``pi - pi_ref`` towards the policy of step 0; 0 or more.
        feedback_strength: beta, how far feedback tilts the teacher, from -1000 to 1000.
        noise: sigma, standard deviation of the oracle's noise on the reward; 0 or more.
        bias: constant that the oracle adds to the reward.
        hint_noise: standard deviation of a critique's errors; 0 or more.
        knowledge: rho in [0, 1]; the teacher's table is ``rho q + sqrt(1 - rho^2) noise``.
        sign: factor on the algorithm's gradient; -1 turns it round, as the paper's baselines seem
            to have been.
        learn_from_feedback: 0 where ``signal`` is the true reward, 1 where it is the oracle's
            feedback; between, the blend of the two.

    A run can be differentiated by each of them, its sampled tokens and verdicts held. By
    ``knowledge`` at 1 the derivative is infinite: refused where the value is seen, and larger than
    1e30 or not finite where it is traced. By ``clip`` and ``preference_sharpness`` it is 0: they
    decide what is let through and who is preferred, and move nothing else.
    """

    learning_rate: Value = 0.02
    kl_weight: Value = 0.01
    feedback_strength: Value = 1.5
    noise: Value = 0.0
    bias: Value = 0.0
    hint_noise: Value = 0.45
    knowledge: Value = 1.0
    sign: Value = 1.0
    learn_from_feedback: Value = 0.0


@dataclass(frozen=True)
class Sizes:
    """The integers that shape a program; another value is another program.

    Attributes:
        length: T, positions of a sequence; 1 or more.
        vocab_size: V, tokens of the vocabulary; 2 to 1024.
        rollouts: N, sequences sampled at each step; 1 or more.
        steps: S, training steps; 1 or more.
        final_window: steps at the end over which final values are means; 1 to ``steps``.
        epochs: steps that an algorithm which keeps its rollouts takes on each batch; 1 or more.
        teachers: M, tables of a panel of teachers; 1 to 1024.
        samples: Monte Carlo samples of an algorithm that takes some; 1 to 1024.
        top_k: tokens that a top-k divergence tells apart; 1 or more (more than V are all).
    """

    length: int = 6
    vocab_size: int = 8
    rollouts: int = 32
    steps: int = 300
    final_window: int = 20
    epochs: int = 1
    teachers: int = 4
    samples: int = 2
    top_k: int = 4


CONFIG_FIELDS = tuple(field.name for field in fields(Config))
SIZE_FIELDS = tuple(field.name for field in fields(Sizes))

_NOT_NEGATIVE, _FRACTION = Number(least=0), Number(least=0, most=1)
# Beyond it, logits that are shifted by feedback have lost their own digits.
_STRENGTH = Number(least=-1000, most=1000)
_ALLOWED: dict[str, Number] = {
    "learning_rate": _NOT_NEGATIVE,
    "kl_weight": _NOT_NEGATIVE,
    "feedback_strength": _STRENGTH,
    "noise": _NOT_NEGATIVE,
    "bias": ANY,
    "hint_noise": _NOT_NEGATIVE,
    "knowledge": _FRACTION,
    "sign": ANY,
    "learn_from_feedback": _FRACTION,
}


def check_value(name: str, value: object, rule: Number | None = None) -> None:
    """Check one number, a ``Config`` field or a part's own; a traced value is let through.

    Programs compute in float32, so a number that is infinite or 0 there, and is not here, is
    refused: it would be another one than was asked for.

    Args:
        name: of the field.
        value: a number, or an array of them.
        rule: what is allowed; a ``Config`` field's by default.

    Raises:
        ValueError: the field, the value and what is allowed, in one line.
    """
    rule = _ALLOWED[name] if rule is None else rule
    if isinstance(value, Tracer):
        return
    numbers = as_numbers(value)
    if numbers is None:
        raise ValueError(f"{name}: {shown(value)} is not a number; allowed: {rule.allowed()}")
    for number in numbers[~_plain(numbers)].tolist():
        if not (math.isfinite(number) and rule.allows(number)):
            raise ValueError(f"{name}: {number!r}; allowed: {rule.allowed()}")
        as_float32 = float(as_given(np.asarray(number)))
        raise ValueError(
            f"{name}: {number!r} is {as_float32!r} as a float32; allowed: {rule.allowed()}, "
            f"of size 0 or {_SMALLEST:.3g} to {_LARGEST:.3g}"
        )
    # What is allowed is an interval, so it holds all of them where it holds both ends.
    for number in (float(numbers.min()), float(numbers.max())) if numbers.size else ():
        if not rule.allows(number):
            raise ValueError(f"{name}: {number!r}; allowed: {rule.allowed()}")


_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def _plain(numbers: np.ndarray) -> np.ndarray:
    """Which numbers (float64) are finite and keep their size as float32."""
    size = np.abs(numbers)
    return (size == 0) | ((size >= _SMALLEST) & (size <= _LARGEST))


def as_given(numbers: np.ndarray) -> np.ndarray:
    """Numbers as programs compute with them: float32, in which very small ones are 0."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = numbers.astype(np.float32)
    return np.where(np.abs(rounded) < _SMALLEST, np.float32(0), rounded)


def as_numbers(value: Any) -> np.ndarray | None:
    """A number, or an array or nested lists of some, in float64; ``None`` where it is no such."""
    # NumPy would make an array of a range, however long.
    if isinstance(value, (np.ma.MaskedArray, range)):
        return None
    try:
        numbers = on_host(value) if isinstance(value, jax.Array) else np.asarray(value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    # Python's integers may be larger than any of NumPy's.
    if numbers.dtype == object and isinstance(value, int):
        return np.asarray(math.inf if value > 0 else -math.inf)
    if not any(jnp.issubdtype(numbers.dtype, kind) for kind in (np.floating, np.integer)):
        return None
    return numbers.astype(np.float64)


def check_config(config: Config) -> None:
    """Check every field of a configuration that is not traced.

    Raises:
        ValueError: the first field that is out of range, its value and what is allowed.
    """
    for name in CONFIG_FIELDS:
        check_value(name, getattr(config, name))


def check_sizes(sizes: Sizes) -> None:
    """Check the sizes.

    Raises:
        ValueError: the first size that is out of range, its value and what is allowed.
    """
    limits = {
        "length": (1, None),
        "vocab_size": (2, MAX_VOCAB_SIZE),
        "rollouts": (1, None),
        "steps": (1, None),
        "final_window": (1, sizes.steps),
        "epochs": (1, None),
        # Written out one by one in the program.
        "teachers": (1, 1024),
        "samples": (1, 1024),
        "top_k": (1, None),
    }
    for name, (low, high) in limits.items():
        integer(name, getattr(sizes, name), low, high)
