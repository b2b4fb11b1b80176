"""A sweep's grids in the formats of other tools."""

from __future__ import annotations

import contextlib
import importlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sweeps.report import trackers
from sweeps.report.trackers import TRACKERS, Run
from sweeps.store.folder import Folder
from sweeps.store.labelled import FINISHED, of_grid
from sweeps.system.writing import (
    check_writable,
    partial_name,
    remove_partial_files,
    write_atomically,
    write_json,
)

FOLDER = "export"
# Runs that are in memory at a time; a block file has no more.
_ROWS = 4096
# Runs that a tracker is given without being told that there are many.
MOST = 1000
# By which a folder that was written for a tracker is known.
_MARK = "export.json"


def export(directory: Path, to: str, out: Path | None = None, most: int = MOST) -> list[Path]:
    """Write every grid of a sweep as a file or folder of its own; return the paths.

    Args:
        directory: the sweep's folder.
        to: a name of ``FORMATS`` or ``TRACKERS``. ``netcdf`` and ``zarr`` hold everything;
            ``parquet`` and ``csv`` have a row for each run and a column for each axis and number,
            curves and logits in columns ``NAME_STEP``; trackers get a run of theirs for each run
            that is done, without logits.
        out: folder for the files; ``DIR/export`` by default.
        most: as many runs as a tracker may be given.

    Raises:
        NoSweep: there is no sweep in the folder.
        ValueError: an unknown format, one whose library is not installed, more runs than ``most``,
            or a folder that can't be written or has something else of a file's name.
    """
    if to not in (*FORMATS, *TRACKERS):
        raise ValueError(f"--to: {to!r}; allowed: {', '.join((*FORMATS, *TRACKERS))}")
    if most < 1:
        raise ValueError(f"--most: {most}; allowed: 1 or more")
    with trackers.offline() if to in TRACKERS else contextlib.nullcontext():
        suffix, libraries, write = _writer(to)
        _check_libraries(to, libraries)
        folder = Folder.open(directory)
        if to in TRACKERS:
            runs = sum(plan.total for plan in folder.sweep.plans.values())
            if runs > most:
                raise ValueError(
                    f"--to: {to} has a run of its own for each of {runs:,} runs; "
                    f"allowed: {most:,}, or as many as `--most {runs}` says"
                )
        target = directory / FOLDER if out is None else out
        check_writable(target, "--out")
        remove_partial_files(target)
        paths = []
        for grid in folder.sweep.grids:
            path = target / f"{grid}{suffix}"
            write(plain(of_grid(folder, grid)), path)
            paths.append(path)
    return paths


def _writer(to: str) -> tuple[str, tuple[str, ...], Callable[[xr.Dataset, Path], None]]:
    if to in FORMATS:
        suffix, library, write = FORMATS[to]
        return suffix, () if library is None else (library,), write
    libraries, write_runs = TRACKERS[to]
    return f".{to}", libraries, lambda data, path: _tracked(data, path, to, write_runs)


def _check_libraries(to: str, libraries: tuple[str, ...]) -> None:
    for library in libraries:
        try:
            importlib.import_module(library)
        except ImportError:
            extra = to if to in TRACKERS else "export"
            raise ValueError(
                f"--to: {to} needs {library}, which is not installed; "
                f"allowed: `pip install 'sdpo_jax[{extra}]'` first"
            ) from None


def plain(data: xr.Dataset) -> xr.Dataset:
    """The data set with what only xarray understands taken off: indexes of zipped axes."""
    zipped = [name for name in data.xindexes if name not in data.dims]
    return data.drop_indexes(zipped) if zipped else data


