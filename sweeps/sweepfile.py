"""Sweep files: a TOML page to checked grids, with every mistake found at once.

A file has a ``[base]`` (what no axis varies), ``[axes]`` whose product is trained, and any number
of ``[zip.NAME]`` tables, whose axes vary together along a dimension NAME. Several grids are tables
``[grid.NAME]`` with ``axes``, ``zip`` and ``base`` of their own. See ``docs/sweeps.md``.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import math
import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

import sdpo_jax
from sdpo_jax import METHODS, METRICS, OPTIMIZERS, Config, Plan, Sizes
from sdpo_jax import oracle as oracles
from sdpo_jax.config import CONFIG_FIELDS, SIZE_FIELDS, check_value
from sdpo_jax.grid import default_block_width
from sdpo_jax.judge import STRENGTHS
from sdpo_jax.plan import AXES, SEED_AXES, check_size
from sdpo_jax.problem import MAX_SEQUENCES
from sdpo_jax.teacher import check_nodes

MAX_RUNS = 20_000_000
MAX_LEVELS = 100
ONLY_GRID = "main"
_LARGEST = float(np.finfo(np.float32).max)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_RANGES = ("linspace", "logspace", "range", "count")
_SEQUENCE = (
    "a list, {linspace = [from, to, count]}, {logspace = [from, to, count]}, "
    "{range = [from, end]} or {count = N}"
)


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong in a file.

    Attributes:
        path: where, such as ``axes.noise[2]``.
        problem: what was found there.
        allowed: what may stand there.
        nearest: the valid name that a wrong one resembles.
    """

    path: str
    problem: str
    allowed: str
    nearest: str | None = None

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest!r}?" if self.nearest else ""
        return f"{self.path}: {self.problem}{hint}; allowed: {self.allowed}"


class SweepError(ValueError):
    """A sweep file that can't be run. ``mistakes`` holds all that is wrong with it."""

    def __init__(self, name: str, mistakes: Sequence[Mistake]):
        self.mistakes = tuple(mistakes)
        count = f"{len(mistakes)} mistake" + ("s" if len(mistakes) > 1 else "")
        super().__init__("\n  ".join([f"{name}: {count}", *map(str, mistakes)]))


@dataclass(frozen=True)
class Grid:
    """One grid of a sweep: what ``plan_grid`` takes.

    Attributes:
        title: for readers.
        axes: as for ``plan_grid``.
        options: the other arguments of ``plan_grid``.
    """

    title: str
    axes: dict[str, Any]
    options: dict[str, Any]

    def plan(self) -> Plan:
        """The grid laid out."""
        return sdpo_jax.plan_grid(self.axes, **self.options)


@dataclass(frozen=True)
class Sweep:
    """A checked sweep file.

    Attributes:
        name: a plain word, for folders.
        title: for readers.
        grids: by name.
        text: the file as it was read.
    """

    name: str
    title: str
    grids: dict[str, Grid]
    text: str
    plans: dict[str, Plan] = field(repr=False)


