"""A sweep's grids in the formats of other tools."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sweeps.store.folder import Folder
from sweeps.store.labelled import of_grid
from sweeps.system.writing import (
    check_writable,
    partial_name,
    remove_partial_files,
    write_atomically,
)

FOLDER = "export"
# Runs that are in memory at a time; a block file has no more.
_ROWS = 4096


def export(directory: Path, to: str, out: Path | None = None) -> list[Path]:
    """Write every grid of a sweep as a file (zarr: a folder) of its own; return the paths.

    Args:
        directory: the sweep's folder.
        to: a name of ``FORMATS``. ``netcdf`` and ``zarr`` hold everything; ``parquet`` and ``csv``
            have a row for each run and a column for each axis and number, curves and logits in
            columns ``NAME_STEP``.
        out: folder for the files; ``DIR/export`` by default.

    Raises:
        NoSweep: there is no sweep in the folder.
        ValueError: an unknown format, one whose library is not installed, or a folder that can't
            be written or has something else of a file's name.
    """
    if to not in FORMATS:
        raise ValueError(f"--to: {to!r}; allowed: {', '.join(FORMATS)}")
    suffix, library, write = FORMATS[to]
    if library is not None:
        try:
            importlib.import_module(library)
        except ImportError:
            raise ValueError(
                f"--to: {to} needs {library}, which is not installed; "
                "allowed: `pip install 'sdpo_jax[export]'` first"
            ) from None
    folder = Folder.open(directory)
    target = directory / FOLDER if out is None else out
    check_writable(target, "--out")
    remove_partial_files(target)
    paths = []
    for grid in folder.sweep.grids:
        path = target / f"{grid}{suffix}"
        write(plain(of_grid(folder, grid)), path)
        paths.append(path)
    return paths


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
    # A folder can't be renamed over another: the new one is complete before the old one goes.
    if path.exists() and not (path / ".zgroup").is_file():
        raise ValueError(f"--out: {path} is there and holds no zarr; allowed: another folder")
    partial = partial_name(path)
    try:
        # Version 3 of the format has no settled type for text.
        _chunked(data).to_zarr(partial, mode="w", zarr_format=2)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


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