def _parts(data: xr.Dataset) -> Iterator[dict[Any, slice]]:
    """Selections of at most ``_ROWS`` runs, whose rows follow each other in the data's order."""
    dims = data["finite_steps"].dims
    sizes = [data.sizes[dim] for dim in dims]
    behind = 1
    place = len(sizes)
    while place and behind * sizes[place - 1] <= _ROWS:
        place -= 1
        behind *= sizes[place]
    if not place:
        yield {}
        return
    step = max(1, _ROWS // behind)
    for index in np.ndindex(*sizes[: place - 1]):
        chosen = {dim: slice(i, i + 1) for dim, i in zip(dims, index, strict=False)}
        for start in range(0, sizes[place - 1], step):
            yield {**chosen, dims[place - 1]: slice(start, start + step)}


def _chunked(data: xr.Dataset) -> xr.Dataset:
    """The same, of arrays that Dask reads part by part; as it is without Dask."""
    try:
        importlib.import_module("dask.array")
    except ImportError:
        return data
    part = next(_parts(data))
    # Only the first part is as large as all others, or larger.
    return data.chunk({dim: len(range(*at.indices(data.sizes[dim]))) for dim, at in part.items()})


def _netcdf(data: xr.Dataset, path: Path) -> None:
    whole = _chunked(data)
    write_atomically(path, lambda temporary: whole.to_netcdf(temporary, engine="h5netcdf"))


def _zarr(data: xr.Dataset, path: Path) -> None:
    # Version 3 of the format has no settled type for text.
    _folder_at_once(
        path,
        lambda partial: _chunked(data).to_zarr(partial, mode="w", zarr_format=2),
        ".zgroup",
        "zarr",
    )


def _folder_at_once(path: Path, write: Callable[[Path], Any], mark: str, what: str) -> None:
    """Let ``write`` make a folder in place of one that has the file ``mark``, and of no other."""
    # A folder can't be renamed over another: the new one is complete before the old one goes.
    if path.exists() and not (path / mark).is_file():
        raise ValueError(f"--out: {path} is there and holds no {what}; allowed: another folder")
    partial = partial_name(path)
    try:
        write(partial)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _tracked(data: xr.Dataset, path: Path, to: str, write: Callable[..., None]) -> None:
    title = f"{data.attrs['sweep']} {path.stem}"

    def whole(partial: Path) -> None:
        partial.mkdir()
        done = int(data[FINISHED].sum())
        write_json(partial / _MARK, {"sweep": data.attrs["sweep"], "to": to, "runs": done})
        write(title, runs_of(data), partial, path)

    _folder_at_once(path, whole, _MARK, f"export to {to}")


def runs_of(data: xr.Dataset) -> Iterator[Run]:
    """The runs of a grid that are done, one after the other, as trackers are told of them."""
    dims = data["finite_steps"].dims
    labels = [name for name, at in data.coords.items() if at.dims and at.dims[0] in dims]
    held = {
        str(name): value for name, value in data.attrs.items() if name not in ("sweep", "title")
    }
    finals = [name for name, at in data.data_vars.items() if at.dims == dims and name != FINISHED]
    curves = [name for name, at in data.data_vars.items() if at.dims == (*dims, "step")]
    steps = data["step"].values if curves else np.zeros(0, int)
    number = -1
    for part in _parts(data):
        # In memory, so that a block is read once.
        read = data[[*finals, *curves, FINISHED]].isel(part).load()
        for index in np.ndindex(*(read.sizes[dim] for dim in dims)):
            number += 1
            one = read.isel(dict(zip(dims, index, strict=True)))
            if one[FINISHED]:
                yield Run(
                    number,
                    {str(name): one[name].item() for name in labels},
                    held,
                    {str(name): one[name].item() for name in finals},
                    {str(name): one[name].values for name in curves},
                    steps,
                )


def _parquet(data: xr.Dataset, path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    def write(temporary: Path) -> None:
        writer = None
        try:
            for part in _parts(data):
                rows = pyarrow.Table.from_pandas(table(data.isel(part)), preserve_index=False)
                writer = writer or pyarrow.parquet.ParquetWriter(temporary, rows.schema)
                writer.write_table(rows)
        finally:
            if writer is not None:
                writer.close()

    write_atomically(path, write)


def _csv(data: xr.Dataset, path: Path) -> None:
    # Each number in as many digits as give it back: labels are float64, results float32.
    def write(temporary: Path) -> None:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            for number, part in enumerate(_parts(data)):
                table(data.isel(part)).to_csv(file, index=False, header=number == 0)

    write_atomically(path, write)


def table(data: xr.Dataset) -> Any:
    """A row for each run: a pandas DataFrame."""
    import pandas as pd

    dims = data["finite_steps"].dims
    columns: dict[str, np.ndarray] = {}
    for name, coordinate in data.coords.items():
        if coordinate.dims and coordinate.dims[0] in dims:
            spread = coordinate.broadcast_like(data["finite_steps"]).transpose(*dims)
            columns[str(name)] = spread.values.reshape(-1)
    for name, variable in data.data_vars.items():
        extra = [dim for dim in variable.dims if dim not in dims]
        values = variable.transpose(*dims, *extra).values
        if not extra:
            columns[str(name)] = values.reshape(-1)
            continue
        shape = values.shape[len(dims) :]
        ticks = [data[d].values if d in data.coords else np.arange(data.sizes[d]) for d in extra]
        flat = values.reshape(-1, int(np.prod(shape)))
        for place, index in enumerate(np.ndindex(*shape)):
            label = "_".join(str(tick[i]) for tick, i in zip(ticks, index, strict=True))
            columns[f"{name}_{label}"] = flat[:, place]
    return pd.DataFrame(columns)


FORMATS: dict[str, tuple[str, str | None, Callable[[xr.Dataset, Path], None]]] = {
    "netcdf": (".nc", "h5netcdf", _netcdf),
    "zarr": (".zarr", "zarr", _zarr),
    "parquet": (".parquet", "pyarrow", _parquet),
    "csv": (".csv", None, _csv),
}
