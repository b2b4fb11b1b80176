"""What ``plan``, ``status`` and ``replay`` print."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from sweeps import sweepfile
from sweeps.display import console, duration, size
from sweeps.estimate import estimate
from sweeps.folder import Folder, Manifest, differences, digest, fingerprint_of, processor_of
from sweeps.health import health
from sweeps.opening import of_grid
from sweeps.replay import replay
from sweeps.text import exact, plain


def plan(file: Path, budget: float, settings: Sequence[str] = ()) -> None:
    """Print what a sweep file would take, or the sweep that a folder holds.

    Raises:
        ValueError: a budget that is no number of seconds, a file that can't be run.
    """
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


def status(directory: Path) -> int:
    """Print how far a sweep is; 1 where a block is damaged."""
    folder = Folder.open(directory)
    survey = folder.blocks.survey()
    show = console().print
    done = sum(len(t.keys) for t in folder.blocks.tasks if t.identity in survey.done)
    bytes_used = sum(
        folder.blocks.path(identity).stat().st_size for identity in survey.done | survey.other
    )
    show(f"sweep     {plain(folder.sweep.title or folder.sweep.name)}")
    show(f"runs      {done:,} of {folder.runs:,} done")
    show(
        f"blocks    {len(survey.done)} whole, {len(survey.missing)} missing, "
        f"{len(survey.damaged)} damaged, {len(survey.other)} of another fingerprint; "
        f"{size(bytes_used)}"
    )
    damage = folder.manifest.damage
    for message in [*([damage] if damage else []), *survey.damaged.values()]:
        show(f"  {plain(message)}", soft_wrap=True)
    now = fingerprint_of(folder.sweep)
    last = folder.manifest.fingerprints[-1]
    if now == last:
        show(f"made by   {digest(last)}, as this machine would now")
    else:
        show(
            f"made by   {digest(last)}; here other: {plain(differences(last, now))}",
            soft_wrap=True,
        )
    makers = Counter[str]()
    for task in folder.blocks.tasks:
        if task.identity in survey.makers:
            makers[survey.makers[task.identity]] += len(task.keys)
    for name, count in sorted(makers.items()) if len(makers) > 1 else ():
        show(f"  {count:,} runs by {name}, {plain(processor_of(folder.fingerprints[name]))}")
    if not survey.damaged:
        for grid in folder.sweep.grids:
            show(f"{grid}: {health(of_grid(folder, grid))}", soft_wrap=True)
    hurt = bool(survey.damaged or damage)
    if survey.missing or survey.other or hurt:
        show(f"go on with: python -m sweeps resume {shlex.quote(str(directory))}", soft_wrap=True)
    return 1 if hurt else 0


def replayed(directory: Path, run: str, grid: str | None) -> int:
    """Print the outcome of a replay; 1 where a bit differs."""
    found = replay(directory, run, grid)
    show = console().print
    labels = (f"{name} {plain(exact(value))}" for name, value in found.coordinates.items())
    show(", ".join(labels) or "the only run", soft_wrap=True)
    if found.same:
        show("the same, bit for bit, as what is saved")
    else:
        show(f"differs from what is saved in {', '.join(found.differing)}")
        folder = Folder.open(directory)
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
