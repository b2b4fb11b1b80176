"""Parts of one's own in a sweep file: ``module:name``, brought into the library's registries.

A part is an algorithm, oracle, policy, problem, optimizer or metric. A name with a colon is looked
up by Python's own import, beside the sweep file too, and from then on stands in its registry under
the whole name (a metric under the name behind the colon, which is that of its results). What such a
part does is told by a digest of its source, in the fingerprint of what it computes.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

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
from sdpo_jax.algorithm import Algorithm, no_memory, numbers_of
from sdpo_jax.optimizers import check_optimizer
from sdpo_jax.oracle import as_oracle, numbers_of_function
from sdpo_jax.own_numbers import ANY, OwnNumber
from sdpo_jax.policies import Bigram as BigramPolicy
from sdpo_jax.policies import policy_kind
from sdpo_jax.problems import Bigram as BigramProblem
from sdpo_jax.problems import problem_kind
from sdpo_jax.program import algorithm_of
from sweeps import provenance

REGISTRIES: Mapping[str, dict[str, Any]] = {
    "algorithm": ALGORITHMS,
    "oracle": ORACLES,
    "policy": POLICIES,
    "problem": PROBLEMS,
    "optimizer": OPTIMIZERS,
    "metric": METRICS,
}  # pyright: ignore[reportAssignmentType]

# Oracles of functions by the name that they were brought in under.
_ORACLES_OF_FUNCTIONS: dict[str, Oracle] = {}

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
        _ORACLES_OF_FUNCTIONS[name] = oracle
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
    for name, oracle in _ORACLES_OF_FUNCTIONS.items():
        if oracle.function is function:
            return name
    return ""


def of_plans(plans: Iterable[Plan]) -> dict[str, Any]:
    """What the programs of some plans take from registries and somebody else put there.

    Returns:
        By ``KIND NAME`` the part.
    """
    named: dict[tuple[str, str], Any] = {}
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
            spoken = name_of_oracle(group.oracle.function)
            if spoken:
                named["oracle", spoken] = group.oracle.function
    return {
        f"{kind} {_BROUGHT.get((kind, name), name)}": each
        for (kind, name), each in sorted(named.items(), key=lambda item: item[0])
        if each is not None and not provenance.is_own(kind, name, each)
    }


def numbers_of_parts(names: Iterable[str]) -> dict[str, dict[str, float]]:
    """By ``KIND NAME`` the own numbers and their defaults, of those parts that have some."""
    found = {}
    for each in names:
        kind, _, name = each.partition(" ")
        numbers = own_numbers(kind, known_as(kind, name))
        if numbers:
            found[each] = {number.name: number.default for number in numbers.values()}
    return found


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
def stand_ins(numbers: Mapping[str, Mapping[str, float]]) -> Iterator[None]:
    """While this holds, what is not registered has something in its place that can't be used.

    So the numbers of a sweep can be read without the code that made them.

    Args:
        numbers: by ``KIND NAME``, from fingerprints, the own numbers of the part and their
            defaults.
    """
    made = []
    for each, own in numbers.items():
        kind, _, name = each.partition(" ")
        if kind in REGISTRIES and is_elsewhere(name):
            with contextlib.suppress(ValueError):
                bring(kind, name)
            name = known_as(kind, name)
        if kind in REGISTRIES and name and name not in REGISTRIES[kind]:
            REGISTRIES[kind][name] = _stand_in(kind, name, own)
            made.append((kind, name))
    try:
        yield
    finally:
        for kind, name in made:
            del REGISTRIES[kind][name]
            _ORACLES_OF_FUNCTIONS.pop(name, None)


def _stand_in(kind: str, name: str, own: Mapping[str, float]) -> Any:
    def refuse(*_: Any, **__: Any) -> Any:
        raise ValueError("a stand-in; allowed: what made the sweep, imported or registered again")

    def with_numbers(told: str) -> Callable[..., Any]:
        """A function that is told something and has these numbers, and can't be called."""
        names = [each for each in own if each.isidentifier()]
        listed = "".join(f", {each}={own[each]!r}" for each in names)
        space: dict[str, Any] = {"refuse": refuse}
        exec(f"def stand_in(*, {told}{listed}):\n    return refuse()", space)
        return space["stand_in"]

    numbers = {each: OwnNumber(each, value, ANY, name) for each, value in own.items()}
    if kind == "algorithm":
        return Algorithm(name, no_memory, with_numbers("params"))
    if kind == "metric":
        return Metric(refuse, name)
    if kind == "optimizer":
        return lambda rate: refuse()
    if kind == "policy":
        return _Policy(name, numbers)
    if kind == "problem":
        return _Problem(name, own=numbers)
    oracle = as_oracle(with_numbers("reward"))
    _ORACLES_OF_FUNCTIONS[name] = oracle
    return lambda: oracle
