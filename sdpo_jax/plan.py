"""Named axes to a plan: which runs there are, which programs they need, what each is given.

Runs that share everything static (the method, the structure of the oracle, the sizes) share one
program. Everything is checked here, before anything is compiled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax
import numpy as np
import optax
from scipy.stats import studentized_range

from sdpo_jax import oracle as oracles
from sdpo_jax import teacher as teachers
from sdpo_jax.config import CONFIG_FIELDS, SIZE_FIELDS, Config, Sizes, check_sizes, check_value
from sdpo_jax.methods import Method
from sdpo_jax.metrics import Metric
from sdpo_jax.oracle import ORACLES, Oracle
from sdpo_jax.train import (
    Optimizer,
    Program,
    check_program,
    chosen_metrics,
    method_function,
    needs_teacher,
)

# What each axis is, for the attributes of coordinates.
TITLES = {
    "method": "training method",
    "feedback": "feedback type",
    "optimizer": "optimiser",
    "seed": "seed of the run",
    "problem_seed": "seed of the problem",
    "learning_rate": "learning rate",
    "kl_weight": "weight of the pull to the first policy, lambda",
    "feedback_strength": "strength of the feedback in the teacher, beta",
    "hybrid_threshold": "divergence at which the hybrid's weight is 1/2, tau (nats)",
    "noise": "standard deviation of the feedback's noise, sigma",
    "bias": "bias of the feedback",
    "hint_noise": "standard deviation of the hints' errors",
    "knowledge": "how much of the teacher's table is true, rho",
    "sign": "factor on the method's gradient",
    "learn_from_feedback": "share of the feedback in the signal",
    "quality_scale": "standard deviation of token quality",
    "bigram_scale": "standard deviation of bigram coherence",
    "pattern_weight": "score of each match with the target",
    "init_scale": "standard deviation of the first logits",
    "clip": "clip of the ratio, epsilon",
    "preference_sharpness": "sharpness of preferences",
    "dpo_strength": "strength of DPO, beta",
    "model_rate": "learning rate of what is learned beside the policy",
    "dense_share": "share of the reward that is spread over the tokens",
    "attention_temperature": "temperature of the attention that spreads it",
    "divergence_mix": "mix of the Jensen-Shannon divergence",
    "teacher_rate": "rate of the averaged teacher",
    "trust": "how far the trust-region teacher follows",
    "demonstration_strength": "strength of a demonstration (logits)",
    "temperature": "temperature of distillation",
    "entropy_bonus": "weight of the entropy",
    "final_strength": "share of the feedback's strength at the last step",
    "length": "sequence length (positions)",
    "vocab_size": "vocabulary size (tokens)",
    "rollouts": "rollouts of a step",
    "steps": "training steps",
    "final_window": "steps that final values are means over",
    "epochs": "steps on each batch",
    "teachers": "tables of a panel",
    "samples": "Monte Carlo samples",
    "top_k": "tokens told apart",
    "step": "training step",
}

SEED_AXES = ("seed", "problem_seed")
NAMED_AXES = ("method", "feedback", "optimizer")
AXES = (*NAMED_AXES, *SEED_AXES, *CONFIG_FIELDS, *SIZE_FIELDS)

# Those of optax that need a learning rate and nothing else, and draw no random numbers.
OPTIMIZERS: dict[str, Optimizer] = {
    name: getattr(optax, name)
    for name in (
        "sgd",
        "adabelief",
        "adadelta",
        "adafactor",
        "adagrad",
        "adam",
        "adamax",
        "adamw",
        "adan",
        "amsgrad",
        "lamb",
        "lars",
        "lion",
        "novograd",
        "optimistic_adam_v2",
        "optimistic_gradient_descent",
        "radam",
        "rmsprop",
        "rprop",
        "sign_sgd",
        "signum",
        "sm3",
        "yogi",
    )
}

# What a run yields besides the metrics.
FINITE_STEPS = "finite_steps"
_OWN_VARIABLES = (FINITE_STEPS, "logits")

# Cuts that an oracle is padded to in programs that never ask what kind of oracle it is.
_PADDED_CUTS = 8


@dataclass(frozen=True)
class Axis:
    """One dimension of a grid.

    Attributes:
        dimension: its name: the axis itself, or what zipped axes are called together.
        labels: by axis, its values as they are written beside the results.
        values: by axis, what the runs are given.
    """

    dimension: str
    labels: Mapping[str, Sequence[Any]]
    values: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.labels.values())))


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that share a program.

    Attributes:
        program: what is compiled.
        label: the program for readers, such as ``"sdpo, continuous"``.
        runs: ``[n]``, the places of the runs in the grid, in row-major order of its axes.
        inputs: what the program takes: ``seed``, ``problem_seed``, ``config`` and ``oracle``, each
            a tree of arrays ``[..., n]``.
    """

    program: Program
    label: str
    runs: np.ndarray
    inputs: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some runs of one group, computed together.

    Attributes:
        group: whose runs.
        places: ``[n]``, which of them: indices into ``group.runs``.
    """

    group: Group
    places: np.ndarray

    @property
    def runs(self) -> np.ndarray:
        """``[n]``, the places of the runs in the grid."""
        return self.group.runs[self.places]


@dataclass(frozen=True, eq=False)
class Plan:
    """A grid, checked, before anything is compiled.

    Attributes:
        axes: the dimensions, in order.
        groups: the programs with their runs; every run is in one of them.
        base: the program of a run, but for what axes and oracles change.
        held: by name, what no axis varies, for readers.
        logits: whether the last logits are kept.
        width: runs of a block.
    """

    axes: tuple[Axis, ...]
    groups: tuple[Group, ...]
    base: Program
    held: Mapping[str, Any]
    logits: bool
    width: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the dimensions."""
        return tuple(len(axis) for axis in self.axes)

    @property
    def total(self) -> int:
        """How many runs there are."""
        return math.prod(self.shape)

    def coordinates(self, run: int) -> dict[str, Any]:
        """The labels of one run by axis.

        Raises:
            ValueError: no such run.
        """
        if not 0 <= run < self.total:
            raise ValueError(f"run: {run}; allowed: 0 to {self.total - 1}")
        places = np.unravel_index(run, self.shape)
        return {
            name: labels[int(place)]
            for axis, place in zip(self.axes, places, strict=True)
            for name, labels in axis.labels.items()
        }

    def chunks(self, runs: int) -> Iterator[Chunk]:
        """All runs in chunks of at most so many, program by program."""
        for group in self.groups:
            for start in range(0, len(group.runs), runs):
                yield Chunk(group, np.arange(start, min(start + runs, len(group.runs))))


