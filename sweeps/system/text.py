"""Text of others made safe for a terminal, and numbers that read back.

Titles and names come from sweep files and manifests, which may be anybody's. Pages are made by a
template that escapes by itself.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

# They join letters of a word, or those of an emoji, and move nothing.
_JOINERS = "\u200c\u200d"


def plain(text: object) -> str:
    """One line that a terminal shows as it is.

    Control characters (among them the start of an escape sequence, and line ends), characters that
    turn the direction of writing round, and halves of surrogate pairs are written as escapes.
    """
    return "".join(map(_plain, str(text)))


def lines(text: object) -> str:
    """The same of each line."""
    return "\n".join(plain(line.expandtabs(4)) for line in str(text).split("\n"))


def _plain(letter: str) -> str:
    if letter.isprintable() or letter in _JOINERS:
        return letter
    if unicodedata.category(letter) == "Zs":
        return " "
    return letter.encode("unicode_escape").decode()


def exact(value: Any) -> str:
    """A label as text that reads back as the same label: ``0.1``, ``1e-05``, ``sdpo``."""
    if not isinstance(value, float | np.floating):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))
