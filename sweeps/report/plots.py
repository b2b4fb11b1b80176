"""The figures of a sweep: a metric along an axis, profiles, and who beats whom."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sweeps.report import drawing, views
from sweeps.report.drawing import all_drawn, drawn
from sweeps.report.style import ALGORITHM_LOOKS, INK, RC, Look
from sweeps.report.summary import ALGORITHM, Row
from sweeps.report.views import CONDITION, STEP, Scale, View

# Panels and lines of a figure that was asked for; and of one in a report.
MOST_FACETS = 24
MOST_COLORS = 24
MAX_PANELS = 6
MAX_LINES = 8
# From so many numbers on colours follow their size.
_SHADES = 4
COLOURS = [look.colour for look in ALGORITHM_LOOKS.values()]
COLOURS += ["#56B4E9", "#E69F00", "#000000", "#999999"]
_MARKERS = "os^Dvx+*"
# What one row of panels and one line of a legend take, in inches.
_PANEL, _LINE = 2.1, 0.19
# Letters in a line of text across a figure of the usual width.
_LETTERS = 62


def draw(
    data: xr.Dataset,
    view: View,
    rows: Sequence[Row],
    note: str | None = None,
    narrow: bool = False,
) -> Figure:
    """A view as a figure: a line with its band for numbers, points with bars for words.

    Args:
        data: whose titles are shown.
        view: what is shown.
        rows: its points, of ``views.rows``.
        note: what stands above the panels; by default the axes that are held.
        narrow: as in a report, with two panels beside each other at most.
    """
    facets, colors, along = (values_in(rows, name) for name in (view.facet, view.color, view.x))
    labels, titles = names(view.color, colors), panel_titles(view.facet, facets)
    looks = look_of(data, view.color, colors)
    scale = scale_of(view, along)
    if note is None:
        held = views.held_by(data, view).items()
        note = ", ".join(f"{views.heading(n)} {views.value_name(n, value)}" for n, value in held)
    with matplotlib.style.context(["default", RC]):
        figure, panels = _panels(max(len(facets), 1), narrow)
        for place, ax in enumerate(panels):
            mine = [row for row in rows if not facets or row[str(view.facet)] == facets[place]]
            for number, (colour, marker) in enumerate(looks):
                points = [
                    row for row in mine if not colors or row[str(view.color)] == colors[number]
                ]
                spread = 0.6 * ((number + 0.5) / len(looks) - 0.5)
                label = labels[number] if labels else None
                _points(ax, points, view, along, scale, spread, colour, marker, label)
            if facets:
                ax.set_title(titles[place])
            _axis(ax, along, scale, view.x)
        _outer(figure, panels, _title(data, view.x), _title(data, view.y))
        if note:
            figure.suptitle(drawn_text(note), fontsize=9)
        # Names of algorithms and settings speak for themselves; numbers do not.
        single = view.color in data.coords and view.color != ALGORITHM
        _legend_of(figure, panels, labels, views.heading(str(view.color)) if single else None)
    return figure


def scale_of(view: View, along: Sequence[Any]) -> Scale:
    """How the x axis of a view is drawn."""
    if view.x is None:
        return "words"
    return "linear" if view.x == STEP else views.scale_of(along)


def panel_titles(facet: str | None, values: Sequence[Any]) -> list[str]:
    """What stands above each panel: the axis and its value; of what is no axis the value."""
    if facet is None:
        return []
    before = "" if facet == CONDITION else f"{views.heading(facet)} "
    texts = [f"{before}{views.value_name(facet, each)}" for each in values]
    return all_drawn(texts if len(set(texts)) == len(texts) else list(map(str, values)))


def check_size(view: View, rows: Sequence[Row]) -> None:
    """See that a figure that was asked for can be read.

    Raises:
        ValueError: it has too many panels or colours.
    """
    for flag, name, most in (
        ("facet", view.facet, MOST_FACETS), ("color", view.color, MOST_COLORS),
    ):  # fmt: skip
        count = len(values_in(rows, name))
        if count > most:
            raise ValueError(f"--{flag}: {name} has {count} values; allowed: at most {most}")


def profiles(shown: Mapping[str, Mapping[str, tuple[np.ndarray, Any]]], along: str) -> Figure:
    """Performance profiles: of each algorithm the share of runs above each score.

    Args:
        shown: by panel and algorithm the scores, and for each the share with its interval.
        along: what the score is.
    """
    order = list(dict.fromkeys(name for each in shown.values() for name in each))
    labels = dict(zip(order, names(ALGORITHM, order), strict=True))
    with matplotlib.style.context(["default", RC]):
        figure, panels = _panels(len(shown), True)
        for ax, (panel, each) in zip(panels, shown.items(), strict=True):
            for name, (scores, share) in each.items():
                colour, _ = _look(name, order.index(name))
                ax.plot(scores, share.estimate, color=colour, label=labels[name])
                ax.fill_between(scores, share.low, share.high, color=colour, alpha=0.2, linewidth=0)
            ax.set_ylim(-0.02, 1.02)
            if panel:
                ax.set_title(drawn(panel))
        _outer(figure, panels, f"{along}, τ", "share of runs above τ")
        _legend_of(figure, panels, list(labels.values()))
    return figure


def improvement(shown: Mapping[str, Sequence[Row]]) -> Figure:
    """Probabilities of improvement: a row for each two algorithms, 0.5 where neither is better.

    Args:
        shown: by panel the rows, with ``first``, ``second`` and ``improvement``.
    """
    most = max(map(len, shown.values()))
    with matplotlib.style.context(["default", RC]):
        height = max(2.1, 0.7 + len(shown) * (0.45 + 0.3 * most))
        figure = Figure(figsize=(drawing.WIDTH, height))
        panels = list(figure.subplots(len(shown), squeeze=False, sharex=True).flat)
        for ax, (panel, rows) in zip(panels, shown.items(), strict=True):
            at = np.arange(len(rows))[::-1]
            for place, row in zip(at, rows, strict=True):
                ax.barh(place, row["improvement_high"] - row["improvement_low"],
                        left=row["improvement_low"], height=0.55, alpha=0.35,
                        color=COLOURS[0], linewidth=0)  # fmt: skip
                ax.plot([row["improvement"]] * 2, [place - 0.275, place + 0.275],
                        color=COLOURS[0], linewidth=2)  # fmt: skip
            ax.axvline(0.5, color=INK, linewidth=0.9, linestyle="--")
            ax.set_yticks(at, _short(row["first"] for row in rows))
            ax.set_ylim(-0.6, len(rows) - 0.4)
            ax.grid(axis="y", visible=False)
            ax.tick_params(axis="y", length=0)
            other = ax.secondary_yaxis("right")
            other.set_yticks(at, _short(row["second"] for row in rows))
            other.tick_params(length=0)
            other.spines["right"].set_visible(False)
            ax.set_xlim(-0.02, 1.02)
            if panel:
                ax.set_title(drawn(panel))
        panels[-1].set_xlabel("probability that a run of the left one beats one of the right one")
    return figure


def _short(algorithms: Any) -> list[str]:
    return [drawn(views.value_name(ALGORITHM, each)) for each in algorithms]


def names(axis: str | None, values: Sequence[Any]) -> list[str]:
    """The values of an axis for a legend or ticks, no two of them the same."""
    if axis is None:
        return []
    found = [
        ALGORITHM_LOOKS[str(each)].label
        if axis == ALGORITHM and str(each) in ALGORITHM_LOOKS
        else views.value_name(axis, each)
        for each in values
    ]
    return all_drawn(found if len(set(found)) == len(found) else list(map(str, values)))


def look_of(data: xr.Dataset, axis: str | None, values: Sequence[Any]) -> list[tuple[str, str]]:
    """Colour and marker of each value: an algorithm's own, shades of numbers, or the next ones."""
    if axis is None:
        return [(COLOURS[0], _MARKERS[0])]
    if len(values) >= _SHADES and views.scale_of(values) != "words":
        shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(values)))
        colours = [to_hex(each) for each in shades]
        return [(each, _MARKERS[n % len(_MARKERS)]) for n, each in enumerate(colours)]
    keys = list(values)
    if axis not in data.coords and views.axes_of(data).get(ALGORITHM) == axis:
        # A zip looks like the algorithms in it, where each of them is there once.
        inside = dict(
            zip(views.values_of(data, axis), views.values_of(data, ALGORITHM), strict=True)
        )
        found = [inside[each] for each in values]
        keys = found if len(set(found)) == len(found) else keys
    elif axis != ALGORITHM:
        keys = [None] * len(values)
    return [_look(each, number) for number, each in enumerate(keys)]


