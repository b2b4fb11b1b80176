"""What the tables of a sweep file may hold: models, and their errors put in words."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, model_validator
from pydantic_core import PydanticCustomError

from sdpo_jax import ALGORITHMS, METRICS, OPTIMIZERS, POLICIES, PROBLEMS
from sdpo_jax.config import CONFIG_FIELDS, SIZE_FIELDS
from sdpo_jax.engine import own_numbers
from sdpo_jax.engine.own_numbers import OwnNumber
from sdpo_jax.program import SEED_AXES
from sweeps.file.axes import an_axis, each_once
from sweeps.file.mistakes import Mistake, dotted, nearest_of, shortened
from sweeps.file.oracle_tables import KINDS, AnyOracle, JudgeTable
from sweeps.file.values import (
    a_choice,
    a_flag,
    a_number,
    a_word,
    an_integer,
    at_least_one,
    node_count,
    whole_text,
)

_FIELDS: dict[str, Any] = {
    "algorithm": a_choice(ALGORITHMS, "algorithm"),
    "oracle": AnyOracle,
    "policy": a_choice(POLICIES, "policy"),
    "problem": a_choice(PROBLEMS, "problem"),
    "optimizer": a_choice(OPTIMIZERS, "optimizer"),
    **{name: an_integer(name) for name in (*SEED_AXES, *SIZE_FIELDS)},
    **{name: a_number(name) for name in CONFIG_FIELDS},
}
_Names: Any = Annotated[
    list[a_choice(METRICS, "metric")], AfterValidator(functools.partial(each_once, "metrics"))
]
_FORBID = ConfigDict(extra="forbid")


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


def models_for(numbers: Mapping[str, OwnNumber]) -> _Models:
    """The models of tables, given the own numbers of the parts that a file names."""
    return _models(
        tuple((name, each.rule) for name, each in numbers.items()), tuple(numbers.values())
    )


@functools.lru_cache(16)
def _models(
    rules: tuple[tuple[str, own_numbers.Number], ...], numbers: tuple[OwnNumber, ...]
) -> _Models:
    fields = {**_FIELDS, **{name: a_number(name, rule) for name, rule in rules}}
    axes, zipped = (
        _model(title, {name: an_axis(name, kind, once) for name, kind in fields.items()})
        for title, once in (("_Axes", True), ("_ZippedAxes", False))
    )
    base = {
        **fields,
        "metrics": Annotated[_Names, Field(min_length=1)],
        "record": _Names,
        "record_every": Annotated[Any, AfterValidator(at_least_one)],
        "logits": Annotated[Any, AfterValidator(a_flag)],
        "teacher_nodes": Annotated[Any, AfterValidator(node_count)],
        "block_width": Annotated[Any, AfterValidator(at_least_one)],
    }
    return _Models({each.name: each for each in numbers}, axes, zipped, _model("_Base", base))


class _GridTable(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: Annotated[str, Field(strict=True), AfterValidator(whole_text)] = ""
    base: dict[str, Any] = {}
    axes: dict[str, Any] = {}
    zip: dict[str, Any] = {}


class Top(_GridTable):
    """A whole file."""

    name: Annotated[Any, AfterValidator(a_word)] = None
    grid: dict[Annotated[str, AfterValidator(a_word)], _GridTable] = {}

    @model_validator(mode="after")
    def _one_way_or_the_other(self) -> Top:
        if self.grid and (self.axes or self.zip):
            raise PydanticCustomError(
                "both",
                "{allowed}",
                {"allowed": "[axes] and [zip], or tables [grid.NAME]", "choices": []},
            )
        return self


def translated(path: tuple, error: Any, model: type[BaseModel]) -> Mistake:
    """One of pydantic's errors in our words."""
    place = tuple(part for part in error["loc"] if not _is_tag(part, error["loc"]))
    context = error.get("ctx", {})
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        owner = _owner(model, error["loc"])
        names = [name for name in owner.model_fields if name != "kind" or owner in KINDS.values()]
        return Mistake(
            dotted((*path, *place)), "unknown field", ", ".join(names), nearest_of(place[-1], names)
        )
    if kind == "both":
        return Mistake("grid", "beside axes or zip", context["allowed"])
    if kind == "refused":
        nearest = nearest_of(value, context["choices"])
        if isinstance(value, dict) and len(value) == 1:
            nearest = nearest_of(next(iter(value)), context["choices"])
        return Mistake(dotted((*path, *place)), shortened(value), context["allowed"], nearest)
    if kind == "union_tag_invalid":
        tag = value.get("kind") if isinstance(value, dict) else value
        return Mistake(
            dotted((*path, *place, "kind")),
            shortened(tag),
            ", ".join(KINDS),
            nearest_of(tag, list(KINDS)),
        )
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return Mistake(
            dotted((*path, *place)),
            shortened(value),
            ", ".join(choices),
            nearest_of(value, choices),
        )
    allowed = re.sub(r"^Input should be (a valid )?", "", error["msg"])
    allowed = {"dictionary": "a table", "string": "text", "list": "a list"}.get(allowed, allowed)
    return Mistake(dotted((*path, *place)), shortened(value), allowed)


def _is_tag(part: Any, place: tuple) -> bool:
    """Whether part of a place is the kind of oracle that pydantic put there."""
    return part in KINDS and "oracle" in place


def _owner(model: Any, place: tuple) -> Any:
    for part in place:
        if _is_tag(part, place):
            return JudgeTable if "judge" in place else KINDS[part]
    return _GridTable if place[0] == "grid" and len(place) > 1 else model
