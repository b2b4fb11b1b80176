"""Run the paper's experiments into a folder, going on from what an earlier run finished there.

While an experiment runs, its blocks are kept under ``OUT/data/blocks``; once its data set is saved
they go.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import xarray as xr

from sdpo_jax import Plan, Progress
from sdpo_jax.grid import compiled_ahead, default_block_width
from sweeps import claims, paper, provenance, store
from sweeps.folder import Blocks, clear_partial_files, digest, tasks_of
from sweeps.interrupts import Stopped
from sweeps.opening import FINISHED, of_plan
from sweeps.render import render
from sweeps.report import write_report
from sweeps.writing import Held, check_writable, locked, remove_partial_files

BLOCKS = "blocks"


class Reporter(Protocol):
    """Told how far the work is."""

    def whole(self, title: str, runs: int) -> None:
        """All experiments together have so many runs."""

    def begin(self, title: str, runs: int) -> None:
        """An experiment of so many runs begins."""

    def part(self, done: int) -> None:
        """So many of its runs are there already."""

    def advance(self, told: Progress) -> None:
        """A program was compiled or a block computed."""

    def finish(self, seconds: float, reused: bool) -> None:
        """An experiment is saved."""


def reproduce(
    out_dir: str | os.PathLike[str],
    seeds: int,
    reporter: Reporter,
    command: str | None = None,
    stop: Callable[[], bool] | None = None,
    base: Mapping[str, float] | None = None,
    pages: bool = True,
) -> None:
    """Run every experiment over ``seeds`` seeds, save each as it ends, and render the folder.

    Args:
        out_dir: an empty or new folder, or one with the same configuration.
        seeds: how many; 10 or more.
        reporter: told how far the work is.
        command: how the caller was started, for the manifest.
        stop: once true, the block under way is finished and the rest left.
        base: by name other numbers than the defaults, the engine's or the parts' own.
        pages: whether tables, figures, claims and report are made.

    Raises:
        Stopped: ``stop`` was true before the end.
        Busy: another process is at work there.
        Moved: the folder was moved or removed meanwhile.
        ValueError: too few seeds, or a folder that holds something else, in one line.
        OSError: the folder can't be written.
    """
    if seeds < claims.MIN_SEEDS:
        raise ValueError(f"--seeds: {seeds}; allowed: {claims.MIN_SEEDS} or more")
    out = Path(out_dir)
    check_writable(out, "--out")
    with locked(out) as held:
        _reproduce(out, held, seeds, reporter, command, stop, base, pages)


def _reproduce(
    out: Path,
    held: Held,
    seeds: int,
    reporter: Reporter,
    command: str | None,
    stop: Callable[[], bool] | None,
    base: Mapping[str, float] | None,
    pages: bool,
) -> None:
    configuration = {"seeds": seeds, "constants": paper.constants(base)}
    fingerprint = {
        "versions": provenance.versions(),
        "device": provenance.device(),
        **provenance.compilation(),
        "block_width": default_block_width(),
        "source": provenance.source_digest(),
    }
    manifest = _claim(out, configuration, fingerprint)
    manifest["command"] = command or shlex.join(["python", "-m", "sweeps", "reproduce"])
    manifest["commit"] = provenance.commit()
    spent = manifest["wall_time"]
    # Written before the first block, so that the folder is known for what it is.
    store.write_manifest(out, manifest)
    under_way = out / store.DATA_FOLDER / BLOCKS
    clear_partial_files(out)
    remove_partial_files(under_way)
    experiments = paper.experiments(base)
    plans = {
        name: [grid.plan(seeds) for grid in experiment.grids]
        for name, experiment in experiments.items()
    }
    saved = {name for name in plans if name in manifest["finished"] and store.is_saved(out, name)}
    ahead = [
        (plan, group)
        for name in plans
        if name not in saved
        for plan in plans[name]
        for group in plan.groups
    ]
    mark = digest(fingerprint)
    reporter.whole("reproduce", sum(each.runs(seeds) for each in experiments.values()))
    with compiled_ahead(ahead):
        for name, experiment in experiments.items():
            reporter.begin(experiment.title, experiment.runs(seeds))
            begun = time.perf_counter()
            if name not in saved:
                parts, compiling = _run(plans[name], under_way, held, mark, reporter, stop)
                held.check()
                store.save(out, name, experiment.finish(*parts))
                taken = time.perf_counter() - begun
                spent["compile"] = round(spent["compile"] + compiling, 2)
                spent["run"] = round(spent["run"] + taken - compiling, 2)
                manifest["finished"].append(name)
                store.write_manifest(out, manifest)
                shutil.rmtree(under_way, ignore_errors=True)
            reporter.finish(time.perf_counter() - begun, name in saved)
    # Of an experiment that was saved just before a kill.
    shutil.rmtree(under_way, ignore_errors=True)
    if not pages:
        return
    begun = time.perf_counter()
    held.check()
    render(out)
    spent["render"] = round(time.perf_counter() - begun, 2)
    store.write_manifest(out, manifest)
    # The page shows the time of its own making.
    write_report(out, claims.judge(out))


def _run(
    plans: Sequence[Plan],
    folder: Path,
    held: Held,
    fingerprint: str,
    reporter: Reporter,
    stop: Callable[[], bool] | None,
) -> tuple[list[xr.Dataset], float]:
    """The outcome of each plan, and for how many seconds programs were waited for."""
    compiling = 0.0
    parts = []
    done = 0
    for plan in plans:
        begun = last = time.perf_counter()

        def on_progress(told: Progress) -> None:
            nonlocal last
            if told.kind == "compile":
                last = time.perf_counter()
            reporter.advance(told)

        blocks = Blocks(folder, list(tasks_of(plan, set())), [fingerprint])
        survey = blocks.survey()
        reporter.part(done + sum(len(t.keys) for t in blocks.tasks if t.identity in survey.done))
        wanted = {t.identity for t in blocks.tasks} - survey.done
        blocks.compute(wanted, on_progress, stop, held.check)
        if blocks.absent():
            raise Stopped
        parts.append(of_plan(plan, blocks, lazy=False).drop_vars(FINISHED))
        compiling += last - begun
        done += plan.total
    return parts, compiling


def _claim(out: Path, configuration: dict[str, Any], fingerprint: dict[str, Any]) -> dict[str, Any]:
    """The manifest to go on from, once it is sure that the folder is not something else's."""
    fresh = {
        "finished": [],
        "wall_time": {"compile": 0.0, "run": 0.0, "render": 0.0},
        **configuration,
        **fingerprint,
    }
    if not any(path for path in out.iterdir() if not path.name.startswith(".")):
        return fresh
    try:
        found = store.read_manifest(out)
    except store.MissingResults:
        raise ValueError(
            f"--out: {out} is not empty and has no manifest.json; "
            "allowed: an empty or new folder, or an earlier reproduction"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"--out: {error}; allowed: an empty or new folder, or an earlier reproduction"
        ) from None
    for key, value in configuration.items():
        if found.get(key) != value:
            raise ValueError(
                f"--out: {out} holds another configuration ({_difference(key, found, value)}); "
                "allowed: an empty or new folder, or one of the same configuration"
            )
    if any(found.get(key) != value for key, value in fingerprint.items()):
        # Data of other code, versions or devices have other bits; they are run again.
        return fresh
    # What is not as it is written here is not believed: its experiments are run again.
    if not store.is_progress(found, set(fresh["wall_time"])):
        return fresh
    return {**fresh, "finished": found["finished"], "wall_time": found["wall_time"]}


def _difference(key: str, found: dict[str, Any], value: Any) -> str:
    if isinstance(value, dict):
        return f"other {key}"
    return f"{key} {found.get(key)}, asked for {value}"
