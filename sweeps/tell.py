"""What ``plan``, ``status`` and ``replay`` print."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from sweeps import sweepfile
from sweeps.display import duration, size
from sweeps.estimate import estimate
from sweeps.folder import Folder, differences, digest, fingerprint
from sweeps.health import health
from sweeps.opening import of_grid
from sweeps.replay import replay


def plan(file: Path, budget: float) -> None:
    """Print what a sweep file would take."""
    sweep = sweepfile.read(file)
    console = Console(highlight=False)
    table = Table("grid", "axes", "runs", "programs", title=sweep.title or sweep.name)
    for name, laid in sweep.plans.items():
        axes = " x ".join(f"{axis.dimension} {len(axis)}" for axis in laid.axes)
        table.add_row(name, axes or "one run", f"{laid.total:,}", str(len(laid.groups)))
    console.print(table)
    found = estimate(sweep, budget)
    console.print(f"runs      {found.runs:,} different ones, in {found.blocks:,} blocks")
    measured = f"{found.measured} of {found.programs} programs timed"
    console.print(
        f"time      about {duration(found.compile + found.train)}: compilation "
        f"{duration(found.compile)}, training {duration(found.train)} ({measured})"
    )
    console.print(f"memory    {size(found.memory)} while it runs, {size(found.opened)} to hold all")
    console.print(f"disk      {size(found.disk)}")


def status(directory: Path) -> int:
    """Print how far a sweep is; 1 where a block is damaged."""
    folder = Folder.open(directory)
    survey = folder.blocks.survey()
    console = Console(highlight=False)
    done = sum(len(t.keys) for t in folder.blocks.tasks if t.identity in survey.done)
    bytes_used = sum(
        folder.blocks.path(identity).stat().st_size for identity in survey.done | survey.other
    )
    console.print(f"sweep     {folder.sweep.title or folder.sweep.name}")
    console.print(f"runs      {done:,} of {folder.runs:,} done")
    console.print(
        f"blocks    {len(survey.done)} whole, {len(survey.missing)} missing, "
        f"{len(survey.damaged)} damaged, {len(survey.other)} of another fingerprint; "
        f"{size(bytes_used)}"
    )
    for message in [folder.manifest.damage] * bool(folder.manifest.damage) + [
        *survey.damaged.values()
    ]:
        console.print(f"  {message}", soft_wrap=True)
    width = max(laid.width for laid in folder.sweep.plans.values())
    now = fingerprint(width, folder.sweep.plans.values())
    last = folder.manifest.fingerprints[-1]
    if now == last:
        console.print(f"made by   {digest(last)}, as this machine would now")
    else:
        console.print(
            f"made by   {digest(last)}; here other: {differences(last, now)}", soft_wrap=True
        )
    if not survey.damaged:
        for grid in folder.sweep.grids:
            console.print(f"{grid}: {health(of_grid(folder, grid))}", soft_wrap=True)
    hurt = bool(survey.damaged or folder.manifest.damage)
    if survey.missing or survey.other or hurt:
        console.print(f"go on with: python -m sweeps resume {directory}", soft_wrap=True)
    return 1 if hurt else 0


def replayed(directory: Path, run: str, grid: str | None) -> int:
    """Print the outcome of a replay; 1 where a bit differs."""
    found = replay(directory, run, grid)
    console = Console(highlight=False)
    console.print(", ".join(f"{name} {value}" for name, value in found.coordinates.items()))
    if found.same:
        console.print("the same, bit for bit, as what is saved")
    else:
        console.print(f"differs from what is saved in {', '.join(found.differing)}")
        folder = Folder.open(directory)
        plans = list(folder.sweep.plans.values())
        now = fingerprint(max(each.width for each in plans), plans)
        other = differences(folder.manifest.fingerprints[-1], now)
        if other:
            console.print(f"here other: {other}", soft_wrap=True)
    if not found.curves_same:
        console.print("with full curves recorded, the last bits differ (it is another program)")
    for name, curve in found.curves.items():
        points = np.linspace(0, len(curve) - 1, min(len(curve), 7)).round().astype(int)
        shown = ", ".join(f"{curve[point]:.4f}" for point in points)
        console.print(f"{name}: {shown}")
    console.print(f"every step: {found.path}", soft_wrap=True)
    return 0 if found.same else 1
