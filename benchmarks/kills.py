"""A sweep killed again and again: ``python -m benchmarks.kills --kills 200``.

Each round starts the sweep in a process of its own and ends it with SIGKILL: at a random time after
it began to compute, or from within at a random call that makes a file, flushes it, renames it or
flushes the folder. After each kill the blocks on disk are checked; whenever a round ends before it
is killed, the folder is compared byte by byte with that of an uninterrupted run, and begun anew.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

SWEEP = """
title = "a sweep to be killed"
[base]
length = 3
vocab_size = 4
rollouts = 4
steps = 300
record = ["reward"]
[axes]
algorithm = ["sdpo", "reinforce"]
noise = [0.0, 0.1, 0.2]
learning_rate = [0.02, 0.2]
seed = { count = 256 }
"""

# What the child process runs: small blocks, so that there are many files to be caught in; it says
# when it begins to compute; and it kills itself at the call of the given number, or never.
CHILD = """
import os, signal, sys
import sdpo_jax
from sweeps.execute import threads
from sweeps.store import tasks
from sweeps.__main__ import main

fatal, out, file = int(sys.argv[1]), sys.argv[2], sys.argv[3]
tasks._MOST_RUNS = 64
calls = 0

def counted(name):
    original = getattr(os, name)
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)
    setattr(os, name, call)

for name in ("open", "fsync", "replace"):
    counted(name)

compute = threads.compute
def begun(*arguments, **options):
    print("computing", flush=True)
    return compute(*arguments, **options)
threads.compute = begun
status = main(["run", file, "--out", out])
print("calls", calls, flush=True)
sys.exit(status)
"""


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        kills: processes that were killed.
        during_writes: those that killed themselves in the middle of a write.
        finished: rounds that ended by themselves, each compared byte by byte.
        lost: blocks that were whole before a kill and were not after it.
        torn: files of a block's name that were not whole.
        different: files that differed from the uninterrupted run's, were missing, or too many.
        blocks: files of a whole sweep.
        kept: blocks that were there after each kill.
    """

    kills: int
    during_writes: int
    finished: int
    lost: int
    torn: int
    different: int
    blocks: int
    kept: list[int]


def torture(kills: int, seed: int = 0, folder: Path | None = None) -> Outcome:
    """Kill a sweep so many times, and resume it after each.

    Raises:
        RuntimeError: a process failed by itself; the message holds what it printed.
    """
    from sweeps.store import blocks

    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root = Path(place)
        file = root / "sweep.toml"
        file.write_text(SWEEP, encoding="utf-8")
        # Compiled once: the children then start in a second.
        environment = {
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(root / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }

        def start(fatal: int, out: Path) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, "-c", CHILD, str(fatal), str(out), str(file)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

        def wait_for_work(child: subprocess.Popen[str]) -> None:
            assert child.stdout is not None
            if child.stdout.readline() != "computing\n" and child.wait() != -signal.SIGKILL:
                raise RuntimeError(child.communicate()[1])

        def whole(out: Path) -> set[str]:
            found = set()
            for path in (out / "data").glob(f"[!.]*{blocks.SUFFIX}"):
                try:
                    blocks.read(path, path.stem)
                    found.add(path.name)
                except blocks.DamagedBlock:
                    outcome.torn += 1
            return found

        reference = root / "reference"
        warming = start(0, reference)
        if warming.communicate() and warming.returncode:
            raise RuntimeError("the sweep fails without being killed")
        shutil.rmtree(reference)
        child = start(0, reference)
        wait_for_work(child)
        begun = time.perf_counter()
        told = child.communicate()[0]
        duration = time.perf_counter() - begun
        if child.returncode:
            raise RuntimeError(told)
        calls = int(told.split()[-1])
        expected = contents(reference)
        outcome = Outcome(0, 0, 0, 0, 0, 0, len(list((reference / "data").iterdir())), [])
        out = root / "out"
        before: set[str] = set()
        while outcome.kills < kills:
            from_within = rng.random() < 0.5
            # Early ones, so that several kills meet one sweep.
            fatal = rng.randint(1, max(2, calls // 3)) if from_within else 0
            child = start(fatal, out)
            wait_for_work(child)
            if not from_within:
                time.sleep(rng.uniform(0, duration / 2))
                child.kill()
            error = child.communicate()[1]
            if child.returncode == -signal.SIGKILL:
                outcome.kills += 1
                outcome.during_writes += from_within
                found = whole(out)
                outcome.lost += len(before - found)
                outcome.kept.append(len(found))
                before = found
            elif child.returncode == 0:
                outcome.finished += 1
                outcome.different += differing(expected, contents(out))
                shutil.rmtree(out)
                before = set()
            else:
                raise RuntimeError(error)
        child = start(0, out)
        if child.communicate() and child.returncode:
            raise RuntimeError("the last resume failed")
        outcome.finished += 1
        outcome.different += differing(expected, contents(out))
    return outcome


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def differing(expected: dict[str, bytes], found: dict[str, bytes]) -> int:
    """Files that are missing, too many, or have other bytes."""
    names = expected.keys() | found.keys()
    return sum(expected.get(name) != found.get(name) for name in names)


@dataclass(frozen=True)
class Options:
    """Kill a sweep at random moments, and see that nothing is lost, doubled or torn."""

    kills: int = 200
    """How many processes to kill."""
    seed: int = 0
    """Of the moments."""
    add: bool = False
    """Add to what the file of the result holds, from other seeds."""
    json: Path | None = None
    """File of the result (default: results/benchmarks/kills.json)."""


def run(options: Options, line: str) -> None:
    """Torture, print and save."""
    from benchmarks.write import FOLDER, Output, table

    output = Output("kills", "A sweep killed and resumed", line, options.json)
    begun = time.perf_counter()
    outcome = torture(options.kills, options.seed)
    seconds = round(time.perf_counter() - begun)
    path = options.json or FOLDER / "kills.json"
    if options.add and path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        before = earlier["results"]
        for name in ("kills", "during_writes", "finished", "lost", "torn", "different"):
            setattr(outcome, name, getattr(outcome, name) + before[name])
        for kept, count in before["kept"].items():
            outcome.kept += [int(kept)] * count
        seconds += before["seconds"]
        output = replace(output, command=f"{earlier['command']}; {line}")
    rows = [
        ["kills", str(outcome.kills)],
        ["of which in the middle of a write", str(outcome.during_writes)],
        ["sweeps brought to their end and compared byte by byte", str(outcome.finished)],
        ["blocks of a sweep", str(outcome.blocks)],
        ["whole blocks lost by a kill", str(outcome.lost)],
        ["torn files under a block's name", str(outcome.torn)],
        ["files that differ, are missing or too many at the end", str(outcome.different)],
        ["seconds", str(seconds)],
    ]
    histogram = dict(sorted(Counter(outcome.kept).items()))
    data: dict[str, Any] = {**vars(outcome), "kept": histogram, "seconds": seconds}
    body = "Each killed process was followed by a resume.\n\n" + table(["", "count"], rows)
    output.save(body, data)


if __name__ == "__main__":
    chosen = tyro.cli(Options, prog="python -m benchmarks.kills")
    command = f"python -m benchmarks.kills --kills {chosen.kills} --seed {chosen.seed}"
    run(chosen, command + (" --add" if chosen.add else ""))
