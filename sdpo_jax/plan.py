"""Named axes to a plan: which runs there are, which programs they need, what each is given.

Runs that share everything static (the algorithm, the structure of the oracle, the sizes) share one
program. Everything is checked here, before anything is compiled.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from sdpo_jax import optimizers, own_numbers, policies, problems, streams
from sdpo_jax import oracle as oracles
from sdpo_jax import teacher as teachers
from sdpo_jax.algorithm import what_is_told
from sdpo_jax.algorithms import ALGORITHMS
from sdpo_jax.checks import MAX_INTEGER, integer, name_of, of_type, shown
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
from sdpo_jax.metrics import METRICS
from sdpo_jax.oracle import ORACLES, Oracle
from sdpo_jax.own_numbers import OwnNumber
from sdpo_jax.policies import Factored, Network
from sdpo_jax.program import (
    MOST_READ,
    NAMED_AXES,
    OWN_NAMES,
    SEED_AXES,
    STATISTICS,
    Program,
    algorithm_of,
    check_enumerated,
    check_program,
    chosen_metrics,
    default_metrics,
    needs_teacher,
    numbers_of_program,
)
from sdpo_jax.train import check_outcomes

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
    "quality_scale": "standard deviation of token quality",
    "bigram_scale": "standard deviation of bigram coherence",
    "pattern_weight": "score of each match with the target",
    "init_scale": "standard deviation of the first logits",
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
_PROGRAM_AXES = {*NAMED_AXES, *SIZE_FIELDS, "feedback_strength", "quality_scale"}

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
_ENUMERATED = {"scar": 1, "process_reward": 0}
_ENUMERATED_METRICS = ("expected_reward", "exact_credit", "exact_entropy", "optimality")

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
        self,
        axes: Sequence[Axis],
        held: Mapping[str, list[tuple[Any, Any]]],
        config: Config,
        numbers: Mapping[str, float],
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
        self._numbers = numbers

    def __call__(self, runs: np.ndarray, own: Mapping[str, float]) -> dict[str, Any]:
        """``seed``, ``problem_seed``, ``config`` and ``numbers`` of runs, by places in the grid.

        Args:
            runs: ``[n]``.
            own: the own numbers of their program by name, with their defaults.
        """
        places = np.unravel_index(runs, self._shape) if self._shape else ()

        def column(name: str, default: Any, dtype: Any) -> np.ndarray:
            if name not in self._values:
                return np.full(runs.shape, default, dtype)
            dimension, values = self._values[name]
            place = places[dimension]
            if isinstance(values, range):
                return (values.start + values.step * place).astype(dtype)
            return values[place].astype(dtype)

        config = {
            name: column(name, getattr(self._config, name), np.float32) for name in CONFIG_FIELDS
        }
        numbers = {
            name: column(name, self._numbers.get(name, default), np.float32)
            for name, default in own.items()
        }
        seed = problem_seed = column("seed", self._held.get("seed"), np.uint32)
        if "problem_seed" in self._values or "problem_seed" in self._held:
            problem_seed = column("problem_seed", self._held.get("problem_seed"), np.uint32)
        return {
            "seed": seed,
            "problem_seed": problem_seed,
            "config": Config(**config),
            "numbers": numbers,
        }


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
        numbers: the own numbers of its parts by name, with their defaults.
        repeats: ``[r]``, from the place of a run to all places whose run is the same, as what
            differs between them is not read: 0 and what has to be added to it.
    """

    program: Program
    label: str
    runs: np.ndarray
    ends: np.ndarray
    oracle: Oracle
    columns: Columns
    numbers: Mapping[str, float]
    repeats: np.ndarray

    def given(self, places: np.ndarray) -> dict[str, Any]:
        """What the program takes for the runs at some places of ``runs``.

        Returns:
            ``seed``, ``problem_seed``, ``config``, ``numbers`` and ``oracle``, each a tree of
            arrays ``[..., n]``.
        """
        which = np.searchsorted(self.ends, places, side="right")
        oracle = jax.tree.map(lambda leaf: np.ascontiguousarray(leaf[..., which]), self.oracle)
        return {**self.columns(self.runs[places], self.numbers), "oracle": oracle}

    def everywhere(
        self, runs: np.ndarray, arrays: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """What some of the runs yielded, at every place that it is the outcome of.

        Args:
            runs: ``[n]``, places of the group's runs.
            arrays: by variable ``[n, ...]``.

        Returns:
            The places ``[n * r]``, and the arrays ``[n * r, ...]``.
        """
        count = len(self.repeats)
        if count == 1:
            return runs, dict(arrays)
        places = (runs.astype(np.int64)[:, None] + self.repeats).ravel()
        return places, {name: np.repeat(array, count, axis=0) for name, array in arrays.items()}

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
        titles: what each axis is, for readers.
    """

    axes: tuple[Axis, ...]
    groups: tuple[Group, ...]
    base: Program
    held: Mapping[str, Any]
    logits: bool
    width: int
    titles: Mapping[str, str]

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the dimensions."""
        return tuple(len(axis) for axis in self.axes)

    @property
    def total(self) -> int:
        """How many runs the grid has."""
        return math.prod(self.shape)

    @property
    def trained(self) -> int:
        """How many of them are trained: runs that differ in something that they read."""
        return sum(len(group.runs) for group in self.groups)

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

    def trained_as(self, run: int) -> tuple[Group, int]:
        """The run that is trained for one of the grid's.

        Returns:
            Its group, and which of the group's runs it is.

        Raises:
            ValueError: no such run.
        """
        self.coordinates(run)
        for group in self.groups:
            found = np.flatnonzero(np.isin(group.runs, run - group.repeats))
            if found.size:
                return group, int(found[0])
        raise AssertionError(run)

    def chunks(self, runs: int) -> Iterator[Chunk]:
        """All runs in chunks of at most so many, program by program."""
        for group in self.groups:
            count = len(group.runs)
            for start in range(0, count, runs):
                end = min(start + runs, count)
                yield Chunk(group, np.arange(start, end, dtype=np.min_scalar_type(count)))


def plan_grid(
    axes: Mapping[str, Any],
    program: Program | None = None,
    config: Config | None = None,
    oracle: str | Oracle | Callable[..., Any] = "continuous",
    *,
    width: int,
    seed: int = 0,
    problem_seed: int | None = None,
    numbers: Mapping[str, float] | None = None,
    logits: bool = False,
    **parts: Any,
) -> Plan:
    """Check a grid and lay it out. Arguments and errors as for ``run_grid``.

    Args:
        width: runs of a block; rounded up to a multiple of ``LANES``.
    """
    base, teacher_nodes = _base(axes, program, parts)
    config, sizes = _checked_config(config), _checked_sizes(base.sizes)
    width = -(-integer("block_width", width, 1) // LANES) * LANES
    if not isinstance(logits, (bool, np.bool_)):
        raise ValueError(f"logits: {shown(logits)}; allowed: True or False")
    if teacher_nodes is not None:
        teachers.check_nodes(teacher_nodes)
    held = {
        "algorithm": [_checked_value("algorithm", base.algorithm)],
        "oracle": [_labelled_value("oracle", oracle)],
        "policy": [_checked_value("policy", base.policy)],
        "problem": [_checked_value("problem", base.problem)],
        "optimizer": [_checked_value("optimizer", base.optimizer)],
        "seed": [_checked_value("seed", seed)],
    }
    if problem_seed is not None:
        held["problem_seed"] = [_checked_value("problem_seed", problem_seed)]
    base = replace(
        base,
        sizes=sizes,
        algorithm=held["algorithm"][0][1],
        optimizer=held["optimizer"][0][1],
    )
    own = _own_numbers_of_grid(axes, held)
    fixed = _checked_own(numbers, own)
    checked = _checked_axes(axes, base, own)
    varied = {name for axis in checked for name in axis.labels}
    for name in fixed:
        if name in varied:
            raise ValueError(f"numbers: {shown(name)} is an axis too; allowed: one of the two")
    if logits and not {"length", "vocab_size"}.isdisjoint(varied):
        raise ValueError("logits: True; allowed: no axis of length or vocab_size beside it")
    _check_total(checked)
    groups = _groups(checked, held, config, base, teacher_nodes, fixed)
    for group in groups:
        _check_fits(group, width)
        kind = policies.policy_kind(group.program.policy)
        if logits and not isinstance(kind, Factored):
            raise ValueError(f"logits: True; allowed: of policy factored, not of {kind.name}")
    kept = {name: pairs[0][0] for name, pairs in held.items()}
    kept |= {name: float(getattr(config, name)) for name in CONFIG_FIELDS}
    kept |= {name: getattr(sizes, name) for name in SIZE_FIELDS}
    kept |= _held_numbers(groups, fixed)
    kept = {name: value for name, value in kept.items() if name not in varied}
    titles = {**TITLES, **{name: number.rule.title or name for name, number in own.items()}}
    return Plan(tuple(checked), tuple(groups), base, kept, bool(logits), width, titles)


def _base(
    axes: Any, program: Program | None, parts: Mapping[str, Any]
) -> tuple[Program, int | None]:
    """The program of a run, but for what axes change, and the nodes if they are given."""
    known = {each.name for each in fields(Program)}
    for name in parts:
        if name not in known:
            raise ValueError(f"{name}: no such argument; allowed: {', '.join(sorted(known))}")
    if program is None:
        program = Program()
        nodes = parts.get("teacher_nodes")
    else:
        of_type("program", program, Program)
        nodes = parts.get("teacher_nodes", program.teacher_nodes or None)
    given = {
        name: value
        for name, value in parts.items()
        if name != "teacher_nodes" and not (value is None and name in ("sizes", "metrics"))
    }
    given = {**given, "sizes": given.get("sizes", program.sizes)}
    if given.get("metrics") is None and program.metrics == default_metrics((program.problem,)):
        problem = given.get("problem", program.problem)
        axis = _axis_of(axes, "problem")
        given["metrics"] = default_metrics([problem] if axis is None else _parts_of_axis(axis))
    base = replace(program, **given)
    optimizer = base.optimizer
    if isinstance(optimizer, str):
        base = replace(base, optimizer=optimizers.optimizer_by_name(optimizer))
    return base, nodes


def _axis_of(axes: Any, name: str) -> Any:
    """What an axis is given as, by itself or in a dimension of several; ``None`` if it is not."""
    if not isinstance(axes, Mapping):
        return None
    for key, given in axes.items():
        if key == name:
            return given
        if isinstance(given, Mapping) and key not in AXES and name in given:
            return given[name]
    return None


def _parts_of_axis(given: Any) -> list[Any]:
    """The values of a named axis, as far as they can be told before they are checked."""
    if isinstance(given, Mapping):
        return list(given.values())
    if not isinstance(given, (list, tuple)) or len(given) > _MOST_NAMED:
        return []
    return [
        each[1] if isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], str) else each
        for each in given
    ]


