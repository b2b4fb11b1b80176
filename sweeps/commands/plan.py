"""``python -m sweeps plan``: what a sweep would take."""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.commands.arguments import Settings, SweepFile
from sweeps.system.text import plain


@dataclass(frozen=True)
class Plan:
    """Say what a sweep would take: runs, blocks, time, memory, disk. Nothing is saved.

    The time comes from training a block of the largest programs on this machine.
    """

    file: SweepFile
    """The sweep file, or a folder that `run` wrote: the sweep that it holds."""
    budget: float = 20.0
    """Seconds to spend on measuring."""
    set: Settings = ()
    """As for `run`, of a sweep file."""


def run(command: Plan, line: str) -> int:
    """Print what a sweep file would take, or the sweep that a folder holds.

    Raises:
        ValueError: a budget that is no number of seconds, a file that can't be run.
    """
    from rich.table import Table

    from sweeps.execute.estimate import estimate
    from sweeps.file import sweepfile
    from sweeps.report.display import console, duration, size
    from sweeps.store.manifest import Manifest

    file, budget, settings = command.file, command.budget, command.set
    if not budget >= 0:
        raise ValueError(f"--budget: {budget}; allowed: seconds, 0 or more")
    if file.is_dir() and settings:
        raise ValueError(f"--set: beside the folder {plain(str(file))}; allowed: a sweep file")
    if file.is_dir():
        manifest = Manifest.read(file)
        sweep = sweepfile.parse(manifest.text, manifest.name, str(file))
    elif not file.exists():
        raise FileNotFoundError(
            f"FILE: {plain(str(file))!r}: no such file or folder; allowed: a sweep file, or a "
            "folder that `run` wrote"
        )
    else:
        sweep = sweepfile.read(file, settings)
    show = console().print
    title = plain(sweep.title or sweep.name)
    table = Table("grid", "axes", "runs", "programs", title=title)
    for name, laid in sweep.plans.items():
        axes = " x ".join(f"{axis.dimension} {len(axis)}" for axis in laid.axes)
        table.add_row(name, axes or "one run", f"{laid.total:,}", str(len(laid.groups)))
    show(table)
    found = estimate(sweep, budget)
    show(f"runs      {found.runs:,} different ones, in {found.blocks:,} blocks")
    measured = f"{found.measured} of {found.programs} programs timed"
    show(
        f"time      about {duration(found.compile + found.train)}: compilation "
        f"{duration(found.compile)}, training {duration(found.train)} ({measured})"
    )
    show(f"memory    {size(found.memory)} while it runs, {size(found.opened)} to hold all")
    show(f"disk      {size(found.disk)}")
    return 0