def plan_grid(
    axes: Mapping[str, Any],
    *,
    width: int,
    method: str | Method = "sdpo",
    feedback: str | Oracle = "continuous",
    optimizer: str | Optimizer = "sgd",
    seed: int = 0,
    problem_seed: int | None = None,
    config: Config | None = None,
    sizes: Sizes | None = None,
    metrics: Sequence[str | tuple[str, Metric]] = ("reward", "credit", "entropy"),
    record: Sequence[str] = (),
    record_every: int = 1,
    teacher_nodes: int | None = None,
    logits: bool = False,
) -> Plan:
    """Check a grid and lay it out. Arguments and errors as for ``run_grid``."""
    config = Config() if config is None else config
    sizes = Sizes() if sizes is None else sizes
    if width < 1:
        raise ValueError(f"block_width: {width!r}; allowed: 1 or more")
    held = {
        "method": [_checked_value("method", method)],
        "feedback": [_checked_value("feedback", feedback)],
        "optimizer": [_checked_value("optimizer", optimizer)],
        "seed": [_checked_value("seed", seed)],
    }
    if problem_seed is not None:
        held["problem_seed"] = [_checked_value("problem_seed", problem_seed)]
    base = Program(
        method=held["method"][0][1],
        sizes=sizes,
        metrics=tuple(metrics),
        record=tuple(record),
        record_every=record_every,
        optimizer=held["optimizer"][0][1],
    )
    checked = _checked_axes(axes, base)
    varied = {name for axis in checked for name in axis.labels}
    if logits and not {"length", "vocab_size"}.isdisjoint(varied):
        raise ValueError("logits: True; allowed: no axis of length or vocab_size beside it")
    groups = _groups(checked, held, config, base, teacher_nodes)
    kept = {name: pairs[0][0] for name, pairs in held.items()}
    kept |= {name: float(getattr(config, name)) for name in CONFIG_FIELDS}
    kept |= {name: getattr(sizes, name) for name in SIZE_FIELDS}
    kept = {name: value for name, value in kept.items() if name not in varied}
    return Plan(tuple(checked), tuple(groups), base, kept, logits, width)


