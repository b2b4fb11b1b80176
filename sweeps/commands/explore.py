"""``python -m sweeps explore``: an interactive page of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from sweeps.commands.arguments import FolderArgument, default


@dataclass(frozen=True)
class Explore:
    """Look at a sweep on an interactive page, on this machine.

    Axes, metric, colour, facets and intervals are chosen there; a click on a point shows the
    recorded curves of its setting. Needs `pip install 'sdpo_jax[explore]'`.
    """

    directory: FolderArgument
    """Folder that `run` wrote."""
    grid: Annotated[str | None, default("NAME", "the first one")] = None
    """Which grid, where there are several."""
    port: int = 0
    """Port of the page; 0 for any that is free."""
    show: bool = True
    """Whether a browser is opened."""
    save: Annotated[Path | None, default("FILE", "no file")] = None
    """Write the figures of all metrics as one page instead, which opens offline."""


def run(command: Explore, line: str) -> int:
    """Serve the page until it is interrupted, or write it."""
    from sweeps.report import explorer
    from sweeps.report.display import working

    if not 0 <= command.port < 2**16:
        raise ValueError(f"--port: {command.port}; allowed: 0 to {2**16 - 1}")
    explorer.check_libraries()
    if command.save is not None:
        with working("writing the page"):
            explorer.save(command.directory, command.grid, command.save)
        print(f"Page: {command.save}")
        return 0
    try:
        explorer.serve(command.directory, command.grid, command.port, command.show)
    except KeyboardInterrupt:
        # The way to end it.
        print()
    return 0
