"""What a figure of a sweep shows: which axes stand where, and the mean at each of its points.

A view names an axis for x, a metric for y, and axes for colours and facets. Its points are rows, as
those of the tables are, so that a figure and the table beside it hold the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import xarray as xr

from sweeps import statistics
from sweeps.report.health import broken_runs
from sweeps.report.style import FEEDBACK_LABELS, readers_name
from sweeps.report.summary import ALGORITHM, SEED, Row, metrics_of
from sweeps.statistics import Floats
from sweeps.system.text import exact, plain

STEP = "step"
# A column of rows that is no axis: the values of several, as one text.
CONDITION = "condition"
# What readers call an axis, beside its name.
_ALSO = {"feedback": "oracle"}
# Largest of the positive values over the smallest, from which on an axis is logarithmic.
_DECADES = 50
Scale = Literal["linear", "log", "symlog", "words"]


@dataclass(frozen=True)
class View:
    """Which axis stands where.

    Attributes:
        x: an axis, or ``step`` for the recorded curve of ``y``.
        y: a metric, or ``NAME_mean``, its mean over all steps.
        color: an axis that has a colour for each value; ``None`` for one colour.
        facet: an axis that has a panel for each value; ``None`` for one panel.
        at: by name of an axis the value at which it is held. Of an axis that is neither shown nor
            held the first value is taken.
    """

    x: str | None
    y: str
    color: str | None = None
    facet: str | None = None
    at: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> list[str]:
        """The axes that are shown, in the order of a table's columns."""
        return [name for name in (self.facet, self.color, self.x) if name and name != STEP]


def axes_of(data: xr.Dataset) -> dict[str, str]:
    """By name of each axis but the seed its dimension; zipped axes go by the zip's name too."""
    found: dict[str, str] = {}
    for dim in map(str, data["finite_steps"].dims):
        if dim == SEED:
            continue
        found |= {name: dim for name in _names_along(data, dim)}
        found.setdefault(dim, dim)
    return found


def _names_along(data: xr.Dataset, dim: str) -> list[str]:
    return [str(name) for name, each in data.coords.items() if each.dims == (dim,)]


def curves_of(data: xr.Dataset) -> list[str]:
    """The metrics whose curves were recorded."""
    return [name for name in metrics_of(data) if f"{name}_curve" in data]


def values_of(data: xr.Dataset, name: str) -> list[Any]:
    """The values of an axis along its dimension; of a zip, its axes' values as one text."""
    if name in data.coords:
        return data[name].values.tolist()
    names = _names_along(data, name)
    rows = list(zip(*(values_of(data, axis) for axis in names), strict=True))
    for write in (value_name, lambda _, value: plain(exact(value))):
        texts = [
            ", ".join(_member(n, v, write) for n, v in zip(names, row, strict=True)) for row in rows
        ]
        # Rounded only where that leaves different settings different.
        if len(set(texts)) == len(set(rows)):
            break
    return texts


def _member(axis: str, value: Any, write: Callable[[str, Any], str]) -> str:
    shown = write(axis, value)
    return shown if axis in (ALGORITHM, *_ALSO.values()) else f"{heading(axis)} {shown}"


def heading(name: str) -> str:
    """An axis's name for readers: ``learning rate``, ``feedback``."""
    known = {axis: word for word, axis in _ALSO.items()}
    return plain(known.get(name, name.replace("_", " ")))


def value_name(axis: str, value: Any) -> str:
    """A value of an axis for readers."""
    if axis == ALGORITHM:
        return plain(readers_name(str(value)))
    if axis in _ALSO.values():
        return FEEDBACK_LABELS.get(str(value), plain(value))
    return f"{value:.4g}" if isinstance(value, float) else plain(exact(value))


def title_of(data: xr.Dataset, name: str) -> str:
    """What an axis or metric is, with its unit in brackets."""
    attributes = data[name].attrs if name in data.variables else {}
    unit = attributes.get("units", "1")
    long_name = str(attributes.get("long_name", heading(name)))
    return plain(long_name) + ("" if unit == "1" else f" ({plain(unit)})")


def scale_of(values: Sequence[Any]) -> Scale:
    """How an axis of such values is drawn; ``words`` for what are not numbers."""
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        return "words"
    above = array[array > 0]
    if len(array) < 3 or not above.size or array.max() / above.min() < _DECADES:
        return "linear"
    return "log" if above.size == array.size else "symlog"


def algorithm_axis(data: xr.Dataset) -> str | None:
    """The axis by which algorithms differ, which may be a zip; ``None`` where none does."""
    dim = axes_of(data).get(ALGORITHM)
    if dim is None or dim == ALGORITHM:
        return dim
    # Of a zip the whole setting is named: an algorithm alone would hide what goes with it.
    return dim if len(set(values_of(data, ALGORITHM))) > 1 else None