def read(path: str | os.PathLike[str]) -> Sweep:
    """Read and check a sweep file.

    Raises:
        SweepError: mistakes in it, all of them.
        OSError: the file can't be read.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SweepError(str(path), [Mistake("file", f"{error.reason}", "UTF-8 text")]) from None
    return parse(text, path.stem, str(path))


def parse(text: str, stem: str, shown: str | None = None) -> Sweep:
    """Check the text of a sweep file.

    Args:
        text: TOML.
        stem: the sweep's name where the file gives none.
        shown: what messages call the file.

    Raises:
        SweepError: mistakes in it, all of them.
    """
    shown = stem if shown is None else shown
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SweepError(shown, [_syntax(text, str(error))]) from None
    reader = _Reader()
    top = reader.section((), raw, _Top) or {}
    name = top.get("name", re.sub(r"[^A-Za-z0-9_-]+", "-", stem))
    shared = reader.section(("base",), raw.get("base", {}), _Base)
    grids = {}
    for path, part in _parts(raw):
        title = part.get("title", "")
        grid_name = path[-1] if path else ONLY_GRID
        own = {} if not path else reader.section((*path, "base"), part.get("base", {}), _Base)
        axes = reader.axes(path, part)
        base = {**(shared or {}), **(own or {})}
        grids[grid_name] = reader.grid(path, title, base, axes)
    if raw.get("grid") == {}:
        reader.mistakes.append(Mistake("grid", "no grids", "one or more tables [grid.NAME]"))
    plans = {}
    if not reader.mistakes:
        for grid_name, grid in grids.items():
            try:
                plans[grid_name] = grid.plan()
            except ValueError as error:
                where = ("grid", grid_name) if "grid" in raw else ()
                reader.mistakes.append(_from_library(where, None, error))
    if reader.mistakes:
        raise SweepError(shown, reader.mistakes)
    return Sweep(name, top.get("title", ""), grids, text, plans)


def _parts(raw: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Each grid of a file: where it stands, and its table."""
    grids = raw.get("grid")
    if grids is None:
        yield (), raw
    elif isinstance(grids, Mapping):
        for name, part in grids.items():
            if isinstance(part, Mapping):
                yield ("grid", name), part


