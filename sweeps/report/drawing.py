"""Figures as files: the same bytes each time, in the two formats that pages and papers take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure

from sweeps.report.style import RC
from sweeps.store import datasets

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
            datasets.write_atomically(path, _saver(figure, kind, options))
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