def automatic(data: xr.Dataset, y: str) -> View:
    """The view that a report shows: along the longest axis of numbers, a colour an algorithm."""
    dims = [str(dim) for dim in data["finite_steps"].dims if dim != SEED]
    color = algorithm_axis(data)
    free = [dim for dim in dims if dim != color] or dims
    numeric = {dim: name for dim in free if (name := _numeric(data, dim)) is not None}
    along = max(numeric or free, key=lambda dim: data.sizes[dim], default=None)
    if along == color:
        color = None
    rest = [dim for dim in free if dim != along]
    if color is None and rest:
        color = rest.pop(0)
    return View(
        numeric.get(along, along) if along else None, y, color, rest[0] if rest else None
    )  # fmt: skip


def _numeric(data: xr.Dataset, dim: str) -> str | None:
    """The first axis of numbers along a dimension that has another value at each place."""
    for name in _names_along(data, dim):
        values = data[name].values
        if values.dtype.kind in "iuf" and len(np.unique(values)) == len(values):
            return name
    return None


def checked(
    data: xr.Dataset,
    x: str | None = None,
    y: str | None = None,
    color: str | None = None,
    facet: str | None = None,
    at: Sequence[str] = (),
) -> View:
    """The view that options of a command line ask for.

    Args:
        data: as ``sweeps.open`` gives it.
        x: an axis or ``step``; chosen where it is not given.
        y: a metric; the reward, or else the first, where it is not given.
        color: an axis; that of the algorithms, where it is not given and not on another place.
        facet: an axis.
        at: texts ``AXIS=VALUE``.

    Raises:
        ValueError: a name or value that the data does not have, with those that are allowed, or
            several settings at one point.
    """
    axes, metrics = axes_of(data), metrics_of(data)
    names = [*axes, *(word for word, axis in _ALSO.items() if axis in axes and word not in axes)]

    def axis(flag: str, name: str | None, more: Sequence[str] = ()) -> str | None:
        if name is None:
            return None
        if name not in (*names, *more):
            allowed = ", ".join([*names, *more]) or "none, the sweep has one setting"
            raise ValueError(f"--{flag}: {name!r}; allowed: {allowed}")
        return name if name in axes else _ALSO.get(name, name)

    curves = curves_of(data)
    x = axis("x", x, [STEP] if curves else [])
    color, facet = axis("color", color), axis("facet", facet)
    y = y or ("reward" if "reward" in metrics else metrics[0])
    allowed = curves if x == STEP else [*metrics, *(f"{name}_mean" for name in metrics)]
    if y not in allowed:
        what = " with a recorded curve" if x == STEP else ""
        raise ValueError(f"--y: {y!r}; allowed{what}: {', '.join(allowed)}")
    held: dict[str, Any] = {}
    for text in at:
        name, sign, value = text.partition("=")
        if not sign:
            raise ValueError(f"--at: {text!r}; allowed: AXIS=VALUE")
        found = axis("at", name.strip())
        assert found is not None
        if found in held:
            raise ValueError(f"--at: {name.strip()!r} twice; allowed: each axis once")
        held[found] = _value(data, found, value.strip())
    chosen = automatic(data, y)
    taken = {axes[name] for name in (x, color, facet, *held) if name in axes}
    if x is None and (chosen.x is None or axes[chosen.x] not in taken):
        x = chosen.x
    if x is None:
        free = [name for name in axes if axes[name] not in taken]
        x = free[0] if free else None
    taken |= {axes[x]} if x in axes else set()
    by = algorithm_axis(data)
    if color is None and by is not None and axes[by] not in taken:
        color = by
    elif color is None and by is not None and axes.get(str(x)) == axes[by] and x != by:
        # Along another axis of their zip it is the algorithms' names that tell points apart.
        color = ALGORITHM if ALGORITHM not in (x, facet, *held) else None
    seen: dict[str, str] = {}
    for flag, name in (("x", x), ("color", color), ("facet", facet)):
        if name in seen:
            raise ValueError(f"--{flag}: {name!r} is --{seen[name]} too; allowed: another axis")
        if name is not None:
            seen[name] = flag
    view = View(x, y, color, facet, held)
    check(data, view)
    return view


def _value(data: xr.Dataset, axis: str, text: str) -> Any:
    values = values_of(data, axis)
    for value in values:
        if text == exact(value) or text == value_name(axis, value):
            return value
        if isinstance(value, int | float) and _same_number(text, value):
            return value
    some = [exact(value) for value in dict.fromkeys(values)]
    some = some if len(some) <= 12 else [*some[:11], "..."]
    raise ValueError(f"--at: {axis}={text!r}; allowed: {', '.join(map(plain, some))}")


def _same_number(text: str, value: float) -> bool:
    try:
        return bool(np.isclose(float(text), value, rtol=1e-6, atol=0))
    except ValueError:
        return False


