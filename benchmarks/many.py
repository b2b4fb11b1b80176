"""A sweep of many processes, killed again and again: ``python -m benchmarks.many``.

First three ``work`` processes on one folder, then a Dask scheduler and four workers, begun with
Dask's own commands. Random processes are ended with SIGKILL and begun anew: workers, the client,
the scheduler. Whenever a sweep is brought to its end, its folder is compared byte by byte with that
of one process that nobody disturbed, and begun anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.kills import contents, differing

SWEEP = """
title = "a sweep to be killed"
[base]
length = 3
vocab_size = 4
rollouts = 32
steps = 2000
[axes]
algorithm = ["sdpo", "reinforce"]
noise = [0.0, 0.1, 0.2]
learning_rate = [0.02, 0.2]
seed = { count = 4096 }
"""
_WORKERS = {"work": 3, "dask": 4}
# Seconds from a block that was written to the next kill, at most; and those to wait for one.
_PAUSE = 1.5
_PATIENCE = 30.0
# Seconds after which a process that should have ended is taken for stuck.
_STUCK = 300


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        kills: by kind of process, how many were killed.
        finished: sweeps brought to their end, each compared byte by byte.
        resumed: of those, the ones that one process alone had to bring there in the end.
        amid: of the ``work`` processes that were killed, those that had blocks under way.
        lost: blocks that were whole before a kill and not there after it.
        torn: files of a block's name that were not whole.
        different: files that differed from the undisturbed run's, were missing, or too many.
        blocks: files of a whole sweep.
        seconds: in all.
    """

    kills: dict[str, int]
    finished: int = 0
    resumed: int = 0
    amid: int = 0
    lost: int = 0
    torn: int = 0
    different: int = 0
    blocks: int = 0
    seconds: float = 0.0


