"""Feedback types as data: every oracle is one formula with other numbers.

    R~ = clip(R + sigma eps + bias, 0, 1)
    f  = gain R~ + base + sum_k rise_k 1[R~ >= cut_k]

An oracle without a gain tells a few levels apart, one with hints says something of its own about
each token. Both are part of the record's structure (``None``), because they decide how many
different teachers a batch of rollouts has; everything else is an array that programs take as
input, next to noise and seed.

R~ is what a verifier sees with some noise, or what a judge sees who looks at other things than the
reward or errs in his own way (``sdpo_jax.oracles.judges``); a judge goes with every oracle.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from sdpo_jax.engine import lanes, streams
from sdpo_jax.engine.checks import (
    as_float32,
    finite,
    integer,
    is_traced,
    name_of,
    numbers,
    of_type,
    on_host,
    over_runs,
    shown,
    under_own_settings,
)
from sdpo_jax.engine.own_numbers import OwnNumber, among, fixed_by_partial, joined, of_function
from sdpo_jax.oracles.judges import STRENGTHS, Judge, check_judge

# Each level has a teacher of its own.
MAX_LEVELS = 10_000

READINGS = ("position", "token", "sampled")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hints:
    """How a critique's hints enter the teacher's logits (three readings of Eq. 2).

    With the hint table ``c[i, t, v] = knowledge[t, v] + hint_noise z[i, t, v]`` and ``s`` the
    sampled token, rollout i shifts the logits by

        beta f_i (position (knowledge[t, v] - c[i, t, s]) + token c[i, t, v]
                  + sampled c[i, t, v] 1[v = s])

    Attributes:
        position: ``[*runs]`` weight of the reading to the letter; the softmax cancels its hint.
        token: ``[*runs]`` weight of a critic that names tokens, with errors.
        sampled: ``[*runs]`` weight of a critic that speaks of the sampled tokens only.
    """

    position: Any
    token: Any
    sampled: Any


_WEIGHTS = tuple(field.name for field in fields(Hints))


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["gain", "base", "cuts", "rises", "hints", "judge"],
    meta_fields=["function"],
)
@dataclass(frozen=True)
class Oracle:
    """A feedback type. The feedback must stay within [0, 1].

    Attributes:
        gain: ``[*runs]``, the weight of R~ itself; ``None`` for an oracle of levels only.
        base: ``[*runs]``, the feedback below the first cut.
        cuts: ``[K, *runs]``, ascending: where the feedback rises; K may be 0.
        rises: ``[K, *runs]``, by how much.
        hints: ``Hints``, or ``None`` for an oracle that gives no hints.
        judge: ``Judge``, or ``None`` where R~ is the reward and noise.
        function: what says the feedback instead of the formula (see ``spoken``), or ``None``.
    """

    gain: Any
    base: Any
    cuts: Any
    rises: Any
    hints: Hints | None = None
    judge: Judge | None = None
    function: Callable[..., Any] | None = None


# What a function that is an oracle may ask for.
TOLD = ("reward", "seen", "tokens", "key")


def as_oracle(given: Any) -> Oracle:
    """An oracle as itself, or one of a function's.

    A function says the feedback ``[N]`` of one run in [0, 1], such as ``lambda reward, key: ...``.
    By name it is given what it asks for of

        reward   [N]      the true rewards
        seen     [N]      R~, the rewards with the noise and bias of ``Config``
        tokens   [T, N]   the sequences
        key               a typed key of the run and step

    A parameter that has a number as its default is a number of the oracle's own
    (``sdpo_jax.engine.own_numbers``).

    Raises:
        ValueError: neither, or a parameter that there is nothing for, in one line.
    """
    if not callable(given) or isinstance(given, type):
        return cast(Oracle, given)
    name = name_of(given)
    try:
        parameters = inspect.signature(given).parameters.values()
        hash(given)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"oracle: {name} has no signature, or no hash; allowed: a function whose parameters "
            "have names"
        ) from error
    for each in parameters:
        named = each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
        if not named or (each.default is each.empty and each.name not in TOLD):
            raise ValueError(
                f"oracle: {name} asks for {each.name!r}; allowed: {', '.join(TOLD)}, and numbers "
                "of its own with a default"
            )
    numbers_of_function(given)
    return Oracle(np.float32(1), np.float32(0), _empty(), _empty(), function=given)


def numbers_of_function(function: Callable[..., Any] | None) -> Mapping[str, OwnNumber]:
    """The own numbers of a function that is an oracle, by name; none of ``None``."""
    if function is None:
        return {}
    owner = f"oracle: {name_of(function)}"
    return joined(of_function(function, owner, frozenset(TOLD)))


def spoken(
    function: Callable[..., Any],
    reward: Array,
    seen: Array,
    tokens: Array,
    key: streams.Key,
    values: Mapping[str, Any],
) -> Array:
    """The feedback of a function, ``[N, *runs]``.

    Args:
        function: of one run; see ``as_oracle``.
        reward: ``[N, *runs]``.
        seen: ``[N, *runs]``, R~.
        tokens: ``[T, N, *runs]``.
        key: of the run and step.
        values: its own numbers, each one or ``[*runs]``.

    Raises:
        ValueError: feedback of another shape or type, in one line.
    """
    runs = reward.shape[1:]
    parameters = inspect.signature(function).parameters
    fixed = fixed_by_partial(function)
    told = {"reward": reward, "seen": seen, "tokens": tokens}
    told = {name: value for name, value in told.items() if name in parameters}
    if "key" in parameters:
        told["key"] = streams.typed(key)
    told = {name: value for name, value in told.items() if name not in fixed}
    own = {
        name: jnp.broadcast_to(jnp.asarray(value, jnp.float32), runs)
        for name, value in among(function, frozenset(TOLD), values).items()
    }
    what = f"oracle: {name_of(function)} returns feedback"

    # Some array that every run has: a function may ask for nothing.
    def one_run(told: dict[str, Any], _: Array) -> Array:
        value = numbers(what, function(**told), "an array of real numbers")
        if value.shape != reward.shape[:1]:
            raise ValueError(f"{what} of shape {value.shape}; allowed: {reward.shape[:1]}")
        return jnp.asarray(as_float32(value))

    return lanes.over_runs(one_run, len(runs))({**told, **own}, reward)


def binary(threshold: float = 0.5) -> Oracle:
    """``1[R~ > threshold]``.

    Raises:
        ValueError: a threshold that is no finite number.
    """
    threshold = _number("threshold", threshold)
    # The next float up, so that "at or above the cut" means "above the threshold".
    cut = np.nextafter(np.float32(threshold), np.float32(np.inf))
    return _levels(np.array([cut]), np.array([1.0]), base=0.0)


def ordinal(levels: int = 5) -> Oracle:
    """A Likert scale: level / levels for level 1 to ``levels``, by equally spaced cuts.

    Raises:
        ValueError: no integer, fewer than 2 levels, or more than ``MAX_LEVELS``.
    """
    levels = integer("levels", levels, 2, MAX_LEVELS)
    cuts = np.arange(1, levels) / levels
    return _levels(cuts, np.full(levels - 1, 1.0 / levels), base=1.0 / levels)


def continuous() -> Oracle:
    """``R~`` itself."""
    return Oracle(np.float32(1), np.float32(0), _empty(), _empty())


def critique(reading: str = "token") -> Oracle:
    """``R~`` with hints, in one of three readings: ``position``, ``token`` or ``sampled``.

    Raises:
        ValueError: an unknown reading.
    """
    if not isinstance(reading, str) or reading not in READINGS:
        raise ValueError(f"reading: {shown(reading)}; allowed: {', '.join(READINGS)}")
    hints = Hints(**{name: np.float32(name == reading) for name in READINGS})
    return Oracle(np.float32(1), np.float32(0), _empty(), _empty(), hints)


def constant(value: float = 1.0) -> Oracle:
    """An oracle that says nothing: the same feedback whatever the reward.

    Raises:
        ValueError: a value outside of [0, 1].
    """
    value = _number("value", value)
    if not 0 <= value <= 1:
        raise ValueError(f"value: {shown(value)}; allowed: 0 to 1")
    return _levels(np.zeros(0), np.zeros(0), base=value)


def judged(oracle: Oracle | None = None, **strengths: Any) -> Oracle:
    """An oracle (``continuous()`` by default) whose R~ is a judge's.

    Args:
        oracle: the feedback type.
        strengths: those of ``Judge``; all others stay 0.

    Raises:
        ValueError: a strength that is none, or out of range.
    """
    oracle = continuous() if oracle is None else oracle
    known = {field.name for field in fields(Judge)}
    for name in strengths:
        if name not in known:
            raise ValueError(f"judge: {shown(name)}; allowed: {', '.join(sorted(known))}")
    of_type("oracle", oracle, Oracle)
    judge = Judge(**strengths)
    check_judge(judge)
    judge = Judge(**{name: _as_array(value) for name, value in vars(judge).items()})
    return replace(oracle, judge=judge)


def references() -> Oracle:
    """A verifier that has the target and checks of style: 0.8 of the overlap, 0.2 of the style."""
    return judged(overlap=0.8, style=0.2)


def rubric() -> Oracle:
    """The weighted share of a rubric's criteria that are met."""
    return judged(rubric=1.0)


