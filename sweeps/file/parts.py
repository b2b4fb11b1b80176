"""Parts of one's own in a sweep file: ``module:name``, brought into the library's registries.

A part is an algorithm, oracle, policy, problem, optimizer or metric. A name with a colon is looked
up by Python's own import, beside the sweep file too, and from then on stands in its registry under
the whole name (a metric under the name behind the colon, which is that of its results). What such a
part does is told by a digest of its source, in the fingerprint of what it computes.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from keyword import iskeyword
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import optax

from sdpo_jax import (
    ALGORITHMS,
    METRICS,
    OPTIMIZERS,
    ORACLES,
    POLICIES,
    PROBLEMS,
    Metric,
    Oracle,
    Plan,
    Program,
)
from sdpo_jax.algorithm import STEP, Algorithm, no_memory, numbers_of, what_is_told
from sdpo_jax.engine.own_numbers import Number, OwnNumber
from sdpo_jax.optimizers import check_optimizer
from sdpo_jax.oracles import Hints, as_oracle, check_oracle, numbers_of_function
from sdpo_jax.oracles.judges import Judge
from sdpo_jax.policies import Bigram as BigramPolicy
from sdpo_jax.policies import policy_kind
from sdpo_jax.problems import Bigram as BigramProblem
from sdpo_jax.problems import problem_kind
from sdpo_jax.program import algorithm_of
from sweeps.provenance import sources

REGISTRIES: Mapping[str, dict[str, Any]] = {
    "algorithm": ALGORITHMS,
    "oracle": ORACLES,
    "policy": POLICIES,
    "problem": PROBLEMS,
    "optimizer": OPTIMIZERS,
    "metric": METRICS,
}  # pyright: ignore[reportAssignmentType]

# Oracles by the name that they were brought in under.
_ORACLES: dict[str, Oracle] = {}

# By kind and name in the registry the ``module:name`` that was brought in.
_BROUGHT: dict[tuple[str, str], str] = {}


def is_elsewhere(name: Any) -> bool:
    """Whether a name is one of ``module:name``."""
    return isinstance(name, str) and ":" in name


def known_as(kind: str, name: str) -> str:
    """What a part is called in its registry."""
    return name.partition(":")[2] if kind == "metric" else name


def bring(kind: str, name: str, beside: Path | None = None) -> None:
    """Bring a part into its registry, if it is not there already.

    Args:
        kind: of ``REGISTRIES``.
        name: ``module:name``.
        beside: a folder in which the module may stand too.

    Raises:
        ValueError: what is wrong and what is allowed, in one line.
    """
    registry, known = REGISTRIES[kind], known_as(kind, name)
    if kind == "metric" and known in _LIBRARYS_METRICS:
        raise ValueError(f"{kind}: {known!r} is one of the library's; allowed: another name")
    if known in registry:
        other = _BROUGHT.get((kind, known), name)
        if other != name:
            raise ValueError(f"{kind}: {name} is called as {other} is; allowed: another name")
        return
    part = _found(kind, name, beside)
    if kind == "oracle":
        oracle = part if isinstance(part, Oracle) else as_oracle(part)
        if not isinstance(oracle, Oracle):
            raise ValueError(f"oracle: {name} is {part!r:.80}; allowed: an Oracle or a function")
        _ORACLES[name] = oracle
        registry[name] = lambda: oracle
        _BROUGHT[kind, known] = name
        return
    if kind == "algorithm":
        algorithm_of(part)
    elif kind == "optimizer":
        check_optimizer(part)
    elif kind == "metric":
        part = _metric(known, part)
    else:
        part = policy_kind(part) if kind == "policy" else problem_kind(part)
    registry[known] = part
    _BROUGHT[kind, known] = name


_LIBRARYS_METRICS = frozenset(METRICS)


def _metric(name: str, part: Any) -> Metric:
    if isinstance(part, Metric):
        return part
    if not callable(part):
        raise ValueError(f"metric: {name} is {part!r:.80}; allowed: a Metric or a function")
    return Metric(cast(Any, part), name)


def _found(kind: str, name: str, beside: Path | None) -> Any:
    module_name, _, attribute = name.partition(":")
    allowed = "allowed: module:name of something that can be imported"
    words = [*module_name.split("."), *attribute.split(".")]
    if not all(word.isidentifier() for word in words):
        raise ValueError(f"{kind}: {name!r}; {allowed}")
    path = [] if beside is None else [str(beside.resolve())]
    try:
        sys.path[:0] = path
        try:
            part: Any = importlib.import_module(module_name)
        finally:
            for each in path:
                sys.path.remove(each)
        for word in attribute.split("."):
            part = getattr(part, word)
    # Whatever a module of the user's raises while it is imported: it is shown, and is the cause.
    except Exception as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{kind}: {name!r} can't be imported ({what[:200]}); {allowed}") from error
    return part


def own_numbers(kind: str, name: str) -> Mapping[str, OwnNumber]:
    """The own numbers of a part that is known, by name; none of an unknown one."""
    part = REGISTRIES[kind].get(name)
    if part is None:
        return {}
    if kind == "algorithm":
        return numbers_of(algorithm_of(part))
    if kind == "oracle":
        return numbers_of_function(part().function)
    return part.numbers if kind in ("policy", "problem") else {}


def name_of_oracle(function: Callable[..., Any] | None) -> str:
    """The name under which the function of an oracle was brought in; empty where it was not."""
    if function is None:
        return ""
    for name, oracle in _ORACLES.items():
        if oracle.function is function:
            return name
    return ""


def of_plans(plans: Iterable[Plan], elsewhere: Iterable[str] = ()) -> dict[str, Any]:
    """What the programs of some plans take from registries and somebody else put there.

    Args:
        plans: of a sweep.
        elsewhere: as ``KIND NAME`` parts that were brought in for it.

    Returns:
        By ``KIND NAME`` the part.
    """
    named: dict[tuple[str, str], Any] = {}
    for each in elsewhere:
        kind, _, name = each.partition(" ")
        known = known_as(kind, name)
        named[kind, known] = _ORACLES.get(name) if kind == "oracle" else REGISTRIES[kind].get(known)
    for plan in plans:
        for group in plan.groups:
            program: Program = group.program
            for kind in ("algorithm", "policy", "problem"):
                name = getattr(program, kind)
                if isinstance(name, str):
                    named[kind, name] = REGISTRIES[kind].get(name)
            for metric in program.metrics:
                if isinstance(metric, str) and metric in METRICS:
                    named["metric", metric] = METRICS[metric]
            for name, each in OPTIMIZERS.items():
                if each is program.optimizer:
                    named["optimizer", name] = each
    return {
        f"{kind} {_BROUGHT.get((kind, name), name)}": each
        for (kind, name), each in sorted(named.items(), key=lambda item: item[0])
        if each is not None and not sources.is_own(kind, name, each)
    }


@dataclass(frozen=True)
class Known:
    """What a sweep's plan takes from a part, so that it can be made without the part.

    Attributes:
        numbers: its own numbers and their defaults.
        titles: of those that have one.
        asks: what an algorithm is told, what a metric or problem says that it needs or knows.
        title: of a metric.
        oracle: an oracle, but for its function.
    """

    numbers: Mapping[str, float] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    asks: Sequence[str] = ()
    title: str = ""
    oracle: Oracle | None = None

    def record(self) -> dict[str, Any]:
        """As JSON can hold it, without what is empty."""
        found = {
            "numbers": dict(self.numbers),
            "titles": dict(self.titles),
            "asks": list(self.asks),
            "title": self.title,
            "oracle": _as_json(self.oracle),
        }
        return {name: value for name, value in found.items() if value}

    @classmethod
    def of_record(cls, record: Any) -> Known:
        """What a record says, as far as it is one."""
        record = record if isinstance(record, dict) else {}
        numbers, titles, asks = (record.get(name) for name in ("numbers", "titles", "asks"))
        return cls(
            {
                name: float(value)
                for name, value in (numbers.items() if isinstance(numbers, dict) else ())
                if name.isidentifier()
                and not iskeyword(name)
                and isinstance(value, (int, float))
                and np.isfinite(np.float32(value))
            },
            {
                name: title
                for name, title in (titles.items() if isinstance(titles, dict) else ())
                if isinstance(title, str)
            },
            tuple(
                each
                for each in (asks if isinstance(asks, list) else ())
                if isinstance(each, str) and each.isidentifier()
            ),
            str(record.get("title", "")),
            _oracle_of(record.get("oracle")),
        )


def _as_json(value: Any) -> Any:
    """The arrays of an oracle as lists."""
    if value is None or callable(value):
        return None
    if is_dataclass(value):
        return {each.name: _as_json(getattr(value, each.name)) for each in fields(value)}
    return np.asarray(value, np.float32).tolist()


def _oracle_of(record: Any) -> Oracle | None:
    """The oracle that a record holds; ``None`` where it holds none."""
    try:
        held = {name: _of_json(value) for name, value in record.items()}
        hints, judge = record["hints"], record["judge"]
        held["hints"] = hints and Hints(**{name: _of_json(each) for name, each in hints.items()})
        held["judge"] = judge and Judge(**{name: _of_json(each) for name, each in judge.items()})
        oracle = Oracle(**{**held, "function": None})
        check_oracle(oracle)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return oracle


def _of_json(value: Any) -> Any:
    return None if value is None or isinstance(value, dict) else np.asarray(value, np.float32)


# What a metric may say of itself.
_OF_METRICS = ("needs_teacher", "needs_quality", "costly")


def known_of(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """By ``KIND NAME`` the record of each part; see ``Known``."""
    found = {}
    for each in names:
        kind, _, name = each.partition(" ")
        name = known_as(kind, name)
        numbers = own_numbers(kind, name).values()
        asks: Sequence[str] = ()
        title = ""
        part = REGISTRIES[kind].get(name)
        if kind == "algorithm" and part is not None:
            asks = what_is_told(algorithm_of(part))
        elif kind == "problem":
            asks = ("quality",) if getattr(part, "knows_quality", False) else ()
        elif isinstance(part, Metric):
            asks = [flag for flag in _OF_METRICS if getattr(part, flag)]
            asks += [] if part.windowed else ["last"]
            title = part.title
        oracle = _ORACLES.get(name) if kind == "oracle" else None
        known = Known(
            {number.name: number.default for number in numbers},
            {number.name: number.rule.title for number in numbers if number.rule.title},
            ("function",) if oracle is not None and oracle.function is not None else asks,
            title,
            oracle,
        )
        found[each] = known.record()
    return {name: record for name, record in found.items() if record}


@dataclass(frozen=True)
class _Policy(BigramPolicy):
    """Stands in for a policy that is not here."""

    own: Mapping[str, OwnNumber] = field(default_factory=dict, compare=False)

    @property
    def numbers(self) -> Mapping[str, OwnNumber]:
        return self.own


@dataclass(frozen=True)
class _Problem(BigramProblem):
    """Stands in for a problem that is not here."""

    own: Mapping[str, OwnNumber] = field(default_factory=dict, compare=False)

    @property
    def numbers(self) -> Mapping[str, OwnNumber]:
        return self.own


@contextlib.contextmanager
def stand_ins(registered: Mapping[str, Known]) -> Iterator[None]:
    """While this holds, what is not registered has something of the same shape in its place.

    So the numbers of a sweep can be read without the code that made them. Nothing is to be trained
    so: who goes on with a sweep reads its file without this.

    Args:
        registered: by ``KIND NAME``, from fingerprints.
    """
    made = []
    for each, known in registered.items():
        kind, _, name = each.partition(" ")
        if kind in REGISTRIES and is_elsewhere(name):
            with contextlib.suppress(ValueError):
                bring(kind, name)
            name = known_as(kind, name)
        if kind in REGISTRIES and name and name not in REGISTRIES[kind]:
            REGISTRIES[kind][name] = _stand_in(kind, name, json.dumps(known.record()))
            if kind == "oracle":
                _ORACLES[name] = REGISTRIES[kind][name]()
            made.append((kind, name))
    try:
        yield
    finally:
        for kind, name in made:
            del REGISTRIES[kind][name]
            _ORACLES.pop(name, None)


# The same one each time: a program is named by which of a registry's parts it holds.
@lru_cache(256)
def _stand_in(kind: str, name: str, record: str) -> Any:
    known = Known.of_record(json.loads(record))
    numbers = {
        each: OwnNumber(each, value, Number(title=known.titles.get(each, "")), name)
        for each, value in known.numbers.items()
    }
    if kind == "algorithm":
        told = [each for each in known.asks if each in STEP and each != "memory"]
        update = _function(("policy", *told), known, lambda policy, **_: 0 * policy.logits)
        return Algorithm(name, no_memory, update)
    if kind == "metric":
        flags: dict[str, Any] = {flag: flag in known.asks for flag in _OF_METRICS}
        flags["windowed"] = "last" not in known.asks
        return Metric(lambda view: view.reward[0], known.title or name, **flags)
    if kind == "optimizer":
        # Another object than any optimizer's, so that it is never taken for one.
        def optimizer(rate: Any) -> optax.GradientTransformation:
            return optax.sgd(rate)

        optimizer.__name__ = name.rpartition(":")[2].rpartition(".")[2]
        return optimizer
    if kind == "policy":
        return _Policy(name, own=numbers)
    if kind == "problem":
        return _Problem(name, knows_quality="quality" in known.asks, own=numbers)
    oracle = as_oracle(_function(("reward",), known, lambda reward, **_: reward))
    if known.oracle is not None:
        function = oracle.function if "function" in known.asks else None
        oracle = replace(known.oracle, function=function)
    return lambda: oracle


def _function(told: Iterable[str], known: Known, does: Callable[..., Any]) -> Callable[..., Any]:
    """A function that says that it is told something and has these numbers."""

    def stand_in(**given: Any) -> Any:
        return does(**given)

    parameters = [inspect.Parameter(each, _BY_NAME) for each in dict.fromkeys(told)]
    parameters += [
        inspect.Parameter(
            each,
            _BY_NAME,
            default=value,
            annotation=Annotated[float, Number(title=known.titles.get(each, ""))],
        )
        for each, value in known.numbers.items()
    ]
    stand_in.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    return stand_in


_BY_NAME = inspect.Parameter.KEYWORD_ONLY
