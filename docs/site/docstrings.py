"""Docstrings as Sphinx takes them: they are plain text with Google's sections.

In them a star belongs to a shape (``[T, *runs]``), an indented paragraph is an equation or code,
and nothing is emphasised. Sphinx reads reStructuredText, where those are markup.
"""

from __future__ import annotations

import enum
import inspect
import re
import typing
from functools import cached_property
from typing import Any

import sdpo_jax

_SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises|Example|Examples|Note):$")
# A constant whose value has more letters is named without it.
_LONG = 120
_RULE = re.compile(r"=+( =+)+$")
# Code, in which everything stands for itself; or a sign that is markup outside of it.
_CODE_OR_SIGN = re.compile(r"(``.*?``|`[^`]+`)|([*|\\]|_(?=\W|$))")


def setup(app: Any) -> dict[str, Any]:
    """Put this before what reads Google's sections."""
    app.connect("autodoc-process-docstring", _processed, priority=100)
    app.connect("autodoc-skip-member", _skipped)
    return {"parallel_read_safe": True}


def _processed(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [] if what == "data" and _is_of_its_type(obj, lines) else as_markup(lines)
    if what == "module":
        found = ", ".join(f":py:obj:`~sdpo_jax.{each}`" for each in _of_the_library(obj))
        lines += ["", f"Also here, as names of the library itself: {found}."] if found else []
        lines += _constants(obj)


def _constants(module: Any) -> list[str]:
    """Directives for what is neither a class nor a function, which Sphinx would leave out."""
    lines: list[str] = []
    for name in () if module is sdpo_jax else getattr(module, "__all__", ()):
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
            continue
        if name not in _of_the_library(module):
            lines += ["", f".. autodata:: {module.__name__}.{name}"]
            lines += [] if len(repr(value)) <= _LONG else ["   :no-value:"]
    return lines


def _of_the_library(module: Any) -> list[str]:
    """Names of a part of the library that are the library's own, and described there."""
    names = () if module is sdpo_jax else getattr(module, "__all__", ())
    return [
        name
        for name in names
        if name in sdpo_jax.__all__ and getattr(module, name) is getattr(sdpo_jax, name)
    ]


def _is_of_its_type(obj: Any, lines: list[str]) -> bool:
    # That of its type, or of the type that it is another name of, is none of a constant.
    kind = typing.get_origin(obj) or type(obj)
    said = str(kind.__doc__ or "").strip().splitlines()
    return bool(said) and bool(lines) and said[0].strip() == lines[0].strip()


def _skipped(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    if what == "module":
        # Described once, with the library's own names.
        of_library = name in sdpo_jax.__all__ and getattr(sdpo_jax, name) is obj
        return True if of_library else None
    if what != "class" or isinstance(obj, property | cached_property | enum.Enum):
        return None
    # Fields are in their class's docstring; one whose default is a function is no method.
    ours = str(getattr(obj, "__module__", "")).split(".")[0] in ("sdpo_jax", "sweeps")
    return None if callable(obj) and ours else True


def as_markup(lines: list[str]) -> list[str]:
    """The same lines as reStructuredText."""
    made: list[str] = []
    in_section = in_block = False
    place = 0
    while place < len(lines):
        line = lines[place]
        if _RULE.match(line):
            end = max(n for n, each in enumerate(lines) if _RULE.match(each)) + 1
            made += _table(lines[place:end])
            place = end
            continue
        place += 1
        indented = line.startswith(" ")
        if line.strip() and not indented:
            in_section, in_block = bool(_SECTION.match(line)), False
        elif line.strip() and not in_section and not in_block and (not made or not made[-1]):
            made += ["::", ""]
            in_block = True
        is_code = in_block or line.lstrip().startswith((">>>", "..."))
        made.append(line if is_code else _escaped(line))
    return made


def _escaped(text: str) -> str:
    return _CODE_OR_SIGN.sub(lambda found: found[1] or "\\" + found[2], text)


def _table(lines: list[str]) -> list[str]:
    """A simple table whose columns are as wide as what is in them once it is escaped."""
    ends = [found.span() for found in re.finditer("=+", lines[0])]
    ends[-1] = (ends[-1][0], 10**6)
    rows = [
        None if _RULE.match(line) else [_escaped(line[a:b].strip()) for a, b in ends]
        for line in lines
    ]
    widths = [max(len(row[n]) for row in rows if row is not None) for n in range(len(ends))]
    return [
        " ".join("=" * width for width in widths)
        if row is None
        else " ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ] + [""]