class _Reader:
    """Collects mistakes from one section after another."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []

    def section(self, path: tuple, raw: Any, model: type[BaseModel]) -> dict[str, Any] | None:
        """The checked entries of a table; ``None`` where one of them is wrong."""
        try:
            found = model.model_validate(raw)
        except ValidationError as error:
            self.mistakes += _unique(_translated(path, each, model) for each in error.errors())
            return None
        return {name: getattr(found, name) for name in found.model_fields_set}

    def axes(self, path: tuple, part: Mapping[str, Any]) -> dict[str, Any]:
        """By dimension, the axes that are right: a list of values, or axes zipped."""
        found: dict[str, Any] = {}
        plain = part.get("axes", {})
        checked = self._each((*path, "axes"), plain)
        # In the order of the file, which is the order of the result's dimensions.
        found |= {name: checked[name] for name in plain if name in checked} if checked else {}
        zips = part.get("zip", {})
        if not isinstance(zips, Mapping):
            self._note((*path, "zip"), zips, "tables [zip.NAME]")
            return found
        seen = dict.fromkeys(plain if isinstance(plain, Mapping) else (), "axes")
        for dimension, table in zips.items():
            where = (*path, "zip", dimension)
            if not _NAME.fullmatch(dimension) or dimension in (*AXES, *METRICS):
                self._note(where, dimension, "a word that is no axis and no metric")
            parts = self._each(where, table)
            if not isinstance(table, Mapping):
                continue
            if len(table) < 2:
                self._note(where, f"{len(table)} axes", "two or more axes", quoted=False)
            for name in table:
                if name in seen:
                    self._note(
                        (*where, name), f"also in {seen[name]}", "each axis once", quoted=False
                    )
                seen.setdefault(name, f"zip.{dimension}")
            lengths = {name: len(values) for name, values in parts.items()}
            for name, length in lengths.items():
                first = next(iter(lengths))
                if length != lengths[first]:
                    self._note(
                        (*where, name),
                        f"{length} values",
                        f"as many as {first} has, {lengths[first]}",
                        quoted=False,
                    )
            if len(set(lengths.values())) == 1 and len(parts) == len(table):
                rows = list(zip(*(map(_label, parts[name]) for name in table), strict=True))
                if len(set(rows)) < len(rows):
                    twice = next(row for row in rows if rows.count(row) > 1)
                    self._note(where, f"{twice} occurs twice", "each row once", quoted=False)
                found[dimension] = {name: parts[name] for name in table}
        return found

    def _each(self, path: tuple, table: Any) -> dict[str, Any]:
        """The axes of a table that are right, each checked by itself."""
        if not isinstance(table, Mapping):
            self._note(path, table, "a table of axes")
            return {}
        once = path[-1] == "axes"
        model = _Axes if once else _ZippedAxes
        right = {}
        for name, values in table.items():
            checked = self.section(path, {name: values}, model)
            if checked:
                right |= checked
        return right

    def grid(self, path: tuple, title: Any, base: dict[str, Any], axes: dict[str, Any]) -> Grid:
        """Check what several entries of a grid say together."""
        base_path = (*path, "base")
        given = {**{name: [value] for name, value in base.items() if name in AXES}}
        for dimension, values in axes.items():
            given |= values if isinstance(values, Mapping) else {dimension: values}
        varied = {*axes, *(n for v in axes.values() if isinstance(v, Mapping) for n in v)}
        metrics = base.get("metrics", ["reward", "credit", "entropy"])
        record = base.get("record", [])
        for index, name in enumerate(record):
            if name not in metrics:
                self._note((*base_path, "record", index), name, f"the metrics {', '.join(metrics)}")
        if record and "steps" in varied:
            self._note((*base_path, "record"), record, "no curves beside an axis of steps")
        if base.get("logits") and varied & {"length", "vocab_size"}:
            self._note((*base_path, "logits"), True, "false beside an axis of length or vocab_size")
        shortest = min(given.get("steps", [Sizes.steps]))
        widest = max(given.get("final_window", [Sizes.final_window]))
        if widest > shortest:
            where = ("axes", "final_window") if "final_window" in varied else ("axes", "steps")
            inside = {"final_window", "steps"} & varied
            self._note(
                (*path, *(where if inside else ("base", "final_window"))),
                f"final_window {widest}, steps {shortest}",
                "a final_window of at most the steps",
                quoted=False,
            )
        largest = (
            max(given.get("length", [Sizes.length])),
            max(given.get("vocab_size", [Sizes.vocab_size])),
        )
        exact = [name for name in metrics if METRICS[name].costly]
        if exact and largest[0] * math.log(largest[1]) > math.log(MAX_SEQUENCES) + 1e-9:
            self._note(
                (*base_path, "metrics"),
                exact[0],
                f"vocab_size ** length of at most {MAX_SEQUENCES} for exact metrics",
            )
        runs = math.prod(
            len(next(iter(values.values())) if isinstance(values, Mapping) else values)
            for values in axes.values()
        )
        if runs > MAX_RUNS:
            self._note((*path, "axes"), f"{runs} runs", f"at most {MAX_RUNS}", quoted=False)
        options = {
            name: _argument(name, value)
            for name, value in base.items()
            if name not in (*CONFIG_FIELDS, *SIZE_FIELDS, "block_width")
        }
        options["config"] = Config(**{n: v for n, v in base.items() if n in CONFIG_FIELDS})
        options["sizes"] = Sizes(**{n: v for n, v in base.items() if n in SIZE_FIELDS})
        options["width"] = base.get("block_width", default_block_width())
        planned = {
            dimension: {name: _named(name, part) for name, part in values.items()}
            if isinstance(values, Mapping)
            else _named(dimension, values)
            for dimension, values in axes.items()
        }
        return Grid(title if isinstance(title, str) else "", planned, options)

    def _note(self, path: tuple, problem: Any, allowed: str, quoted: bool = True) -> None:
        shown = repr(problem) if quoted else str(problem)
        self.mistakes.append(Mistake(_dotted(path), shown, allowed))


def _argument(name: str, value: Any) -> Any:
    """A base entry as ``plan_grid`` takes it."""
    return value.oracle() if name == "feedback" else value


def _named(name: str, values: list[Any]) -> Any:
    if name != "feedback":
        return values
    return [(_label(value), value.oracle()) for value in values]


def _label(value: Any) -> Any:
    return value.label() if isinstance(value, _Oracle) else value


# Values.


def _refused(allowed: str, choices: Sequence[str] = ()) -> PydanticCustomError:
    return PydanticCustomError("refused", "{allowed}", {"allowed": allowed, "choices": choices})


def _number(name: str) -> Any:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _refused(f"numbers, {_allowed(name, 'x')}")
        if math.isfinite(value) and abs(value) > _LARGEST:
            raise _refused("numbers that fit into 32 bits")
        try:
            check_value(name, value)
        except ValueError as error:
            raise _refused(_after(error)) from None
        return float(value)

    return Annotated[Any, AfterValidator(check)]


def _allowed(name: str, wrong: Any) -> str:
    try:
        check_value(name, wrong)
    except ValueError as error:
        return _after(error)
    raise AssertionError(name)


def _after(error: ValueError) -> str:
    return str(error).rpartition("allowed: ")[2]


def _integer(name: str) -> Any:
    def check(value: Any) -> int:
        if name in SEED_AXES:
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
                raise _refused("integers from 0 to 2**32 - 1")
            return value
        try:
            check_size(name, value)
        except ValueError as error:
            raise _refused(_after(error)) from None
        if value > 2**20:
            raise _refused("integers up to 2**20")
        return value

    return Annotated[Any, AfterValidator(check)]


def _choice(names: Collection[str]) -> Any:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise _refused(", ".join(names), list(names))
        return value

    return Annotated[Any, AfterValidator(check)]


_Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]


_Share = Annotated[_Finite, Field(ge=0, le=1)]
_Judge: Any = create_model(
    "_Judge",
    __config__=ConfigDict(extra="forbid"),
    **{name: (_Share, 0.0) for name in STRENGTHS},  # pyright: ignore[reportArgumentType, reportCallIssue]
)


class _Oracle(BaseModel):
    """What every kind of oracle has; ``judge`` are the strengths of a judge's biases."""

    model_config = ConfigDict(extra="forbid")
    name: str | None = None
    judge: _Judge | None = None  # pyright: ignore[reportInvalidTypeForm]

    def label(self) -> str:
        given = self.model_dump(exclude_unset=True, exclude={"kind", "name", "judge"})
        if self.judge is not None:
            given |= self.judge.model_dump(exclude_unset=True)
        kind = getattr(self, "kind")  # noqa: B009
        numbers = ", ".join(f"{key}={value}" for key, value in given.items())
        return self.name or (f"{kind}({numbers})" if numbers else kind)

    def plain(self) -> oracles.Oracle:
        """The oracle without a judge of its own."""
        raise NotImplementedError

    def oracle(self) -> oracles.Oracle:
        """The oracle as ``plan_grid`` takes it."""
        plain = self.plain()
        if self.judge is None:
            return plain
        kept = {} if plain.judge is None else {n: getattr(plain.judge, n) for n in STRENGTHS}
        return oracles.judged(plain, **{**kept, **self.judge.model_dump(exclude_unset=True)})

    @model_validator(mode="after")
    def _feedback_stays_within_bounds(self) -> _Oracle:
        try:
            oracles.check_oracle(self.oracle())
        except ValueError as error:
            raise _refused(f"{_after(error)} ({str(error).partition(';')[0]})") from None
        return self


