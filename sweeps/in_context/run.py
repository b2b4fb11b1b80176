"""Run the study into a folder, going on from what an earlier run finished there."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import xarray as xr

from sdpo_jax.grid import default_workers
from sweeps import provenance, store
from sweeps.folder import clear_partial_files
from sweeps.in_context.experiments import Part, parts
from sweeps.in_context.page import STUDY, render
from sweeps.in_context.plan import Plan
from sweeps.interrupts import Stopped
from sweeps.writing import Held, check_writable, locked

LEAST_SEEDS = 8


def study(
    out: Path, plan: Plan, command: str, report: Callable[[str], None] = lambda line: None
) -> None:
    """Run every part of a plan, save each as it ends, and render the folder.

    Args:
        out: an empty or new folder, or one with the same plan.
        plan: what to run.
        command: how the caller was started, for the manifest.
        report: told a line for each part.

    Raises:
        Busy: another process is at work there.
        Moved: the folder was moved or removed meanwhile.
        ValueError: too few seeds, or a folder that holds something else, in one line.
        OSError: the folder can't be written.
    """
    if plan.seeds < LEAST_SEEDS:
        raise ValueError(f"--seeds: {plan.seeds}; allowed: {LEAST_SEEDS} or more")
    check_writable(out, "--out")
    with locked(out) as held:
        manifest = _claim(out, plan)
        clear_partial_files(out)
        manifest |= {"command": command, "commit": provenance.commit()}
        _compute(out, held, plan, manifest, report)
        begun = time.perf_counter()
        held.check()
        render(out)
        report(f"tables, figures and page: {time.perf_counter() - begun:.1f} s")


def _compute(
    out: Path, held: Held, plan: Plan, manifest: dict[str, Any], report: Callable[[str], None]
) -> None:
    """All parts that are not finished, as many at a time as there are processors."""
    every = parts(plan)
    finished = set(manifest["finished"])
    for name in every:
        if name in finished:
            report(f"{name}: saved earlier")
    waiting = {name: part for name, part in every.items() if name not in finished}
    results = store.Results(out)
    stopping = threading.Event()

    def check() -> None:
        if stopping.is_set():
            raise Stopped

    def work(part: Part) -> tuple[xr.Dataset, float]:
        begun = time.perf_counter()
        return part.compute(plan, results, check), time.perf_counter() - begun

    running: dict[Future[tuple[xr.Dataset, float]], str] = {}
    workers = default_workers()
    with ThreadPoolExecutor(workers) as pool:
        try:
            while waiting or running:
                for name, part in list(waiting.items()):
                    if len(running) < workers and finished.issuperset(part.needs):
                        running[pool.submit(work, waiting.pop(name))] = name
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    name = running.pop(future)
                    data, seconds = future.result()
                    held.check()
                    store.save(out, name, data)
                    finished.add(name)
                    manifest["wall_time"][name] = round(seconds, 2)
                    manifest["finished"] = [each for each in every if each in finished]
                    store.write_manifest(out, manifest)
                    report(f"{name}: {seconds:.1f} s")
        finally:
            stopping.set()


def _claim(out: Path, plan: Plan) -> dict[str, Any]:
    """Check that the folder may be written, and the manifest to go on from."""
    description = store.plain(dataclasses.asdict(plan))
    fresh: dict[str, Any] = {
        "finished": [],
        "wall_time": {},
        STUDY: description,
        "versions": provenance.versions(),
        "device": provenance.device(),
        **provenance.compilation(),
        "source": source_digest(),
    }
    if not any(path for path in out.iterdir() if not path.name.startswith(".")):
        return fresh
    allowed = "allowed: an empty or new folder, or an earlier study of the same plan"
    try:
        found = store.read_manifest(out)
    except store.MissingResults:
        raise ValueError(f"--out: {out} is not empty and has no manifest.json; {allowed}") from None
    except ValueError as error:
        raise ValueError(f"--out: {error}; {allowed}") from None
    if found.get(STUDY) != description:
        raise ValueError(f"--out: {out} holds something else; {allowed}")
    deciding = set(fresh) - {"finished", "wall_time", STUDY}
    if any(found.get(key) != fresh[key] for key in deciding) or not store.is_progress(found):
        # Data of other code, versions or devices have other bits; they are run again.
        return fresh
    kept = [name for name in found["finished"] if store.is_saved(out, name)]
    return {**fresh, "finished": kept, "wall_time": found["wall_time"]}


def source_digest() -> str:
    """SHA-256 of the code that decides the study's numbers."""
    digest = hashlib.sha256(provenance.source_digest().encode())
    here = Path(__file__).parent
    for name in ("plan", "trials", "experiments"):
        digest.update(provenance.digest_of_file(here / f"{name}.py"))
    return digest.hexdigest()
