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
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import xarray as xr

from sdpo_jax import Plan, Progress
from sdpo_jax.grid import compiled_ahead
from sweeps.execute.executors import Executor
from sweeps.paper import claims
from sweeps.paper import experiments as paper
from sweeps.paper.page import write_report
from sweeps.paper.render import render
from sweeps.provenance import sources
from sweeps.store import datasets
from sweeps.store.kinds import REPRODUCTION
from sweeps.study import progress
from sweeps.study.trainer import Trainer
from sweeps.system.interrupts import Control
from sweeps.system.writing import Held, check_writable, locked

# Into what the time is divided.
_SPENT = {"compile": 0.0, "run": 0.0, "render": 0.0}


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
    stop: Callable[[], bool] = lambda: False,
    base: Mapping[str, float] | None = None,
    pages: bool = True,
    executor: Executor | None = None,
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
        executor: where blocks are computed; by threads of this process by default.

    Raises:
        Stopped: ``stop`` was true before the end.
        Busy: another process is at work there.
        Moved: the folder was moved or removed meanwhile.
        ValueError: too few seeds, or a folder that holds something else, in one line.
        OSError: the folder can't be written.
    """
    check_seeds(seeds)
    out = Path(out_dir)
    check_writable(out, "--out")
    with locked(out) as held:
        _reproduce(out, held, seeds, reporter, command, stop, base, pages, executor)


def check_seeds(seeds: int) -> None:
    """Refuse fewer seeds than claims can be judged by.

    Raises:
        ValueError: naming how many are allowed.
    """
    if seeds < claims.MIN_SEEDS:
        raise ValueError(f"--seeds: {seeds}; allowed: {claims.MIN_SEEDS} or more")


def source_digest() -> str:
    """SHA-256 of the code that decides a reproduction's numbers."""
    return sources.source_digest("study/landscape", "paper/experiments")


def _reproduce(
    out: Path,
    held: Held,
    seeds: int,
    reporter: Reporter,
    command: str | None,
    stop: Callable[[], bool],
    base: Mapping[str, float] | None,
    pages: bool,
    executor: Executor | None,
) -> None:
    configuration = {"seeds": seeds, REPRODUCTION.entry: paper.constants(base)}
    command = command or shlex.join(["python", "-m", "sweeps", "reproduce"])
    experiments = paper.experiments(base)
    study = progress.begin(
        *(out, REPRODUCTION, configuration, source_digest, command, experiments, _SPENT),
        executor=executor,
        stop=stop,
    )
    manifest = study.manifest
    spent = manifest["wall_time"]
    under_way = progress.blocks_folder(out)
    plans = {
        name: [grid.plan(seeds) for grid in experiment.grids]
        for name, experiment in experiments.items()
    }
    saved = progress.saved(out, manifest, lambda name: (name,))
    # Where others compute, they compile.
    ahead = [
        (plan, group)
        for name in plans
        if name not in saved and executor is None
        for plan in plans[name]
        for group in plan.groups
    ]
    trainer = Trainer(study, under_way, Control(stop=stop, check=held.check))
    reporter.whole("reproduce", sum(each.runs(seeds) for each in experiments.values()))
    with compiled_ahead(ahead):
        for name, experiment in experiments.items():
            reporter.begin(experiment.title, experiment.runs(seeds))
            begun = time.perf_counter()
            if name not in saved:
                parts, compiling = _run(plans[name], trainer, reporter)
                held.check()
                found = experiment.finish(*parts)
                taken = time.perf_counter() - begun
                spent["compile"] = round(spent["compile"] + compiling, 2)
                spent["run"] = round(spent["run"] + taken - compiling, 2)
                progress.save(out, manifest, name, {name: found}, under_way)
            reporter.finish(time.perf_counter() - begun, name in saved)
    # Of an experiment that was saved just before a kill.
    shutil.rmtree(under_way, ignore_errors=True)
    if not pages:
        return
    begun = time.perf_counter()
    held.check()
    render(out)
    spent["render"] = round(time.perf_counter() - begun, 2)
    datasets.write_manifest(out, manifest)
    # The page shows the time of its own making.
    write_report(out, claims.judge(out))


def _run(
    plans: Sequence[Plan], trainer: Trainer, reporter: Reporter
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

        def there(runs: int, done: int = done) -> None:
            reporter.part(done + runs)

        control = replace(trainer.control, progress=on_progress)
        parts.append(replace(trainer, control=control, there=there).train(plan))
        compiling += last - begun
        done += plan.total
    return parts, compiling
