"""Text of others made safe for a terminal or a figure, and numbers that read back.

Titles and names come from sweep files and manifests, which may be anybody's. Pages are made by a
template that escapes by itself.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

# Letters of a name that a figure has room for.
_MOST = 40
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


def drawn(text: object) -> str:
    """A name as matplotlib is to draw it: never read as a formula, never too long.

    The middle of a long name is left out. Characters that the font lacks are written as escapes.
    """
    has = _font()
    line = "".join(
        letter if ord(letter) in has else letter.encode("unicode_escape").decode()
        for letter in plain(text)
    )
    if len(line) > _MOST:
        line = f"{line[: _MOST // 2]}…{line[1 - _MOST // 2 :]}"
    # A label that begins with a bar is left out of legends.
    line = f" {line}" if line.startswith("_") else line
    return line.replace("$", r"\$")


def all_drawn(texts: Sequence[object]) -> list[str]:
    """Names that stand in one figure; numbered where two of them would look the same."""
    found = list(map(drawn, texts))
    if len(set(found)) < len(set(map(str, texts))):
        found = [f"{number}. {name}" for number, name in enumerate(found, 1)]
    return found


@cache
def _font() -> frozenset[int]:
    """The characters of the font that figures are drawn in."""
    import matplotlib
    from matplotlib.ft2font import FT2Font

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return frozenset(FT2Font(str(path)).get_charmap())


def exact(value: Any) -> str:
    """A label as text that reads back as the same label: ``0.1``, ``1e-05``, ``sdpo``."""
    if not isinstance(value, float | np.floating):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))