def preference() -> Oracle:
    """A judge who says which of two rollouts is better."""
    return judged(preference=1.0)


def self_judge(likelihood: float = 0.5) -> Oracle:
    """The policy as its own judge: its own probability of what it wrote, and the reward."""
    return judged(likelihood=likelihood)


ORACLES = {
    "binary": binary,
    "ordinal": ordinal,
    "continuous": continuous,
    "critique": critique,
    "constant": constant,
    "references": references,
    "rubric": rubric,
    "preference": preference,
    "self_judge": self_judge,
}


def noisy_reward(reward: Array, noise: Array) -> Array:
    """``R~ = clip(R + noise, 0, 1)``: what the oracle sees, ``[N, *runs]``."""
    return jnp.clip(reward + noise, 0.0, 1.0)


@under_own_settings
def feedback(oracle: Oracle, seen: Array) -> Array:
    """``f``, ``[N, *runs]`` in [0, 1], from what the oracle saw, ``[N, *runs]``.

    Raises:
        ValueError: no oracle, or numbers of another type or shape or that are not finite, in one
            line.
    """
    seen = jnp.asarray(as_float32(finite("seen", seen, "an array of finite numbers")))
    return feedback_of(checked(oracle, seen.shape[1:]), seen)


def feedback_of(oracle: Oracle, seen: Array) -> Array:
    """The same of what is checked; a run that broke down may have seen numbers that are NaN."""
    value = jnp.zeros_like(seen) + oracle.base
    if oracle.gain is not None:
        value += oracle.gain * seen
    for k in range(np.shape(oracle.cuts)[0]):
        value += jnp.where(seen >= oracle.cuts[k], oracle.rises[k], 0.0)
    return value


