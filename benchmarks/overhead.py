"""What store and progress cost: ``python -m benchmarks.overhead``.

A sweep of 100,000 runs at the paper's sizes is trained in memory and into a folder, in turns, by
one process that has compiled everything; then a process of its own resumes the finished folder.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

SWEEP = """
title = "100,000 runs"
[axes]
algorithm = ["sdpo", "reinforce"]
noise = [0.0, 0.1]
seed = {{ count = {seeds} }}
"""


@dataclass(frozen=True)
class Options:
    """Time of a sweep in memory and on disk, and of resuming it when it is finished."""

    runs: int = 100_000
    """Training runs."""
    repeats: int = 3
    """Turns of which the least is taken: what disturbs a measurement only adds to it."""
    json: Path | None = None
    """File of the result (default: results/benchmarks/overhead.json)."""


def measure(runs: int, repeats: int) -> dict[str, Any]:
    """Seconds, by the wall's clock and of the processor, of each way and each turn."""
    import sdpo_jax
    from sweeps.execute import running
    from sweeps.file import sweepfile
    from sweeps.report.display import Display

    sweep = sweepfile.parse(SWEEP.format(seeds=runs // 4), "overhead")
    grid = sweep.grids["main"]
    found: dict[str, list[list[float]]] = {"memory": [], "folder": []}
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out"

        def in_memory() -> None:
            sdpo_jax.run_grid(grid.axes)

        def in_folder() -> None:
            shutil.rmtree(out, ignore_errors=True)
            # A live terminal, which costs more than plain lines.
            console = Console(file=io.StringIO(), force_terminal=True)
            with Display(console) as display:
                running.run(
                    out,
                    sweep,
                    progress=display.advance,
                    surveyed=lambda made, _: display.start(sweep.name, 0, made.runs),
                )

        ways: dict[str, Callable[[], None]] = {"memory": in_memory, "folder": in_folder}
        sdpo_jax.run_grid({**grid.axes, "seed": range(64)})
        for _ in range(repeats):
            for name, way in ways.items():
                begun, spent = time.perf_counter(), time.process_time()
                way()
                wall, processor = time.perf_counter() - begun, time.process_time() - spent
                found[name].append([wall, processor])
        resumed = []
        for _ in range(repeats):
            begun = time.perf_counter()
            command = [sys.executable, "-m", "sweeps", "resume", str(out)]
            subprocess.run(command, check=True, capture_output=True, env=dict(os.environ))
            resumed.append(time.perf_counter() - begun)
        blocks = len(list((out / "data").iterdir()))
        size = sum(path.stat().st_size for path in (out / "data").iterdir())
    return {**found, "resume": resumed, "blocks": blocks, "bytes": size, "runs": runs}


def run(options: Options, line: str) -> None:
    """Measure, print and save."""
    from benchmarks.write import Output, table

    output = Output("overhead", "What store and progress cost", line, options.json)
    found = measure(options.runs, options.repeats)
    wall, processor = (
        {name: min(each[part] for each in found[name]) for name in ("memory", "folder")}
        for part in (0, 1)
    )
    rows = [
        ["in memory, s", f"{wall['memory']:.2f}", f"{processor['memory']:.2f}"],
        ["into a folder, with a live bar, s", f"{wall['folder']:.2f}",
         f"{processor['folder']:.2f}"],
        ["store and progress", f"{wall['folder'] / wall['memory'] - 1:+.1%}",
         f"{processor['folder'] / processor['memory'] - 1:+.1%}"],
        ["resume of the finished folder, whole process, s", f"{min(found['resume']):.2f}", ""],
    ]  # fmt: skip
    body = (
        f"{found['runs']:,} runs, {found['blocks']} blocks, {found['bytes'] / 2**20:.1f} MiB; "
        f"least of {options.repeats}.\n\n" + table(["", "wall", "processor"], rows)
    )
    output.save(body, found)


if __name__ == "__main__":
    chosen = tyro.cli(Options, prog="python -m benchmarks.overhead")
    run(chosen, f"python -m benchmarks.overhead --runs {chosen.runs} --repeats {chosen.repeats}")
