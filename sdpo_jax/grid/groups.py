"""The runs of a grid that share a program, and what the program is given for each of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from sdpo_jax import problems, teachers
from sdpo_jax.config import CONFIG_FIELDS, SIZE_FIELDS, Config, Sizes
from sdpo_jax.grid.axes import AXES, PROGRAM_AXES, Axis
from sdpo_jax.grid.devices import default_block_width
from sdpo_jax.grid.limits import check_cells, check_count, check_enumerated_parts
from sdpo_jax.oracles import Oracle
from sdpo_jax.program import (
    NAMED_AXES,
    SEED_AXES,
    SELDOM_READ,
    Program,
    check_program,
    needs_teacher,
    not_read,
    numbers_of_program,
)
from sdpo_jax.train import check_outcomes

# Cuts that an oracle is padded to in programs that never ask what kind of oracle it is.
_PADDED_CUTS = 8
# Teacher nodes are chosen for tables drawn at Eq. 1's scale, if a grid has none of its own.
_QUALITY_SCALE = problems.PROBLEMS["bigram"].numbers["quality_scale"].default


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

    def __call__(
        self, runs: np.ndarray, own: Mapping[str, float], unread: frozenset[str]
    ) -> dict[str, Any]:
        """``seed``, ``problem_seed``, ``config`` and ``numbers`` of runs, by places in the grid.

        Args:
            runs: ``[n]``.
            own: the own numbers of their program by name, with their defaults.
            unread: fields of ``Config`` that it does not read: at their defaults, so that runs
                that are the same are given the same.
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
            name: np.full(runs.shape, getattr(Config, name), np.float32)
            if name in unread
            else column(name, getattr(self._config, name), np.float32)
            for name in CONFIG_FIELDS
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
        width: runs of a block, a multiple of ``LANES``.
        runs: ``[n]``, the places of the runs in the grid, in row-major order of its axes, those of
            one oracle after those of another.
        ends: ``[oracles]``, where in ``runs`` those of each oracle end.
        oracle: the oracles, each leaf ``[..., oracles]``.
        columns: what else the program takes.
        numbers: the own numbers of its parts by name, with their defaults.
        unread: fields of ``Config`` and ``Sizes`` that it does not read.
        repeats: ``[r]``, from the place of a run to all places whose run is the same, as what
            differs between them is not read: 0 and what has to be added to it.
    """

    program: Program
    label: str
    width: int
    runs: np.ndarray
    ends: np.ndarray
    oracle: Oracle
    columns: Columns
    numbers: Mapping[str, float]
    unread: frozenset[str]
    repeats: np.ndarray

    def given(self, places: np.ndarray) -> dict[str, Any]:
        """What the program takes for the runs at some places of ``runs``.

        Returns:
            ``seed``, ``problem_seed``, ``config``, ``numbers`` and ``oracle``, each a tree of
            arrays ``[..., n]``.
        """
        which = np.searchsorted(self.ends, places, side="right")
        oracle = jax.tree.map(lambda leaf: np.ascontiguousarray(leaf[..., which]), self.oracle)
        return {**self.columns(self.runs[places], self.numbers, self.unread), "oracle": oracle}

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


def groups_of(
    axes: Sequence[Axis],
    held: Mapping[str, list[tuple[Any, Any]]],
    config: Config,
    base: Program,
    teacher_nodes: int | None,
    fixed: Mapping[str, float],
    width: int | None,
) -> list[Group]:
    """The programs of a grid with their runs; every run is in one of them.

    Args:
        axes: checked.
        held: by name of a part, its label and value where no axis varies it.
        config: the numbers that no axis varies.
        base: the program, but for what axes change.
        teacher_nodes: of every program with a teacher; ``default_nodes`` where ``None``.
        fixed: own numbers that are held at something else than their defaults.
        width: runs of a block; ``default_block_width`` of each program where ``None``.

    Raises:
        ValueError: too many programs, or one that can't be, in one line.
    """
    shape = tuple(len(axis) for axis in axes)
    total = math.prod(shape)
    # A cell is all runs that agree on what decides the program; other axes are left out at first.
    deciding = [i for i, axis in enumerate(axes) if not PROGRAM_AXES.isdisjoint(axis.labels)]
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
    check_count(math.prod(map(_sizes_of, axes)))
    check_cells(cells)
    # Static coordinates of each cell, then one group for each combination that occurs.
    static = np.stack([
        *which,
        *(column(name, getattr(base.sizes, name)) for name in SIZE_FIELDS),
        _nodes_of_cells(column, config, fixed, base.sizes, teacher_nodes),
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
        idle = not_read(program, oracle)
        same = {name: getattr(base.sizes, name) for name in SIZE_FIELDS if name in idle}
        program = replace(program, sizes=replace(row_sizes, **same))
        check_enumerated_parts(program)
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
        title += [
            f"{name} {getattr(row_sizes, name)}"
            for name in SIZE_FIELDS
            if name in values and name not in idle
        ]
        titles.setdefault(key, title)
        check_count(len(groups))
    columns = Columns(axes, held, config, fixed)
    return [
        _group(axes, key[0], ", ".join(titles[key]), width, members, columns)
        for key, members in groups.items()
    ]


def has_hints(program: Program, oracle: Oracle) -> bool:
    """Whether each rollout has a teacher of its own, because the oracle gives hints."""
    return needs_teacher(program) and oracle.hints is not None


def _sizes_of(axis: Axis) -> int:
    """How many programs at least an axis asks for by sizes, which is 1 where it has none."""
    read = set(SIZE_FIELDS).difference(SELDOM_READ)
    columns = [values for name, values in axis.values.items() if name in read]
    return max(1, len(set(zip(*columns, strict=True))))


def _group(
    axes: Sequence[Axis],
    program: Program,
    label: str,
    width: int | None,
    members: list[tuple[np.ndarray, Oracle]],
    columns: Columns,
) -> Group:
    own = numbers_of_program(program, members[0][1])
    numbers = {name: number.default for name, number in own.items()}
    unread = not_read(program, members[0][1])
    first, repeats = _read(axes, {*AXES, *numbers} - unread)
    read = [(first(runs), oracle) for runs, oracle in members]
    # All runs of a member may be those of another, in sizes that neither reads.
    read = [(runs, oracle) for runs, oracle in read if len(runs)]
    if width is None:
        width = default_block_width(program, has_hints(program, members[0][1]))
    return Group(program, label, width, *_gathered(read), columns, numbers, unread, repeats)


def _read(
    axes: Sequence[Axis], given: Set[str]
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """Of runs that differ only in what their program does not read, one is trained.

    Args:
        axes: of the grid.
        given: names of the axes that it reads.

    Returns:
        first: those of some places that are the first along every dimension that is not read.
        repeats: see ``Group``.
    """
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
    fixed: Mapping[str, float],
    sizes: Sizes,
    teacher_nodes: int | None,
) -> np.ndarray:
    scale = fixed.get("quality_scale", _QUALITY_SCALE)
    strength = column("feedback_strength", config.feedback_strength).astype(np.float32)
    scale = column("quality_scale", scale).astype(np.float32)
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


def default_nodes(sizes: Sizes, strength: float, quality_scale: float = _QUALITY_SCALE) -> int:
    """Teacher nodes that keep the interpolation error below 1e-5 for a typical table.

    A typical range is the median, over tables drawn at this scale, of the largest over rows. It
    depends on a run's own numbers only, not on what its table turns out to be.
    """
    slope = abs(strength) * quality_scale * _typical_range(sizes.length, sizes.vocab_size)
    # Rounded up, so that an axis of many strengths has few slopes to find nodes for.
    return teachers.nodes_for(math.ceil(20 * slope) / 20)


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
