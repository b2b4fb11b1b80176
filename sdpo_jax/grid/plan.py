"""Named axes to a plan: which runs there are, which programs they need, what each is given.

Runs that share everything static (the algorithm, the structure of the oracle, the sizes) share one
program. Everything is checked here, before anything is compiled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jax.core import Tracer

from sdpo_jax import optimizers, oracles, policies, teachers
from sdpo_jax.config import CONFIG_FIELDS, SIZE_FIELDS, Config, Sizes, check_value
from sdpo_jax.engine import own_numbers
from sdpo_jax.engine.checks import integer, of_type, shown
from sdpo_jax.engine.own_numbers import OwnNumber
from sdpo_jax.grid.axes import (
    TITLES,
    Axis,
    axis_of,
    check_size,
    checked_axes,
    checked_value,
    labelled_value,
    parts_of_axis,
)
from sdpo_jax.grid.groups import Group, groups_of, has_hints
from sdpo_jax.grid.limits import LANES, check_fits, check_total
from sdpo_jax.oracles import Oracle
from sdpo_jax.policies import Factored
from sdpo_jax.program import Program, default_metrics, numbers_of_program


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
        titles: what each axis is, for readers.
    """

    axes: tuple[Axis, ...]
    groups: tuple[Group, ...]
    base: Program
    held: Mapping[str, Any]
    logits: bool
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
    def widths(self) -> list[int]:
        """How many runs the blocks of its programs have, each width once."""
        return sorted({group.width for group in self.groups})

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
    width: int | None = None,
    seed: int = 0,
    problem_seed: int | None = None,
    numbers: Mapping[str, float] | None = None,
    logits: bool = False,
    **parts: Any,
) -> Plan:
    """Check a grid and lay it out. Arguments and errors as for ``run_grid``.

    Args:
        width: runs of a block; rounded up to a multiple of ``LANES``. By default what
            ``default_block_width`` says of each program.
    """
    base, teacher_nodes = _base(axes, program, parts)
    config, sizes = _checked_config(config), _checked_sizes(base.sizes)
    if width is not None:
        width = -(-integer("block_width", width, 1) // LANES) * LANES
    if not isinstance(logits, (bool, np.bool_)):
        raise ValueError(f"logits: {shown(logits)}; allowed: True or False")
    if teacher_nodes is not None:
        teachers.check_nodes(teacher_nodes)
    held = {
        "algorithm": [checked_value("algorithm", base.algorithm)],
        "oracle": [labelled_value("oracle", oracle)],
        "policy": [checked_value("policy", base.policy)],
        "problem": [checked_value("problem", base.problem)],
        "optimizer": [checked_value("optimizer", base.optimizer)],
        "seed": [checked_value("seed", seed)],
    }
    if problem_seed is not None:
        held["problem_seed"] = [checked_value("problem_seed", problem_seed)]
    base = replace(
        base,
        sizes=sizes,
        algorithm=held["algorithm"][0][1],
        optimizer=held["optimizer"][0][1],
    )
    own = _own_numbers_of_grid(axes, held)
    fixed = _checked_own(numbers, own)
    checked = checked_axes(axes, base, own)
    varied = {name for axis in checked for name in axis.labels}
    for name in fixed:
        if name in varied:
            raise ValueError(f"numbers: {shown(name)} is an axis too; allowed: one of the two")
    if logits and not {"length", "vocab_size"}.isdisjoint(varied):
        raise ValueError("logits: True; allowed: no axis of length or vocab_size beside it")
    check_total(checked)
    groups = groups_of(checked, held, config, base, teacher_nodes, fixed, width)
    for group in groups:
        hints = has_hints(group.program, group.oracle)
        check_fits(group.program, hints, group.width, group.label)
        kind = policies.policy_kind(group.program.policy)
        if logits and not isinstance(kind, Factored):
            raise ValueError(f"logits: True; allowed: of policy factored, not of {kind.name}")
    kept = {name: pairs[0][0] for name, pairs in held.items()}
    kept |= {name: float(getattr(config, name)) for name in CONFIG_FIELDS}
    kept |= {name: getattr(sizes, name) for name in SIZE_FIELDS}
    kept |= _held_numbers(groups, fixed)
    kept = {name: value for name, value in kept.items() if name not in varied}
    titles = {**TITLES, **{name: number.rule.title or name for name, number in own.items()}}
    return Plan(tuple(checked), tuple(groups), base, kept, bool(logits), titles)


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
        axis = axis_of(axes, "problem")
        given["metrics"] = default_metrics([problem] if axis is None else parts_of_axis(axis))
    base = replace(program, **given)
    optimizer = base.optimizer
    if isinstance(optimizer, str):
        base = replace(base, optimizer=optimizers.optimizer_by_name(optimizer))
    return base, nodes


def _own_numbers_of_grid(
    axes: Any, held: Mapping[str, list[tuple[Any, Any]]]
) -> dict[str, OwnNumber]:
    """The own numbers of every part of a grid, by name.

    Raises:
        ValueError: a name with two rules.
    """
    found: dict[str, OwnNumber] = {}
    for name in ("algorithm", "policy", "problem", "oracle"):
        axis = axis_of(axes, name)
        given = [held[name][0][1]] if axis is None else parts_of_axis(axis)
        for each in given:
            value = checked_value(name, each)[1]
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