def level_values(oracle: Oracle) -> Array:
    """The feedback of each level of an oracle without a gain, ``[K + 1, *runs]``."""
    rises = jnp.asarray(oracle.rises)
    base = jnp.broadcast_to(jnp.asarray(oracle.base, rises.dtype), rises.shape[1:])
    return jnp.cumsum(jnp.concatenate((base[None], rises)), axis=0)


def level_frequencies(oracle: Oracle, seen: Array) -> Array:
    """How often each level occurs among the rollouts, ``[K + 1, *runs]``, summing to 1."""
    passed = [
        lanes.mean((seen >= oracle.cuts[k]).astype(seen.dtype), 0)
        for k in range(np.shape(oracle.cuts)[0])
    ]
    edges = [jnp.ones(seen.shape[1:], seen.dtype), *passed, jnp.zeros(seen.shape[1:], seen.dtype)]
    return jnp.stack([edges[k] - edges[k + 1] for k in range(len(edges) - 1)])


def checked(oracle: Oracle, runs: tuple[int, ...]) -> Oracle:
    """An oracle for runs of this shape, its numbers float32.

    Raises:
        ValueError: as ``check_oracle``, and a number that is neither one nor one a run.
    """
    check_oracle(oracle)
    count = np.shape(oracle.cuts)[:1]
    for name, own in (("gain", ()), ("base", ()), ("cuts", count), ("rises", count)):
        value = getattr(oracle, name)
        if value is not None:
            over_runs(f"oracle: {name}", value, runs, own)
    for part, names in ((oracle.hints, _WEIGHTS), (oracle.judge, STRENGTHS)):
        for name in names if part is not None else ():
            over_runs(f"oracle: {name}", getattr(part, name), runs)
    if oracle.judge is not None:
        for name in ("bars", "weights"):
            for value in getattr(oracle.judge, name):
                over_runs(f"oracle: judge.{name}", value, runs)
    return jax.tree.map(as_float32, oracle)