def default_nodes(sizes: Sizes, strength: float, quality_scale: float) -> int:
    """Teacher nodes that keep the interpolation error below 1e-5 for a typical table.

    A typical range is the median, over tables drawn at this scale, of the largest over rows. It
    depends on a run's own numbers only, not on what its table turns out to be.
    """
    slope = abs(strength) * quality_scale * _typical_range(sizes.length, sizes.vocab_size)
    # Rounded up, so that an axis of many strengths has few slopes to find nodes for.
    return teachers.nodes_for(math.ceil(20 * slope) / 20)


def _checked_axes(axes: Mapping[str, Any], base: Program) -> list[Axis]:
    """Each dimension with its labels and values, checked."""
    checked: list[Axis] = []
    for name, given in axes.items():
        if name in AXES:
            parts = {name: given}
        elif isinstance(given, Mapping) and given and set(given) <= set(AXES):
            parts = given
        else:
            raise ValueError(f"axes: {name!r}; allowed: {', '.join(AXES)}")
        pairs = {axis: _checked_values(axis, values) for axis, values in parts.items()}
        first = next(iter(pairs))
        for axis in pairs:
            if len(pairs[axis]) != len(pairs[first]):
                raise ValueError(
                    f"{name}.{axis}: {len(pairs[axis])} values; "
                    f"allowed: as many as {first} has, {len(pairs[first])}"
                )
            if any(axis in other.labels for other in checked):
                raise ValueError(f"{name}: {axis!r} is an axis already; allowed: each axis once")
        labels = {axis: [label for label, _ in values] for axis, values in pairs.items()}
        rows = list(zip(*labels.values(), strict=True))
        if len(set(rows)) < len(rows):
            twice = next(row for row in rows if rows.count(row) > 1)
            shown = repr(twice[0]) if len(twice) == 1 else repr(twice)
            raise ValueError(f"{name}: {shown} occurs twice; allowed: each value once")
        values = {axis: [value for _, value in found] for axis, found in pairs.items()}
        checked.append(Axis(name, labels, values))
    varied = {name for axis in checked for name in (axis.dimension, *axis.labels)}
    for name in chosen_metrics(base):
        if name in varied:
            raise ValueError(f"metrics: {name!r} is also an axis; allowed: a name of its own")
        if name in _OWN_VARIABLES:
            raise ValueError(f"metrics: {name!r} is taken; allowed: a name of its own")
    if base.record and "steps" in varied:
        raise ValueError("record: curves of different lengths; allowed: no axis of steps")
    return checked


def _checked_values(name: str, given: Any) -> list[tuple[Any, Any]]:
    if isinstance(given, str) or not isinstance(given, (Mapping, Sequence, range, np.ndarray)):
        raise ValueError(f"{name}: {given!r}; allowed: a sequence of values")
    if len(given) == 0:
        raise ValueError(f"{name}: no values; allowed: one or more")
    if isinstance(given, Mapping):
        if name not in NAMED_AXES:
            raise ValueError(f"{name}: {given!r}; allowed: a sequence of values")
        given = list(given.items())
    return [_labelled_value(name, value) for value in given]


def _labelled_value(name: str, value: Any) -> tuple[Any, Any]:
    """As ``_checked_value``; a named thing may bring a label of its own."""
    if name in NAMED_AXES and isinstance(value, tuple):
        own_label, inner = value
        return own_label, _checked_value(name, inner)[1]
    return _checked_value(name, value)


