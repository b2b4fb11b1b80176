"""``python -m sweeps status``: how far a sweep or a study is."""

from __future__ import annotations

import contextlib
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.commands.arguments import FolderArgument
from sweeps.system.text import plain

if TYPE_CHECKING:
    from sweeps.store.kinds import Made


@dataclass(frozen=True)
class Status:
    """Say how far a sweep or a study is, and check every byte of it."""

    directory: FolderArgument
    """Folder that `run`, `reproduce`, `audit`, `in_context` or `calibrate` wrote."""


def run(command: Status, line: str) -> int:
    """Print how far a sweep or a study is; 1 where something is damaged.

    Raises:
        NoSweep: neither is there.
    """
    from sweeps.store import kinds

    made = kinds.find(command.directory)
    return _of_sweep(command.directory) if made is None else _of_study(made)


def _of_sweep(directory: Path) -> int:
    from sweeps.execute.claims import alive
    from sweeps.report.display import console, size
    from sweeps.report.health import health
    from sweeps.store.fingerprints import fingerprint_of, processor_of
    from sweeps.store.folder import Folder
    from sweeps.store.labelled import of_grid
    from sweeps.store.places import CLAIMS, DATA
    from sweeps.system.writing import in_use

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


def _of_study(made: Made) -> int:
    from sweeps.report.display import console
    from sweeps.store import datasets, kinds
    from sweeps.store.blocks import SUFFIX
    from sweeps.store.fingerprints import digest, processor_of
    from sweeps.store.makers import Makers
    from sweeps.store.places import DATA
    from sweeps.study import elsewhere
    from sweeps.system.writing import in_use

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
        last = elsewhere.computed_with(manifest)
        _made_by(last, elsewhere.fingerprint(last["source"]))
        for place in places:
            for name, found in Makers(place, [last]).found.items():
                if name != digest(last):
                    show(f"  and by {name}, {plain(processor_of(found))}", soft_wrap=True)
    show(f"page      {page if page.is_file() else 'not yet'}", soft_wrap=True)
    _go_on(made.folder, bool(damaged or unfinished or not page.is_file()), at_work)
    return 1 if damaged else 0


def _made_by(last: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Print what computes there, and what is other here."""
    from sweeps.report.display import console
    from sweeps.store.fingerprints import differences, digest

    other = "as this machine would now"
    if now != last:
        other = f"here other: {plain(differences(last, now))}"
    console().print(f"made by   {digest(last)}, {other}", soft_wrap=True)


def _go_on(directory: Path, unfinished: bool, at_work: bool) -> None:
    """Print what can be done."""
    from sweeps.report.display import console

    show = console().print
    if at_work:
        show("at work   another process; what it has under way is not counted")
    elif unfinished:
        show(f"go on with: python -m sweeps resume {shlex.quote(str(directory))}", soft_wrap=True)
