"""The constants of an experiment: floats that programs take as input, and sizes that shape them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from sdpo_jax.checks import integer, on_host, shown
from sdpo_jax.policy import MAX_VOCAB_SIZE

# A float or an array ``[*runs]``, traced or not.
Number = Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Config:
    """Every number of an experiment, each a float or an array ``[*runs]``; all are traced.

    Attributes:
        learning_rate: step size, 0 or more.
        kl_weight: lambda, the pull ``pi - pi_ref`` towards the policy of step 0; 0 or more.
        feedback_strength: beta, how far feedback tilts the teacher, from -1000 to 1000.
        hybrid_threshold: tau, the divergence at which the hybrid's weight is 1/2; above 0.
        noise: sigma, standard deviation of the oracle's noise on the reward; 0 or more.
        bias: constant that the oracle adds to the reward.
        hint_noise: standard deviation of a critique's errors; 0 or more.
        knowledge: rho in [0, 1]; the teacher's table is ``rho q + sqrt(1 - rho^2) noise``.
        sign: factor on the algorithm's gradient; -1 turns it round, as the paper's baselines seem
            to have been.
        learn_from_feedback: 0 where ``signal`` is the true reward, 1 where it is the oracle's
            feedback; between, the blend of the two.
        quality_scale: standard deviation of q; 0 or more.
        bigram_scale: standard deviation of b; 0 or more.
        pattern_weight: what each match with the target adds to the score.
        init_scale: standard deviation of the first logits; 0 or more.
        clip: epsilon of PPO's clipped ratio; 0 or more.
        preference_sharpness: how surely the better of two rollouts is preferred: the odds are
            ``exp(sharpness (R_i - R_j))``; 0 or more.
        dpo_strength: beta of DPO, above 0.
        model_rate: learning rate of what an algorithm learns beside its policy (a reward model, a
            value); 0 or more.
        dense_share: share of the reward that an algorithm of dense credit spreads over the tokens,
            in [0, 1]; the rest stays at the last one.
        attention_temperature: of the softmax over a sequence's tokens that spreads it; above 0.
        divergence_mix: a in [0, 1] of the generalised Jensen-Shannon divergence: exactly 0 is the
            forward KL of the student from the teacher, ``KL(teacher || student)``, exactly 1 the
            reverse KL, as in TRL. Between, the gradient shrinks to 0 towards both ends, like
            ``a (1 - a)``, so that there is a jump at each.
        teacher_rate: r in [0, 1], how fast an averaged teacher follows the student.
        trust: in [0, 1], how far a trust-region teacher goes from the first policy to the student.
        demonstration_strength: logits that a demonstration adds to its tokens.
        temperature: of knowledge distillation, above 0.
        entropy_bonus: c, the weight of the policy's entropy in the objective.
        final_strength: share of ``feedback_strength`` that is left at the last step of annealing.

    A run can be differentiated by each of them, its sampled tokens and verdicts held. By
    ``knowledge`` at 1 the derivative is infinite: refused where the value is seen, and larger than
    1e30 or not finite where it is traced. By ``clip`` and ``preference_sharpness`` it is 0: they
    decide what is let through and who is preferred, and move nothing else.
    """

    learning_rate: Number = 0.02
    kl_weight: Number = 0.01
    feedback_strength: Number = 1.5
    hybrid_threshold: Number = 0.15
    noise: Number = 0.0
    bias: Number = 0.0
    hint_noise: Number = 0.45
    knowledge: Number = 1.0
    sign: Number = 1.0
    learn_from_feedback: Number = 0.0
    quality_scale: Number = 1.0
    bigram_scale: Number = 0.3
    pattern_weight: Number = 0.3
    init_scale: Number = 0.1
    clip: Number = 0.2
    preference_sharpness: Number = 10.0
    dpo_strength: Number = 1.0
    model_rate: Number = 0.1
    dense_share: Number = 1.0
    attention_temperature: Number = 1.0
    divergence_mix: Number = 0.5
    teacher_rate: Number = 0.05
    trust: Number = 0.5
    demonstration_strength: Number = 2.0
    temperature: Number = 2.0
    entropy_bonus: Number = 0.05
    final_strength: Number = 0.0


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

_Rule = tuple[Callable[[float], bool], str]
_NOT_NEGATIVE: _Rule = (lambda value: value >= 0, "0 or more")
# Beyond it, logits that are shifted by feedback have lost their own digits.
_STRENGTH: _Rule = (lambda value: abs(value) <= 1000, "-1000 to 1000")
_ANY: _Rule = (lambda value: True, "any finite number")
_POSITIVE: _Rule = (lambda value: value > 0, "above 0")
_FRACTION: _Rule = (lambda value: 0 <= value <= 1, "0 to 1")
_ALLOWED: dict[str, _Rule] = {
    "learning_rate": _NOT_NEGATIVE,
    "kl_weight": _NOT_NEGATIVE,
    "feedback_strength": _STRENGTH,
    "hybrid_threshold": _POSITIVE,
    "noise": _NOT_NEGATIVE,
    "bias": _ANY,
    "hint_noise": _NOT_NEGATIVE,
    "knowledge": _FRACTION,
    "sign": _ANY,
    "learn_from_feedback": _FRACTION,
    "quality_scale": _NOT_NEGATIVE,
    "bigram_scale": _NOT_NEGATIVE,
    "pattern_weight": _ANY,
    "init_scale": _NOT_NEGATIVE,
    "clip": _NOT_NEGATIVE,
    "preference_sharpness": _NOT_NEGATIVE,
    "dpo_strength": _POSITIVE,
    "model_rate": _NOT_NEGATIVE,
    "dense_share": _FRACTION,
    "attention_temperature": _POSITIVE,
    "divergence_mix": _FRACTION,
    "teacher_rate": _FRACTION,
    "trust": _FRACTION,
    "demonstration_strength": _ANY,
    "temperature": _POSITIVE,
    "entropy_bonus": _ANY,
    "final_strength": _ANY,
}


def check_value(name: str, value: object) -> None:
    """Check one ``Config`` field; a traced value is let through.

    Programs compute in float32, so a number that is infinite or 0 there, and is not here, is
    refused: it would be another one than was asked for.

    Raises:
        ValueError: the field, the value and what is allowed, in one line.
    """
    allowed, text = _ALLOWED[name]
    if isinstance(value, Tracer):
        return
    numbers = as_numbers(value)
    if numbers is None:
        raise ValueError(f"{name}: {shown(value)} is not a number; allowed: {text}")
    for number in numbers[~_plain(numbers)].tolist():
        if not (math.isfinite(number) and allowed(number)):
            raise ValueError(f"{name}: {number!r}; allowed: {text}")
        as_float32 = float(as_given(np.asarray(number)))
        raise ValueError(
            f"{name}: {number!r} is {as_float32!r} as a float32; allowed: {text}, "
            f"of size 0 or {_SMALLEST:.3g} to {_LARGEST:.3g}"
        )
    # What is allowed is an interval, so it holds all of them where it holds both ends.
    for number in (float(numbers.min()), float(numbers.max())) if numbers.size else ():
        if not allowed(number):
            raise ValueError(f"{name}: {number!r}; allowed: {text}")


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