def _checked_value(name: str, value: Any) -> tuple[Any, Any]:
    """The label of a value, and what a run is given."""
    if name == "method":
        method_function(value)
        return (value if isinstance(value, str) else value.__name__), value
    if name == "feedback":
        if isinstance(value, Oracle):
            oracles.check_oracle(value)
            return "custom", value
        return value, oracle_by_name(value)
    if name == "optimizer":
        if callable(value):
            return getattr(value, "__name__", "custom"), value
        return value, optimizer_by_name(value)
    if name in SEED_AXES:
        if not isinstance(value, (int, np.integer)) or not 0 <= value < 2**32:
            raise ValueError(f"{name}: {value!r}; allowed: integers from 0 to 2**32 - 1")
        return int(value), int(value)
    if name in SIZE_FIELDS:
        check_size(name, value)
        return int(value), int(value)
    check_value(name, value)
    return float(value), float(value)


def check_size(name: str, value: Any) -> None:
    """Check one of the sizes by itself.

    Raises:
        ValueError: the field, the value and what is allowed, in one line.
    """
    sizes: dict[str, Any] = {"final_window": 1, name: value}
    if name == "final_window" and isinstance(value, (int, np.integer)):
        sizes["steps"] = max(int(value), Sizes.steps)
    check_sizes(Sizes(**sizes))


def oracle_by_name(name: Any) -> Oracle:
    """An oracle with its usual numbers.

    Raises:
        ValueError: an unknown name.
    """
    if not isinstance(name, str) or name not in ORACLES:
        raise ValueError(f"feedback: {name!r}; allowed: {', '.join(ORACLES)}")
    return ORACLES[name]()


