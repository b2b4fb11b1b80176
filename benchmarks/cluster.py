"""What a Dask cluster costs, and how far it goes: ``python -m benchmarks.cluster``.

A sweep of 100,000 runs at the paper's sizes is trained by threads of one process and by the worker
processes of a cluster on this machine, in turns; the time is that of the work, with every process
begun and every program compiled. Then a sweep of a million blocks is planned and handed out to
workers that are simulated, and the memory of the process that does it is measured: each block holds
one run, as if a run took as long as a block does.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

SWEEP = """
title = "{runs:,} runs"
[axes]
algorithm = ["sdpo", "reinforce"]
noise = [0.0, 0.1]
seed = {{ count = {seeds} }}
"""
_MANY = """
[base]
length = 2
vocab_size = 3
rollouts = 2
steps = 2
final_window = 1
algorithm = "reinforce"
[axes]
seed = {{ count = {blocks} }}
"""


@dataclass(frozen=True)
class Options:
    """Overhead of a Dask cluster over threads, speed by workers, memory by blocks."""

    runs: int = 100_000
    """Training runs."""
    repeats: int = 3
    """Turns of which the least is taken: what disturbs a measurement only adds to it."""
    workers: tuple[int, ...] = (1, 2, 4)
    """Worker processes of one core; those that the machine does not have are left out."""
    blocks: int = 1_000_000
    """Blocks that are planned and handed out; 0 for none."""
    json: Path | None = None
    """File of the result (default: results/benchmarks/cluster.json)."""


def times(runs: int, repeats: int, workers: tuple[int, ...]) -> dict[str, Any]:
    """Seconds of the work of each way and each turn: threads, and so many worker processes."""
    from sweeps.execute import running
    from sweeps.execute.cluster import Cluster, connected
    from sweeps.file import sweepfile
    from sweeps.system import cache

    cache.enable()
    sweep = sweepfile.parse(SWEEP.format(runs=runs, seeds=runs // 4), "cluster")
    warm = sweepfile.parse(SWEEP.format(runs=256 * 4, seeds=256), "cluster")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, list[float]] = {}
    blocks = 0
    ways = {"threads": None} | {f"{n} workers": n for n in workers if n <= (cores or 1)}
    for _ in range(repeats):
        for name, count in ways.items():
            with tempfile.TemporaryDirectory() as place:

                def timed(executor: Cluster | None, place: str = place, name: str = name) -> None:
                    nonlocal blocks
                    if executor is None:
                        running.run(Path(place) / "warm", warm)
                    else:
                        _warmed(executor.client, Path(place), warm)
                    begun = time.perf_counter()
                    made = running.run(Path(place) / "out", sweep, executor=executor)
                    found.setdefault(name, []).append(time.perf_counter() - begun)
                    blocks = len(made.blocks.tasks)

                if count is None:
                    timed(None)
                else:
                    with connected(f"local:{count}") as executor:
                        timed(executor)
    return {"cores": cores, "blocks": blocks, "seconds": found}


def _warmed(client: Any, place: Path, warm: Any) -> None:
    """Have every worker compute a folder of its own, and so compile both programs."""
    from sweeps.execute import running, worker
    from sweeps.store.folder import Folder

    for number, address in enumerate(client.scheduler_info()["workers"]):
        running.prepare(place / f"warm{number}", warm)
        folder = Folder.open(place / f"warm{number}")
        given = (str(folder.path), worker.name_of(folder.manifest), list(folder.blocks.by_id))
        client.submit(worker.compute, *given, workers=[address], pure=False).result()


class _Simulated:
    """A client whose cluster has so many threads and does every task at once."""

    status = "running"
    asynchronous = False

    def __init__(self, threads: int = 64):
        self.threads = threads
        self.submitted = 0

    def nthreads(self) -> dict[str, int]:
        return {f"worker-{number}": 1 for number in range(self.threads)}

    def submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        self.submitted += 1
        return _Done()


class _Done:
    status = "finished"

    def done(self) -> bool:
        return True

    def result(self) -> float:
        return 0.0

    def cancel(self) -> None:
        pass


def handed_out(count: int) -> dict[str, Any]:
    """Plan so many blocks and hand them out to simulated workers; this process's memory."""
    import distributed

    from sweeps.execute import running, worker
    from sweeps.execute.cluster import Cluster
    from sweeps.file import sweepfile
    from sweeps.store import folder, tasks
    from sweeps.system.interrupts import Control

    tasks.block_runs = lambda program, plan: 1
    distributed.wait = lambda *_, **__: None
    before = _largest()
    begun = time.perf_counter()
    sweep = sweepfile.parse(_MANY.format(blocks=count), "many")
    client = _Simulated()
    with tempfile.TemporaryDirectory() as place:
        running.prepare(Path(place) / "out", sweep)
        cluster = folder.Folder.open(Path(place) / "out")
        survey = cluster.blocks.survey()
        planned = time.perf_counter() - begun
        calls = worker.calls(cluster, survey.missing)
        Cluster(client).compute(calls, cluster.runs, Control())
    return {
        "blocks": len(cluster.blocks.tasks),
        "submitted": client.submitted,
        "plan": planned,
        "seconds": time.perf_counter() - begun,
        "imports": before,
        "bytes": _largest(),
    }


def _largest() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def apart(count: int) -> dict[str, Any]:
    """The same in a process of its own, whose memory is nobody else's."""
    import json

    code = (
        "import json; from benchmarks.cluster import handed_out; "
        f"print(json.dumps(handed_out({count})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def run(options: Options, line: str) -> None:
    """Measure, print and save."""
    from benchmarks.write import Output, table

    output = Output("cluster", "What a Dask cluster costs", line, options.json)
    body, found = "", dict[str, Any]()
    if options.repeats:
        found["times"] = measured = times(options.runs, options.repeats, options.workers)
        least = {name: min(seconds) for name, seconds in measured["seconds"].items()}
        one = least.get("1 workers")
        rows = [
            [
                name,
                f"{seconds:.2f}",
                f"{seconds / least['threads'] - 1:+.1%}",
                "" if one is None or name == "threads" else f"{one / seconds:.2f}",
            ]
            for name, seconds in least.items()
        ]
        body += (
            f"{options.runs:,} runs in {measured['blocks']} blocks on {measured['cores']} cores; "
            f"least of {options.repeats}.\n\n"
            + table(["", "s", "against threads", "times as fast as 1 worker"], rows)
            + "\n"
        )
    if options.blocks:
        found["handed_out"] = many = apart(options.blocks)
        rows = [
            ["blocks", f"{many['blocks']:,}"],
            ["handed out", f"{many['submitted']:,}"],
            ["planned and looked for on the disk, s", f"{many['plan']:.0f}"],
            ["all of it, s", f"{many['seconds']:.0f}"],
            ["most memory, GB", f"{many['bytes'] / 1e9:.2f}"],
            ["of which before it began, GB", f"{many['imports'] / 1e9:.2f}"],
        ]
        body += "Many blocks, each of one run, handed out to 64 simulated workers:\n\n"
        body += table(["", ""], rows)
    output.save(body, {"options": asdict(options) | {"json": None}, **found})


if __name__ == "__main__":
    chosen = tyro.cli(Options, prog="python -m benchmarks.cluster")
    run(chosen, f"python -m benchmarks.cluster --runs {chosen.runs} --repeats {chosen.repeats}")
