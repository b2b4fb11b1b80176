"""``python -m sweeps replay``: one run of a sweep again, alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from sweeps.commands.arguments import FolderArgument, default
from sweeps.system.text import exact, plain


@dataclass(frozen=True)
class Replay:
    """Train one run of a sweep again, alone; compare every bit; save its full curves."""

    directory: FolderArgument
    """Folder that `run` wrote."""
    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The run's number, or its labels: algorithm=sdpo,noise=0.1,seed=3."""
    grid: Annotated[str | None, default("NAME", "the only one")] = None
    """Which grid, where there are several."""


def run(command: Replay, line: str) -> int:
    """Print the outcome of a replay; 1 where a bit differs."""
    import numpy as np

    from sweeps.execute.replay import replay
    from sweeps.report.display import console
    from sweeps.store.fingerprints import differences, fingerprint_of
    from sweeps.store.folder import Folder
    from sweeps.system import cache

    cache.enable()
    found = replay(command.directory, command.run, command.grid)
    show = console().print
    labels = (f"{name} {plain(exact(value))}" for name, value in found.coordinates.items())
    show(", ".join(labels) or "the only run", soft_wrap=True)
    if found.same:
        show("the same, bit for bit, as what is saved")
    else:
        show(f"differs from what is saved in {', '.join(found.differing)}")
        folder = Folder.open(command.directory)
        other = differences(folder.manifest.fingerprints[-1], fingerprint_of(folder.sweep))
        if other:
            show(f"here other: {plain(other)}", soft_wrap=True)
    if not found.curves_same:
        show("with full curves recorded, the last bits differ (it is another program)")
    for name, curve in found.curves.items():
        points = np.linspace(0, len(curve) - 1, min(len(curve), 7)).round().astype(int)
        shown = ", ".join(f"{curve[point]:.4f}" for point in points)
        show(f"{name}: {shown}")
    show(f"every step: {found.path}", soft_wrap=True)
    return 0 if found.same else 1
