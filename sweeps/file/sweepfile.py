"""Sweep files: a TOML page to checked grids, with every mistake found at once.

A file has a ``[base]`` (what no axis varies), ``[axes]`` whose product is trained, and any number
of ``[zip.NAME]`` tables, whose axes vary together along a dimension NAME. Several grids are tables
``[grid.NAME]`` with ``axes``, ``zip`` and ``base`` of their own. See ``docs/sweeps.md``.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import itertools
import math
import os
import re
import stat
import tomllib
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
    WrapValidator,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

import sdpo_jax
from sdpo_jax import (
    ALGORITHMS,
    METRICS,
    OPTIMIZERS,
    POLICIES,
    PROBLEMS,
    Config,
    Plan,
    Sizes,
    oracles,
    problems,
)
from sdpo_jax.config import CONFIG_FIELDS, SIZE_FIELDS, check_value
from sdpo_jax.engine import own_numbers
from sdpo_jax.engine.own_numbers import OwnNumber
from sdpo_jax.grid import AXES, check_size, default_block_width
from sdpo_jax.oracles.judges import STRENGTHS
from sdpo_jax.problems import MAX_SEQUENCES
from sdpo_jax.program import NAMED_AXES, OWN_NAMES, SEED_AXES, STATISTICS, default_metrics
from sdpo_jax.teachers import check_nodes
from sweeps.file import parts
from sweeps.file.overrides import overridden
from sweeps.system.text import plain

MAX_RUNS = 20_000_000
# Values of an axis that is no seed: of these each is checked, labelled and kept by itself.
MAX_VALUES = 50_000
# Combinations of what may decide the program: of each it is found out which one it needs.
MAX_CELLS = 50_000
# Each takes seconds to compile.
MAX_PROGRAMS = 1_000
MAX_ORACLES = 1_000
MAX_GRIDS = 100
MAX_LEVELS = 100
MAX_BYTES = 2**20
MAX_DEPTH = 32
# Mistakes that are listed; of a file with more of them the others are counted.
MAX_LISTED = 50
_OF_ONE_TABLE = 20
ONLY_GRID = "main"
# Ends the name of a grid's second table.
COMPARISONS = "-comparisons"

# Names that results have for themselves: no dimension can be called so.
RESERVED = frozenset(
    {
        *AXES,
        *METRICS,
        *(metric + end for metric in METRICS for end in STATISTICS),
        *OWN_NAMES,
    }
)
# Names that can't be files everywhere.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)
_LONGEST_NAME = 64
_SMALLEST = float(np.finfo(np.float32).smallest_normal)
_LARGEST = float(np.finfo(np.float32).max)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
# A dotted name of many parts, which takes a parser of TOML a time that grows with their square.
_PART = r"""(?:"[^"\n]*+"|'[^'\n]*+'|[\w-]++)[ \t]*+"""
_MANY_PARTS = re.compile(rf"(?<![\w-])(?:{_PART}\.[ \t]*+){{{MAX_DEPTH}}}")
_RANGES = ("linspace", "logspace", "range", "count")
# Axes that may decide which program a run needs.
_DECIDING = (*NAMED_AXES, *SIZE_FIELDS, "feedback_strength", "quality_scale")
# What a grid has that names nothing else; their own numbers are always at hand.
_DEFAULT_PARTS = (("algorithm", "sdpo"), ("policy", "factored"), ("problem", "bigram"))
# Numbers of an oracle that may be several.
_OF_ORACLES = ("levels", "threshold", "value", "gain", "likelihood")
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
        return plain(f"{self.path}: {self.problem}{hint}; allowed: {self.allowed}")


