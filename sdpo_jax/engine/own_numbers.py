"""A part's own numbers: the parameters of its function that have a number as their default.

    def tempered(*, policy, tokens, signal, temperature: Annotated[float, Number(above=0)] = 0.1):

``temperature`` is a number of ``tempered``: an input of the compiled program, an axis of a grid by
its name, and 0.1 where nobody says otherwise. ``Number`` in its annotation says what is allowed and
what it is; without one any finite number is. ``functools.partial`` fixes one. A default that is no
number (a string, a function, ``None``, a bool), and one whose parameter is annotated ``int``, is
left alone: it is part of the function.

Algorithms, policies, problems and oracles have numbers in this one way.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Annotated, Any, get_args, get_origin

import numpy as np

from sdpo_jax.engine.checks import shown


@dataclass(frozen=True)
class Number:
    """What a number may be, an interval, and what it is.

    Attributes:
        least: allowed from here on.
        above: allowed above here.
        most: allowed up to here.
        title: what it is, for axes and attributes, with its unit in brackets.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    title: str = ""

    def allows(self, value: float) -> bool:
        """Whether a finite number is in the interval."""
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
        )

    def allowed(self) -> str:
        """The interval in words, for messages."""
        if self.least is not None and self.most is not None:
            return f"{self.least:g} to {self.most:g}"
        if self.above is not None:
            return f"above {self.above:g}" + ("" if self.most is None else f", to {self.most:g}")
        if self.least is not None:
            return f"{self.least:g} or more"
        return "any finite number" if self.most is None else f"up to {self.most:g}"

    def interval(self) -> tuple[float | None, float | None, float | None]:
        """What is allowed, without the title."""
        return self.least, self.above, self.most


ANY = Number()


@dataclass(frozen=True)
class OwnNumber:
    """A number of a part.

    Attributes:
        name: of the parameter.
        default: its default.
        rule: what is allowed.
        owner: the part, for messages.
    """

    name: str
    default: float
    rule: Number
    owner: str


# Bounded, since they keep the user's functions.
@lru_cache(1024)
def of_function(
    function: Callable[..., Any], owner: str, known: frozenset[str]
) -> tuple[OwnNumber, ...]:
    """The numbers of a function.

    Args:
        function: of a part.
        owner: what the part is called, such as ``"algorithm: mine"``.
        known: parameters that it is given by their names, which are no numbers of its own.

    Raises:
        ValueError: a default that its own rule does not allow, or an annotation that can't be read.
    """
    fixed = fixed_by_partial(function)
    found = []
    for each in inspect.signature(function).parameters.values():
        if each.name in known or each.name in fixed or not _is_number(each.default):
            continue
        annotation = _annotation(function, each, owner)
        if annotation is int:
            continue
        rules = [a for a in get_args(annotation)[1:] if isinstance(a, Number)] \
            if get_origin(annotation) is Annotated else []  # fmt: skip
        rule = rules[0] if rules else ANY
        default = float(each.default)
        if not (np.isfinite(np.float32(default)) and rule.allows(default)):
            raise ValueError(f"{owner}: {each.name} is {default!r}; allowed: {rule.allowed()}")
        found.append(OwnNumber(each.name, default, rule, owner))
    return tuple(found)


def among(
    function: Callable[..., Any], known: frozenset[str], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Those of some values, by name, that are numbers of a function."""
    own = {each.name for each in of_function(function, "", known)}
    return {name: value for name, value in values.items() if name in own}


def annotated_with(function: Callable[..., Any], names: frozenset[str]) -> dict[str, Any]:
    """What those parameters of a function that have these names are annotated with."""
    parameters = inspect.signature(function).parameters.values()
    return {
        each.name: _annotation(function, each, "annotation")
        for each in parameters
        if each.name in names
    }


def fixed_by_partial(function: Any) -> Mapping[str, Any]:
    """The keywords that a ``functools.partial`` has filled in; none of any other function."""
    return function.keywords if isinstance(function, partial) else {}


def joined(numbers: Iterable[OwnNumber]) -> dict[str, OwnNumber]:
    """Numbers by name, those of one name as one.

    Raises:
        ValueError: one name with two rules, in one line.
    """
    found: dict[str, OwnNumber] = {}
    for each in numbers:
        other = found.setdefault(each.name, each)
        if other.rule.interval() != each.rule.interval():
            raise ValueError(
                f"{each.name}: {other.owner} allows {other.rule.allowed()}, {each.owner} allows "
                f"{each.rule.allowed()}; allowed: one rule for one name"
            )
        if not other.rule.title and each.rule.title:
            found[each.name] = each
    return found


def _is_number(default: Any) -> bool:
    plain = isinstance(default, (int, float, np.integer, np.floating))
    return plain and not isinstance(default, (bool, np.bool_))


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter, owner: str) -> Any:
    """What a parameter is annotated with, evaluated where it is text."""
    annotation = parameter.annotation
    if not isinstance(annotation, str):
        return annotation
    inner = inspect.unwrap(function.func if isinstance(function, partial) else function)
    names = dict(getattr(inner, "__globals__", {}))
    names |= dict(zip(_free(inner), _cells(inner), strict=False))
    try:
        return eval(annotation, names)
    except Exception as error:
        # Names that only type checkers see are no rule; a rule must not be lost.
        if "Number" in annotation or "Annotated" in annotation:
            raise ValueError(
                f"{owner}: the annotation {annotation!r} of {parameter.name} can't be read "
                f"({shown(error)}); allowed: names that its module has when it runs"
            ) from error
        return parameter.empty


def _free(function: Any) -> tuple[str, ...]:
    return getattr(getattr(function, "__code__", None), "co_freevars", ())


def _cells(function: Any) -> list[Any]:
    cells = getattr(function, "__closure__", None) or ()
    return [_content(cell) for cell in cells]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None
