"""Sweeps begun from Python: the sweep file that says what Python was given, and its folder.

Axes and base are the tables of a sweep file, with Python's values in them: arrays and ranges, and
the user's own functions where a file has ``module:name``. They are written as that file, so that
a sweep from Python has the same store, and ``resume``, ``status`` and ``render``, as any other.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import xarray as xr

from sdpo_jax.engine.checks import shown
from sdpo_jax.grid import Progress
from sdpo_jax.program import NAMED_AXES
from sweeps.api.open import open_sweep
from sweeps.execute import running
from sweeps.file import sweepfile
from sweeps.file.sweep import Sweep
from sweeps.store.places import SWEEPS_OUT
from sweeps.system import cache

# Entries that hold parts, by name or the user's own.
_PARTS = (*NAMED_AXES, "metrics", "record")


def run_sweep(
    sweep: Mapping[str, Any] | str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    base: Mapping[str, Any] | None = None,
    title: str = "",
    on_change: str = "refuse",
    progress: Callable[[Progress], None] = lambda told: None,
    client: Any = None,
) -> xr.Dataset | dict[str, xr.Dataset]:
    """Run a sweep into a folder, or go on with it, and open its results.

    Args:
        sweep: axes as for ``run_grid`` (a mapping in the place of values holds axes that vary
            together), or the path of a sweep file.
        out: the folder; may be left out for a file: ``results/NAME``.
        base: what no axis varies, as the table ``[base]`` of a sweep file.
        title: for readers.
        on_change: where other code, versions or device computed what is there: ``"refuse"``,
            ``"keep"`` it and go on, or ``"redo"`` all.
        progress: told of each piece of work.
        client: a ``distributed.Client`` whose cluster computes, on machines that reach the folder
            under the same path; threads of this process by default.

    Returns:
        As ``sweeps.open``; of a file with several grids a data set for each name.

    Raises:
        ValueError: what is wrong and what is allowed; of a sweep all mistakes at once.
        Busy: another process is at work there.
        OtherFingerprint: as said of ``on_change``.
    """
    if on_change not in ("refuse", "keep", "redo"):
        raise ValueError(f"on_change: {shown(on_change)}; allowed: refuse, keep, redo")
    if isinstance(sweep, Mapping):
        if out is None:
            raise ValueError("out: none; allowed: a folder")
        found = of_axes(sweep, Path(out).name, base, title)
    elif isinstance(sweep, (str, os.PathLike)):
        if base is not None or title:
            raise ValueError("base, title: beside a file; allowed: those that the file has")
        found = sweepfile.read(sweep)
    else:
        raise ValueError(f"sweep: {shown(sweep)}; allowed: a mapping of axes, or a path")
    path = SWEEPS_OUT / found.name if out is None else Path(out)
    executor = None
    if client is not None:
        from sweeps.execute.cluster import of_client

        executor = of_client(client)
    cache.enable()
    running.run(path, found, on_change=on_change, progress=progress, executor=executor)
    names = list(found.grids)
    if len(names) == 1:
        return open_sweep(path)
    return {name: open_sweep(path, name) for name in names}


def of_axes(
    axes: Mapping[str, Any], name: str, base: Mapping[str, Any] | None = None, title: str = ""
) -> Sweep:
    """A checked sweep of Python's values.

    Raises:
        ValueError: what is wrong and what is allowed; of a sweep all mistakes at once.
    """
    return sweepfile.parse(text_of(axes, base, title), name)


def text_of(axes: Mapping[str, Any], base: Mapping[str, Any] | None = None, title: str = "") -> str:
    """The sweep file that says the same.

    Raises:
        ValueError: a value that no file can hold, with what is allowed.
    """
    tables: dict[str, Any] = {"title": title} if title else {}
    tables["base"] = {
        name: _entry(name, value) for name, value in _table("base", base or {}).items()
    }
    tables["axes"], tables["zip"] = {}, {}
    for name, values in _table("axes", axes).items():
        if isinstance(values, Mapping):
            inner = _table(f"axes.{name}", values)
            tables["zip"][name] = {each: _values(each, inner[each]) for each in inner}
        else:
            tables["axes"][name] = _values(name, values)
    return tomli_w.dumps({name: table for name, table in tables.items() if table})


def _table(name: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping) or not all(isinstance(each, str) for each in given):
        raise ValueError(f"{name}: {shown(given)}; allowed: a mapping whose keys are names")
    return given


def _values(name: str, values: Any) -> Any:
    """The values of an axis."""
    if isinstance(values, range):
        return {"range": [values.start, values.stop, values.step]}
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(f"axes.{name}: {shown(values)}; allowed: a list of values")
    return [_value(name, each) for each in values]


def _entry(name: str, value: Any) -> Any:
    """What the table of the base has under a name."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_value(name, each) for each in value]
    return _value(name, value)


def _value(name: str, value: Any) -> Any:
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {key: _value(key, each) for key, each in _table(name, value).items()}
    if isinstance(value, (list, tuple)):
        return [_value(name, each) for each in value]
    if isinstance(value, np.generic) or (hasattr(value, "dtype") and np.ndim(value) == 0):
        return np.asarray(value).item()
    if name in _PARTS:
        return _name_of_part(name, value)
    raise ValueError(f"{name}: {shown(value)}; allowed: numbers, names, tables and lists of them")


def _name_of_part(kind: str, part: Any) -> str:
    """``module:name`` of something that Python's import finds under it.

    Raises:
        ValueError: it is nowhere to be imported from, or is another one there.
    """
    module, name = getattr(part, "__module__", None), getattr(part, "__qualname__", None)
    if isinstance(module, str) and isinstance(name, str) and _is_at(part, module, name):
        return f"{module}:{name}"
    # An instance, such as a Network, is known by the name that a module gives it.
    main = sys.modules.get("__main__")
    for place, each in list(sys.modules.items()):
        if each is not main:
            for word, found in list(getattr(each, "__dict__", {}).items()):
                if found is part and word.isidentifier():
                    return f"{place}:{word}"
    raise ValueError(
        f"{kind}: {shown(part)} can't be imported by a name; allowed: something that stands in a "
        "module of its own file, for a sweep is gone on with by other processes"
    )


def _is_at(part: Any, module: str, name: str) -> bool:
    if module == "__main__" or not all(word.isidentifier() for word in name.split(".")):
        return False
    try:
        found: Any = importlib.import_module(module)
        for word in name.split("."):
            found = getattr(found, word)
    except (ImportError, AttributeError):
        return False
    return found is part