class SweepError(ValueError):
    """A sweep file that can't be run. ``mistakes`` holds all that is wrong with it."""

    def __init__(self, name: str, mistakes: Sequence[Mistake]):
        self.mistakes = tuple(mistakes)
        count = f"{len(mistakes)} mistake" + ("s" if len(mistakes) > 1 else "")
        more = len(mistakes) - MAX_LISTED
        rest = [f"... and {more} more"] if more > 0 else []
        shown = map(str, mistakes[:MAX_LISTED])
        super().__init__("\n  ".join([plain(f"{name}: {count}"), *shown, *rest]))


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
        plans: by name, each grid laid out.
        named: as ``KIND NAME`` the parts that it names as ``module:name``.
    """

    name: str
    title: str
    grids: dict[str, Grid]
    text: str
    plans: dict[str, Plan] = field(repr=False)
    named: tuple[str, ...] = ()


def read(path: str | os.PathLike[str], settings: Sequence[str] = ()) -> Sweep:
    """Read and check a sweep file.

    Args:
        path: of the file.
        settings: values that are to be others than the file says, as ``overridden`` takes them.

    Raises:
        SweepError: mistakes in it, all of them.
        ValueError: a setting that can't be read.
        OSError: the file can't be read.
    """
    path = Path(path)
    problem, allowed = _not_a_page(path)
    if not problem:
        try:
            # Some editors put a mark of the byte order first.
            text = path.read_text(encoding="utf-8-sig")
            if settings:
                # What is wrong with the file itself is said first.
                _loaded(text, str(path))
                text = overridden(text, settings)
            return parse(text, path.stem, str(path), path.parent)
        except UnicodeDecodeError as error:
            problem, allowed = error.reason, "UTF-8 text"
    raise SweepError(str(path), [Mistake("file", problem, allowed)])


def _not_a_page(path: Path) -> tuple[str, str]:
    """What stands in the place of a sweep file, and what may; empty where nothing is wrong.

    Looked at before it is opened: a pipe would be waited for, a large file read for minutes.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"FILE: {plain(str(path))!r}: no such file; allowed: a page of TOML that is there"
        ) from None
    if stat.S_ISDIR(found.st_mode):
        return "a folder", "a page of TOML; `resume` goes on with what `run` wrote into a folder"
    if not stat.S_ISREG(found.st_mode):
        return "a pipe or a device", "a page of TOML"
    if found.st_size > MAX_BYTES:
        return f"{found.st_size:,} bytes", f"at most {MAX_BYTES:,}"
    return "", ""


def parse(text: str, stem: str, shown: str | None = None, beside: Path | None = None) -> Sweep:
    """Check the text of a sweep file.

    Args:
        text: TOML.
        stem: the sweep's name where the file gives none.
        shown: what messages call the file.
        beside: a folder in which modules of one's own may stand.

    Raises:
        SweepError: mistakes in it, all of them.
    """
    shown = stem if shown is None else shown
    raw = _loaded(text, shown)
    reader = _Reader()
    reader.models = _models_for(reader.parts(raw, beside))
    top = reader.section((), raw, _Top) or {}
    name = top.get("name", _name_of(stem))
    shared = reader.section(("base",), raw.get("base", {}), reader.models.base)
    grids = {}
    parts = list(_parts(raw))
    reader.names([path[-1] for path, _ in parts if path])
    for path, part in parts if len(parts) <= MAX_GRIDS else ():
        title = part.get("title", "")
        grid_name = path[-1] if path else ONLY_GRID
        own = (
            {}
            if not path
            else reader.section((*path, "base"), part.get("base", {}), reader.models.base)
        )
        axes = reader.axes(path, part)
        base = {**(shared or {}), **(own or {})}
        grids[grid_name] = reader.grid(path, title, base, axes)
    if raw.get("grid") == {}:
        reader.mistakes.append(Mistake("grid", "no grids", "one or more tables [grid.NAME]"))
    runs = sum(_runs(grid.axes) for grid in grids.values())
    if runs > MAX_RUNS and not reader.mistakes:
        reader.mistakes.append(Mistake("grid", f"{runs} runs", f"at most {MAX_RUNS}"))
    # All of them before the first one is trained: the last may be the one that can't be.
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
    programs = sum(len(plan.groups) for plan in plans.values())
    if programs > MAX_PROGRAMS:
        too_many = Mistake("file", f"{programs} programs", f"at most {MAX_PROGRAMS}")
        raise SweepError(shown, [too_many])
    return Sweep(name, top.get("title", ""), grids, text, plans, _elsewhere(raw))


