"""The axes of a grid: what may stand on them, and what runs are given for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from sdpo_jax import optimizers, oracles, policies, problems
from sdpo_jax.config import (
    CONFIG_FIELDS,
    SIZE_FIELDS,
    Sizes,
    as_given,
    as_numbers,
    check_sizes,
    check_value,
)
from sdpo_jax.engine import own_numbers, streams
from sdpo_jax.engine.checks import MAX_INTEGER, name_of, shown
from sdpo_jax.engine.own_numbers import OwnNumber
from sdpo_jax.oracles import ORACLES, Oracle
from sdpo_jax.program import (
    NAMED_AXES,
    OWN_NAMES,
    SEED_AXES,
    STATISTICS,
    Program,
    algorithm_of,
    chosen_metrics,
)

# What each axis is, for the attributes of coordinates.
TITLES = {
    "algorithm": "training algorithm",
    "oracle": "feedback type",
    "policy": "policy",
    "problem": "problem",
    "optimizer": "optimiser",
    "seed": "seed of the run",
    "problem_seed": "seed of the problem",
    "learning_rate": "learning rate",
    "kl_weight": "weight of the pull to the first policy, lambda",
    "feedback_strength": "strength of the feedback in the teacher, beta",
    "noise": "standard deviation of the feedback's noise, sigma",
    "bias": "bias of the feedback",
    "hint_noise": "standard deviation of the hints' errors",
    "knowledge": "how much of the teacher's table is true, rho",
    "sign": "factor on the algorithm's gradient",
    "learn_from_feedback": "share of the feedback in the signal",
    "length": "sequence length (positions)",
    "vocab_size": "vocabulary size (tokens)",
    "rollouts": "rollouts of a step",
    "steps": "training steps",
    "final_window": "steps that final values are means over",
    "epochs": "steps taken on each batch",
    "teachers": "teachers of a panel",
    "samples": "Monte Carlo samples",
    "top_k": "tokens that a top-k divergence tells apart",
    "step": "training step",
}

# Those that every grid has; the own numbers of its parts are axes too.
AXES = (*NAMED_AXES, *SEED_AXES, *CONFIG_FIELDS, *SIZE_FIELDS)

# The axes that decide which program a run needs.
PROGRAM_AXES = {*NAMED_AXES, *SIZE_FIELDS, "feedback_strength", "quality_scale"}

# Values of an axis that is not one of seeds: of numbers, and of names or sizes.
MOST_VALUES = 1_000_000
MOST_NAMED = 100_000


@dataclass(frozen=True)
class Axis:
    """One dimension of a grid.

    Attributes:
        dimension: its name: the axis itself, or what zipped axes are called together.
        labels: by axis, its values as they are written beside the results.
        values: by axis, what the runs are given.
    """

    dimension: str
    labels: Mapping[str, Sequence[Any] | np.ndarray]
    values: Mapping[str, Sequence[Any] | np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.labels.values())))


def axis_of(axes: Any, name: str) -> Any:
    """What an axis is given as, by itself or in a dimension of several; ``None`` if it is not."""
    if not isinstance(axes, Mapping):
        return None
    for key, given in axes.items():
        if key == name:
            return given
        if isinstance(given, Mapping) and key not in AXES and name in given:
            return given[name]
    return None


def parts_of_axis(given: Any) -> list[Any]:
    """The values of a named axis, as far as they can be told before they are checked."""
    if isinstance(given, Mapping):
        return list(given.values())
    if not isinstance(given, (list, tuple)) or len(given) > MOST_NAMED:
        return []
    return [
        each[1] if isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], str) else each
        for each in given
    ]


def checked_axes(
    axes: Mapping[str, Any], base: Program, own: Mapping[str, OwnNumber]
) -> list[Axis]:
    """Each dimension with its labels and values, checked."""
    if not isinstance(axes, Mapping):
        raise ValueError(
            f"axes: {shown(axes)}; allowed: a mapping of axes to their values, such as "
            "{'seed': range(64)}"
        )
    checked: list[Axis] = []
    known = (*AXES, *own)
    for name, given in axes.items():
        if isinstance(name, str) and name in known:
            parts = {name: given}
        elif (
            isinstance(name, str)
            and isinstance(given, Mapping)
            and given
            and set(given) <= set(known)
        ):
            parts = given
        else:
            raise ValueError(f"axes: {shown(name)}; allowed: {', '.join(known)}")
        if not name or name in OWN_NAMES:
            raise ValueError(f"axes: {shown(name)} is taken; allowed: a name of its own")
        found = {axis: _checked_values(axis, values, own) for axis, values in parts.items()}
        labels = {axis: labels for axis, (labels, _) in found.items()}
        first = next(iter(labels))
        for axis in labels:
            if len(labels[axis]) != len(labels[first]):
                raise ValueError(
                    f"{name}.{axis}: {len(labels[axis])} values; "
                    f"allowed: as many as {first} has, {len(labels[first])}"
                )
            if any(axis in other.labels for other in checked):
                raise ValueError(
                    f"{name}: {shown(axis)} is an axis already; allowed: each axis once"
                )
        _check_values_once(name, labels, own)
        checked.append(Axis(name, labels, {axis: values for axis, (_, values) in found.items()}))
    _check_variables(base, checked)
    if base.record and any("steps" in axis.labels for axis in checked):
        raise ValueError("record: curves of different lengths; allowed: no axis of steps")
    return checked


def _check_variables(base: Program, axes: Sequence[Axis]) -> None:
    """Refuse metrics whose results would have the name of an axis."""
    taken = {name for axis in axes for name in (axis.dimension, *axis.labels)}
    for name in chosen_metrics(base):
        for variable in (name, *(name + end for end in STATISTICS)):
            if variable in taken:
                what = repr(name) if variable == name else f"{name!r} yields {variable!r}, which"
                raise ValueError(f"metrics: {what} is also an axis; allowed: a name of its own")


def _check_values_once(
    name: str, labels: Mapping[str, Sequence[Any] | np.ndarray], own: Mapping[str, OwnNumber]
) -> None:
    """Refuse an axis on which two places are the same to the programs."""
    # A range has no value twice, and may be of millions.
    if any(isinstance(values, range) for values in labels.values()):
        return
    given = [
        as_given(np.asarray(values)) if axis in CONFIG_FIELDS or axis in own else values
        for axis, values in labels.items()
    ]
    places = _repeated(given)
    if places is None:
        return
    rows = [
        tuple(_plain(values[place : place + 1])[0] for values in labels.values())
        for place in places
    ]
    one, other = (row[0] if len(labels) == 1 else row for row in rows)
    what = f"{one!r} occurs twice" if one == other else f"{one!r} and {other!r} are one in float32"
    raise ValueError(f"{name}: {what}; allowed: each value once")


def _repeated(columns: Sequence[Sequence[Any] | np.ndarray]) -> tuple[int, int] | None:
    """The places of two rows that are equal, if there are any."""
    if len(columns) == 1 and isinstance(columns[0], np.ndarray):
        order = np.argsort(columns[0], kind="stable")
        ordered = columns[0][order]
        again = np.flatnonzero(ordered[1:] == ordered[:-1])
        return (int(order[again[0]]), int(order[again[0] + 1])) if again.size else None
    seen: dict[Any, int] = {}
    for place, row in enumerate(zip(*map(_plain, columns), strict=True)):
        if seen.setdefault(row, place) != place:
            return seen[row], place
    return None


def _plain(labels: Sequence[Any] | np.ndarray) -> Sequence[Any]:
    return labels.tolist() if isinstance(labels, np.ndarray) else labels


def _checked_values(
    name: str, given: Any, own: Mapping[str, OwnNumber]
) -> tuple[Sequence[Any] | np.ndarray, Sequence[Any] | np.ndarray]:
    """The labels of an axis, and what its runs are given.

    Seeds are a range or an array: there may be millions.
    """
    values = _listed(name, given)
    if name in SEED_AXES:
        return _checked_seeds(name, values)
    number = name in CONFIG_FIELDS or name in own
    rule = own[name].rule if name in own else None
    most = MOST_VALUES if number else MOST_NAMED
    if len(values) > most:
        raise ValueError(f"{name}: {len(values):,} values; allowed: up to {most:,}")
    values = list(values) if isinstance(values, range) else values
    odd = (bool, np.bool_, Sequence)
    if number and not any(isinstance(value, odd) for value in values):
        # All at once, where they are plain numbers; if not, one by one finds the culprit.
        numbers = as_numbers(values)
        if numbers is not None and numbers.ndim == 1:
            check_value(name, numbers, rule)
            floats = tuple(numbers.tolist())
            return floats, floats
    labels, given_to_runs = zip(
        *(labelled_value(name, value, rule) for value in values), strict=True
    )
    return labels, given_to_runs


def _listed(name: str, given: Any) -> Sequence[Any] | np.ndarray:
    """What was given as an axis, as a range, an array of one dimension or a list."""
    refusal = f"{name}: {shown(given)}; allowed: a sequence of values"
    if isinstance(given, Mapping):
        if name not in NAMED_AXES:
            raise ValueError(refusal)
        for label in given:
            if not isinstance(label, str) or not label:
                raise ValueError(f"{name}: label {shown(label)}; allowed: a name, as text")
        values: Any = list(given.items())
    elif isinstance(given, range):
        values = given
    elif isinstance(given, (str, bytes, bytearray, memoryview, np.ma.MaskedArray, Tracer)):
        raise ValueError(refusal)
    elif hasattr(given, "__array__"):
        if name in SEED_AXES and isinstance(given, jax.Array):
            # Of a raw key there is no telling that it is one, but here.
            streams.root(given, name)
        try:
            array = np.asarray(given)
        except Exception as error:
            raise ValueError(refusal) from error
        if array.ndim != 1:
            raise ValueError(f"{refusal} (an array of one dimension)")
        values = array if array.dtype.kind in "iuf" else array.tolist()
    elif isinstance(given, Sequence):
        values = list(given)
    else:
        raise ValueError(refusal)
    try:
        count = len(values)
    except OverflowError as error:
        raise ValueError(refusal) from error
    if count == 0:
        raise ValueError(f"{name}: no values; allowed: one or more")
    return values


def _checked_seeds(name: str, values: Any) -> tuple[range | np.ndarray, range | np.ndarray]:
    if isinstance(values, range):
        for end in (values[0], values[-1]):
            checked_value(name, end)
        return values, values
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        for end in (values.min(), values.max()):
            checked_value(name, end)
        seeds = values.astype(np.int64)
    else:
        checked = (checked_value(name, value)[1] for value in values)
        seeds = np.fromiter(checked, np.int64, len(values))
    return seeds, seeds


def labelled_value(
    name: str, value: Any, rule: own_numbers.Number | None = None
) -> tuple[Any, Any]:
    """As ``checked_value``; a named thing may bring a label of its own."""
    pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
    if name in NAMED_AXES and pair and value[0]:
        return value[0], checked_value(name, value[1])[1]
    return checked_value(name, value, rule)


def checked_value(name: str, value: Any, rule: own_numbers.Number | None = None) -> tuple[Any, Any]:
    """The label of a value, and what a run is given."""
    if name == "algorithm":
        algorithm_of(value)
        return (str(value) if isinstance(value, str) else name_of(value)), value
    if name == "oracle":
        if isinstance(value, Oracle):
            _check_held_oracle(value)
            return "custom", value
        if callable(value) and not isinstance(value, type):
            return name_of(value), oracles.as_oracle(value)
        oracle = oracle_by_name(value)
        return str(value), oracle
    if name == "policy":
        kind = policies.policy_kind(value)
        return (value, value) if isinstance(value, str) else (kind.name, kind)
    if name == "problem":
        problem = problems.problem_kind(value)
        return (value, value) if isinstance(value, str) else (problem.name, problem)
    if name == "optimizer":
        if callable(value):
            return name_of(value), value
        optimizer = optimizers.optimizer_by_name(value)
        return str(value), optimizer
    if name in SEED_AXES:
        seed = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not seed or not 0 <= value < 2**32:
            raise ValueError(f"{name}: {shown(value)}; allowed: integers from 0 to 2**32 - 1")
        return int(value), int(value)
    if name in SIZE_FIELDS:
        check_size(name, value)
        return int(value), int(value)
    check_value(name, value, rule)
    if isinstance(value, Tracer) or np.ndim(value):
        raise ValueError(f"{name}: {shown(value)}; allowed: single numbers")
    number = float(np.asarray(value))
    return number, number


def _check_held_oracle(oracle: Oracle) -> None:
    """Check the oracle of an axis: its numbers are those of one run."""
    oracles.check_oracle(oracle)
    for path, leaf in jax.tree_util.tree_leaves_with_path(oracle):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        numbers = None if isinstance(leaf, Tracer) else as_numbers(leaf)
        if numbers is None:
            raise ValueError(f"oracle: {name} {shown(leaf)}; allowed: numbers")
        own = 1 if name in ("cuts", "rises", "judge.weights", "judge.bars") else 0
        if numbers.ndim != own:
            raise ValueError(
                f"oracle: {name} of shape {numbers.shape}; allowed: {own} dimensions (an axis "
                "of oracles has one for each of its values)"
            )


def check_size(name: str, value: Any) -> None:
    """Check one of the sizes by itself.

    Raises:
        ValueError: the field, the value and what is allowed, in one line.
    """
    sizes: dict[str, Any] = {"final_window": 1, name: value}
    if name == "final_window" and isinstance(value, (int, np.integer)):
        sizes["steps"] = min(max(int(value), Sizes.steps), MAX_INTEGER)
    check_sizes(Sizes(**sizes))


def oracle_by_name(name: Any) -> Oracle:
    """An oracle with its usual numbers.

    Raises:
        ValueError: an unknown name.
    """
    if not isinstance(name, str) or name not in ORACLES:
        raise ValueError(f"oracle: {shown(name)}; allowed: {', '.join(ORACLES)}")
    return ORACLES[name]()
