"""Data sets on disk: one netCDF file each under ``OUT/data/``, beside ``OUT/manifest.json``.

Everything is written under a temporary name, flushed to the disk and then renamed, so that a
file of the final name is always whole: an interrupted write leaves the previous one in place.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sweeps.store import kinds
from sweeps.store.places import DATA, MANIFEST
from sweeps.system.reading import read_json
from sweeps.system.writing import write_atomically, write_json

_SUFFIX = ".nc"


class MissingResults(FileNotFoundError):
    """A file that a reader needs is not there; the message names it and how to make it."""


def data_path(out_dir: str | os.PathLike[str], name: str) -> Path:
    """The file that holds the data set ``name``.

    Raises:
        ValueError: ``name`` is empty or would leave the data folder.
    """
    if not name or name != Path(name).name or name.startswith("."):
        raise ValueError(f"name: {name!r} is not a data set name; allowed: a plain file name")
    return Path(out_dir) / DATA / f"{name}{_SUFFIX}"


def save(out_dir: str | os.PathLike[str], name: str, dataset: xr.Dataset) -> Path:
    """Write ``dataset`` to ``OUT/data/NAME.nc`` (netCDF 3), atomically; return the path.

    Any coordinates of strings, integers and floats are kept; int64 coordinates come back as
    int32, which is what netCDF 3 can hold.

    Raises:
        ValueError: a bad name, or a dtype that netCDF 3 cannot hold without loss.
        OSError: the folder cannot be written.
    """
    path = data_path(out_dir, name)
    # netCDF 3 has no unlimited strings: let xarray choose the encoding anew, not the source's.
    clean = dataset.drop_encoding()
    write_atomically(path, lambda temporary: clean.to_netcdf(temporary, engine="scipy"))
    return path


def load(out_dir: str | os.PathLike[str], name: str) -> xr.Dataset:
    """Read ``OUT/data/NAME.nc`` into memory.

    Raises:
        MissingResults: there is no such file.
        ValueError: the file is not a netCDF file.
    """
    path = data_path(out_dir, name)
    if not path.is_file():
        raise MissingResults(f"{path}: missing; {_again(out_dir)} writes it")
    try:
        with xr.open_dataset(path, engine="scipy") as opened:
            return opened.load()
    # What a damaged file can make of the reader.
    except (
        TypeError,
        ValueError,
        LookupError,
        EOFError,
        ArithmeticError,
        AttributeError,
        AssertionError,
        MemoryError,
    ) as error:
        raise ValueError(
            f"{path}: not a readable netCDF file ({error}); {_again(out_dir)} writes it again"
        ) from error


def write_manifest(out_dir: str | os.PathLike[str], manifest: Mapping[str, Any]) -> Path:
    """Write ``OUT/manifest.json``, atomically; return the path."""
    return write_json(Path(out_dir) / MANIFEST, manifest)


def read_manifest(out_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Read ``OUT/manifest.json``.

    Raises:
        MissingResults: there is none.
        ValueError: it is not a JSON object.
    """
    path = Path(out_dir) / MANIFEST
    if not path.is_file():
        raise MissingResults(f"{path}: missing; {_again(out_dir)} writes it")
    manifest = read_json(path)
    if not isinstance(manifest, dict):
        raise ValueError(f"{path}: not a JSON object")
    return manifest


def is_saved(out_dir: str | os.PathLike[str], name: str) -> bool:
    """Whether a data set is there and can be read."""
    try:
        load(out_dir, name)
    except (MissingResults, ValueError):
        return False
    return True


def _again(out_dir: str | os.PathLike[str]) -> str:
    """The command that makes what a folder holds."""
    made = kinds.find(Path(out_dir))
    place = shlex.quote(str(out_dir))
    return f"`python -m sweeps reproduce --out {place}`" if made is None else made.again


def cells(data: xr.DataArray, **labels: Any) -> np.ndarray:
    """The values at the given coordinates as float64, with the seed in the last axis.

    Args:
        data: has a ``seed`` axis.
        labels: for an axis, one label (the axis goes) or a list of labels (the axis stays).
            Floats are matched to the nearest within 1e-6, as they may be stored as float32.

    Returns:
        ``[*axes given as lists, *axes not named, seed]``.

    Raises:
        KeyError: ``data`` has no such axis or no such label; the message names both.
    """
    kept = []
    for axis, wanted in labels.items():
        if axis not in data.indexes:
            raise KeyError(f"{axis}: no such axis; allowed: {', '.join(map(str, data.indexes))}")
        label = np.asarray(wanted)
        if label.ndim:
            kept.append(axis)
        tolerance = {"method": "nearest", "tolerance": 1e-6} if label.dtype.kind == "f" else {}
        try:
            data = data.sel({axis: label}, **tolerance)
        except KeyError:
            known = ", ".join(map(str, data.indexes[axis]))
            raise KeyError(f"{axis}: {wanted!r} not among the results; allowed: {known}") from None
    return data.transpose(*kept, ..., "seed").values.astype(np.float64)


class Results(Mapping[str, xr.Dataset]):
    """All data sets of one output folder, each read when first asked for and kept.

    A missing set raises ``MissingResults`` (not ``KeyError``): its message names the file.
    """

    def __init__(self, out_dir: str | os.PathLike[str]) -> None:
        self.out_dir = Path(out_dir)
        self._loaded: dict[str, xr.Dataset] = {}
        self._manifest: dict[str, Any] | None = None

    def __getitem__(self, name: str) -> xr.Dataset:
        if name not in self._loaded:
            self._loaded[name] = load(self.out_dir, name)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        folder = self.out_dir / DATA
        found = (path for path in folder.glob(f"*{_SUFFIX}") if not path.name.startswith("."))
        return iter(sorted(path.stem for path in found))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and data_path(self.out_dir, name).is_file()

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest of the run that wrote the data sets."""
        if self._manifest is None:
            self._manifest = read_manifest(self.out_dir)
        return self._manifest
