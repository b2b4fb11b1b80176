"""What a user waits for: imports, and the whole reproduction with a cold and a warm cache."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.point import peak_mib
from benchmarks.write import Output, shown, spread, table

# What is started to be stopped: by title, what Python is given.
_SHORT = {
    "python, nothing imported": ["-c", ""],
    "import jax": ["-c", "import jax"],
    "import sdpo_jax": ["-c", "import sdpo_jax"],
    "python -m sweeps --help": ["-m", "sweeps", "--help"],
    "python -m benchmarks --help": ["-m", "benchmarks", "--help"],
}


def run(seeds: int, repeats: int, output: Output) -> None:
    """Time short commands, then the reproduction: once cold, ``repeats`` times warm."""
    short = {
        title: [timed(arguments)[0] for _ in range(repeats)] for title, arguments in _SHORT.items()
    }
    rows = [[f"`{title}`", shown(spread(taken), 2), ""] for title, taken in short.items()]
    results: dict[str, Any] = {"seconds": short, "reproduce": {"seeds": seeds}}
    with tempfile.TemporaryDirectory() as folder:
        cache = {"XDG_CACHE_HOME": str(Path(folder) / "cache")}
        for state, count in (("cold", 1), ("warm", repeats)):
            taken, peaks = [], []
            for turn in range(count):
                out = Path(folder) / f"{state}{turn}"
                arguments = ["-m", "sweeps", "reproduce", "--seeds", str(seeds), "--out", str(out)]
                seconds, peak = timed(arguments, cache)
                taken.append(seconds)
                peaks.append(peak)
            results["reproduce"][state] = {"seconds": taken, "peak_mib": max(peaks)}
            title = f"`make reproduce SEEDS={seeds}`, {state} cache"
            rows.append([title, shown(spread(taken), 1), f"{max(peaks):,.0f}"])
    body = (
        table(["command", "seconds", "peak memory (MiB)"], rows)
        + f"\nEach in a process of its own; median (range) of {repeats} (cold: once). The "
        "environment is set up before; *cold*: nothing of JAX's is cached, *warm*: the "
        "compiled programs are.\n"
    )
    output.save(body, results)


def timed(arguments: list[str], environment: dict[str, str] | None = None) -> tuple[float, float]:
    """Seconds and peak MiB of a Python process.

    Raises:
        RuntimeError: it failed; the message holds what it printed.
    """
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=printed,
            stderr=printed,
            env={**os.environ, **(environment or {})},
        )
        # Not `process.wait`: only `wait4` tells the memory of this one process.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            printed.seek(0)
            raise RuntimeError(f"{arguments}: {printed.read().decode(errors='replace')}")
    return seconds, peak_mib(usage)