def places_of(data: xr.Dataset, view: View) -> dict[str, np.ndarray]:
    """By dimension which of its places a view shows."""
    axes = axes_of(data)
    dims = dict.fromkeys(axes.values())
    found = {dim: np.arange(data.sizes[dim]) for dim in dims}
    for name, value in view.at.items():
        kept = [place for place, each in enumerate(values_of(data, name)) if each == value]
        found[axes[name]] = np.intersect1d(found[axes[name]], kept)
    shown = {axes[name] for name in view.shown}
    return {dim: places if dim in shown else places[:1] for dim, places in found.items()}


def check(data: xr.Dataset, view: View) -> None:
    """See that each point is one setting: the axes of a zip may not tell its places apart.

    Raises:
        ValueError: several are at one point, or none is where axes are held.
    """
    axes = axes_of(data)
    places = places_of(data, view)
    for name, value in view.at.items():
        if not places[axes[name]].size:
            raise ValueError(
                f"--at: {name}={exact(value)} with the others; allowed: values of one setting"
            )
    for dim in {axes[name] for name in view.shown}:
        names = [name for name in view.shown if axes[name] == dim]
        labels = [values_of(data, name) for name in names]
        found = [tuple(each[place] for each in labels) for place in places[dim].tolist()]
        if len(set(found)) < len(found):
            more = [name for name in (*_names_along(data, dim), dim) if name not in names]
            raise ValueError(
                f"--x: {', '.join(names)} has one value in several settings of {dim}; "
                f"allowed: --color or --at with {' or '.join(dict.fromkeys(more))}"
            )


def held_by(data: xr.Dataset, view: View) -> dict[str, Any]:
    """By name the axes that a view holds at one value, and that value."""
    axes, places = axes_of(data), places_of(data, view)
    shown = {axes[name] for name in view.shown}
    return {
        name: data[name].values[places[dim][0]].item()
        for name, dim in axes.items()
        if dim not in shown and name in data.coords and places[dim].size
    }


def rows(data: xr.Dataset, view: View) -> list[Row]:
    """The points of a view: labels, seeds, and the mean with its 95% interval.

    Runs that are unfinished or not finite are left out; a point without any has no row.

    Args:
        data: as ``sweeps.open`` gives it.
        view: what is shown.

    Returns:
        For each point a row: the axes that are held, those that are shown, ``metric``, ``seeds``,
        ``mean``, ``mean_low`` and ``mean_high``, which are ``None`` for fewer than two seeds.
    """
    axes, places = axes_of(data), places_of(data, view)
    dims = [str(dim) for dim in data["finite_steps"].dims]
    others = [dim for dim in dims if dim != SEED]
    curve = view.x == STEP
    name = f"{view.y}_curve" if curve else view.y
    chosen = {dim: places[dim] for dim in others}
    broken = xr.DataArray(broken_runs(data), dims=dims).isel(chosen)
    part = data[name].isel(chosen).load().where(~broken)
    part = part.transpose(*others, *([STEP] if curve else []), *(d for d in dims if d == SEED))
    shape = tuple(part.sizes[dim] for dim in (*others, *([STEP] if curve else [])))
    centre, low, high, count = means(part.values.astype(np.float64).reshape(*shape, -1))
    held = held_by(data, view)
    zipped = [n for n in axes if n in data.coords and n not in held and n not in view.shown]
    columns = [*view.shown[: -1 if view.x in view.shown else None], *zipped]
    columns += [view.x] if view.x in view.shown and view.x else []
    labels = {column: values_of(data, column) for column in columns}
    steps = data[STEP].values.tolist() if curve else []
    found: list[Row] = []
    for place in np.ndindex(*shape):
        if not count[place]:
            continue
        at = {dim: int(places[dim][p]) for dim, p in zip(others, place, strict=False)}
        row: Row = {**held, **{column: labels[column][at[axes[column]]] for column in columns}}
        if curve:
            row[STEP] = steps[place[-1]]
        several = count[place] > 1
        found.append(
            {
                **row,
                "metric": view.y,
                "seeds": int(count[place]),
                "mean": float(centre[place]),
                "mean_low": float(low[place]) if several else None,
                "mean_high": float(high[place]) if several else None,
            }
        )
    return found


def means(values: Floats) -> tuple[Floats, Floats, Floats, np.ndarray]:
    """Mean, ends of its 95% interval and count of the finite values along the last axis."""
    flat = values.reshape(-1, values.shape[-1])
    good = np.isfinite(flat)
    count = good.sum(axis=-1)
    centre, low, high = np.full((3, len(flat)), np.nan)
    whole = good.all(axis=-1)
    if whole.any() and flat.shape[-1] > 1:
        each = statistics.mean(flat[whole])
        centre[whole], low[whole], high[whole] = each.estimate, each.low, each.high
    for place in np.flatnonzero((count > 0) & ~(whole & (flat.shape[-1] > 1))):
        some = flat[place][good[place]]
        centre[place] = some.mean()
        if some.size > 1:
            one = statistics.mean(some)
            low[place], high[place] = one.low, one.high
    shape = values.shape[:-1]
    return centre.reshape(shape), low.reshape(shape), high.reshape(shape), count.reshape(shape)
