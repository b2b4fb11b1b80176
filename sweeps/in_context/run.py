"""Run the study into a folder, going on from what an earlier run finished there."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import xarray as xr

from sdpo_jax.grid import default_workers
from sweeps.execute.executors import Executor
from sweeps.in_context.experiments import parts
from sweeps.in_context.page import render
from sweeps.in_context.plan import Plan
from sweeps.provenance import sources
from sweeps.store import datasets
from sweeps.store.kinds import IN_CONTEXT
from sweeps.study import progress
from sweeps.study.trainer import Trainer
from sweeps.system.interrupts import Control, Stopped
from sweeps.system.writing import Held, check_writable, locked

LEAST_SEEDS = 8


def study(
    out: Path,
    plan: Plan,
    command: str,
    report: Callable[[str], None] = lambda line: None,
    stop: Callable[[], bool] = lambda: False,
    executor: Executor | None = None,
) -> None:
    """Run every part of a plan, save each as it ends, and render the folder.

    What is trained is saved block by block, until the part that it belongs to is. A network's
    pretraining is one call, and begun anew where it was killed.

    Args:
        out: an empty or new folder, or one with the same plan.
        plan: what to run.
        command: how the caller was started, for the manifest.
        report: told a line for each part.
        stop: once true, the blocks under way are finished and the rest left.
        executor: where training is computed; by threads of this process by default. Pretraining and
            the measurement of credit stay here.

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
        description = {IN_CONTEXT.entry: dataclasses.asdict(plan)}
        begun = progress.begin(
            *(out, IN_CONTEXT, description, source_digest, command, parts(plan)),
            executor=executor,
            stop=stop,
        )
        _compute(begun, held, plan, report, stop)
        start = time.perf_counter()
        held.check()
        render(out)
        report(f"tables, figures and page: {time.perf_counter() - start:.1f} s")


def _compute(
    study: progress.Begun,
    held: Held,
    plan: Plan,
    report: Callable[[str], None],
    stop: Callable[[], bool],
) -> None:
    """All parts that are not finished, as many at a time as there are processors."""
    out, manifest, every = study.out, study.manifest, parts(plan)
    finished = progress.saved(out, manifest, lambda name: (name,))
    manifest["finished"] = [name for name in every if name in finished]
    for name in manifest["finished"]:
        report(f"{name}: saved earlier")
    waiting = {name: part for name, part in every.items() if name not in finished}
    results = datasets.Results(out)
    # An error in one part ends the others, too.
    failed = threading.Event()
    control = Control(stop=lambda: failed.is_set() or stop(), check=held.check)

    def work(name: str) -> tuple[xr.Dataset, float]:
        begun = time.perf_counter()
        trainer = Trainer(study, progress.blocks_folder(out, name), control)
        return every[name].compute(plan, results, trainer), time.perf_counter() - begun

    running: dict[Future[tuple[xr.Dataset, float]], str] = {}
    workers = default_workers()
    with ThreadPoolExecutor(workers) as pool:
        try:
            while waiting or running:
                for name, part in list(waiting.items()):
                    if stop():
                        waiting.clear()
                    elif len(running) < workers and finished.issuperset(part.needs):
                        del waiting[name]
                        running[pool.submit(work, name)] = name
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    name = running.pop(future)
                    data, seconds = future.result()
                    held.check()
                    finished.add(name)
                    manifest["wall_time"][name] = round(seconds, 2)
                    progress.save(
                        out, manifest, name, {name: data}, progress.blocks_folder(out, name)
                    )
                    report(f"{name}: {seconds:.1f} s")
        finally:
            failed.set()
    if len(finished) < len(every):
        raise Stopped
    # Of parts that were saved just before a kill.
    shutil.rmtree(progress.blocks_folder(out), ignore_errors=True)


def source_digest() -> str:
    """SHA-256 of the code that decides the study's numbers."""
    return sources.source_digest(
        *(f"in_context/{name}" for name in ("plan", "trials", "experiments"))
    )
