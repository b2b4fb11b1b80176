"""``python -m sweeps export``: a sweep in the format of other tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from sweeps.commands.arguments import FolderArgument, default


@dataclass(frozen=True)
class Export:
    """Write a sweep's grids in the format of other tools, into DIR/export."""

    directory: FolderArgument
    """Folder that `run` wrote."""
    to: Literal["netcdf", "zarr", "parquet", "csv", "tensorboard", "wandb", "mlflow"]
    """netcdf, zarr: with axes; parquet, csv: a row a run; the others: a run of theirs for each."""
    out: Annotated[Path | None, default("DIR", "DIR/export")] = None
    """Folder of the files."""
    most: int = 1000
    """As many runs as tensorboard, wandb or mlflow may have."""


def run(command: Export, line: str) -> int:
    """Write the files, and print their paths."""
    from sweeps.report.display import working
    from sweeps.report.exports import export

    with working(f"writing {command.to}"):
        paths = list(export(command.directory, command.to, command.out, command.most))
    for path in paths:
        print(path)
    return 0
