"""A sweep's tables, figures and page, from what is saved: ``python -m sweeps render DIR``."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr
from markupsafe import Markup
from matplotlib.figure import Figure

from sweeps.file import sweep
from sweeps.report import best, drawing, plots, summary, tables, views, web
from sweeps.report.best import Chosen
from sweeps.report.health import health
from sweeps.report.summary import ALGORITHM, Row
from sweeps.report.views import CONDITION, STEP, View
from sweeps.report.web import NAME, inline_svg
from sweeps.store.fingerprints import digest
from sweeps.store.folder import Folder
from sweeps.store.labelled import of_grid
from sweeps.system import text, writing
from sweeps.system.text import exact, plain

TEMPLATE = "sweep.html.j2"
BEST = ".best"


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
        chosen = best.best_settings(data)
        chosen_rows = best.rows(chosen) if chosen is not None and chosen.choice else []
        for end, some in (("", rows), (sweep.COMPARISONS, compared), (BEST, chosen_rows)):
            if some:
                table = directory / tables.FOLDER / f"{grid}{end}.csv"
                paths.append(writing.write_text(table, tables.as_csv(some)))
        drawings = []
        for part, title, figure, caption in _drawings(data, chosen):
            name = f"{grid}-{part}"
            written = drawing.save(name, figure, directory / drawing.FOLDER, title)
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
                "best": tables.shown(chosen_rows),
                "chosen": "" if chosen is None else _how_chosen(chosen),
                "rows": tables.shown(rows),
                "comparisons": tables.shown(compared),
                "more": max(0, len(rows) - tables.SHOWN_ROWS),
            }
        )
    page = web.page(
        "sweeps.report",
        TEMPLATE,
        title=plain(folder.sweep.title or folder.sweep.name),
        grids=shown,
        text=text.lines(folder.sweep.text),
        command=f"python -m sweeps render {shlex.quote(str(directory))}",
        fingerprints=[
            {"digest": digest(each), "source": each["source"][:12], **each["versions"]}
            for each in folder.manifest.fingerprints
        ],
        tables=tables.FOLDER,
    )
    return [*paths, writing.write_text(directory / NAME, page)]


def _figure(
    data: xr.Dataset, view: View, rows: list[Row], note: str | None = None
) -> tuple[Figure, str]:
    """A view as a report has room for it, and a caption that says what is shown of how much."""
    caption = "Mean over seeds with 95% intervals; broken runs left out."
    for name, value in views.held_by(data, view).items() if note is None else ():
        caption += f" {views.heading(name)} is {views.value_name(name, value)}."
    for name, most in ((view.facet, plots.MAX_PANELS), (view.color, plots.MAX_LINES)):
        values = list(dict.fromkeys(row[name] for row in rows)) if name else []
        if len(values) > most:
            # Of numbers some all along, of others the first.
            some = views.scale_of(values) != "words"
            at = np.linspace(0, len(values) - 1, most).round().astype(int)
            kept = [values[place] for place in at] if some else values[:most]
            rows = [row for row in rows if row[str(name)] in kept]
            which = "" if some else "The first "
            caption += f" {which}{most} of {len(values)} values of {views.heading(str(name))}."
    for name in (view.x, view.color, view.facet):
        caption += _beside(data, name, [view.x, view.color, view.facet])
    return plots.draw(data, view, rows, "" if note is None else note, narrow=True), caption


def _beside(data: xr.Dataset, name: str | None, shown: list[str | None]) -> str:
    """What varies together with an axis of a zip, in a sentence."""
    axes = views.axes_of(data)
    if name is None or name not in data.coords or axes.get(name, name) == name:
        return ""
    others = [
        each
        for each, dim in axes.items()
        if dim == axes[name] and each in data.coords and each not in shown
    ]
    said = ""
    for each in others:
        values = [views.value_name(each, value) for value in views.values_of(data, each)]
        said += f" With {views.heading(name)} goes {views.heading(each)}: {_some(values)}."
    return said


def _some(values: list[str]) -> str:
    return ", ".join(values if len(values) <= 12 else [*values[:3], "...", values[-1]])


def _curves(data: xr.Dataset, chosen: Chosen | None, metric: str) -> tuple[Figure, str]:
    """The recorded curve of a metric: of each algorithm at its best, or along the first axes."""
    if chosen is not None and len(chosen.algorithms) > 1:
        rows = best.curve_rows(data, chosen, metric)
        facet = CONDITION if len(chosen.panels) > 1 else None
        view = View(STEP, metric, ALGORITHM, facet)
        note = "" if facet else chosen.panels[0]
        figure, caption = _figure(data, view, rows, note)
        if chosen.choice:
            caption += " Each algorithm at its best setting, which the table above names"
            caption += ", over the seeds that did not choose it." if chosen.apart else "."
        return figure, caption
    along = views.automatic(data, metric)
    view = View(STEP, metric, along.x, along.color)
    return _figure(data, view, views.rows(data, view))


_CURVE = "Curve: "


def _drawings(data: xr.Dataset, chosen: Chosen | None) -> Iterator[tuple[str, str, Figure, str]]:
    """Name, title, figure and caption of what a report shows of a grid."""
    metrics = summary.metrics_of(data)
    for metric in metrics:
        title = str(data[metric].attrs["long_name"])
        view = views.automatic(data, metric)
        yield metric, title, *_figure(data, view, views.rows(data, view))
    # A point stands in a name that no metric's can be.
    for metric in views.curves_of(data):
        title = f"{_CURVE}{data[metric].attrs['long_name']}"
        yield f"{metric}.curve", title, *_curves(data, chosen, metric)
    if chosen is None:
        return
    title = str(data[chosen.metric].attrs["long_name"])
    most = plots.MAX_PANELS
    profiles = dict(itertools.islice(best.profiles(chosen).items(), most))
    if profiles:
        shown = chosen.algorithms[: plots.MAX_LINES]
        figure = plots.profiles(
            {
                panel if len(chosen.panels) > 1 else "": {
                    n: e for n, e in each.items() if n in shown
                }
                for panel, each in profiles.items()
            },
            title,
        )
        yield (
            f"{chosen.metric}.profile",
            "Performance profiles",
            figure,
            (
                "The share of runs that score more than τ, with 95% intervals; where a curve is "
                f"above another one, it is better. {_at_best(chosen)}{_first_of(chosen)}"
            ),
        )
    better = best.by_panel(chosen, best.improvements(chosen))
    better = dict(itertools.islice(better.items(), most))
    if better:
        figure = plots.improvement(
            better if len(chosen.panels) > 1 else {"": next(iter(better.values()))}
        )
        yield (
            f"{chosen.metric}.improvement",
            "Probability of improvement",
            figure,
            (
                f"How often a run of the algorithm on the left has a larger {chosen.metric} than "
                "a run of the one on the right with another seed, with 95% intervals. Where an "
                "interval holds 0.5, it is open which is better. "
                f"{_at_best(chosen)}{_first_of(chosen)}"
            ),
        )


def _how_chosen(chosen: Chosen) -> str:
    """What the table of the best settings is made of, in a sentence."""
    if chosen.apart:
        return (
            f"Of the settings tried, the one with the largest mean {chosen.metric} on every second "
            f"seed; its numbers are those of the other {chosen.judges.size} seeds."
        )
    return (
        f"Of the settings tried, the one with the largest mean {chosen.metric}. With fewer than "
        f"{2 * summary.LEAST} seeds the same ones choose and judge, so that the best of several "
        "looks better than it is."
    )


def _at_best(chosen: Chosen) -> str:
    return "Each algorithm at its best setting." if chosen.choice else ""


def _first_of(chosen: Chosen) -> str:
    more = len(chosen.panels) > plots.MAX_PANELS
    return f" The first {plots.MAX_PANELS} of {len(chosen.panels)} conditions." if more else ""


def _axes(data: xr.Dataset) -> list[tuple[str, str]]:
    found = []
    for name, coordinate in data.coords.items():
        if name == "step" or not coordinate.dims:
            continue
        values = coordinate.values
        some = values if len(values) <= 12 else [*values[:3], "...", values[-1]]
        found.append((f"{name} ({len(values)})", ", ".join(plain(exact(each)) for each in some)))
    return found
