"""An interactive page of a sweep: ``python -m sweeps explore DIR``.

It stands on Panel and hvPlot, which come with an extra; they are imported when a page is made.
"""

from __future__ import annotations

import html
import importlib
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from sweeps.report import plots, summary, views
from sweeps.report.summary import Row
from sweeps.report.views import STEP, View
from sweeps.store.folder import Folder
from sweeps.store.labelled import grid_name, of_grid
from sweeps.system.text import plain

_NEEDED = ("panel", "hvplot")
# No axis of a sweep can be called so.
_NONE = "- none -"
# Pixels of a panel; a telephone's window has hardly more.
_WIDTH, _HEIGHT = 360, 300
# Curves of single seeds behind the mean of a setting.
_SINGLE = 16
# As a telephone needs it; panels beside each other as far as there is room.
_TEMPLATE = """
{% extends base %}
{% block postamble %}
<meta name="viewport" content="width=device-width, initial-scale=1" />
<style>
body { font-family: system-ui, sans-serif; margin: 0 auto; padding: 0 4px; max-width: 76rem; }
</style>
{% endblock %}
{% block contents %}
{{ embed(roots.page) }}
{% endblock %}
"""


@dataclass(frozen=True)
class Prepared:
    """The points of a view as a page draws them.

    Attributes:
        frame: a row for each point: its labels, ``at`` (where it stands along x), ``mean``, ``low``
            and ``high`` (the mean, where there is no interval), ``line`` (the name of its colour)
            and ``colour``.
        rows: the same rows as ``views.rows`` gives them.
        ticks: places and names along x; ``None`` where x is a scale of numbers.
        log: whether that scale is logarithmic.
        joined: whether a line joins the points.
    """

    frame: pd.DataFrame
    rows: list[Row]
    ticks: list[tuple[float, str]] | None
    log: bool
    joined: bool


def prepared(data: xr.Dataset, view: View) -> Prepared:
    """The points of a view, placed and coloured.

    Args:
        data: as ``sweeps.open`` gives it.
        view: what is shown.

    Raises:
        ValueError: several settings are at one point.
    """
    views.check(data, view)
    rows = views.rows(data, view)
    colors = plots.values_in(rows, view.color)
    along = plots.values_in(rows, view.x)
    names, looks = plots.names(view.color, colors), plots.look_of(data, view.color, colors)
    scale = plots.scale_of(view, along)
    frame = pd.DataFrame(rows)
    number = [colors.index(row[view.color]) if view.color else 0 for row in rows]
    frame["line"] = [names[each] if names else view.y for each in number]
    frame["colour"] = [looks[each][0] for each in number]
    frame["low"] = [row["mean" if row["mean_low"] is None else "mean_low"] for row in rows]
    frame["high"] = [row["mean" if row["mean_high"] is None else "mean_high"] for row in rows]
    ticks = None
    if scale in ("words", "symlog"):
        # A browser's axes have no scale that is linear about 0 and logarithmic beyond.
        order = sorted(along) if scale == "symlog" else along
        places = {value: float(place) for place, value in enumerate(order)}
        at = [places[row[view.x]] if view.x else 0.0 for row in rows]
        if scale == "words":
            spread = 0.5 * ((np.array(number) + 0.5) / max(len(colors), 1) - 0.5)
            at = [float(each) for each in np.array(at) + spread]
        texts = plots.names(view.x, order) if view.x else [""]
        ticks = list(zip(map(float, range(len(texts))), texts, strict=True))
    else:
        at = [float(row[str(view.x)]) for row in rows]
    frame["at"] = at
    return Prepared(frame, rows, ticks, scale == "log", scale != "words")


def curve_of(data: xr.Dataset, view: View, row: Row) -> View | None:
    """The recorded curve of the setting at a point; ``None`` where none was recorded.

    Args:
        data: as ``sweeps.open`` gives it.
        view: whose point it is.
        row: of the point.
    """
    recorded = views.curves_of(data)
    if not recorded:
        return None
    metric = view.y.removesuffix("_mean")
    at = {name: row[name] for name in views.axes_of(data) if name in row and name in data.coords}
    return View(STEP, metric if metric in recorded else recorded[0], at=at)


def single_curves(data: xr.Dataset, view: View) -> pd.DataFrame:
    """The curves of single seeds of one setting, the first few: ``step``, ``seed``, ``value``."""
    part = data[f"{view.y}_curve"].isel(
        {dim: places[0] for dim, places in views.places_of(data, view).items()}
    )
    if summary.SEED in part.dims:
        part = part.isel({summary.SEED: slice(_SINGLE)})
    else:
        part = part.expand_dims({summary.SEED: [0]})
    part = part.transpose(summary.SEED, STEP).load()
    seeds, steps = part[summary.SEED].values, part[STEP].values
    return pd.DataFrame(
        {
            "seed": np.repeat(seeds, len(steps)),
            "step": np.tile(steps, len(seeds)),
            "value": part.values.astype(np.float64).reshape(-1),
        }
    )


