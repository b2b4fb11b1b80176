"""``python -m sweeps prepare``: a folder is made for other processes to work on."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from sweeps.commands.arguments import OnChange, Settings, SweepFile, default
from sweeps.system.text import plain


@dataclass(frozen=True)
class Prepare:
    """Make the folder of a sweep file and compute nothing: for `work`."""

    file: SweepFile
    """The sweep file."""
    out: Annotated[Path | None, default("DIR", "results/NAME")] = None
    """Folder of the results."""
    on_change: OnChange = "refuse"
    """As for `run`."""
    set: Settings = ()
    """As for `run`."""


def run(command: Prepare, line: str) -> int:
    """Make the folder."""
    from sweeps.execute import running
    from sweeps.file import sweepfile
    from sweeps.store.places import SWEEPS_OUT

    sweep = sweepfile.read(command.file, command.set)
    out = command.out or SWEEPS_OUT / sweep.name
    folder = running.prepare(out, sweep, command.on_change)
    blocks = len(folder.blocks.tasks)
    print(f"{plain(sweep.name)}: {folder.runs:,} runs in {blocks:,} blocks, in {out}")
    print(f"go on with: python -m sweeps work {shlex.quote(str(out))} [--shard I/N]")
    return 0
