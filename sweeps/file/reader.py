"""A sweep file read section by section: every mistake is collected, and what is right is kept."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from sdpo_jax import METRICS, Config, Sizes, problems
from sdpo_jax.config import CONFIG_FIELDS, SIZE_FIELDS
from sdpo_jax.engine import own_numbers
from sdpo_jax.engine.own_numbers import OwnNumber
from sdpo_jax.grid import AXES
from sdpo_jax.problems import MAX_SEQUENCES
from sdpo_jax.program import NAMED_AXES, OWN_NAMES, STATISTICS, default_metrics
from sweeps.file import parts
from sweeps.file.axes import as_told, label_of, repeated
from sweeps.file.limits import MAX_CELLS, MAX_GRIDS, MAX_PROGRAMS, MAX_RUNS
from sweeps.file.mistakes import Mistake, dotted, from_library, shortened
from sweeps.file.sweep import COMPARISONS, Grid
from sweeps.file.tables import models_for, translated
from sweeps.file.values import A_DIMENSION, is_word

_OF_ONE_TABLE = 20
# Names that results have for themselves: no dimension can be called so.
RESERVED = frozenset(
    {
        *AXES,
        *METRICS,
        *(metric + end for metric in METRICS for end in STATISTICS),
        *OWN_NAMES,
    }
)
# Axes that may decide which program a run needs.
_DECIDING = (*NAMED_AXES, *SIZE_FIELDS, "feedback_strength", "quality_scale")
# What a grid has that names nothing else; their own numbers are always at hand.
_DEFAULT_PARTS = (("algorithm", "sdpo"), ("policy", "factored"), ("problem", "bigram"))


def runs_of(axes: Mapping[str, Any], names: Collection[str] = AXES) -> int:
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


class Reader:
    """Collects mistakes from one section after another."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []
        self.models = models_for({})

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
                self.mistakes.append(from_library((), None, error))
        return numbers

    def section(self, path: tuple, raw: Any, model: type[BaseModel]) -> dict[str, Any] | None:
        """The checked entries of a table; ``None`` where one of them is wrong."""
        try:
            found = model.model_validate(raw)
        except ValidationError as error:
            found = error.errors(include_url=False)
            # Those that nobody will read are not put into words.
            told = (translated(path, each, model) for each in found[:_OF_ONE_TABLE])
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
            if not is_word(dimension) or dimension in (*RESERVED, *self.models.numbers):
                self._note(where, shortened(dimension), A_DIMENSION, quoted=False)
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
            rows = zip(*(as_told(name, values) for name, values in parts.items()), strict=True)
            twice = repeated(rows)
            if twice is not None:
                row = tuple(label_of(values[twice[1]]) for values in parts.values())
                self._note(where, f"{shortened(row)} occurs twice", "each row once", quoted=False)
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
            (runs_of(axes), "runs", MAX_RUNS),
            (runs_of(axes, _DECIDING), "combinations that may need programs", MAX_CELLS),
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
        options["width"] = base.get("block_width")
        planned = {
            dimension: {name: _named(name, part) for name, part in values.items()}
            if isinstance(values, Mapping)
            else _named(dimension, values)
            for dimension, values in axes.items()
        }
        return Grid(title if isinstance(title, str) else "", planned, options)

    def _note(self, path: tuple, problem: Any, allowed: str, quoted: bool = True) -> None:
        shown = repr(problem) if quoted else str(problem)
        self.mistakes.append(Mistake(dotted(path), shown, allowed))


def _argument(name: str, value: Any) -> Any:
    """A base entry as ``plan_grid`` takes it."""
    return (label_of(value), value.oracle()) if name == "oracle" else value


def _named(name: str, values: list[Any]) -> Any:
    if name != "oracle":
        return values
    return [(label_of(value), value.oracle()) for value in values]


def elsewhere(raw: Any) -> tuple[str, ...]:
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
