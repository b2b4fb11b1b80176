"""Named axes to a plan: which runs there are, which programs they need, what each is given.

Runs that share everything static (the algorithm, the structure of the oracle, the sizes) share one
program. Everything is checked here, before anything is compiled.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import jax
import numpy as np
import optax
from jax.core import Tracer

from sdpo_jax import oracle as oracles
from sdpo_jax import streams
from sdpo_jax import teacher as teachers
from sdpo_jax.algorithms import ALGORITHMS, Algorithm
from sdpo_jax.algorithms.base import name_of, what_is_told
from sdpo_jax.checks import MAX_INTEGER, integer, of_type, shown
from sdpo_jax.config import (
    CONFIG_FIELDS,
    SIZE_FIELDS,
    Config,
    Sizes,
    as_given,
    as_numbers,
    check_sizes,
    check_value,
)
from sdpo_jax.metrics import METRICS, Metric
from sdpo_jax.oracle import ORACLES, Oracle
from sdpo_jax.problem import MAX_SEQUENCES
from sdpo_jax.train import (
    OWN_NAMES,
    STATISTICS,
    Optimizer,
    Program,
    algorithm_function,
    check_outcomes,
    check_program,
    chosen_metrics,
    needs_teacher,
)

# What each axis is, for the attributes of coordinates.
TITLES = {
    "algorithm": "training algorithm",
    "oracle": "feedback type",
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
    "sign": "factor on the algorithm's gradient",
    "learn_from_feedback": "share of the feedback in the signal",
    "quality_scale": "standard deviation of token quality",
    "bigram_scale": "standard deviation of bigram coherence",
    "pattern_weight": "score of each match with the target",
    "init_scale": "standard deviation of the first logits",
    "clip": "width of the clipped ratio, epsilon",
    "preference_sharpness": "sharpness of the preferences",
    "dpo_strength": "beta of DPO",
    "model_rate": "learning rate of what is learned beside the policy",
    "dense_share": "share of the reward that is spread over tokens",
    "attention_temperature": "temperature of the attention that spreads it",
    "divergence_mix": "mix of the generalised Jensen-Shannon divergence",
    "teacher_rate": "rate at which an averaged teacher follows",
    "trust": "share of the student in a trust-region teacher",
    "demonstration_strength": "what a demonstration adds to its tokens' logits",
    "temperature": "temperature of knowledge distillation",
    "entropy_bonus": "weight of the entropy in the objective",
    "final_strength": "share of beta left at the last step of annealing",
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

SEED_AXES = ("seed", "problem_seed")
NAMED_AXES = ("algorithm", "oracle", "optimizer")
AXES = (*NAMED_AXES, *SEED_AXES, *CONFIG_FIELDS, *SIZE_FIELDS)

# The axes that decide which program a run needs.
_PROGRAM_AXES = {*NAMED_AXES, *SIZE_FIELDS, "feedback_strength", "quality_scale"}

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

# Blocks are this many runs wide, or a multiple: the float32 of the widest vectors that a processor
# has. Of another width, the runs that are left over get other instructions than those that fill
# vectors, and so a run's bits would depend on its place in the block.
LANES = 16

# More are refused when they are planned: each one is compiled, which takes about a second.
MAX_PROGRAMS = 1000

# Tokens that the runs of a block sample in one step: a few gigabytes for all arrays of them, in
# each of the blocks that are computed at a time.
MAX_TOKENS = 2**25

# Values of an axis that is not one of seeds: of numbers, and of names or sizes.
_MOST_VALUES = 1_000_000

_MOST_NAMED = 100_000

# Bytes of a run's place in the grid, and of what is needed to find it.
_BYTES_A_RUN = 12

# What enumerates sequences, and of how many tokens each position of one then is: those of the
# vocabulary, and for SCAR also none.
_ENUMERATED = {ALGORITHMS["scar"]: 1, ALGORITHMS["process_reward"]: 0}
_ENUMERATED_METRICS = ("expected_reward", "exact_credit", "optimality")

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
    labels: Mapping[str, Sequence[Any] | np.ndarray]
    values: Mapping[str, Sequence[Any] | np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.labels.values())))


class Columns:
    """What programs take for given runs but the oracle, made when asked for.

    It takes no more memory for a million runs than for one: a run's numbers follow from its place.
    """

    def __init__(
        self, axes: Sequence[Axis], held: Mapping[str, list[tuple[Any, Any]]], config: Config
    ):
        self._shape = tuple(len(axis) for axis in axes)
        self._values = {
            name: (dimension, values if isinstance(values, range) else np.asarray(values))
            for dimension, axis in enumerate(axes)
            for name, values in axis.values.items()
            if name not in NAMED_AXES
        }
        self._held = {name: held[name][0][1] for name in SEED_AXES if name in held}
        self._config = config

    def __call__(self, runs: np.ndarray) -> dict[str, Any]:
        """``seed``, ``problem_seed`` and ``config`` of runs, given by their places in the grid."""
        places = np.unravel_index(runs, self._shape) if self._shape else ()

        def column(name: str, default: Any, dtype: Any) -> np.ndarray:
            if name not in self._values:
                return np.full(runs.shape, default, dtype)
            dimension, values = self._values[name]
            place = places[dimension]
            if isinstance(values, range):
                return (values.start + values.step * place).astype(dtype)
            return values[place].astype(dtype)

        numbers = {
            name: column(name, getattr(self._config, name), np.float32) for name in CONFIG_FIELDS
        }
        seed = problem_seed = column("seed", self._held.get("seed"), np.uint32)
        if "problem_seed" in self._values or "problem_seed" in self._held:
            problem_seed = column("problem_seed", self._held.get("problem_seed"), np.uint32)
        return {"seed": seed, "problem_seed": problem_seed, "config": Config(**numbers)}


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that share a program.

    Attributes:
        program: what is compiled.
        label: the program for readers, such as ``"sdpo, continuous"``.
        runs: ``[n]``, the places of the runs in the grid, in row-major order of its axes, those of
            one oracle after those of another.
        ends: ``[oracles]``, where in ``runs`` those of each oracle end.
        oracle: the oracles, each leaf ``[..., oracles]``.
        columns: what else the program takes.
    """

    program: Program
    label: str
    runs: np.ndarray
    ends: np.ndarray
    oracle: Oracle
    columns: Columns

    def given(self, places: np.ndarray) -> dict[str, Any]:
        """What the program takes for the runs at some places of ``runs``.

        Returns:
            ``seed``, ``problem_seed``, ``config`` and ``oracle``, each a tree of arrays
            ``[..., n]``.
        """
        which = np.searchsorted(self.ends, places, side="right")
        oracle = jax.tree.map(lambda leaf: np.ascontiguousarray(leaf[..., which]), self.oracle)
        return {**self.columns(self.runs[places]), "oracle": oracle}

    @property
    def inputs(self) -> dict[str, Any]:
        """What the program takes for all of the runs."""
        return self.given(np.arange(len(self.runs)))


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
        width: runs of a block, a multiple of ``LANES``.
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
            name: labels[place].item() if isinstance(labels, np.ndarray) else labels[int(place)]
            for axis, place in zip(self.axes, places, strict=True)
            for name, labels in axis.labels.items()
        }

    def chunks(self, runs: int) -> Iterator[Chunk]:
        """All runs in chunks of at most so many, program by program."""
        for group in self.groups:
            count = len(group.runs)
            for start in range(0, count, runs):
                end = min(start + runs, count)
                yield Chunk(group, np.arange(start, end, dtype=np.min_scalar_type(count)))