class _Binary(_Oracle):
    kind: Literal["binary"]
    threshold: Annotated[_Finite, Field(ge=0, le=1)] = 0.5

    def plain(self) -> oracles.Oracle:
        return oracles.binary(self.threshold)


class _Ordinal(_Oracle):
    kind: Literal["ordinal"]
    levels: Annotated[int, Field(ge=2, le=MAX_LEVELS, strict=True)] = 5

    def plain(self) -> oracles.Oracle:
        return oracles.ordinal(self.levels)


class _Continuous(_Oracle):
    kind: Literal["continuous"]

    def plain(self) -> oracles.Oracle:
        return oracles.continuous()


class _Critique(_Oracle):
    kind: Literal["critique"]
    reading: Literal["position", "token", "sampled"] = "token"

    def plain(self) -> oracles.Oracle:
        return oracles.critique(self.reading)


class _Constant(_Oracle):
    kind: Literal["constant"]
    value: Annotated[_Finite, Field(ge=0, le=1)] = 1.0

    def plain(self) -> oracles.Oracle:
        return oracles.constant(self.value)


class _Custom(_Oracle):
    """``gain R~ + base + sum_k rise_k 1[R~ >= cut_k]``, with numbers of one's own."""

    kind: Literal["custom"]
    gain: _Finite | None = None
    base: _Finite = 0.0
    cuts: Annotated[list[_Finite], Field(max_length=MAX_LEVELS)] = []
    rises: Annotated[list[_Finite], Field(max_length=MAX_LEVELS)] = []
    reading: Literal["position", "token", "sampled"] | None = None

    def plain(self) -> oracles.Oracle:
        gain = None if self.gain is None else np.float32(self.gain)
        hints = None if self.reading is None else oracles.critique(self.reading).hints
        if hints is not None and gain is None:
            gain = np.float32(0)
        cuts, rises = (np.asarray(part, np.float32) for part in (self.cuts, self.rises))
        return oracles.Oracle(gain, np.float32(self.base), cuts, rises, hints)


