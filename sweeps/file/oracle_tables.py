"""Oracles of a sweep file: a table of each kind, and tables that stand for several."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, Literal, Union

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    create_model,
    model_validator,
)

from sdpo_jax import oracles
from sdpo_jax.oracles.judges import STRENGTHS
from sweeps.file import parts
from sweeps.file.limits import MAX_LEVELS
from sweeps.file.mistakes import allowed_in, refused
from sweeps.file.short_forms import OF_ORACLES, short_form
from sweeps.file.values import Finite, Share, printable

JudgeTable: Any = create_model(
    "JudgeTable",
    __config__=ConfigDict(extra="forbid"),
    **{name: (Share, 0.0) for name in STRENGTHS},  # pyright: ignore[reportArgumentType, reportCallIssue]
)


class OracleTable(BaseModel):
    """What every kind of oracle has; ``judge`` are the strengths of a judge's biases."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(strict=True), AfterValidator(printable)] | None = None
    judge: JudgeTable | None = None  # pyright: ignore[reportInvalidTypeForm]

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
    def _feedback_stays_within_bounds(self) -> OracleTable:
        try:
            oracles.check_oracle(self.oracle())
        except ValueError as error:
            raise refused(f"{allowed_in(error)} ({str(error).partition(';')[0]})") from None
        return self


class _Binary(OracleTable):
    kind: Literal["binary"]
    threshold: Annotated[Finite, Field(ge=0, le=1)] = 0.5

    def plain(self) -> oracles.Oracle:
        return oracles.binary(self.threshold)


class _Ordinal(OracleTable):
    kind: Literal["ordinal"]
    levels: Annotated[int, Field(ge=2, le=MAX_LEVELS, strict=True)] = 5

    def plain(self) -> oracles.Oracle:
        return oracles.ordinal(self.levels)


class _Continuous(OracleTable):
    kind: Literal["continuous"]

    def plain(self) -> oracles.Oracle:
        return oracles.continuous()


class _Critique(OracleTable):
    kind: Literal["critique"]
    reading: Literal["position", "token", "sampled"] = "token"

    def plain(self) -> oracles.Oracle:
        return oracles.critique(self.reading)


class _Constant(OracleTable):
    kind: Literal["constant"]
    value: Annotated[Finite, Field(ge=0, le=1)] = 1.0

    def plain(self) -> oracles.Oracle:
        return oracles.constant(self.value)


class _Custom(OracleTable):
    """``gain R~ + base + sum_k rise_k 1[R~ >= cut_k]``, with numbers of one's own."""

    kind: Literal["custom"]
    gain: Finite | None = None
    base: Finite = 0.0
    cuts: Annotated[list[Finite], Field(max_length=MAX_LEVELS)] = []
    rises: Annotated[list[Finite], Field(max_length=MAX_LEVELS)] = []
    reading: Literal["position", "token", "sampled"] | None = None

    def plain(self) -> oracles.Oracle:
        gain = None if self.gain is None else np.float32(self.gain)
        hints = None if self.reading is None else oracles.critique(self.reading).hints
        if hints is not None and gain is None:
            gain = np.float32(0)
        cuts, rises = (np.asarray(part, np.float32) for part in (self.cuts, self.rises))
        return oracles.Oracle(gain, np.float32(self.base), cuts, rises, hints)


class _References(OracleTable):
    kind: Literal["references"]

    def plain(self) -> oracles.Oracle:
        return oracles.references()


class _Rubric(OracleTable):
    kind: Literal["rubric"]

    def plain(self) -> oracles.Oracle:
        return oracles.rubric()


class _Preference(OracleTable):
    kind: Literal["preference"]

    def plain(self) -> oracles.Oracle:
        return oracles.preference()


class _SelfJudge(OracleTable):
    kind: Literal["self_judge"]
    likelihood: Share = 0.5

    def plain(self) -> oracles.Oracle:
        return oracles.self_judge(self.likelihood)


def _known_oracle(value: str) -> str:
    if not parts.is_elsewhere(value) or value not in oracles.ORACLES:
        raise refused("module:name of an oracle")
    return value


class _Function(OracleTable):
    """``module:name`` of an oracle, or of a function that is one."""

    kind: Literal["function"]
    function: Annotated[str, AfterValidator(_known_oracle)]

    def label(self) -> str:
        return self.name or self.function

    def plain(self) -> oracles.Oracle:
        return oracles.ORACLES[self.function]()


KINDS = {
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
        if value not in KINDS or value in ("custom", "function"):
            names = [name for name in KINDS if name not in ("custom", "function")]
            raise refused(f"{', '.join(names)}, or a table with a kind", names)
        return {"kind": value}
    if not isinstance(value, dict) or "kind" not in value:
        raise refused(f"a name, or a table with a kind: {', '.join(KINDS)}")
    return value


AnyOracle: Any = Annotated[
    Union[tuple(KINDS.values())],  # noqa: UP007
    Field(discriminator="kind"),
    BeforeValidator(_kind),
]


def _lists(value: dict[str, Any]) -> dict[str, list[Any]]:
    """The entries of an oracle's table that stand for several numbers."""
    found = {}
    for key in OF_ORACLES:
        given = value.get(key)
        if isinstance(given, (list, dict)):
            found[key] = given if isinstance(given, list) else short_form(key, given)
    return found


def _judges_lists(value: dict[str, Any]) -> dict[str, list[Any]]:
    """The same of its judge."""
    judge = value.get("judge")
    if not isinstance(judge, dict):
        return {}
    return {key: each for key, each in judge.items() if isinstance(each, list)}


def oracles_in(value: Any) -> int:
    """How many oracles an entry of a list of oracles stands for."""
    if not isinstance(value, dict):
        return 1
    lists = (*_lists(value).values(), *_judges_lists(value).values())
    return math.prod(map(len, lists))


def each_oracle(value: Any) -> list[Any]:
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