def _look(name: Any, number: int) -> tuple[str, str]:
    look: Look | None = ALGORITHM_LOOKS.get(str(name))
    if look is not None:
        return look.colour, look.marker
    return COLOURS[number % len(COLOURS)], _MARKERS[number % len(_MARKERS)]


def values_in(rows: Sequence[Row], name: str | None) -> list[Any]:
    """The values of a column, each once, in the order of the rows."""
    return list(dict.fromkeys(row[name] for row in rows)) if name else []


def _panels(count: int, narrow: bool) -> tuple[Figure, list[Axes]]:
    columns = min(count, 2 if narrow or count <= 4 else 3)
    rows = -(-count // columns)
    wide = drawing.WIDTH * max(1.0, columns / 2)
    figure = Figure(figsize=(wide, 1.0 + _PANEL * rows + (0.7 if rows == 1 else 0)))
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for spare in axes.flat[count:]:
        spare.set_axis_off()
    return figure, list(axes.flat[:count])


def _outer(figure: Figure, panels: Sequence[Axes], below: str, beside: str) -> None:
    """What the axes are: below the last panel of each column, beside the first of each row.

    A label of the whole figure would stand where a legend outside of the panels stands.
    """
    grid = panels[0].get_gridspec()
    columns = 1 if grid is None else grid.ncols
    for ax in panels[-columns:]:
        ax.set_xlabel(drawn_text(below, _LETTERS // columns))
        # With a spare place below it the labels of its ticks are the last ones of the column.
        ax.tick_params(labelbottom=True)
    for ax in panels[::columns]:
        ax.set_ylabel(drawn_text(beside, 40 if len(panels) <= columns else 26))


def drawn_text(text: str, letters: int = _LETTERS) -> str:
    """A text that matplotlib draws as it is, in lines of so many letters, three at the most."""
    lines = textwrap.wrap(text, letters, max_lines=3, placeholder=" …")
    return "\n".join(drawn(part) for part in lines)


def _title(data: xr.Dataset, name: str | None) -> str:
    return views.title_of(data, name) if name else ""


def _points(
    ax: Axes,
    rows: Sequence[Row],
    view: View,
    along: Sequence[Any],
    scale: Scale,
    spread: float,
    colour: str,
    marker: str,
    label: str | None,
) -> None:
    if not rows:
        return
    centre, low, high = (
        np.array([np.nan if row[name] is None else row[name] for row in rows])
        for name in ("mean", "mean_low", "mean_high")
    )
    places = {value: place for place, value in enumerate(along)}
    if scale == "words":
        at = np.array([places[row[view.x]] if view.x else 0 for row in rows]) + spread
    else:
        at = np.array([row[str(view.x)] for row in rows], np.float64)
    if scale == "words" or len(rows) == 1:
        # Nothing lies between two words, and so no line does; one point has no band.
        ends = np.nan_to_num([centre - low, high - centre])
        ax.errorbar(
            at, centre, ends, fmt=marker, color=colour, markersize=5, capsize=2.5, label=label
        )
        return
    order = np.argsort(at, kind="stable")
    at, centre, low, high = at[order], centre[order], low[order], high[order]
    if np.isfinite(low).any():
        ax.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
    style = {} if view.x == STEP else {"marker": marker, "markersize": 4}
    ax.plot(at, centre, color=colour, label=label, **style)


def _axis(ax: Axes, along: Sequence[Any], scale: Scale, name: str | None) -> None:
    if scale == "words":
        texts = names(name, along) if name else [""]
        long = len(texts) > 1 and sum(map(len, texts)) > 34
        ax.set_xticks(range(len(texts)), texts, rotation=30 if long else 0,
                      ha="right" if long else "center", rotation_mode="anchor")  # fmt: skip
        ax.set_xlim(-0.6, len(texts) - 0.4)
        ax.grid(axis="x", visible=False)
    elif scale == "log":
        ax.set_xscale("log")
    elif scale == "symlog":
        above = [value for value in along if value > 0]
        ax.set_xscale("symlog", linthresh=float(min(above)))


def _legend_of(
    figure: Figure, panels: Sequence[Axes], labels: Sequence[str], title: str | None = None
) -> None:
    """A legend below the panels, in as many columns as fit; the figure grows by its height."""
    handles: dict[str, Any] = {}
    for ax in panels:
        found = ax.get_legend_handles_labels()
        handles |= dict(zip(found[1], found[0], strict=True))
    shown = [label for label in labels if label in handles]
    if not shown:
        return
    canvas = FigureCanvasAgg(figure)
    most, size = 0.98 * figure.bbox.width, float(RC["legend.fontsize"])
    columns = min(len(shown), 6)
    while True:
        made = figure.legend(
            [handles[each] for each in shown], shown, loc="outside lower center", ncols=columns,
            fontsize=size, title=title, title_fontsize=size,
        )  # fmt: skip
        width = made.get_window_extent(canvas.get_renderer()).width
        if width <= most:
            break
        made.remove()
        if columns > 1:
            columns -= 1
        else:
            # Even one column is too wide where all letters are: names are cut at forty.
            size *= 0.95 * most / width
    lines = -(-len(shown) // columns) + (title is not None)
    figure.set_figheight(figure.get_figheight() + _LINE * lines)
