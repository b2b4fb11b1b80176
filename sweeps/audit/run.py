"""Run the audit into a folder, going on from what an earlier run finished there."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sdpo_jax.grid import default_block_width
from sweeps import provenance, store
from sweeps.audit.experiments import EXPERIMENTS
from sweeps.audit.page import render
from sweeps.audit.plan import Plan
from sweeps.audit.trials import Trainer
from sweeps.folder import clear_partial_files, digest
from sweeps.interrupts import Stopped
from sweeps.reproduce import BLOCKS
from sweeps.writing import Held, check_writable, locked, remove_partial_files

LEAST_SEEDS = 16


def audit(
    out: Path,
    plan: Plan,
    command: str,
    report: Callable[[str], None] = lambda line: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run every experiment of a plan, save each as it ends, and render the folder.

    What is trained is saved block by block, until the experiment that it belongs to is.

    Args:
        out: an empty or new folder, or one with the same plan.
        plan: what to run.
        command: how the caller was started, for the manifest.
        report: told a line for each experiment.
        stop: once true, the blocks under way are finished and the rest left.

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
        _audit(out, held, plan, command, report, stop)


def _audit(
    out: Path,
    held: Held,
    plan: Plan,
    command: str,
    report: Callable[[str], None],
    stop: Callable[[], bool],
) -> None:
    manifest = _claim(out, plan)
    under_way = out / store.DATA_FOLDER / BLOCKS
    clear_partial_files(out)
    remove_partial_files(under_way)
    manifest["command"] = command
    manifest["commit"] = provenance.commit()
    # Written before the first block, so that the folder is known for what it is.
    store.write_manifest(out, manifest)
    mark = digest({name: manifest[name] for name in deciding(manifest)})
    saved = store.Results(out)
    for name, experiment in EXPERIMENTS.items():
        begun = time.perf_counter()
        if name in manifest["finished"]:
            report(f"{name}: saved earlier")
            continue
        runs = 0

        def done(more: int) -> None:
            nonlocal runs
            runs += more

        if stop():
            raise Stopped
        trainer = Trainer(under_way, mark, done, held.check, stop)
        for key, data in experiment(plan, saved, trainer).items():
            held.check()
            store.save(out, key, data)
        seconds = time.perf_counter() - begun
        manifest["wall_time"][name] = round(seconds, 2)
        manifest["finished"].append(name)
        store.write_manifest(out, manifest)
        shutil.rmtree(under_way, ignore_errors=True)
        report(f"{name}: {runs:,} runs, {seconds:.1f} s")
    # Of an experiment that was saved just before a kill.
    shutil.rmtree(under_way, ignore_errors=True)
    begun = time.perf_counter()
    held.check()
    render(out)
    report(f"tables, figures and page: {time.perf_counter() - begun:.1f} s")


def _claim(out: Path, plan: Plan) -> dict[str, Any]:
    """Check that the folder may be written, and the manifest to go on from."""
    description = store.plain(dataclasses.asdict(plan))
    fresh: dict[str, Any] = {
        "finished": [],
        "wall_time": {},
        "plan": description,
        "versions": provenance.versions(),
        "device": provenance.device(),
        **provenance.compilation(),
        "block_width": default_block_width(),
        "source": source_digest(),
    }
    if not any(path for path in out.iterdir() if not path.name.startswith(".")):
        return fresh
    try:
        found = store.read_manifest(out)
    except store.MissingResults:
        raise ValueError(
            f"--out: {out} is not empty and has no manifest.json; "
            "allowed: an empty or new folder, or an earlier audit"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"--out: {error}; allowed: an empty or new folder, or an earlier audit"
        ) from None
    if found.get("plan") != description:
        raise ValueError(
            f"--out: {out} holds another audit; allowed: an empty or new folder, or the same plan"
        )
    if any(found.get(key) != fresh[key] for key in deciding(fresh)) or not store.is_progress(found):
        # Data of other code, versions or devices have other bits; they are run again.
        return fresh
    data = {name for name in found["finished"] if _is_saved(out, name)}
    return {**fresh, "finished": sorted(data), "wall_time": found["wall_time"]}


def deciding(manifest: Mapping[str, Any]) -> list[str]:
    """The entries of a manifest that say what computed the data."""
    others = ("finished", "wall_time", "plan", "command", "commit")
    return [name for name in manifest if name not in others]


def _is_saved(out: Path, name: str) -> bool:
    return any(store.is_saved(out, each) for each in (name, f"league_{name}"))


def source_digest() -> str:
    """SHA-256 of the code that decides the audit's numbers."""
    digest = hashlib.sha256(provenance.source_digest().encode())
    here = Path(__file__).parent
    for name in ("contenders", "plan", "trials", "experiments"):
        digest.update(provenance.digest_of_file(here / f"{name}.py"))
    return digest.hexdigest()