class _References(_Oracle):
    kind: Literal["references"]

    def plain(self) -> oracles.Oracle:
        return oracles.references()


class _Rubric(_Oracle):
    kind: Literal["rubric"]

    def plain(self) -> oracles.Oracle:
        return oracles.rubric()


class _Preference(_Oracle):
    kind: Literal["preference"]

    def plain(self) -> oracles.Oracle:
        return oracles.preference()


class _SelfJudge(_Oracle):
    kind: Literal["self_judge"]
    likelihood: _Share = 0.5

    def plain(self) -> oracles.Oracle:
        return oracles.self_judge(self.likelihood)


_KINDS = {
    "binary": _Binary,
    "ordinal": _Ordinal,
    "continuous": _Continuous,
    "critique": _Critique,
    "constant": _Constant,
    "references": _References,
    "rubric": _Rubric,
    "preference": _Preference,
    "self_judge": _SelfJudge,
    "custom": _Custom,
}


def _kind(value: Any) -> Any:
    if isinstance(value, str):
        if value not in _KINDS or value == "custom":
            names = [name for name in _KINDS if name != "custom"]
            raise _refused(f"{', '.join(names)}, or a table with a kind", names)
        return {"kind": value}
    if not isinstance(value, dict) or "kind" not in value:
        raise _refused(f"a name, or a table with a kind: {', '.join(_KINDS)}")
    return value


_Feedback: Any = Annotated[
    Union[tuple(_KINDS.values())],  # noqa: UP007
    Field(discriminator="kind"),
    BeforeValidator(_kind),
]


def _expanded(name: str, given: Any) -> list[Any]:
    """A list as it is, or one of the short forms of a list."""
    values = given if isinstance(given, list) else _short_form(name, given)
    if name == "feedback":
        values = list(itertools.chain.from_iterable(map(_each_oracle, values)))
    if not values:
        raise _refused("one or more values")
    if len(values) > MAX_RUNS:
        raise _refused(f"at most {MAX_RUNS} values")
    return values


