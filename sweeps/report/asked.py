"""The figure that somebody asks for, and its table: ``python -m sweeps render DIR --x AXIS``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from sweeps.report import drawing, plots, tables, views
from sweeps.report.views import View
from sweeps.store.folder import Folder
from sweeps.store.labelled import grid_name, of_grid
from sweeps.system import writing

# Bytes of a file's name, without its ending.
_LONGEST = 160


def render_view(
    directory: Path,
    *,
    grid: str | None = None,
    x: str | None = None,
    y: str | None = None,
    color: str | None = None,
    facet: str | None = None,
    at: Sequence[str] = (),
) -> list[Path]:
    """Write a figure of a sweep, finished or not, and the table of its points; return the paths.

    Args:
        directory: the sweep's folder.
        grid: which grid; may be left out where there is one.
        x, y, color, facet, at: as for ``views.checked``.

    Returns:
        The figure's two files and the table's.

    Raises:
        NoSweep: there is no sweep in the folder.
        ValueError: a bad name, several settings at one point, or nothing of it is done.
    """
    folder = Folder.open(directory)
    name = grid_name(folder, grid)
    data = of_grid(folder, name)
    view = views.checked(data, x, y, color, facet, at)
    rows = views.rows(data, view)
    if not rows:
        raise ValueError(f"{directory}: no such run of {name} is done; allowed: `resume` first")
    plots.check_size(view, rows)
    file = file_name(name, view)
    title = views.title_of(data, view.y)
    drawn = drawing.save(file, plots.draw(data, view, rows), directory / drawing.FOLDER, title)
    table = directory / tables.FOLDER / f"{file}.csv"
    return [*drawn, writing.write_text(table, tables.as_csv(rows))]


def file_name(grid: str, view: View) -> str:
    """What the files of a view are called: the same view, the same name."""
    parts = [f"{grid}-{view.y}"]
    for word, name in (("over", view.x), ("by", view.color), ("per", view.facet)):
        parts += [f"{word}-{name}"] if name else []
    parts += [f"at-{name}-{views.value_name('', value)}" for name, value in view.at.items()]
    joined = "-".join(parts)
    # Values may hold letters that no file name can have, and be longer than one.
    name = "".join(letter if letter.isalnum() or letter in "._-+" else "_" for letter in joined)
    if name == joined and len(name.encode()) <= _LONGEST:
        return name
    digest = hashlib.sha256(joined.encode()).hexdigest()[:8]
    return f"{name.encode('ascii', 'replace').decode().replace('?', '_')[:_LONGEST]}-{digest}"