class Torture:
    """One sweep, its processes, and who is killed when."""

    def __init__(self, root: Path, seed: int, sweep: str = SWEEP):
        self.root = root
        self.rng = random.Random(seed)
        self.file = root / "sweep.toml"
        self.file.write_text(sweep, encoding="utf-8")
        # Compiled once: the processes then start in seconds.
        self.environment = {
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(root / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.outcome = Outcome({})
        self.sweeps("run", self.file, "--out", root / "reference")
        self.expected = contents(root / "reference")
        self.outcome.blocks = sum(name.endswith(".block") for name in self.expected)
        self.out = root / "out"

    def sweeps(self, *arguments: Any) -> None:
        """A command, to its end."""
        line = [sys.executable, "-m", "sweeps", *map(str, arguments)]
        done = subprocess.run(line, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)

    def start(self, name: str, *arguments: Any) -> None:
        """A process that goes on beside this one."""
        with open(self.root / f"{name}.log", "ab") as log:
            self.children[name] = subprocess.Popen(
                [sys.executable, "-m", *map(str, arguments)],
                env=self.environment,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, name: str) -> None:
        """End a process; see what it left."""
        before = self.whole()
        self.children[name].send_signal(signal.SIGKILL)
        self.children[name].wait()
        kind = name.rstrip("0123456789")
        self.outcome.kills[kind] = self.outcome.kills.get(kind, 0) + 1
        self.outcome.lost += len(before - self.whole())

    def whole(self) -> set[str]:
        """The blocks that are there."""
        from sweeps.store import blocks

        found = set()
        for path in (self.out / "data").glob(f"[!.]*{blocks.SUFFIX}"):
            try:
                blocks.read(path, path.stem)
                found.add(path.name)
            except blocks.DamagedBlock:
                self.outcome.torn += 1
        return found

    def compare(self, alone: bool) -> None:
        """A sweep is at its end: compare it, and make room for the next."""
        if alone:
            self.outcome.resumed += 1
            self.sweeps("resume", self.out)
        self.outcome.finished += 1
        self.outcome.different += differing(self.expected, contents(self.out))
        shutil.rmtree(self.out)

    def end(self) -> None:
        """No process is left."""
        for child in self.children.values():
            child.kill()
            child.wait()
        self.children.clear()

    def pause(self, names: list[str]) -> None:
        """Until one more block is written, as long as processes run, and a moment longer.

        Kills that came at any time would mostly hit processes that begin.
        """
        before, end = self.written(), time.monotonic() + _PATIENCE
        while (
            self.written() <= before
            and time.monotonic() < end
            and any(self.children[name].poll() is None for name in names)
        ):
            time.sleep(0.05)
        time.sleep(self.rng.uniform(0, _PAUSE))

    def written(self) -> int:
        """How many blocks are there."""
        return sum(1 for _ in (self.out / "data").glob("[!.]*.block"))

    def at_work(self, name: str) -> bool:
        """Whether a ``work`` process has blocks under way, by its claims."""
        return any(
            f"-{self.children[name].pid}-" in path.read_text(errors="replace")
            for path in (self.out / "data" / "claims").glob("[!.]*")
            if path.is_file()
        )

    def work(self, kills: int) -> None:
        """Processes that take blocks which nobody has."""
        done = 0
        while done < kills:
            self.sweeps("prepare", self.file, "--out", self.out)
            names = [f"work{number}" for number in range(_WORKERS["work"])]
            for name in names:
                self.start(name, "sweeps", "work", self.out)
            while done < kills and any(self.children[name].poll() is None for name in names):
                self.pause(names)
                running = [name for name in names if self.children[name].poll() is None]
                if running:
                    name = self.rng.choice(running)
                    with contextlib.suppress(FileNotFoundError):
                        self.outcome.amid += self.at_work(name)
                    self.kill(name)
                    done += 1
                    self.start(name, "sweeps", "work", self.out)
            for name in names:
                self.children[name].wait(_STUCK)
            # Blocks that three processes ended on are left alone: one process tries them again.
            alone = any(self.children[name].returncode for name in names)
            self.compare(alone)
        self.end()

    def dask(self, workers: int, clients: int, schedulers: int) -> None:
        """A cluster."""
        plan = ["worker"] * workers + ["client"] * clients + ["scheduler"] * schedulers
        self.rng.shuffle(plan)
        while plan:
            self.cluster()
            self.start(
                "client", "sweeps", "run", self.file, "--out", self.out, "--on", self.address
            )
            while plan and self.children["client"].poll() is None:
                self.pause(["client"])
                kind = plan[-1]
                if kind == "worker":
                    number = self.rng.randrange(_WORKERS["dask"])
                    self.kill(f"worker{number}")
                    self.worker(number)
                elif self.children["client"].poll() is None:
                    self.kill(kind)
                plan.pop()
                if kind != "worker":
                    break
            if self.children["client"].wait(_STUCK) == 0:
                self.compare(alone=False)
            self.end()
        if self.out.exists():
            self.compare(alone=True)

    def cluster(self) -> None:
        """A scheduler and its workers."""
        place = self.root / "scheduler.json"
        place.unlink(missing_ok=True)
        self.start("scheduler", "dask", "scheduler", "--port", "0", "--no-dashboard", "--host",
                   "127.0.0.1", "--scheduler-file", place)  # fmt: skip
        eventually(lambda: address_in(place) is not None)
        self.address = address_in(place)
        for number in range(_WORKERS["dask"]):
            self.worker(number)

    def worker(self, number: int) -> None:
        """One of the cluster's processes."""
        place = self.root / "scheduler.json"
        self.start(f"worker{number}", "dask", "worker", "--scheduler-file", place, "--nthreads",
                   "1", "--no-dashboard", "--no-nanny")  # fmt: skip


def address_in(place: Path) -> str | None:
    """The address in a scheduler's file; ``None`` until it is written."""
    try:
        return json.loads(place.read_text(encoding="utf-8"))["address"]
    except (FileNotFoundError, ValueError):
        return None


def eventually(true: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + _STUCK
    while not true():
        if time.monotonic() > end:
            raise RuntimeError("a process is stuck")
        time.sleep(0.05)


def torture(
    work: int, workers: int, clients: int, schedulers: int, seed: int = 0, sweep: str = SWEEP
) -> Outcome:
    """Kill so many processes of each kind.

    Raises:
        RuntimeError: a process failed by itself; the message holds what it printed.
    """
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        run = Torture(Path(place), seed, sweep)
        try:
            if work:
                run.work(work)
            if workers + clients + schedulers:
                run.dask(workers, clients, schedulers)
        finally:
            run.end()
        run.outcome.seconds = round(time.perf_counter() - begun)
        return run.outcome


@dataclass(frozen=True)
class Options:
    """Kill the processes of a sweep at random moments, and see that nothing is lost."""

    work: int = 50
    """How many `work` processes to kill."""
    workers: int = 100
    """How many of Dask's workers."""
    clients: int = 10
    """How many of its clients."""
    schedulers: int = 5
    """How many of its schedulers."""
    seed: int = 0
    """Of the moments."""
    json: Path | None = None
    """File of the result (default: results/benchmarks/many.json)."""


def run(options: Options, line: str) -> None:
    """Torture, print and save."""
    from benchmarks.write import Output, table

    output = Output("many", "A sweep of many processes, killed and resumed", line, options.json)
    found = torture(
        options.work, options.workers, options.clients, options.schedulers, options.seed
    )
    named = {"work": "`work` processes", "worker": "Dask workers", "client": "Dask clients",
             "scheduler": "Dask schedulers"}  # fmt: skip
    rows = [[f"{named[kind]} killed", str(count)] for kind, count in sorted(found.kills.items())]
    rows += [
        ["sweeps brought to their end and compared byte by byte", str(found.finished)],
        ["of which one process alone brought to the end", str(found.resumed)],
        ["blocks of a sweep", str(found.blocks)],
        ["`work` processes killed amid a block", str(found.amid)],
        ["whole blocks lost by a kill", str(found.lost)],
        ["torn files under a block's name", str(found.torn)],
        ["files that differ, are missing or too many at the end", str(found.different)],
        ["seconds", str(found.seconds)],
    ]
    text = (
        "Three `work` processes on one folder, then a Dask scheduler with four workers; each "
        "killed process was followed by another.\n\n"
    )
    output.save(text + table(["", "count"], rows), asdict(found))


if __name__ == "__main__":
    chosen = tyro.cli(Options, prog="python -m benchmarks.many")
    given = asdict(chosen)
    words = [f"--{name} {given[name]}" for name in ("work", "workers", "clients", "schedulers")]
    run(chosen, f"python -m benchmarks.many {' '.join(words)} --seed {chosen.seed}")
