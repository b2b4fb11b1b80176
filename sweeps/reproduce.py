"""Run the paper's experiments into a folder, going on from what an earlier run finished there."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import xarray as xr

from sdpo_jax import Progress
from sdpo_jax.grid import default_block_width
from sweeps import claims, paper, provenance, store
from sweeps.render import render
from sweeps.report import write_report
from sweeps.writing import check_writable


class Reporter(Protocol):
    """Told how far the work is."""

    def start(self, name: str, title: str, runs: int) -> None:
        """An experiment of so many runs begins."""

    def advance(self, progress: Progress) -> None:
        """A program was compiled or a block computed."""

    def finish(self, name: str, seconds: float, reused: bool) -> None:
        """An experiment is saved."""


def reproduce(
    out_dir: str | os.PathLike[str],
    seeds: int,
    reporter: Reporter,
    command: str | None = None,
) -> None:
    """Run every experiment over ``seeds`` seeds, save each as it ends, and render the folder.

    Args:
        out_dir: an empty or new folder, or one with the same configuration.
        seeds: how many; 10 or more.
        reporter: told how far the work is.
        command: how the caller was started, for the manifest.

    Raises:
        ValueError: too few seeds, or a folder that holds something else, in one line.
        OSError: the folder can't be written.
    """
    if seeds < claims.MIN_SEEDS:
        raise ValueError(f"--seeds: {seeds}; allowed: {claims.MIN_SEEDS} or more")
    out = Path(out_dir)
    configuration = {"seeds": seeds, "constants": paper.constants()}
    fingerprint = {
        "versions": provenance.versions(),
        "device": provenance.device(),
        "block_width": default_block_width(),
        "source": provenance.source_digest(),
    }
    manifest = _claim(out, configuration, fingerprint)
    manifest["command"] = command or shlex.join(["python", "-m", "sweeps", "reproduce"])
    manifest["commit"] = provenance.commit()
    spent = manifest["wall_time"]
    for name, experiment in paper.experiments().items():
        reporter.start(name, experiment.title, experiment.runs(seeds))
        begun = time.perf_counter()
        reused = name in manifest["finished"] and store.data_path(out, name).is_file()
        if not reused:
            data, compiling = _run(experiment, seeds, reporter.advance)
            store.save(out, name, data)
            taken = time.perf_counter() - begun
            spent["compile"] = round(spent["compile"] + compiling, 2)
            spent["run"] = round(spent["run"] + taken - compiling, 2)
            manifest["finished"].append(name)
            store.write_manifest(out, manifest)
        reporter.finish(name, time.perf_counter() - begun, reused)
    begun = time.perf_counter()
    render(out)
    spent["render"] = round(time.perf_counter() - begun, 2)
    store.write_manifest(out, manifest)
    # The page shows the time of its own making.
    write_report(out, claims.judge(out))


def _run(
    experiment: paper.Experiment, seeds: int, advance: Callable[[Progress], None]
) -> tuple[xr.Dataset, float]:
    """The experiment's data set, and how many seconds of its making were compilation."""
    compiling = 0.0
    parts = []
    for grid in experiment.grids:
        begun = last = time.perf_counter()

        def on_progress(progress: Progress) -> None:
            nonlocal last
            if progress.kind == "compile":
                last = time.perf_counter()
            advance(progress)

        parts.append(grid.run(seeds, progress=on_progress))
        compiling += last - begun
    return experiment.finish(*parts), compiling


def _claim(out: Path, configuration: dict[str, Any], fingerprint: dict[str, Any]) -> dict[str, Any]:
    """Check that the folder may be written, and the manifest to go on from."""
    fresh = {
        "finished": [],
        "wall_time": {"compile": 0.0, "run": 0.0, "render": 0.0},
        **configuration,
        **fingerprint,
    }
    check_writable(out, "--out")
    if not any(out.iterdir()):
        return fresh
    try:
        found = store.read_manifest(out)
    except store.MissingResults:
        raise ValueError(
            f"--out: {out} is not empty and has no manifest.json; "
            "allowed: an empty or new folder, or an earlier reproduction"
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
    return {**fresh, **{key: found[key] for key in ("finished", "wall_time") if key in found}}


def _difference(key: str, found: dict[str, Any], value: Any) -> str:
    if isinstance(value, dict):
        return f"other {key}"
    return f"{key} {found.get(key)}, asked for {value}"
