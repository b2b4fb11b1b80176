"""A sweep's tables, figures and page, from what is saved: ``python -m sweeps render DIR``."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.style
import numpy as np
import xarray as xr
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweeps import statistics
from sweeps.file import sweep
from sweeps.report import drawing, summary
from sweeps.report.drawing import all_drawn, drawn
from sweeps.report.health import broken_runs, health
from sweeps.report.style import ALGORITHM_LOOKS, RC, Look, readers_name
from sweeps.report.web import NAME, inline_svg, style
from sweeps.store.fingerprints import digest
from sweeps.store.folder import Folder
from sweeps.store.labelled import of_grid
from sweeps.system import text, writing
from sweeps.system.text import exact, plain

TEMPLATE = "sweep.html.j2"
TABLES = "tables"
FIGURES = "figures"
MAX_PANELS = 6
MAX_LINES = 8
# Rows of a table that the page shows; the file beside it has all.
SHOWN_ROWS = 200
_COLOURS = [look.colour for look in ALGORITHM_LOOKS.values()]
_COLOURS += ["#56B4E9", "#E69F00", "#000000", "#999999"]
_MARKERS = "os^Dvx+*"


def render_sweep(directory: Path) -> list[Path]:
    """Write tables, figures and ``report.html`` for a sweep, finished or not; return the paths.

    Raises:
        NoSweep: there is no sweep in the folder.
        ValueError: nothing of it is done.
    """
    folder = Folder.open(directory)
    paths: list[Path] = []
    shown = []
    for grid in folder.sweep.grids:
        data = of_grid(folder, grid)
        if not data["finished"].any():
            raise ValueError(f"{directory}: no run of {grid} is done; allowed: `resume` first")
        rows = list(summary.summary_rows(data))
        compared = summary.comparison_rows(data)
        table = directory / TABLES / f"{grid}.csv"
        paths.append(writing.write_text(table, _csv(rows)))
        if compared:
            comparison = directory / TABLES / f"{grid}{sweep.COMPARISONS}.csv"
            paths.append(writing.write_text(comparison, _csv(compared)))
        drawings = []
        for metric in summary.metrics_of(data):
            name = f"{grid}-{metric}"
            title = str(data[metric].attrs["long_name"])
            figure, caption = draw(data, metric)
            written = drawing.save(name, figure, directory / FIGURES, title)
            paths += written
            svg = Markup(inline_svg(written[-1].read_text(encoding="utf-8"), name))
            drawings.append({"name": name, "title": title, "svg": svg, "caption": caption})
        shown.append(
            {
                "name": grid,
                "title": plain(folder.sweep.grids[grid].title),
                "health": str(health(data)),
                "axes": _axes(data),
                "figures": drawings,
                "rows": _shown(rows),
                "comparisons": _shown(compared),
                "more": max(0, len(rows) - SHOWN_ROWS),
            }
        )
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("sweeps.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    page = environment.from_string(source).render(
        style=style(),
        title=plain(folder.sweep.title or folder.sweep.name),
        grids=shown,
        text=text.lines(folder.sweep.text),
        command=f"python -m sweeps render {shlex.quote(str(directory))}",
        fingerprints=[
            {"digest": digest(each), "source": each["source"][:12], **each["versions"]}
            for each in folder.manifest.fingerprints
        ],
        tables=TABLES,
    )
    return [*paths, writing.write_text(directory / NAME, page)]


def draw(data: xr.Dataset, metric: str) -> tuple[Figure, str]:
    """A metric along the first axis of numbers, a line for each algorithm or other first name.

    Returns:
        The figure, and a caption that says what is shown of how much.
    """
    others = [str(dim) for dim in data["finite_steps"].dims if dim != summary.SEED]
    numeric = [dim for dim in others if dim in data.coords and data[dim].dtype.kind in "iuf"]
    along = max(numeric, key=lambda dim: data.sizes[dim]) if numeric else None
    if along is None and others:
        along = max(others, key=lambda dim: data.sizes[dim])
    rest = [dim for dim in others if dim != along]
    by = "algorithm" if "algorithm" in rest else next(iter(rest), None)
    panels_by = next((dim for dim in rest if dim != by), None)
    fixed = [dim for dim in rest if dim not in (by, panels_by)]
    broken = xr.DataArray(broken_runs(data), dims=data["finite_steps"].dims)
    values = data[metric].where(~broken).isel({dim: 0 for dim in fixed})
    panels = min(values.sizes[panels_by], MAX_PANELS) if panels_by else 1
    lines = min(values.sizes[by], MAX_LINES) if by else 1
    labels = [_name(data, by, line) for line in range(lines)] if by else [""]
    looks = [ALGORITHM_LOOKS.get(label) if by == "algorithm" else None for label in labels]
    names = [
        look.label if look else readers_name(label) if by == "algorithm" else label
        for look, label in zip(looks, labels, strict=True)
    ]
    shown = all_drawn(names)
    columns = min(panels, 2)
    rows = -(-panels // columns)
    with matplotlib.style.context(["default", RC]):
        figure = Figure(figsize=(drawing.WIDTH, 1.2 + 2.1 * rows))
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for spare in axes.flat[panels:]:
            spare.set_axis_off()
        for panel, ax in enumerate(axes.flat[:panels]):
            part = values.isel({panels_by: panel}) if panels_by else values
            for line in range(lines):
                one = part.isel({by: line}) if by else part
                _line(ax, one, along, line, shown[line], looks[line])
            if panels_by:
                ax.set_title(drawn(f"{panels_by} {_name(data, panels_by, panel)}"))
        for ax in axes[-1]:
            ax.set_xlabel(_title(data, along) if along else "")
        for ax in axes[:, 0]:
            ax.set_ylabel(_title(data, metric))
        if by:
            figure.legend(
                *axes[0, 0].get_legend_handles_labels(),
                loc="outside lower center",
                ncols=min(lines, 3),
            )
    caption = "Mean over seeds with 95% intervals; broken runs left out."
    for dim in fixed:
        caption += f" {dim} is {_name(data, dim, 0)}."
    if panels_by and values.sizes[panels_by] > panels:
        caption += f" The first {panels} of {values.sizes[panels_by]} values of {panels_by}."
    if by and values.sizes[by] > lines:
        caption += f" The first {lines} of {values.sizes[by]} values of {by}."
    return figure, caption


def _line(
    ax: Axes,
    values: xr.DataArray,
    along: str | None,
    number: int,
    label: str,
    look: Look | None,
) -> None:
    array = values.transpose(*([along] if along else []), ...).values
    array = array.reshape(array.shape[0] if along else 1, -1)
    centre, low, high = np.full((3, len(array)), np.nan)
    for place, row in enumerate(array):
        good = row[np.isfinite(row)].astype(np.float64)
        if good.size:
            centre[place] = good.mean()
        if good.size > 1:
            interval = statistics.mean(good)
            low[place], high[place] = interval.low, interval.high
    at: Any = np.arange(len(array))
    words = along is None or along not in values.coords or values[along].dtype.kind not in "iuf"
    if not words:
        at = values[along].values.astype(float)
        spread = at.max() / at[at > 0].min() if (at > 0).any() else 1.0
        if len(at) > 2 and spread >= 50:
            if (at > 0).all():
                ax.set_xscale("log")
            else:
                ax.set_xscale("symlog", linthresh=float(at[at > 0].min()))
    colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
    if look is not None:
        colour, marker = look.colour, look.marker
    if np.isfinite(low).any():
        ax.fill_between(at, low, high, color=colour, alpha=0.25, linewidth=0)
    ax.plot(at, centre, color=colour, marker=marker, markersize=4, label=label)
    if words and along:
        names = values[along].values if along in values.coords else at
        ax.set_xticks(at, all_drawn(list(names)), rotation=30 if len(at) > 3 else 0)


def _name(data: xr.Dataset, dim: str, place: int) -> str:
    if dim in data.coords:
        return plain(exact(data[dim].values[place]))
    zipped = [name for name, each in data.coords.items() if each.dims == (dim,)]
    return ", ".join(f"{name} {plain(exact(data[name].values[place]))}" for name in zipped)


def _title(data: xr.Dataset, name: str) -> str:
    attributes = data[name].attrs if name in data.variables else {}
    unit = attributes.get("units", "1")
    return str(attributes.get("long_name", name)) + ("" if unit == "1" else f" ({unit})")


def _axes(data: xr.Dataset) -> list[tuple[str, str]]:
    found = []
    for name, coordinate in data.coords.items():
        if name == "step" or not coordinate.dims:
            continue
        values = coordinate.values
        some = values if len(values) <= 12 else [*values[:3], "...", values[-1]]
        found.append((f"{name} ({len(values)})", ", ".join(plain(exact(each)) for each in some)))
    return found


def _csv(rows: Sequence[summary.Row]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows(_texts(row, 6) for row in rows)
    return file.getvalue()


# Columns that hold names of algorithms.
_OF_ALGORITHMS = ("algorithm", "first", "second")


def _heading(column: str) -> str:
    """A column of a table for readers: ``mean_low`` is the low end of the mean's interval."""
    for end in ("low", "high"):
        if column.endswith(f"_{end}"):
            return f"{_heading(column.removesuffix(f'_{end}'))}, interval {end}"
    return {"oracle": "feedback", "p_holm": "p, corrected", "iqm": "interquartile mean"}.get(
        column, column.replace("_", " ")
    )


def _shown(rows: Sequence[summary.Row]) -> dict[str, Any]:
    if not rows:
        return {"header": [], "rows": []}
    return {
        "header": [_heading(name) for name in rows[0]],
        "rows": [
            [
                plain(readers_name(text) if name in _OF_ALGORITHMS else text)
                for name, text in zip(row, _texts(row, 4), strict=True)
            ]
            for row in rows[:SHOWN_ROWS]
        ],
    }


def _texts(row: summary.Row, digits: int) -> list[str]:
    """A row as text: labels so that they select again, estimates in so many digits."""
    labels = list(row)[: list(row).index("metric")]
    return [
        ""
        if value is None
        else f"{value:.{digits}g}"
        if isinstance(value, float) and name not in labels
        else exact(value)
        for name, value in row.items()
    ]