def _short_form(name: str, given: Any) -> list[Any]:
    if not isinstance(given, dict) or len(given) != 1 or next(iter(given)) not in _RANGES:
        choices = list(_RANGES) if isinstance(given, dict) and len(given) == 1 else []
        raise _refused(_SEQUENCE, choices)
    ((form, numbers),) = given.items()
    whole = name in (*SEED_AXES, *SIZE_FIELDS)
    if name not in (*SEED_AXES, *SIZE_FIELDS, *CONFIG_FIELDS) and name != "levels":
        raise _refused("a list of names")
    if form == "count":
        if isinstance(numbers, bool) or not isinstance(numbers, int) or not 0 < numbers <= MAX_RUNS:
            raise _refused(f"count = an integer from 1 to {MAX_RUNS}")
        return list(range(numbers))
    if not isinstance(numbers, list) or not all(
        isinstance(n, (int, float)) and not isinstance(n, bool) and math.isfinite(n)
        for n in numbers
    ):
        raise _refused(_SEQUENCE)
    if form == "range":
        if len(numbers) not in (2, 3) or not all(isinstance(n, int) for n in numbers):
            raise _refused("range = [from, end] or [from, end, step], integers; the end left out")
        if len(numbers) == 3 and numbers[2] == 0:
            raise _refused("range = [from, end, step] with a step other than 0")
        span = range(*numbers)
        if len(span) > MAX_RUNS:
            raise _refused(f"at most {MAX_RUNS} values")
        return list(span)
    if len(numbers) != 3 or not isinstance(numbers[2], int) or not 1 <= numbers[2] <= MAX_RUNS:
        raise _refused(f"{form} = [from, to, count], the count an integer, 1 or more")
    first, last, count = numbers
    if form == "logspace":
        if first <= 0 or last <= 0:
            raise _refused("logspace = [from, to, count] with both ends above 0")
        points = np.geomspace(first, last, count)
    else:
        points = np.linspace(first, last, count)
    # Labels that can be typed again: 0.3, not 0.30000000000000004.
    values = [float(f"{point:.12g}") for point in points]
    return [round(value) for value in values] if whole or name == "levels" else values


def _each_oracle(value: Any) -> list[Any]:
    """A feedback table with a list where a number belongs stands for several."""
    if not isinstance(value, dict):
        return [value]
    several = {}
    for key in ("levels", "threshold", "value", "gain", "likelihood"):
        if isinstance(value.get(key), (list, dict)):
            given = value[key]
            several[key] = given if isinstance(given, list) else _short_form("levels", given)
    rows = itertools.product(*several.values())
    tables = [{**value, **dict(zip(several, row, strict=True))} for row in rows]
    judge = value.get("judge")
    if not isinstance(judge, dict):
        return tables
    lists = {key: each for key, each in judge.items() if isinstance(each, list)}
    judges = [
        {**judge, **dict(zip(lists, row, strict=True))}
        for row in itertools.product(*lists.values())
    ]
    return [{**table, "judge": each} for table in tables for each in judges]


def _once(values: list[Any]) -> list[Any]:
    labels = [_label(value) for value in values]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise _refused(f"each value once ({twice!r} occurs twice)")
    return values


