"""What ``plan``, ``status`` and ``replay`` print."""

from __future__ import annotations

import contextlib
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from sweeps.execute.claims import alive
from sweeps.execute.estimate import estimate
from sweeps.execute.replay import replay
from sweeps.file import sweepfile
from sweeps.report.display import console, duration, size
from sweeps.report.health import health
from sweeps.store import datasets, kinds
from sweeps.store.blocks import SUFFIX
from sweeps.store.fingerprints import differences, digest, fingerprint_of, processor_of
from sweeps.store.folder import Folder
from sweeps.store.labelled import of_grid
from sweeps.store.manifest import Manifest
from sweeps.store.places import CLAIMS, DATA
from sweeps.study import progress
from sweeps.system.text import exact, plain
from sweeps.system.writing import in_use


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
    """Print how far a sweep or a study is; 1 where something is damaged.

    Raises:
        NoSweep: neither is there.
    """
    made = kinds.find(directory)
    if made is not None:
        return _status_of_study(made)
    # Before the blocks are read: whoever ends meanwhile was at work while they were.
    at_work = in_use(directory) if directory.is_dir() else False
    folder = Folder.open(directory)
    # One look: while others are at work, a second one would find more.
    survey = folder.blocks.survey()
    at_work = at_work or alive(directory / DATA / CLAIMS)
    show = console().print
    done = sum(len(t.keys) for t in folder.blocks.tasks if t.identity in survey.done)
    show(f"sweep     {plain(folder.sweep.title or folder.sweep.name)}")
    show(f"runs      {done:,} of {folder.runs:,} done")
    show(
        f"blocks    {len(survey.done)} whole, {len(survey.missing)} missing, "
        f"{len(survey.damaged)} damaged, {len(survey.other)} of another fingerprint; "
        f"{size(survey.size)}"
    )
    damage = folder.manifest.damage
    for message in [*([damage] if damage else []), *survey.damaged.values()]:
        show(f"  {plain(message)}", soft_wrap=True)
    _made_by(folder.manifest.fingerprints[-1], fingerprint_of(folder.sweep))
    makers = Counter[str]()
    for task in folder.blocks.tasks:
        if task.identity in survey.makers:
            makers[survey.makers[task.identity]] += len(task.keys)
    for name, count in sorted(makers.items()) if len(makers) > 1 else ():
        show(f"  {count:,} runs by {name}, {plain(processor_of(folder.fingerprints[name]))}")
    if not survey.damaged:
        for grid in folder.sweep.grids:
            found = of_grid(folder, grid, done=survey.done)
            show(f"{grid}: {health(found)}", soft_wrap=True)
    hurt = bool(survey.damaged or damage)
    _go_on(directory, bool(survey.missing or survey.other or hurt), at_work)
    return 1 if hurt else 0


def _status_of_study(made: kinds.Made) -> int:
    at_work = in_use(made.folder)
    show = console().print
    manifest, calibration = made.manifest, made.kind is kinds.CALIBRATION
    parts, finished = (kinds.names_in(manifest, name) for name in ("parts", "finished"))
    # One that is made of reproductions has each in a folder of its own.
    places = [made.folder, *sorted((made.folder / kinds.INNER).glob("*/"))]
    there = {path: place for place in places for path in (place / DATA).glob("[!.]*.nc")}
    damaged = [path for path, place in there.items() if not datasets.is_saved(place, path.stem)]
    page = made.folder / made.kind.page
    show(f"study     {made}")
    if parts:
        done = len(set(finished) & set(parts))
        show(f"parts     {done} of {len(parts)} finished")
    unfinished = bool(set(parts) - set(finished))
    if calibration and manifest.get(made.kind.entry):
        from sweeps.calibration.saved import saved

        blocks = saved(made.folder, manifest)[1]
        survey = blocks.survey()
        runs = {
            name: sum(len(task.keys) for task in blocks.tasks if task.identity in which)
            for name, which in (("done", survey.done), ("all", blocks.by_id))
        }
        show(f"runs      {runs['done']:,} of {runs['all']:,} done")
        damaged = [blocks.path(name) for name in survey.damaged]
        kept = bool(survey.done or damaged)
    else:
        kept = bool(there)
        under_way = sum(1 for place in places for _ in (place / DATA).rglob(f"[!.]*{SUFFIX}"))
        if under_way:
            show(f"blocks    {under_way} of parts that are under way")
    if there:
        show(f"data      {len(there)} data sets, {len(damaged)} damaged")
    if not kept:
        show("data      none here" + (": tables and pages only" if page.is_file() else " yet"))
    for path in damaged:
        show(f"  {plain(path)}: damaged", soft_wrap=True)
    with contextlib.suppress(KeyError):
        last = progress.computed_with(manifest)
        _made_by(last, {**progress.fingerprint(last["source"]), "source": last["source"]})
    show(f"page      {page if page.is_file() else 'not yet'}", soft_wrap=True)
    _go_on(made.folder, bool(damaged or unfinished or not page.is_file()), at_work)
    return 1 if damaged else 0


def _made_by(last: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Print what computes there, and what is other here."""
    other = "as this machine would now"
    if now != last:
        other = f"here other: {plain(differences(last, now))}"
    console().print(f"made by   {digest(last)}, {other}", soft_wrap=True)


def _go_on(directory: Path, unfinished: bool, at_work: bool) -> None:
    """Print what can be done."""
    show = console().print
    if at_work:
        show("at work   another process; what it has under way is not counted")
    elif unfinished:
        show(f"go on with: python -m sweeps resume {shlex.quote(str(directory))}", soft_wrap=True)


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