def _loaded(text: str, shown: str) -> dict[str, Any]:
    """The tables of a text.

    Raises:
        SweepError: it is no TOML, or TOML that would take too long or too much of the stack.
    """
    many = _MANY_PARTS.search(text)
    deep = Mistake("file", f"more than {MAX_DEPTH} levels deep", f"at most {MAX_DEPTH}")
    if len(text) > MAX_BYTES:
        mistake = Mistake("file", f"{len(text):,} characters", f"at most {MAX_BYTES:,}")
    elif many is not None:
        number = text.count("\n", 0, many.start()) + 1
        mistake = Mistake(f"line {number}", f"a name of more than {MAX_DEPTH} parts", "fewer")
    elif not text.strip():
        mistake = Mistake("file", "empty", "a page of TOML, with [axes] or [base]")
    else:
        try:
            raw = tomllib.loads(text)
            if not _deeper(raw, MAX_DEPTH):
                return raw
            mistake = deep
        except tomllib.TOMLDecodeError as error:
            mistake = _syntax(text, str(error))
        except RecursionError:
            mistake = deep
        except ValueError as error:
            # From Python's own readers of numbers and dates.
            reason = str(error).partition(";")[0]
            mistake = Mistake("file", reason, "numbers and dates that can be read")
    raise SweepError(shown, [mistake]) from None


def _deeper(raw: Any, most: int) -> bool:
    """Whether tables and lists stand more than so many levels deep in each other."""
    level = [raw]
    for _ in range(most):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return any(isinstance(each, (dict, list)) for each in level)


def _name_of(stem: str) -> str:
    """A plain word for a file's name: the same where it is one, and never that of another file."""
    # A file system may give the name back with its accents apart.
    stem = unicodedata.normalize("NFC", stem)
    word = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")
    if word and word == stem and len(word) <= _LONGEST_NAME and not _DEVICES.fullmatch(word):
        return word
    whole = stem.encode("utf-8", "surrogatepass")
    return f"{word[: _LONGEST_NAME - 9] or 'sweep'}-{hashlib.sha256(whole).hexdigest()[:8]}"


def _runs(axes: Mapping[str, Any], names: Collection[str] = AXES) -> int:
    """How many runs axes have; only of those dimensions that have one of the names, if given."""
    return math.prod(
        len(next(iter(parts.values())))
        for parts in _dimensions(axes)
        if not parts.keys().isdisjoint(names)
    )


def _programs(axes: Mapping[str, Any]) -> int:
    """How many programs axes need at least: one for all that agree on the sizes."""
    return math.prod(
        len(set(zip(*(parts[name] for name in parts.keys() & set(SIZE_FIELDS)), strict=True)))
        for parts in _dimensions(axes)
        if not parts.keys().isdisjoint(SIZE_FIELDS)
    )


