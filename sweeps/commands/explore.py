"""``python -m sweeps explore``: an interactive page of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
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


def run(command: Explore, line: str) -> int:
    """Serve the page until it is interrupted."""
    from sweeps.report import explorer

    if not 0 <= command.port < 2**16:
        raise ValueError(f"--port: {command.port}; allowed: 0 to {2**16 - 1}")
    explorer.check_libraries()
    explorer.serve(command.directory, command.grid, command.port, command.show)
    return 0