def check_oracle(oracle: Oracle) -> None:
    """Check an oracle's types, and its numbers where they are not traced.

    Raises:
        ValueError: no oracle, no number, NaN, cuts that do not ascend, or feedback that leaves
            [0, 1], in one line.
    """
    of_type("oracle", oracle, Oracle)
    if oracle.hints is not None:
        of_type("oracle: hints", oracle.hints, Hints)
    parts = {name: getattr(oracle, name) for name in ("gain", "base", "cuts", "rises")}
    parts |= {f"hints.{name}": getattr(oracle.hints, name) for name in _WEIGHTS if oracle.hints}
    for name, value in parts.items():
        if name != "gain" or value is not None:
            finite(f"oracle: {name}", value)
    shapes = [np.shape(each) for each in (oracle.cuts, oracle.rises)]
    if shapes[0][:1] != shapes[1][:1] or not shapes[0]:
        raise ValueError(
            f"oracle: cuts of shape {shapes[0]}, rises of shape {shapes[1]}; "
            "allowed: one rise for each cut"
        )
    over = [() if oracle.gain is None else np.shape(oracle.gain), np.shape(oracle.base)]
    over += [shape[1:] for shape in shapes]
    try:
        fits = 0 not in np.broadcast_shapes(*over)
    except ValueError:
        fits = False
    if not fits or len(shapes[0]) != len(shapes[1]):
        raise ValueError(
            f"oracle: gain, base, each of cuts and of rises of shapes {', '.join(map(str, over))}; "
            "allowed: one number, or one a run"
        )
    if oracle.judge is not None:
        check_judge(oracle.judge)
    if is_traced((oracle.gain, oracle.base, oracle.cuts, oracle.rises)):
        return
    # In float64: of a hundred levels the rounding errors of their sum would count.
    cuts, rises = (on_host(each).astype(float) for each in (oracle.cuts, oracle.rises))
    if (np.diff(cuts, axis=0) < 0).any():
        raise ValueError(f"oracle: cuts {cuts.tolist()}; allowed: ascending")
    gain = 0.0 if oracle.gain is None else on_host(oracle.gain)
    below = np.zeros((1, *rises.shape[1:]), rises.dtype)
    steps = np.cumsum(np.concatenate((below, rises)), axis=0) + on_host(oracle.base)
    # The extremes lie at the ends of each piece between two cuts.
    edges = np.concatenate((np.zeros_like(below), cuts, np.ones_like(below)))
    values = np.concatenate((steps + gain * edges[:-1], steps + gain * edges[1:]))
    slack = 1e-6
    if values.min() < -slack or values.max() > 1 + slack:
        raise ValueError(
            f"oracle: feedback from {values.min():.3g} to {values.max():.3g}; allowed: 0 to 1"
        )


def _levels(cuts: np.ndarray, rises: np.ndarray, base: float) -> Oracle:
    return Oracle(None, np.float32(base), cuts.astype(np.float32), rises.astype(np.float32))


def _number(name: str, value: Any) -> float:
    number = finite(name, value, "a finite number")
    if number.shape != () or isinstance(number, Tracer):
        raise ValueError(f"{name}: {shown(value)}; allowed: a finite number, which is not traced")
    return float(number)


def _as_array(value: Any) -> Any:
    """Float32 numbers, also of several in a tuple."""
    traced = isinstance(value, tuple | list) and is_traced(value)
    return as_float32(jnp.stack(value) if traced else value)


def _empty() -> np.ndarray:
    return np.zeros(0, np.float32)