def _dimensions(axes: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The axes of each dimension."""
    for dimension, values in axes.items():
        yield values if isinstance(values, Mapping) else {dimension: values}


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
        self.models = _models_for({})

    def parts(self, raw: Any, beside: Path | None) -> dict[str, OwnNumber]:
        """Bring in the parts of a file that are named as ``module:name``.

        Returns:
            By name the own numbers of all parts that the file names.
        """
        numbers: dict[str, OwnNumber] = {}
        for kind, name in dict.fromkeys([*_DEFAULT_PARTS, *_named_parts(raw)]):
            try:
                if parts.is_elsewhere(name):
                    parts.bring(kind, name, beside)
                own = parts.own_numbers(kind, parts.known_as(kind, name))
                numbers = own_numbers.joined([*numbers.values(), *own.values()])
            except ValueError as error:
                self.mistakes.append(_from_library((), None, error))
        return numbers

    def section(self, path: tuple, raw: Any, model: type[BaseModel]) -> dict[str, Any] | None:
        """The checked entries of a table; ``None`` where one of them is wrong."""
        try:
            found = model.model_validate(raw)
        except ValidationError as error:
            found = error.errors(include_url=False)
            # Those that nobody will read are not put into words.
            told = (_translated(path, each, model) for each in found[:_OF_ONE_TABLE])
            self.mistakes += dict.fromkeys(told)
            if len(found) > _OF_ONE_TABLE:
                more = f"{len(found) - _OF_ONE_TABLE} mistakes more"
                self._note(path, more, "none", quoted=False)
            return None
        return {name: getattr(found, name) for name in found.model_fields_set}

    def names(self, grids: Sequence[str]) -> None:
        """Check that each grid of several has files of its own."""
        if len(grids) > MAX_GRIDS:
            self._note(("grid",), f"{len(grids)} grids", f"at most {MAX_GRIDS}", quoted=False)
        # Some file systems take two names that differ in capitals for one.
        owner: dict[str, str] = {}
        for grid in grids:
            for file in (grid, f"{grid}{COMPARISONS}"):
                other = owner.setdefault(file.lower(), grid)
                if other != grid:
                    problem = f"{file}.csv would be a table of {other!r} too"
                    allowed = f"names that differ in more than capitals and {COMPARISONS}"
                    self._note(("grid", grid), problem, allowed, quoted=False)
                    break

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
            if not _is_word(dimension) or dimension in (*RESERVED, *self.models.numbers):
                self._note(where, _short(dimension), _A_DIMENSION, quoted=False)
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
                self._rows(where, parts)
                found[dimension] = {name: parts[name] for name in table}
        return found

    def _rows(self, where: tuple, parts: Mapping[str, Sequence[Any]]) -> None:
        """Check that zipped axes have no row twice, and no label for two things."""
        if not any(isinstance(values, range) for values in parts.values()):
            rows = zip(*(_as_told(name, values) for name, values in parts.items()), strict=True)
            twice = _twice(rows)
            if twice is not None:
                row = tuple(_label(values[twice[1]]) for values in parts.values())
                self._note(where, f"{_short(row)} occurs twice", "each row once", quoted=False)
        named: dict[Any, Any] = {}
        for place, value in enumerate(parts.get("oracle", ())):
            if named.setdefault(value.label(), value) != value:
                here = (*where, "oracle", place)
                self._note(here, value.label(), "a name for each oracle")

    def _each(self, path: tuple, table: Any) -> dict[str, Any]:
        """The axes of a table that are right, each checked by itself."""
        if not isinstance(table, Mapping):
            self._note(path, table, "a table of axes")
            return {}
        once = path[-1] == "axes"
        model = self.models.axes if once else self.models.zipped
        right = {}
        for name, values in table.items():
            checked = self.section(path, {name: values}, model)
            if checked:
                right |= checked
        return right

    def grid(self, path: tuple, title: Any, base: dict[str, Any], axes: dict[str, Any]) -> Grid:
        """Check what several entries of a grid say together."""
        base_path = (*path, "base")
        own = self.models.numbers
        given = {name: [value] for name, value in base.items() if name in (*AXES, *own)}
        for dimension, values in axes.items():
            given |= values if isinstance(values, Mapping) else {dimension: values}
        varied = {*axes, *(n for v in axes.values() if isinstance(v, Mapping) for n in v)}
        kinds = [problems.problem_kind(each) for each in given.get("problem", ["bigram"])]
        metrics = base.get("metrics", list(default_metrics(kinds)))
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
        for count, what, most in (
            (_runs(axes), "runs", MAX_RUNS),
            (_runs(axes, _DECIDING), "combinations that may need programs", MAX_CELLS),
            (_programs(axes), "programs", MAX_PROGRAMS),
        ):
            if count > most:
                allowed = f"at most {most}"
                self._note((*path, "axes"), f"{count} {what}", allowed, quoted=False)
        options = {
            name: _argument(name, value)
            for name, value in base.items()
            if name not in (*CONFIG_FIELDS, *SIZE_FIELDS, *own, "block_width")
        }
        held = {name: value for name, value in base.items() if name in own and name not in varied}
        if held:
            options["numbers"] = held
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
    return (_label(value), value.oracle()) if name == "oracle" else value


def _named(name: str, values: list[Any]) -> Any:
    if name != "oracle":
        return values
    return [(_label(value), value.oracle()) for value in values]


def _label(value: Any) -> Any:
    return value.label() if isinstance(value, _Oracle) else value


# Values.


def _refused(allowed: str, choices: Sequence[str] = ()) -> PydanticCustomError:
    return PydanticCustomError("refused", "{allowed}", {"allowed": allowed, "choices": choices})


def _number(name: str, rule: own_numbers.Number | None = None) -> Any:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _refused(f"numbers, {_allowed(name, 'x', rule)}")
        value = _fits_32_bits(value)
        try:
            check_value(name, value, rule)
        except ValueError as error:
            raise _refused(_after(error)) from None
        return value

    return Annotated[Any, AfterValidator(check)]


def _fits_32_bits(value: float) -> float:
    """A number as programs can take it: what is not, they would read as 0 or as infinite."""
    fits = value == 0 or _SMALLEST <= abs(value) <= _LARGEST
    if not fits and not (isinstance(value, float) and not math.isfinite(value)):
        raise _refused("numbers that fit into 32 bits: 0, or 1.2e-38 to 3.4e+38 in size")
    return float(value)


def _allowed(name: str, wrong: Any, rule: own_numbers.Number | None) -> str:
    try:
        check_value(name, wrong, rule)
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


def _choice(names: Collection[str], kind: str = "") -> Any:
    """One of the names, or, of a kind of parts, also ``module:name``; looked up when it is read."""

    def check(value: Any) -> str:
        known = parts.known_as(kind, value) if parts.is_elsewhere(value) else value
        if not isinstance(value, str) or known not in names:
            raise _refused(", ".join(names) + (", or module:name" if kind else ""), list(names))
        return known

    return Annotated[Any, AfterValidator(check)]


_Finite = Annotated[float, Field(allow_inf_nan=False, strict=True), AfterValidator(_fits_32_bits)]


def _printable(value: str) -> str:
    if not value or value != plain(value) or value != value.strip():
        raise _refused("one line of printable text, 1 character or more")
    return value


_Share = Annotated[_Finite, Field(ge=0, le=1)]
_Judge: Any = create_model(
    "_Judge",
    __config__=ConfigDict(extra="forbid"),
    **{name: (_Share, 0.0) for name in STRENGTHS},  # pyright: ignore[reportArgumentType, reportCallIssue]
)


class _Oracle(BaseModel):
    """What every kind of oracle has; ``judge`` are the strengths of a judge's biases."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(strict=True), AfterValidator(_printable)] | None = None
    judge: _Judge | None = None  # pyright: ignore[reportInvalidTypeForm]

    def label(self) -> str:
        given = self.model_dump(exclude_unset=True, exclude={"kind", "name", "judge"})
        if self.judge is not None:
            given |= self.judge.model_dump(exclude_unset=True)
        kind = getattr(self, "kind")  # noqa: B009
        numbers = ", ".join(f"{key}={value}" for key, value in given.items())
        return self.name or (f"{kind}({numbers})" if numbers else kind)

    def told(self) -> Any:
        """What tells it from others in a run: its numbers in 32 bits, and its name."""

        def narrow(value: Any) -> Any:
            if isinstance(value, dict):
                return tuple((key, narrow(each)) for key, each in value.items())
            if isinstance(value, list):
                return tuple(map(narrow, value))
            return np.float32(value) if isinstance(value, float) else value

        return narrow(self.model_dump(exclude_unset=True))

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


def _known_oracle(value: str) -> str:
    if not parts.is_elsewhere(value) or value not in oracles.ORACLES:
        raise _refused("module:name of an oracle")
    return value


class _Function(_Oracle):
    """``module:name`` of an oracle, or of a function that is one."""

    kind: Literal["function"]
    function: Annotated[str, AfterValidator(_known_oracle)]

    def label(self) -> str:
        return self.name or self.function

    def plain(self) -> oracles.Oracle:
        return oracles.ORACLES[self.function]()


_KINDS = {
    "function": _Function,
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
        if parts.is_elsewhere(value) and value in oracles.ORACLES:
            return {"kind": "function", "function": value}
        if value not in _KINDS or value in ("custom", "function"):
            names = [name for name in _KINDS if name not in ("custom", "function")]
            raise _refused(f"{', '.join(names)}, or a table with a kind", names)
        return {"kind": value}
    if not isinstance(value, dict) or "kind" not in value:
        raise _refused(f"a name, or a table with a kind: {', '.join(_KINDS)}")
    return value


_AnyOracle: Any = Annotated[
    Union[tuple(_KINDS.values())],  # noqa: UP007
    Field(discriminator="kind"),
    BeforeValidator(_kind),
]


def _expanded(name: str, given: Any) -> list[Any] | range:
    """A list as it is, or one of the short forms of a list."""
    values = given if isinstance(given, list) else _short_form(name, given)
    if name == "oracle":
        # Counted before they are made, and no further than to the first that is too many.
        so_far = itertools.accumulate(map(_oracles_in, values))
        if any(count > MAX_ORACLES for count in so_far):
            raise _refused(f"at most {MAX_ORACLES} oracles")
        values = list(itertools.chain.from_iterable(map(_each_oracle, values)))
    if not values:
        raise _refused("one or more values")
    if len(values) > _most(name):
        raise _refused(f"at most {_most(name)} values")
    return values


def _most(name: str) -> int:
    """How many values an axis may have."""
    if name in SEED_AXES:
        return MAX_RUNS
    return MAX_ORACLES if name in _OF_ORACLES else MAX_VALUES


def _short_form(name: str, given: Any) -> list[Any] | range:
    if not isinstance(given, dict) or len(given) != 1 or next(iter(given)) not in _RANGES:
        choices = list(_RANGES) if isinstance(given, dict) and len(given) == 1 else []
        raise _refused(_SEQUENCE, choices)
    ((form, numbers),) = given.items()
    whole = name in (*SEED_AXES, *SIZE_FIELDS, "levels")
    if name in NAMED_AXES:
        raise _refused("a list of names")
    most = _most(name)
    if form == "count":
        if isinstance(numbers, bool) or not isinstance(numbers, int) or not 0 < numbers <= most:
            raise _refused(f"count = an integer from 1 to {most}")
        return _seeds_or_list(name, range(numbers))
    if not isinstance(numbers, list) or not all(map(_is_number, numbers)):
        raise _refused(_SEQUENCE)
    if form == "range":
        if len(numbers) not in (2, 3) or not all(isinstance(n, int) for n in numbers):
            raise _refused("range = [from, end] or [from, end, step], integers; the end left out")
        if len(numbers) == 3 and numbers[2] == 0:
            raise _refused("range = [from, end, step] with a step other than 0")
        span = range(*numbers)
        if len(span) > most:
            raise _refused(f"at most {most} values")
        return _seeds_or_list(name, span)
    # Made one by one, of seeds too.
    most = min(most, MAX_VALUES)
    if len(numbers) != 3 or not isinstance(numbers[2], int) or not 1 <= numbers[2] <= most:
        raise _refused(f"{form} = [from, to, count], the count an integer from 1 to {most}")
    first, last, count = numbers
    if count == 1 and first != last:
        raise _refused(f"{form} = [from, to, count], the count 2 or more where the ends differ")
    if form == "logspace":
        if first <= 0 or last <= 0:
            raise _refused("logspace = [from, to, count] with both ends above 0")
        points = np.geomspace(first, last, count)
    else:
        points = np.linspace(first, last, count)
    # Labels that can be typed again: 0.3, not 0.30000000000000004.
    values = [float(f"{point:.12g}") for point in points]
    return [round(value) for value in values] if whole else values


def _seeds_or_list(name: str, span: range) -> list[int] | range:
    """Seeds stay a range: there may be millions."""
    return span if name in SEED_AXES else list(span)


def _is_number(value: Any) -> bool:
    """Whether it is a number that numpy's ranges can take."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**63


def _lists(value: dict[str, Any]) -> dict[str, list[Any]]:
    """The entries of an oracle's table that stand for several numbers."""
    found = {}
    for key in _OF_ORACLES:
        given = value.get(key)
        if isinstance(given, (list, dict)):
            found[key] = given if isinstance(given, list) else _short_form(key, given)
    return found


def _judges_lists(value: dict[str, Any]) -> dict[str, list[Any]]:
    """The same of its judge."""
    judge = value.get("judge")
    if not isinstance(judge, dict):
        return {}
    return {key: each for key, each in judge.items() if isinstance(each, list)}


def _oracles_in(value: Any) -> int:
    """How many oracles an entry of a list of oracles stands for."""
    if not isinstance(value, dict):
        return 1
    lists = (*_lists(value).values(), *_judges_lists(value).values())
    return math.prod(map(len, lists))


def _each_oracle(value: Any) -> list[Any]:
    """An oracle's table with a list where a number belongs stands for several."""
    if not isinstance(value, dict):
        return [value]
    several = _lists(value)
    rows = itertools.product(*several.values())
    tables = [{**value, **dict(zip(several, row, strict=True))} for row in rows]
    judge = value.get("judge")
    if not isinstance(judge, dict):
        return tables
    lists = _judges_lists(value)
    judges = [
        {**judge, **dict(zip(lists, row, strict=True))}
        for row in itertools.product(*lists.values())
    ]
    return [{**table, "judge": each} for table in tables for each in judges]


def _once(name: str, values: Sequence[Any]) -> Sequence[Any]:
    if isinstance(values, range):
        return values
    for told in (_as_told(name, values), map(_label, values)):
        twice = _twice(told)
        if twice is None:
            continue
        one, other = (_label(values[place]) for place in twice)
        if one == other:
            raise _refused(f"each value once ({_short(one)} occurs twice)")
        raise _refused(f"each value once ({one!r} and {other!r} are one number in 32 bits)")
    return values


def _as_told(name: str, values: Sequence[Any]) -> Iterator[Any]:
    """What a run is given: numbers of 32 bits, of which two labels may be one."""
    if name not in (*NAMED_AXES, *SEED_AXES, *SIZE_FIELDS, "metrics"):
        return map(np.float32, values)
    return (value.told() if isinstance(value, _Oracle) else value for value in values)


def _twice(values: Iterable[Any]) -> tuple[int, int] | None:
    """The places of the first value that occurs again, if there is one."""
    first: dict[Any, int] = {}
    for place, value in enumerate(values):
        if first.setdefault(value, place) != place:
            return first[value], place
    return None


def _at_least_one(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 2**20:
        raise _refused("integers, 1 to 2**20")
    return value


def _nodes(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _refused("integers")
    try:
        check_nodes(value)
    except ValueError as error:
        raise _refused(_after(error)) from None
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refused("true or false")
    return value


def _is_word(value: str) -> bool:
    """Whether it can be the name of a file and of a variable everywhere."""
    return (
        bool(_NAME.fullmatch(value))
        and len(value) <= _LONGEST_NAME
        and (not _DEVICES.fullmatch(value))
    )


_A_WORD = (
    f"a word of at most {_LONGEST_NAME} letters, digits, - and _, the first a letter, "
    "that is no device (con, nul, ...)"
)
_A_DIMENSION = f"{_A_WORD}, no axis, no metric, and no other name of the results (step, token, ...)"


def _word(value: Any) -> str:
    if not isinstance(value, str) or not _is_word(value):
        raise _refused(_A_WORD)
    return value


def _whole_text(value: str) -> str:
    if any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in value):
        raise _refused("text without control characters")
    return value


_FIELDS: dict[str, Any] = {
    "algorithm": _choice(ALGORITHMS, "algorithm"),
    "oracle": _AnyOracle,
    "policy": _choice(POLICIES, "policy"),
    "problem": _choice(PROBLEMS, "problem"),
    "optimizer": _choice(OPTIMIZERS, "optimizer"),
    **{name: _integer(name) for name in (*SEED_AXES, *SIZE_FIELDS)},
    **{name: _number(name) for name in CONFIG_FIELDS},
}
_Names: Any = Annotated[
    list[_choice(METRICS, "metric")], AfterValidator(functools.partial(_once, "metrics"))
]
_FORBID = ConfigDict(extra="forbid")


def _axis(name: str, kind: Any, once: bool) -> Any:
    checks = [AfterValidator(functools.partial(_once, name))] if once else []
    return Annotated[(list[kind], WrapValidator(functools.partial(_each_of, name)), *checks)]


def _each_of(name: str, given: Any, check: Callable[[Any], Any]) -> Any:
    """The values of an axis, checked one by one; of a range of seeds the ends."""
    values = _expanded(name, given)
    if isinstance(values, range):
        check([values[0], values[-1]])
        return values
    return check(values)


def _model(name: str, fields: dict[str, Any]) -> Any:
    options = {field: (kind, None) for field, kind in fields.items()}
    return create_model(name, __config__=_FORBID, **options)  # pyright: ignore[reportCallIssue, reportArgumentType]


@dataclass(frozen=True)
class _Models:
    """What tables may hold, given the own numbers of the parts that a file names.

    Attributes:
        numbers: by name.
        axes: of the table of axes.
        zipped: of axes that vary together.
        base: of what no axis varies.
    """

    numbers: Mapping[str, OwnNumber]
    axes: Any
    zipped: Any
    base: Any


def _models_for(numbers: Mapping[str, OwnNumber]) -> _Models:
    return _models(
        tuple((name, each.rule) for name, each in numbers.items()), tuple(numbers.values())
    )


@functools.lru_cache(16)
def _models(
    rules: tuple[tuple[str, own_numbers.Number], ...], numbers: tuple[OwnNumber, ...]
) -> _Models:
    fields = {**_FIELDS, **{name: _number(name, rule) for name, rule in rules}}
    axes, zipped = (
        _model(title, {name: _axis(name, kind, once) for name, kind in fields.items()})
        for title, once in (("_Axes", True), ("_ZippedAxes", False))
    )
    base = {
        **fields,
        "metrics": Annotated[_Names, Field(min_length=1)],
        "record": _Names,
        "record_every": Annotated[Any, AfterValidator(_at_least_one)],
        "logits": Annotated[Any, AfterValidator(_flag)],
        "teacher_nodes": Annotated[Any, AfterValidator(_nodes)],
        "block_width": Annotated[Any, AfterValidator(_at_least_one)],
    }
    return _Models({each.name: each for each in numbers}, axes, zipped, _model("_Base", base))


def _elsewhere(raw: Any) -> tuple[str, ...]:
    """What a file names as ``module:name``, each as ``KIND NAME``."""
    named = dict.fromkeys(_named_parts(raw))
    return tuple(f"{kind} {name}" for kind, name in named if parts.is_elsewhere(name))


def _named_parts(raw: Any) -> Iterator[tuple[str, str]]:
    """The kind and name of every part that a file names, as far as it is text."""
    kinds = {**{name: name for name in NAMED_AXES}, "metrics": "metric", "record": "metric"}
    if isinstance(raw, Mapping):
        for key, value in raw.items():
            for each in value if isinstance(value, list) else [value]:
                if key == "oracle" and isinstance(each, Mapping):
                    each = each.get("function")
                if key in kinds and isinstance(each, str):
                    yield kinds[key], each
            yield from _named_parts(value)
    elif isinstance(raw, list):
        for each in raw:
            if isinstance(each, Mapping):
                yield from _named_parts(each)


class _GridTable(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: Annotated[str, Field(strict=True), AfterValidator(_whole_text)] = ""
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
    return part in _KINDS and "oracle" in place


def _owner(model: Any, place: tuple) -> Any:
    for part in place:
        if _is_tag(part, place):
            return _Judge if "judge" in place else _KINDS[part]
    return _GridTable if place[0] == "grid" and len(place) > 1 else model


def _nearest(given: Any, names: Sequence[str]) -> str | None:
    if not isinstance(given, str):
        return None
    found = difflib.get_close_matches(given.lower(), names, 1, cutoff=0.55)
    return found[0] if found else None


def _dotted(path: tuple) -> str:
    text = ""
    for part in path:
        part = part if isinstance(part, int) or len(part) <= _LONGEST_NAME else _short(part)
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "file"


def _short(value: Any) -> str:
    try:
        return _cut(repr(value), 80)
    except ValueError:
        # Python writes no integer of thousands of digits.
        return "an integer of thousands of digits"


def _cut(text: str, most: int = 400) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _from_library(path: tuple, name: str | None, error: ValueError) -> Mistake:
    field_name, _, rest = str(error).partition(": ")
    problem, _, allowed = rest.partition("; allowed: ")
    where = name or field_name
    return Mistake(_dotted((*path, where)), _cut(problem or rest), _cut(allowed or "see above"))


def _syntax(text: str, message: str) -> Mistake:
    """What tomllib says, with the line that it means."""
    lines = text.rstrip().splitlines() or [""]
    found = re.search(r"at line (\d+)", message)
    number = min(int(found[1]), len(lines)) if found else len(lines)
    reason = re.sub(r"\s*\(at .*", "", message)
    return Mistake(f"line {number}", f"{reason} in {_short(lines[number - 1].strip())}", "TOML")
