"""Figures as files: the same bytes each time, in the two formats that pages and papers take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure

from sweeps.report.style import RC
from sweeps.system.text import plain
from sweeps.system.writing import write_atomically

FOLDER = "figures"
WIDTH = 4.8  # inches
DPI = 200


def save(
    name: str,
    figure: Figure,
    folder: Path,
    title: str,
    *,
    salt: str | None = None,
    dpi: int = DPI,
) -> list[Path]:
    """Write ``figure`` as ``folder/NAME.png`` and ``.svg``; return both paths.

    ``salt`` (by default the name) tells the ids of one file from those of others.
    """
    paths = []
    # The salt makes the ids in the file the same each time, and different between files,
    # several of which may stand in one page.
    with matplotlib.style.context(["default", RC, {"svg.hashsalt": salt or name}]):
        for kind, options in _formats(title, dpi).items():
            path = folder / f"{name}.{kind}"
            write_atomically(path, _saver(figure, kind, options))
            paths.append(path)
            # Laid out once, so that both formats show the same picture.
            figure.set_layout_engine("none")
    return paths


def _formats(title: str, dpi: int) -> dict[str, dict[str, Any]]:
    # No date and no version of the software: files change only when the picture does.
    return {
        "png": {"dpi": dpi, "metadata": {"Title": title, "Software": None}},
        "svg": {"metadata": {"Title": title, "Date": None, "Creator": None}},
    }


def _saver(figure: Figure, kind: str, options: dict[str, Any]) -> Callable[[Path], None]:
    return lambda path: figure.savefig(path, format=kind, **options)


# Letters of a name that a figure has room for.
_MOST = 40


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