def optimizer_by_name(name: Any) -> Optimizer:
    """An optimiser of optax, from a learning rate to a transformation.

    Raises:
        ValueError: an unknown name.
    """
    if not isinstance(name, str) or name not in OPTIMIZERS:
        raise ValueError(f"optimizer: {name!r}; allowed: {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]


def _groups(
    axes: Sequence[Axis],
    held: Mapping[str, list[tuple[Any, Any]]],
    config: Config,
    base: Program,
    teacher_nodes: int | None,
) -> list[Group]:
    shape = tuple(len(axis) for axis in axes)
    total = math.prod(shape)
    unravelled = np.unravel_index(np.arange(total), shape) if shape else ()
    places = {name: place for axis, place in zip(axes, unravelled, strict=True)
              for name in axis.labels}  # fmt: skip
    values = {name: axis.values[name] for axis in axes for name in axis.labels}
    labels = {name: axis.labels[name] for axis in axes for name in axis.labels}

    def column(name: str, default: Any) -> np.ndarray:
        if name not in values:
            return np.broadcast_to(np.asarray(default), total)
        return np.asarray(values[name])[places[name]]

    def named(name: str) -> tuple[np.ndarray, list[tuple[str, Any]]]:
        """Which of the named things each run has, and what they are."""
        if name not in values:
            return np.zeros(total, int), held[name]
        return places[name], list(zip(labels[name], values[name], strict=True))

    numbers = {}
    for name in CONFIG_FIELDS:
        check_value(name, getattr(config, name))
        numbers[name] = column(name, getattr(config, name)).astype(np.float32)
    seeds = column("seed", held["seed"][0][1]).astype(np.uint32)
    problem_seeds = seeds
    if "problem_seed" in values or "problem_seed" in held:
        default = held["problem_seed"][0][1] if "problem_seed" in held else None
        problem_seeds = column("problem_seed", default).astype(np.uint32)
    inputs = {"seed": seeds, "problem_seed": problem_seeds, "config": Config(**numbers)}
    (which_method, methods), (which_feedback, feedbacks), (which_optimizer, optimizers) = (
        named(name) for name in NAMED_AXES
    )
    # Static coordinates of each run, then one group for each combination that occurs.
    static = np.stack([
        which_method,
        which_feedback,
        which_optimizer,
        *(column(name, getattr(base.sizes, name)) for name in SIZE_FIELDS),
        _nodes_of_runs(numbers, column, base.sizes, teacher_nodes),
    ])  # fmt: skip
    rows, row_of_run = np.unique(static, axis=1, return_inverse=True)
    row_of_run = row_of_run.reshape(-1)
    # Sorted once, so that a grid of many programs is not searched for each.
    order = np.argsort(row_of_run, kind="stable")
    ends = np.cumsum(np.bincount(row_of_run, minlength=rows.shape[1]))
    groups: dict[Any, list[tuple[np.ndarray, Oracle]]] = {}
    titles: dict[Any, list[str]] = {}
    for row, runs in zip(rows.T, np.split(order, ends[:-1]), strict=True):
        (method_label, method), (feedback_label, oracle) = methods[row[0]], feedbacks[row[1]]
        optimizer_label, optimizer = optimizers[row[2]]
        row_sizes = Sizes(**{n: int(v) for n, v in zip(SIZE_FIELDS, row[3:-1], strict=True)})
        program = replace(base, method=method, sizes=row_sizes, optimizer=optimizer)
        check_program(program)
        if not needs_teacher(program):
            oracle = _padded(oracle)
        elif oracle.gain is not None and oracle.hints is None:
            program = replace(program, teacher_nodes=int(row[-1]))
        key = (program, jax.tree.structure(oracle), np.shape(oracle.cuts)[0])
        groups.setdefault(key, []).append((runs, oracle))
        title = [method_label]
        if needs_teacher(program):
            title.append(feedback_label)
        if "optimizer" in values:
            title.append(optimizer_label)
        title += [f"{name} {getattr(row_sizes, name)}" for name in SIZE_FIELDS if name in values]
        titles[key] = title
    return [
        Group(key[0], ", ".join(titles[key]), *_gathered(parts, inputs))
        for key, parts in groups.items()
    ]


def _nodes_of_runs(
    numbers: Mapping[str, np.ndarray],
    column: Callable[[str, Any], np.ndarray],
    sizes: Sizes,
    teacher_nodes: int | None,
) -> np.ndarray:
    strength, scale = numbers["feedback_strength"], numbers["quality_scale"]
    if teacher_nodes is not None:
        teachers.check_nodes(teacher_nodes)
        return np.full(strength.shape, teacher_nodes)
    length = column("length", sizes.length)
    vocab_size = column("vocab_size", sizes.vocab_size)
    rows = np.stack([strength, scale, length, vocab_size])
    kinds, of_run = np.unique(rows, axis=1, return_inverse=True)
    nodes = [
        default_nodes(replace(sizes, length=int(kind[2]), vocab_size=int(kind[3])), *kind[:2])
        for kind in kinds.T.tolist()
    ]
    return np.asarray(nodes)[of_run.reshape(-1)]


def _gathered(
    parts: list[tuple[np.ndarray, Oracle]], inputs: dict[str, Any]
) -> tuple[np.ndarray, dict[str, Any]]:
    """The runs of a group and, runs last, what its program takes."""
    runs = np.concatenate([indices for indices, _ in parts])

    def spread(*leaves: Any) -> np.ndarray:
        columns = [
            np.repeat(np.asarray(leaf, np.float32)[..., None], len(indices), axis=-1)
            for leaf, (indices, _) in zip(leaves, parts, strict=True)
        ]
        return np.concatenate(columns, axis=-1)

    taken = jax.tree.map(lambda leaf: leaf[runs], inputs)
    taken["oracle"] = jax.tree.map(spread, *(oracle for _, oracle in parts))
    return runs, taken


def _padded(oracle: Oracle) -> Oracle:
    """The same feedback, in the structure that all oracles without hints can share."""
    cuts, rises = np.asarray(oracle.cuts), np.asarray(oracle.rises)
    room = max(_PADDED_CUTS, 2 ** (len(cuts) - 1).bit_length() if len(cuts) else 0)
    missing = (0, room - len(cuts))
    gain = np.float32(0) if oracle.gain is None else oracle.gain
    # R~ never reaches a cut at 2.
    return Oracle(
        gain,
        oracle.base,
        np.pad(cuts, missing, constant_values=2.0),
        np.pad(rises, missing),
        judge=oracle.judge,
    )


@cache
def _typical_range(length: int, vocab_size: int) -> float:
    return float(studentized_range.ppf(0.5 ** (1 / length), vocab_size, np.inf))