def _at_least_one(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 2**20:
        raise _refused("integers, 1 to 2**20")
    return value


def _nodes(value: Any) -> int:
    try:
        check_nodes(value)
    except (ValueError, TypeError) as error:
        raise _refused(_after(error) if isinstance(error, ValueError) else "integers") from None
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refused("true or false")
    return value


def _word(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _refused("a word of letters, digits, - and _")
    return value


_FIELDS: dict[str, Any] = {
    "method": _choice(METHODS),
    "feedback": _Feedback,
    "optimizer": _choice(OPTIMIZERS),
    **{name: _integer(name) for name in (*SEED_AXES, *SIZE_FIELDS)},
    **{name: _number(name) for name in CONFIG_FIELDS},
}
_Names: Any = Annotated[list[_choice(METRICS)], AfterValidator(_once)]
_FORBID = ConfigDict(extra="forbid")


def _axis(name: str, once: bool) -> Any:
    checks = [AfterValidator(_once)] if once else []
    expand = BeforeValidator(functools.partial(_expanded, name))
    return Annotated[(list[_FIELDS[name]], *checks, expand)]


def _model(name: str, fields: dict[str, Any]) -> Any:
    options = {field: (kind, None) for field, kind in fields.items()}
    return create_model(name, __config__=_FORBID, **options)  # pyright: ignore[reportCallIssue, reportArgumentType]


_Axes = _model("_Axes", {name: _axis(name, True) for name in AXES})
_ZippedAxes = _model("_ZippedAxes", {name: _axis(name, False) for name in AXES})
_Base = _model(
    "_Base",
    {
        **_FIELDS,
        "metrics": Annotated[_Names, Field(min_length=1)],
        "record": _Names,
        "record_every": Annotated[Any, AfterValidator(_at_least_one)],
        "logits": Annotated[Any, AfterValidator(_flag)],
        "teacher_nodes": Annotated[Any, AfterValidator(_nodes)],
        "block_width": Annotated[Any, AfterValidator(_at_least_one)],
    },
)


class _GridTable(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: Annotated[str, Field(strict=True)] = ""
    base: dict[str, Any] = {}
    axes: dict[str, Any] = {}
    zip: dict[str, Any] = {}


class _Top(_GridTable):
    name: Annotated[Any, AfterValidator(_word)] = None
    grid: dict[Annotated[str, AfterValidator(_word)], _GridTable] = {}

    @model_validator(mode="after")
    def _one_way_or_the_other(self) -> _Top:
        if self.grid and (self.axes or self.zip):
            raise PydanticCustomError(
                "both",
                "{allowed}",
                {"allowed": "[axes] and [zip], or tables [grid.NAME]", "choices": []},
            )
        return self


# Messages.


def _translated(path: tuple, error: Any, model: type[BaseModel]) -> Mistake:
    """One of pydantic's errors in our words."""
    place = tuple(part for part in error["loc"] if not _is_tag(part, error["loc"]))
    context = error.get("ctx", {})
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        owner = _owner(model, error["loc"])
        names = [name for name in owner.model_fields if name != "kind" or owner in _KINDS.values()]
        return Mistake(
            _dotted((*path, *place)), "unknown field", ", ".join(names), _nearest(place[-1], names)
        )
    if kind == "both":
        return Mistake("grid", "beside axes or zip", context["allowed"])
    if kind == "refused":
        nearest = _nearest(value, context["choices"])
        if isinstance(value, dict) and len(value) == 1:
            nearest = _nearest(next(iter(value)), context["choices"])
        return Mistake(_dotted((*path, *place)), _short(value), context["allowed"], nearest)
    if kind == "union_tag_invalid":
        tag = value.get("kind") if isinstance(value, dict) else value
        return Mistake(
            _dotted((*path, *place, "kind")),
            _short(tag),
            ", ".join(_KINDS),
            _nearest(tag, list(_KINDS)),
        )
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return Mistake(
            _dotted((*path, *place)), _short(value), ", ".join(choices), _nearest(value, choices)
        )
    allowed = re.sub(r"^Input should be (a valid )?", "", error["msg"])
    allowed = {"dictionary": "a table", "string": "text", "list": "a list"}.get(allowed, allowed)
    return Mistake(_dotted((*path, *place)), _short(value), allowed)


def _is_tag(part: Any, place: tuple) -> bool:
    """Whether part of a place is the kind of oracle that pydantic put there."""
    return part in _KINDS and "feedback" in place


def _owner(model: Any, place: tuple) -> Any:
    for part in place:
        if _is_tag(part, place):
            return _Judge if "judge" in place else _KINDS[part]
    return _GridTable if place[0] == "grid" and len(place) > 1 else model


def _unique(mistakes: Iterator[Mistake]) -> list[Mistake]:
    return list(dict.fromkeys(mistakes))


def _nearest(given: Any, names: Sequence[str]) -> str | None:
    if not isinstance(given, str):
        return None
    found = difflib.get_close_matches(given.lower(), names, 1, cutoff=0.55)
    return found[0] if found else None


def _dotted(path: tuple) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "file"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _from_library(path: tuple, name: str | None, error: ValueError) -> Mistake:
    field_name, _, rest = str(error).partition(": ")
    problem, _, allowed = rest.partition("; allowed: ")
    return Mistake(_dotted((*path, name or field_name)), problem or rest, allowed or "see above")


def _syntax(text: str, message: str) -> Mistake:
    """What tomllib says, with the line that it means."""
    lines = text.rstrip().splitlines() or [""]
    found = re.search(r"at line (\d+)", message)
    number = min(int(found[1]), len(lines)) if found else len(lines)
    reason = re.sub(r"\s*\(at .*", "", message)
    return Mistake(f"line {number}", f"{reason} in {lines[number - 1].strip()!r}", "TOML")
