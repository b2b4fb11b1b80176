"""Run the audit into a folder, going on from what an earlier run finished there."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from sweeps.audit.experiments import EXPERIMENTS
from sweeps.audit.page import render
from sweeps.audit.plan import Plan
from sweeps.execute.executors import Executor
from sweeps.provenance import sources
from sweeps.store import datasets
from sweeps.store.kinds import AUDIT
from sweeps.study import progress
from sweeps.study.trainer import Trainer
from sweeps.system.interrupts import Control, Stopped
from sweeps.system.writing import Held, check_writable, locked

LEAST_SEEDS = 16


def audit(
    out: Path,
    plan: Plan,
    command: str,
    report: Callable[[str], None] = lambda line: None,
    stop: Callable[[], bool] = lambda: False,
    executor: Executor | None = None,
) -> None:
    """Run every experiment of a plan, save each as it ends, and render the folder.

    What is trained is saved block by block, until the experiment that it belongs to is.

    Args:
        out: an empty or new folder, or one with the same plan.
        plan: what to run.
        command: how the caller was started, for the manifest.
        report: told a line for each experiment.
        stop: once true, the blocks under way are finished and the rest left.
        executor: where blocks are computed; by threads of this process by default.

    Raises:
        Stopped: ``stop`` was true before the end.
        Busy: another process is at work there.
        Moved: the folder was moved or removed meanwhile.
        ValueError: too few seeds, or a folder that holds something else, in one line.
        OSError: the folder can't be written.
    """
    if plan.seeds < LEAST_SEEDS:
        raise ValueError(f"--seeds: {plan.seeds}; allowed: {LEAST_SEEDS} or more")
    check_writable(out, "--out")
    with locked(out) as held:
        _audit(out, held, plan, command, report, stop, executor)


def _audit(
    out: Path,
    held: Held,
    plan: Plan,
    command: str,
    report: Callable[[str], None],
    stop: Callable[[], bool],
    executor: Executor | None,
) -> None:
    description = {AUDIT.entry: dataclasses.asdict(plan)}
    study = progress.begin(
        *(out, AUDIT, description, source_digest, command, EXPERIMENTS),
        executor=executor,
        stop=stop,
    )
    manifest = study.manifest
    finished = progress.saved(out, manifest, lambda name: (name, f"league_{name}"))
    manifest["finished"] = sorted(finished)
    under_way = progress.blocks_folder(out)
    control = Control(stop=stop, check=held.check)
    saved = datasets.Results(out)
    for name, experiment in EXPERIMENTS.items():
        begun = time.perf_counter()
        if name in finished:
            report(f"{name}: saved earlier")
            continue
        runs = 0

        def done(more: int) -> None:
            nonlocal runs
            runs += more

        if stop():
            raise Stopped
        # Several grids are trained side by side, each with one worker.
        trainer = Trainer(study, under_way, control, done=done, workers=1)
        found = experiment(plan, saved, trainer)
        held.check()
        seconds = time.perf_counter() - begun
        manifest["wall_time"][name] = round(seconds, 2)
        progress.save(out, manifest, name, found, under_way)
        trained = f"{runs:,} runs" if runs else "every run was there"
        report(f"{name}: {trained}, {seconds:.1f} s")
    # Of an experiment that was saved just before a kill.
    shutil.rmtree(under_way, ignore_errors=True)
    begun = time.perf_counter()
    held.check()
    render(out)
    report(f"tables, figures and page: {time.perf_counter() - begun:.1f} s")


def source_digest() -> str:
    """SHA-256 of the code that decides the audit's numbers."""
    own = ("contenders", "plan", "trials", "experiments")
    files = ("study/landscape", "statistics", *(f"audit/{name}" for name in own))
    return sources.source_digest(*files)