def _own_numbers_of_grid(
    axes: Any, held: Mapping[str, list[tuple[Any, Any]]]
) -> dict[str, OwnNumber]:
    """The own numbers of every part of a grid, by name.

    Raises:
        ValueError: a name with two rules.
    """
    found: dict[str, OwnNumber] = {}
    for name in ("algorithm", "policy", "problem", "oracle"):
        axis = _axis_of(axes, name)
        given = [held[name][0][1]] if axis is None else _parts_of_axis(axis)
        for each in given:
            value = _checked_value(name, each)[1]
            found = own_numbers.joined([*found.values(), *_numbers_of_part(name, value)])
    return found


def _numbers_of_part(name: str, value: Any) -> list[OwnNumber]:
    base = Program()
    if name == "oracle":
        return list(oracles.numbers_of_function(value.function).values())
    if name == "algorithm":
        return list(numbers_of_program(replace(base, algorithm=value)).values())
    known = numbers_of_program(replace(base, algorithm="reinforce", **{name: value}))
    return list(known.values())


def _checked_own(
    numbers: Mapping[str, float] | None, own: Mapping[str, OwnNumber]
) -> dict[str, float]:
    """The own numbers that are held at something else than their defaults."""
    if numbers is None:
        return {}
    if not isinstance(numbers, Mapping):
        raise ValueError(f"numbers: {shown(numbers)}; allowed: a mapping of names to numbers")
    found = {}
    for name, value in numbers.items():
        if not isinstance(name, str) or name not in own:
            allowed = ", ".join(own) or "none, as no part of this grid has a number of its own"
            raise ValueError(f"numbers: {shown(name)}; allowed: {allowed}")
        check_value(name, value, own[name].rule)
        if isinstance(value, Tracer) or np.ndim(value):
            raise ValueError(f"numbers: {name} {shown(value)}; allowed: one number (or an axis)")
        found[name] = float(np.asarray(value))
    return found