def check_libraries() -> None:
    """See that what a page stands on is installed.

    Raises:
        ValueError: it is not, with what to install.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise ValueError(
            f"explore: needs {' and '.join(missing)}, which {verb} not installed; "
            "allowed: `pip install 'sdpo_jax[explore]'` first"
        )


def serve(directory: Path, grid: str | None, port: int, show: bool) -> None:
    """Serve the page on this machine until it is interrupted; print where it is.

    Args:
        directory: the sweep's folder.
        grid: the grid that is shown first.
        port: 0 for any that is free.
        show: whether a browser is opened.

    Raises:
        NoSweep: there is no sweep in the folder.
        ValueError: an unknown grid, nothing is done, or the port is taken.
    """
    folder, first = _opened(directory, grid)
    server_of = importlib.import_module("panel.io.server").get_server
    _library()
    try:
        server = server_of(
            lambda: _framed(_page(folder, first)), port=port, address="localhost", start=False,
            show=False, title=_name(folder),
        )  # fmt: skip
    except OSError as error:
        raise ValueError(
            f"--port: {port}: {error.strerror or error}; allowed: one that is free, 0 for any"
        ) from None
    url = f"http://localhost:{server.port}"
    print(f"Page: {url} (Ctrl-C ends it)", flush=True)
    if show:
        server.io_loop.add_callback(server.show, "/")
    # Told to stop, by Ctrl-C or a signal, it says so and comes back.
    server.run_until_shutdown()


def _opened(directory: Path, grid: str | None) -> tuple[Folder, str]:
    folder = Folder.open(directory)
    name = grid_name(folder, grid) if grid is not None else next(iter(folder.sweep.grids))
    if not of_grid(folder, name)["finished"].any():
        raise ValueError(f"{directory}: no run of {name} is done; allowed: `resume` first")
    return folder, name


def _name(folder: Folder) -> str:
    return plain(folder.sweep.title or folder.sweep.name)


def _escaped(text: str) -> str:
    """A name in Markdown as it is."""
    return "".join(f"\\{each}" if each in r"\`*_{}[]()<>#+-.!|&$~" else each for each in text)


def _library() -> Any:
    importlib.import_module("hvplot.pandas")
    pn = importlib.import_module("panel")
    pn.extension()
    return pn


def _framed(page: Any) -> Any:
    """The page in its template."""
    template = importlib.import_module("panel").Template(_TEMPLATE)
    template.add_panel("page", page)
    return template


def _page(folder: Folder, first: str) -> Any:
    """The whole page: which grid, and what is shown of it."""
    pn = importlib.import_module("panel")
    grids = list(folder.sweep.grids)
    title = pn.pane.Markdown(f"# {_escaped(_name(folder))}", sizing_mode="stretch_width")
    if len(grids) == 1:
        return pn.Column(title, _of_grid(of_grid(folder, first)), sizing_mode="stretch_width")
    choice = pn.widgets.Select(name="grid", options=grids, value=first, width=_WIDTH // 2)
    return pn.Column(
        title,
        choice,
        pn.bind(lambda grid: _of_grid(of_grid(folder, grid)), choice),
        sizing_mode="stretch_width",
    )


def _of_grid(data: xr.Dataset) -> Any:
    """What is shown of a grid, with the widgets that choose it."""
    pn = importlib.import_module("panel")
    axes, curves = views.axes_of(data), views.curves_of(data)
    metrics = summary.metrics_of(data)
    metrics += [f"{name}_mean" for name in metrics]
    start = views.automatic(data, metrics[0])
    shown = {plain(views.heading(name)): name for name in axes}

    def select(name: str, options: dict[str, Any] | Sequence[Any], value: Any) -> Any:
        return pn.widgets.Select(name=name, options=options, value=value, width=_WIDTH // 2 - 25)

    along = shown | ({"training step (curves)": STEP} if curves else {})
    x = select("x axis", along or {_NONE: _NONE}, start.x or next(iter(along.values()), _NONE))
    y = select("metric", metrics, metrics[0])
    color = select("colour", {_NONE: _NONE, **shown}, start.color or _NONE)
    facet = select("facets", {_NONE: _NONE, **shown}, start.facet or _NONE)
    intervals = pn.widgets.Checkbox(name="95% intervals", value=True)
    held = {
        dim: select(
            views.heading(dim),
            dict(zip(plots.names(dim, values), values, strict=True)),
            values[0],
        )
        for dim in dict.fromkeys(axes.values())
        if (values := views.values_of(data, dim))
    }
    curve = pn.Column(
        pn.pane.Markdown(
            "Click a point to see the curves of its setting; with Shift several."
            if curves
            else "No curves were recorded: `record` in the sweep file says of which metrics."
        ),
        sizing_mode="stretch_width",
    )

    def clicked(view: View, rows: Sequence[Row], with_intervals: bool) -> None:
        chosen = [(row, found) for row in rows if (found := curve_of(data, view, row)) is not None]
        if chosen:
            curve[:] = [_clicked(data, chosen, with_intervals)]

    def update(x: Any, y: Any, color: Any, facet: Any, intervals: bool, **at: Any) -> Any:
        x, color, facet = (None if each == _NONE else each for each in (x, color, facet))
        taken = {axes[name] for name in (x, color, facet) if name in axes}
        for dim, widget in held.items():
            widget.visible = dim not in taken
        view = View(x, y, color, facet, {d: v for d, v in at.items() if d not in taken})
        try:
            if len({x, color, facet} - {None}) < sum(
                each is not None for each in (x, color, facet)
            ):
                raise ValueError("one axis stands in two places; allowed: another one")
            if x == STEP and y not in curves:
                raise ValueError(f"{y}: no curve; allowed: {', '.join(curves)}")
            return _figures(data, view, intervals, lambda rows: clicked(view, rows, intervals))
        except ValueError as error:
            said = str(error).removeprefix("--x: ").removeprefix("--at: ").replace("--", "")
            return pn.pane.Alert(_escaped(said), alert_type="warning")

    drawn = pn.bind(update, x=x, y=y, color=color, facet=facet, intervals=intervals, **held)
    return pn.Column(
        pn.FlexBox(x, y, color, facet, *held.values(), intervals, align_items="end"),
        drawn,
        curve,
        sizing_mode="stretch_width",
    )


def _figures(data: xr.Dataset, view: View, intervals: bool, clicked: Any) -> Any:
    """A panel for each facet; ``clicked`` is told the rows of the points that are selected."""
    pn = importlib.import_module("panel")
    streams = importlib.import_module("holoviews.streams")
    found = prepared(data, view)
    if found.frame.empty:
        return pn.pane.Alert("No such run is done.", alert_type="warning")
    panels = []
    for shown, points, rows in _panels(data, view, found, intervals):
        stream = streams.Selection1D(source=points)
        stream.add_subscriber(
            lambda index, rows=rows: clicked([rows[i] for i in index if i < len(rows)])
        )
        mode: dict[str, Any] = {"sizing_mode": "stretch_width", "max_width": 2 * _WIDTH}
        panels.append(pn.pane.HoloViews(shown, linked_axes=False, **({} if view.facet else mode)))
    legend = pn.pane.HTML(_legend_of(data, view, found), sizing_mode="stretch_width")
    return pn.Column(pn.FlexBox(*panels), legend, sizing_mode="stretch_width")


def _panels(
    data: xr.Dataset, view: View, found: Prepared, intervals: bool
) -> list[tuple[Any, Any, list[Row]]]:
    """For each facet what is drawn, the points in it, and their rows.

    Raises:
        ValueError: there are too many facets.
    """
    facets = plots.values_in(found.rows, view.facet)
    if len(facets) > plots.MOST_FACETS:
        raise ValueError(f"facets: {len(facets)} panels; allowed: at most {plots.MOST_FACETS}")
    least, most = found.frame["low"].min(), found.frame["high"].max()
    room = 0.05 * ((most - least) or 1.0)
    panels = []
    for number, title in enumerate(plots.panel_titles(view.facet, facets) or [""]):
        mine = found.frame
        if view.facet:
            here = np.array([row[view.facet] == facets[number] for row in found.rows])
            mine = mine.loc[here]
        shown, points = _drawn(data, view, found, mine, title, intervals)
        # A wheel that zooms would keep the page from being scrolled.
        shown = shown.opts(ylim=(least - room, most + room), active_tools=["tap"])
        panels.append((shown, points, [found.rows[place] for place in mine.index]))
    return panels


def _size(wide: bool) -> dict[str, Any]:
    if wide:
        return {"responsive": True, "height": _HEIGHT + 60}
    return {"width": _WIDTH, "height": _HEIGHT}


def _ends(found: Prepared) -> tuple[float, float]:
    """The ends of the x axis, so that no point stands on them."""
    at = found.frame["at"].to_numpy(np.float64)
    least, most = float(at.min()), float(at.max())
    if found.ticks is not None:
        return found.ticks[0][0] - 0.5, found.ticks[-1][0] + 0.5
    if found.log:
        factor = (most / least) ** 0.04
        return least / factor, most * factor
    room = 0.04 * (most - least) or 0.5
    return least - room, most + room


def _drawn(
    data: xr.Dataset,
    view: View,
    found: Prepared,
    mine: pd.DataFrame,
    title: str,
    intervals: bool,
) -> tuple[Any, Any]:
    """One panel, and the points in it that can be clicked."""
    labels = [name for name in mine.columns[: list(mine.columns).index("metric")]]
    options: dict[str, Any] = {
        "title": title, "legend": False, "xlim": _ends(found), **_size(not view.facet),
        "xlabel": views.title_of(data, view.x) if view.x else "",
        "ylabel": views.title_of(data, view.y), "logx": found.log,
    }  # fmt: skip
    if found.ticks is not None:
        options["xticks"] = found.ticks
        options["rot"] = 30 if sum(len(text) for _, text in found.ticks) > 34 else 0
    parts: list[Any] = []
    for _, one in mine.groupby("line", sort=False):
        one = one.sort_values("at")
        colour = one["colour"].iloc[0]
        if found.joined and len(one) > 1:
            if intervals:
                parts.append(
                    one.hvplot.area(
                        x="at", y="low", y2="high", color=colour, alpha=0.2, line_alpha=0,
                        hover=False, **options,
                    )
                )  # fmt: skip
            parts.append(one.hvplot.line(x="at", y="mean", color=colour, hover=False, **options))
        elif intervals:
            ends = one.assign(below=one["mean"] - one["low"], above=one["high"] - one["mean"])
            parts.append(
                ends.hvplot.errorbars(
                    x="at", y="mean", yerr1="below", yerr2="above", color=colour, **options
                ).opts(upper_head=None, lower_head=None, line_width=2)
            )
    tips = [
        (views.heading(name), f"@{{{name}}}") for name in (*labels, "mean", "low", "high", "seeds")
    ]
    points = mine.hvplot.scatter(
        x="at", y="mean", c="colour", size=60 if view.x != STEP else 12, tools=["tap"],
        hover_cols=[*labels, "seeds", "low", "high"], hover_tooltips=tips, colorbar=False,
        nonselection_alpha=0.5, **options,
    )  # fmt: skip
    hv = importlib.import_module("holoviews")
    return hv.Overlay([*parts, points]), points


def _legend_of(data: xr.Dataset, view: View, found: Prepared) -> str:
    """What the colours of a view are; empty where it has one."""
    if not view.color:
        return ""
    # Names of algorithms and settings speak for themselves; numbers do not.
    single = view.color in data.coords and view.color != summary.ALGORITHM
    each = found.frame.drop_duplicates("line")
    return _legend(each["line"], each["colour"], views.heading(view.color) if single else "")


def _legend(lines: Iterable[str], colours: Iterable[str], title: str = "") -> str:
    """Names beside their colours, in lines that break as text does: nothing is ever cut."""
    items = f"{html.escape(title)}: &nbsp;" if title else ""
    items += "".join(
        f'<span style="margin-right:1.2em;overflow-wrap:anywhere">'
        f'<span style="color:{colour}">&#9632;</span> {html.escape(line)}</span>'
        for line, colour in zip(lines, colours, strict=True)
    )
    return f'<div style="font-size:14px">{items}</div>'


def _clicked(data: xr.Dataset, chosen: Sequence[tuple[Row, View]], intervals: bool) -> Any:
    """The curves of the settings that were clicked."""
    pn = importlib.import_module("panel")
    hv = importlib.import_module("holoviews")
    parts, lines = [], []
    for number, (row, view) in enumerate(chosen):
        label = ", ".join(
            f"{views.heading(name)} {views.value_name(name, row[name])}" for name in view.at
        )
        frame = prepared(data, view).frame
        colour = plots.COLOURS[number % len(plots.COLOURS)]
        options = {"legend": False, **_size(True), "color": colour,
                   "xlabel": views.title_of(data, STEP),
                   "ylabel": views.title_of(data, view.y)}  # fmt: skip
        if len(chosen) == 1:
            for _, one in single_curves(data, view).groupby("seed"):
                parts.append(
                    one.hvplot.line(
                        x="step", y="value", alpha=0.25, hover=False, line_width=1, **options
                    )
                )
        if intervals:
            parts.append(
                frame.hvplot.area(x="at", y="low", y2="high", alpha=0.25, line_alpha=0,
                                  hover=False, **options)
            )  # fmt: skip
        parts.append(frame.hvplot.line(x="at", y="mean", line_width=2.5, **options))
        lines.append((label or view.y, colour))
    legend = _legend([name for name, _ in lines], [colour for _, colour in lines])
    return pn.Column(
        pn.pane.Markdown(f"### Curves: {_escaped(views.title_of(data, chosen[0][1].y))}"),
        pn.pane.HoloViews(
            hv.Overlay(parts).opts(active_tools=[]), linked_axes=False,
            sizing_mode="stretch_width", max_width=2 * _WIDTH,
        ),
        pn.pane.HTML(legend, sizing_mode="stretch_width"),
        sizing_mode="stretch_width",
    )  # fmt: skip