def plan_grid(
    axes: Mapping[str, Any],
    *,
    width: int,
    algorithm: str | Algorithm = "sdpo",
    oracle: str | Oracle = "continuous",
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
    """Check a grid and lay it out. Arguments and errors as for ``run_grid``.

    Args:
        width: runs of a block; rounded up to a multiple of ``LANES``.
    """
    config, sizes = _checked_config(config), _checked_sizes(sizes)
    width = -(-integer("block_width", width, 1) // LANES) * LANES
    if not isinstance(logits, (bool, np.bool_)):
        raise ValueError(f"logits: {shown(logits)}; allowed: True or False")
    if teacher_nodes is not None:
        teachers.check_nodes(teacher_nodes)
    held = {
        "algorithm": [_checked_value("algorithm", algorithm)],
        "oracle": [_labelled_value("oracle", oracle)],
        "optimizer": [_checked_value("optimizer", optimizer)],
        "seed": [_checked_value("seed", seed)],
    }
    if problem_seed is not None:
        held["problem_seed"] = [_checked_value("problem_seed", problem_seed)]
    base = Program(
        algorithm=held["algorithm"][0][1],
        sizes=sizes,
        metrics=cast(Any, metrics),
        record=cast(Any, record),
        record_every=record_every,
        optimizer=held["optimizer"][0][1],
    )
    checked = _checked_axes(axes, base)
    varied = {name for axis in checked for name in axis.labels}
    if logits and not {"length", "vocab_size"}.isdisjoint(varied):
        raise ValueError("logits: True; allowed: no axis of length or vocab_size beside it")
    _check_total(checked)
    groups = _groups(checked, held, config, base, teacher_nodes)
    for group in groups:
        _check_fits(group, width)
    kept = {name: pairs[0][0] for name, pairs in held.items()}
    kept |= {name: float(getattr(config, name)) for name in CONFIG_FIELDS}
    kept |= {name: getattr(sizes, name) for name in SIZE_FIELDS}
    kept = {name: value for name, value in kept.items() if name not in varied}
    return Plan(tuple(checked), tuple(groups), base, kept, bool(logits), width)


def block_bytes(program: Program, hints: bool, width: int) -> int:
    """Bytes that computing a block takes, by the arrays that a step can't do without.

    Args:
        program: whose step.
        hints: whether its oracle gives hints, so that each rollout has a teacher of its own.
        width: runs of the block.
    """
    sizes = program.sizes
    length, vocab_size, rollouts = sizes.length, sizes.vocab_size, sizes.rollouts
    # The numbers of copies are those that the compiler reports of the programs here.
    numbers = 2 * length * rollouts + 40 * length * vocab_size + 2 * vocab_size**2
    if hints:
        numbers += 2 * length * vocab_size * rollouts
    if "panel" in what_is_told(algorithm_function(program.algorithm)):
        numbers += 2 * sizes.teachers * length * vocab_size
    extra = _enumerated(program)
    if extra:
        numbers += 2 * max(extra.values()) ** length
    numbers += len(program.record) * -(-sizes.steps // program.record_every)
    return 4 * width * numbers


def machine_memory() -> int | None:
    """Bytes of this machine's memory; ``None`` where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _check_fits(group: Group, width: int) -> None:
    program = group.program
    sizes = program.sizes
    tokens = sizes.length * sizes.rollouts * width
    if tokens > MAX_TOKENS:
        raise ValueError(
            f"block_width: {tokens:,} tokens in a step of a block (length {sizes.length} x "
            f"rollouts {sizes.rollouts} x block_width {width}); allowed: up to {MAX_TOKENS:,} (a "
            "narrower block is hardly slower)"
        )
    there = machine_memory()
    hints = needs_teacher(program) and group.oracle.hints is not None
    needed = block_bytes(program, hints, width)
    if there is not None and needed > there:
        raise ValueError(
            f"block_width: a block of {width} runs of {group.label} at length {sizes.length}, "
            f"vocab_size {sizes.vocab_size} and rollouts {sizes.rollouts} takes "
            f"{needed / 2**30:,.1f} GiB; allowed: what this machine has, {there / 2**30:.1f} GiB"
        )


def _check_total(axes: Sequence[Axis]) -> None:
    """Refuse more runs than a plan can hold."""
    total = math.prod(len(axis) for axis in axes)
    there = machine_memory()
    if there is not None and _BYTES_A_RUN * total > there:
        raise ValueError(
            f"axes: {total:,} runs; allowed: up to {there // _BYTES_A_RUN:,} on this machine"
        )


def _check_count(programs: int) -> None:
    if programs > MAX_PROGRAMS:
        raise ValueError(
            f"axes: {programs:,} programs or more; allowed: up to {MAX_PROGRAMS:,} (each is "
            "compiled; values of Sizes, and most algorithms and optimizers, have one of their own)"
        )


def _sizes_of(axis: Axis) -> int:
    """How many different sizes an axis has; 1 where it is of something else."""
    columns = [values for name, values in axis.values.items() if name in SIZE_FIELDS]
    return max(1, len(set(zip(*columns, strict=True))))


def _check_cells(cells: int) -> None:
    if cells > _MOST_VALUES:
        raise ValueError(
            f"axes: {cells:,} combinations of what may need a program of its own ("
            f"{', '.join(sorted(_PROGRAM_AXES))}); allowed: up to {_MOST_VALUES:,}"
        )


def _enumerated(program: Program) -> dict[str, int]:
    """What of a program enumerates sequences, and of how many tokens at each position."""
    vocab_size = program.sizes.vocab_size
    metrics = chosen_metrics(program)
    found = {
        name: vocab_size
        for name in _ENUMERATED_METRICS
        if any(METRICS[name] is metric for metric in metrics.values())
    }
    algorithm = algorithm_function(program.algorithm)
    for one, more in _ENUMERATED.items():
        if algorithm is one:
            found[one.__name__] = vocab_size + more
    return found


def _check_enumerated(program: Program) -> None:
    """Refuse what enumerates more sequences than it can."""
    length = program.sizes.length
    for name, tokens in _enumerated(program).items():
        # A power of large numbers takes long to reckon, and longer to print.
        if length * math.log(tokens) > math.log(MAX_SEQUENCES) + 1e-9:
            raise ValueError(
                f"length: {length}, with vocab_size {program.sizes.vocab_size} and {name}, which "
                f"enumerates {tokens} ** length sequences; allowed: up to {MAX_SEQUENCES} of them"
            )


def _checked_config(config: Any) -> Config:
    if config is None:
        return Config()
    of_type("config", config, Config)
    numbers = {}
    for name in CONFIG_FIELDS:
        value = getattr(config, name)
        check_value(name, value)
        if isinstance(value, Tracer) or np.ndim(value):
            raise ValueError(f"config: {name} {shown(value)}; allowed: one number (or an axis)")
        numbers[name] = float(np.asarray(value))
    return Config(**numbers)


def _checked_sizes(sizes: Any) -> Sizes:
    if sizes is None:
        return Sizes()
    of_type("sizes", sizes, Sizes)
    for name in SIZE_FIELDS:
        check_size(name, getattr(sizes, name))
    return Sizes(**{name: int(getattr(sizes, name)) for name in SIZE_FIELDS})


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
    if not isinstance(axes, Mapping):
        raise ValueError(
            f"axes: {shown(axes)}; allowed: a mapping of axes to their values, such as "
            "{'seed': range(64)}"
        )
    checked: list[Axis] = []
    for name, given in axes.items():
        if isinstance(name, str) and name in AXES:
            parts = {name: given}
        elif (
            isinstance(name, str)
            and isinstance(given, Mapping)
            and given
            and set(given) <= set(AXES)
        ):
            parts = given
        else:
            raise ValueError(f"axes: {shown(name)}; allowed: {', '.join(AXES)}")
        if not name or name in OWN_NAMES:
            raise ValueError(f"axes: {shown(name)} is taken; allowed: a name of its own")
        found = {axis: _checked_values(axis, values) for axis, values in parts.items()}
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
        _check_values_once(name, labels)
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


def _plain(labels: Sequence[Any] | np.ndarray) -> Sequence[Any]:
    return labels.tolist() if isinstance(labels, np.ndarray) else labels


def _check_values_once(name: str, labels: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
    """Refuse an axis on which two places are the same to the programs."""
    # A range has no value twice, and may be of millions.
    if any(isinstance(values, range) for values in labels.values()):
        return
    given = [
        as_given(np.asarray(values)) if axis in CONFIG_FIELDS else values
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


def _checked_values(
    name: str, given: Any
) -> tuple[Sequence[Any] | np.ndarray, Sequence[Any] | np.ndarray]:
    """The labels of an axis, and what its runs are given.

    Seeds are a range or an array: there may be millions.
    """
    values = _listed(name, given)
    if name in SEED_AXES:
        return _checked_seeds(name, values)
    most = _MOST_VALUES if name in CONFIG_FIELDS else _MOST_NAMED
    if len(values) > most:
        raise ValueError(f"{name}: {len(values):,} values; allowed: up to {most:,}")
    values = list(values) if isinstance(values, range) else values
    odd = (bool, np.bool_, Sequence)
    if name in CONFIG_FIELDS and not any(isinstance(value, odd) for value in values):
        # All at once, where they are plain numbers; if not, one by one finds the culprit.
        numbers = as_numbers(values)
        if numbers is not None and numbers.ndim == 1:
            check_value(name, numbers)
            floats = tuple(numbers.tolist())
            return floats, floats
    labels, given_to_runs = zip(*(_labelled_value(name, value) for value in values), strict=True)
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
            _checked_value(name, end)
        return values, values
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        for end in (values.min(), values.max()):
            _checked_value(name, end)
        seeds = values.astype(np.int64)
    else:
        checked = (_checked_value(name, value)[1] for value in values)
        seeds = np.fromiter(checked, np.int64, len(values))
    return seeds, seeds


def _labelled_value(name: str, value: Any) -> tuple[Any, Any]:
    """As ``_checked_value``; a named thing may bring a label of its own."""
    pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
    if name in NAMED_AXES and pair and value[0]:
        return value[0], _checked_value(name, value[1])[1]
    return _checked_value(name, value)


def _checked_value(name: str, value: Any) -> tuple[Any, Any]:
    """The label of a value, and what a run is given."""
    if name == "algorithm":
        algorithm_function(value)
        return (str(value) if isinstance(value, str) else name_of(value)), value
    if name == "oracle":
        if isinstance(value, Oracle):
            _check_held_oracle(value)
            return "custom", value
        oracle = oracle_by_name(value)
        return str(value), oracle
    if name == "optimizer":
        if callable(value):
            return name_of(value), value
        optimizer = optimizer_by_name(value)
        return str(value), optimizer
    if name in SEED_AXES:
        seed = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not seed or not 0 <= value < 2**32:
            raise ValueError(f"{name}: {shown(value)}; allowed: integers from 0 to 2**32 - 1")
        return int(value), int(value)
    if name in SIZE_FIELDS:
        check_size(name, value)
        return int(value), int(value)
    check_value(name, value)
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


def optimizer_by_name(name: Any) -> Optimizer:
    """An optimiser of optax, from a learning rate to a transformation.

    Raises:
        ValueError: an unknown name.
    """
    if not isinstance(name, str) or name not in OPTIMIZERS:
        raise ValueError(
            f"optimizer: {shown(name)}; allowed: {', '.join(OPTIMIZERS)}, or a function from a "
            "learning rate to an optax transformation"
        )
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
    # A cell is all runs that agree on what decides the program; other axes are left out at first.
    deciding = [i for i, axis in enumerate(axes) if not _PROGRAM_AXES.isdisjoint(axis.labels)]
    others = [i for i in range(len(axes)) if i not in deciding]
    narrow = tuple(shape[i] for i in deciding)
    cells = math.prod(narrow)
    unravelled = np.unravel_index(np.arange(cells), narrow) if narrow else ()
    places = {name: place for i, place in zip(deciding, unravelled, strict=True)
              for name in axes[i].labels}  # fmt: skip
    values = {name: axis.values[name] for axis in axes for name in axis.labels}
    labels = {name: axis.labels[name] for axis in axes for name in axis.labels}

    def column(name: str, default: Any) -> np.ndarray:
        if name not in values:
            return np.full(cells, default)
        return np.asarray(values[name])[places[name]]

    def named(name: str) -> tuple[np.ndarray, list[tuple[str, Any]]]:
        """Which of the named things each cell has, and what they are."""
        if name not in values:
            return np.zeros(cells, int), held[name]
        return places[name], list(zip(labels[name], values[name], strict=True))

    (which_algorithm, algorithms), (which_oracle, oracles_), (which_optimizer, optimizers) = (
        named(name) for name in NAMED_AXES
    )
    # At least so many, and known at once.
    _check_count(math.prod(map(_sizes_of, axes)))
    _check_cells(cells)
    # Static coordinates of each cell, then one group for each combination that occurs.
    static = np.stack([
        which_algorithm,
        which_oracle,
        which_optimizer,
        *(column(name, getattr(base.sizes, name)) for name in SIZE_FIELDS),
        _nodes_of_cells(column, config, base.sizes, teacher_nodes),
    ])  # fmt: skip
    rows, row_of_cell = np.unique(static, axis=1, return_inverse=True)
    row_of_cell = row_of_cell.reshape(-1)
    # Sorted once, so that a grid of many programs is not searched for each.
    order = np.argsort(row_of_cell, kind="stable")
    ends = np.cumsum(np.bincount(row_of_cell, minlength=rows.shape[1]))
    every = np.arange(total, dtype=np.min_scalar_type(total)).reshape(shape)
    of_cell = every.transpose(*deciding, *others).reshape(cells, -1)
    groups: dict[Any, list[tuple[np.ndarray, Oracle]]] = {}
    titles: dict[Any, list[str]] = {}
    for row, members in zip(rows.T, np.split(order, ends[:-1]), strict=True):
        runs = of_cell[members].ravel()
        runs.sort()
        (algorithm_label, algorithm), (oracle_label, oracle) = (
            algorithms[row[0]],
            oracles_[row[1]],
        )
        optimizer_label, optimizer = optimizers[row[2]]
        row_sizes = Sizes(**{n: int(v) for n, v in zip(SIZE_FIELDS, row[3:-1], strict=True)})
        program = replace(base, algorithm=algorithm, sizes=row_sizes, optimizer=optimizer)
        check_program(program)
        _check_enumerated(program)
        check_outcomes(program, oracle)
        if not needs_teacher(program):
            oracle = _padded(oracle)
        elif oracle.gain is not None and oracle.hints is None:
            program = replace(program, teacher_nodes=int(row[-1]))
        key = (program, jax.tree.structure(oracle), np.shape(oracle.cuts)[0])
        groups.setdefault(key, []).append((runs, oracle))
        title = [algorithm_label]
        if needs_teacher(program):
            title.append(oracle_label)
        if "optimizer" in values:
            title.append(optimizer_label)
        title += [f"{name} {getattr(row_sizes, name)}" for name in SIZE_FIELDS if name in values]
        titles[key] = title
        _check_count(len(groups))
    columns = Columns(axes, held, config)
    return [
        Group(key[0], ", ".join(titles[key]), *_gathered(parts), columns)
        for key, parts in groups.items()
    ]


def _nodes_of_cells(
    column: Callable[[str, Any], np.ndarray],
    config: Config,
    sizes: Sizes,
    teacher_nodes: int | None,
) -> np.ndarray:
    strength, scale = (
        column(name, getattr(config, name)).astype(np.float32)
        for name in ("feedback_strength", "quality_scale")
    )
    if teacher_nodes is not None:
        return np.full(strength.shape, teacher_nodes)
    length = column("length", sizes.length)
    vocab_size = column("vocab_size", sizes.vocab_size)
    rows = np.stack([strength, scale, length, vocab_size])
    kinds, of_cell = np.unique(rows, axis=1, return_inverse=True)
    nodes = [
        default_nodes(replace(sizes, length=int(kind[2]), vocab_size=int(kind[3])), *kind[:2])
        for kind in kinds.T.tolist()
    ]
    return np.asarray(nodes)[of_cell.reshape(-1)]


def _gathered(parts: list[tuple[np.ndarray, Oracle]]) -> tuple[np.ndarray, np.ndarray, Oracle]:
    """A group's runs, where those of each oracle end among them, and its oracles."""

    def stacked(*leaves: Any) -> np.ndarray:
        return np.stack([np.asarray(leaf, np.float32) for leaf in leaves], axis=-1)

    runs = [places for places, _ in parts]
    oracle = jax.tree.map(stacked, *(oracle for _, oracle in parts))
    ends = np.cumsum([len(places) for places in runs])
    return runs[0] if len(runs) == 1 else np.concatenate(runs), ends, oracle


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


@lru_cache(4096)
def _typical_range(length: int, vocab_size: int) -> float:
    """The median of the largest range among ``length`` rows of ``vocab_size`` standard normals.

    The range of a row is at most r with probability
    ``V integral phi(z) (Phi(z + r) - Phi(z)) ** (V - 1) dz``, where z is the least of the row.
    (SciPy has it as ``studentized_range``, at the price of a third of a second of imports.)
    """
    z, spacing = np.linspace(-9.0, 9.0, 721, retstep=True)
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)

    def below(values: np.ndarray) -> np.ndarray:
        return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in values])

    def probability(largest: float) -> float:
        others_within = (below(z + largest) - below(z)) ** (vocab_size - 1)
        return vocab_size * spacing * float((density * others_within).sum())

    low, high = 0.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        if probability(middle) < 0.5 ** (1 / length):
            low = middle
        else:
            high = middle
    return low