def _held_numbers(groups: Sequence[Group], fixed: Mapping[str, float]) -> dict[str, float]:
    """The own numbers at which all programs that have them are held."""
    found: dict[str, set[float]] = {}
    for group in groups:
        for name, default in group.numbers.items():
            found.setdefault(name, set()).add(fixed.get(name, default))
    return {name: values.pop() for name, values in found.items() if len(values) == 1}


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
    if "panel" in what_is_told(algorithm_of(program.algorithm)):
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
    # The positions of a factored policy are independent: its entropy needs no sequences.
    factored = isinstance(policies.policy_kind(program.policy), Factored)
    found = {
        name: vocab_size
        for name in _ENUMERATED_METRICS
        if any(METRICS[name] is metric for metric in metrics.values())
        and not (factored and name == "exact_entropy")
    }
    algorithm = algorithm_of(program.algorithm)
    for name, more in _ENUMERATED.items():
        if algorithm is algorithm_of(ALGORITHMS[name]):
            found[name] = vocab_size + more
    return found


def _check_enumerated(program: Program) -> None:
    """Refuse what enumerates more sequences than it can."""
    network = isinstance(policies.policy_kind(program.policy), Network)
    most = MOST_READ if network else problems.MAX_SEQUENCES
    for name, tokens in _enumerated(program).items():
        who = f"vocab_size {program.sizes.vocab_size} and {name}"
        check_enumerated(
            who + (" of a network" if network else ""), program.sizes.length, tokens, most
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


def _checked_axes(
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


def _plain(labels: Sequence[Any] | np.ndarray) -> Sequence[Any]:
    return labels.tolist() if isinstance(labels, np.ndarray) else labels


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
    most = _MOST_VALUES if number else _MOST_NAMED
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
        *(_labelled_value(name, value, rule) for value in values), strict=True
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


def _labelled_value(
    name: str, value: Any, rule: own_numbers.Number | None = None
) -> tuple[Any, Any]:
    """As ``_checked_value``; a named thing may bring a label of its own."""
    pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
    if name in NAMED_AXES and pair and value[0]:
        return value[0], _checked_value(name, value[1])[1]
    return _checked_value(name, value, rule)


def _checked_value(
    name: str, value: Any, rule: own_numbers.Number | None = None
) -> tuple[Any, Any]:
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


def _groups(
    axes: Sequence[Axis],
    held: Mapping[str, list[tuple[Any, Any]]],
    config: Config,
    base: Program,
    teacher_nodes: int | None,
    fixed: Mapping[str, float],
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

    which, parts = zip(*map(named, NAMED_AXES), strict=True)
    # At least so many, and known at once.
    _check_count(math.prod(map(_sizes_of, axes)))
    _check_cells(cells)
    # Static coordinates of each cell, then one group for each combination that occurs.
    static = np.stack([
        *which,
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
        chosen = {
            name: given[place] for name, given, place in zip(NAMED_AXES, parts, row, strict=False)
        }
        count = len(NAMED_AXES)
        row_sizes = Sizes(**{n: int(v) for n, v in zip(SIZE_FIELDS, row[count:-1], strict=True)})
        oracle = chosen["oracle"][1]
        program = replace(
            base,
            sizes=row_sizes,
            **{name: value for name, (_, value) in chosen.items() if name != "oracle"},
        )
        check_program(program)
        _check_enumerated(program)
        check_outcomes(program, oracle)
        if not needs_teacher(program):
            oracle = _padded(oracle)
        elif oracle.gain is not None and oracle.hints is None and oracle.function is None:
            program = replace(program, teacher_nodes=int(row[-1]))
        key = (program, jax.tree.structure(oracle), np.shape(oracle.cuts)[0])
        groups.setdefault(key, []).append((runs, oracle))
        shown_names = ["algorithm"]
        if needs_teacher(program) or oracle.function is not None:
            shown_names.append("oracle")
        shown_names += [n for n in ("policy", "problem", "optimizer") if n in values]
        title = [chosen[name][0] for name in shown_names]
        title += [f"{name} {getattr(row_sizes, name)}" for name in SIZE_FIELDS if name in values]
        titles[key] = title
        _check_count(len(groups))
    columns = Columns(axes, held, config, fixed)
    return [
        _group(axes, key[0], ", ".join(titles[key]), members, columns)
        for key, members in groups.items()
    ]


def _group(
    axes: Sequence[Axis],
    program: Program,
    label: str,
    members: list[tuple[np.ndarray, Oracle]],
    columns: Columns,
) -> Group:
    own = numbers_of_program(program, members[0][1])
    numbers = {name: number.default for name, number in own.items()}
    first, repeats = _read(axes, numbers)
    read = [(first(runs), oracle) for runs, oracle in members]
    return Group(program, label, *_gathered(read), columns, numbers, repeats)


def _read(
    axes: Sequence[Axis], own: Mapping[str, float]
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """Of runs that differ only in numbers that their program does not read, one is trained.

    Returns:
        first: those of some places that are the first along every dimension that is not read.
        repeats: see ``Group``.
    """
    given = {*AXES, *own}
    shape = tuple(len(axis) for axis in axes)
    idle = [i for i, axis in enumerate(axes) if given.isdisjoint(axis.labels)]
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    steps = itertools.product(*(range(0, shape[i] * strides[i], strides[i]) for i in idle))
    repeats = np.asarray([sum(each) for each in steps], np.int64)

    def first(runs: np.ndarray) -> np.ndarray:
        if not idle:
            return runs
        places = np.unravel_index(runs, shape)
        return runs[np.logical_and.reduce([places[i] == 0 for i in idle])]

    return first, repeats


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
        function=oracle.function,
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
