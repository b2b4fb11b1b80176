"""A study killed at random and resumed: ``python -m benchmarks.studies --kills 5``.

The study is run once undisturbed. Then it is begun in another folder, ended with SIGKILL at random
times, and brought to its end by ``resume``, on a Dask cluster if asked for. Data sets, tables,
figures and verdicts of both are compared byte by byte; what says how long it took is not.
"""

from __future__ import annotations

import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import tyro

from benchmarks.kills import contents, differing

# The page shows times, the manifest holds them.
_TIMES = ("manifest.json", "page.json", "audit.html", "report.html", "in_context.html")


@dataclass(frozen=True)
class Options:
    """Kill a study at random moments, and see that nothing is lost or changed."""

    study: Literal["audit", "reproduce", "in_context"] = "audit"
    """Which; in its quick form."""
    kills: int = 5
    """How many times it is killed."""
    seed: int = 0
    """Of the moments."""
    on: str | None = None
    """Who computes after the last kill, as for `resume --on`."""
    json: Path | None = None
    """File of the result (default: results/benchmarks/studies.json)."""


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        undisturbed: seconds of the run that was not killed.
        kills: for each kill the seconds after which it came, the blocks that were there after it,
            and the parts that were finished.
        lost: whole blocks that were there after a kill and not after the next one, though the part
            that they belong to was not saved.
        files: that were compared.
        different: of those, how many differed, were missing or too many.
        seconds: of all runs that were killed and the last one.
    """

    undisturbed: float
    kills: list[tuple[float, int, int]]
    lost: int
    files: int
    different: int
    seconds: float


def torture(options: Options, folder: Path | None = None) -> Outcome:
    """Kill a study so many times, and resume it after each.

    Raises:
        RuntimeError: a process failed by itself; the message holds what it printed.
    """
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root = Path(place)
        # Compiled once, so that a run is mostly training.
        environment = {
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(root / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }

        def start(*arguments: str) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, "-m", "sweeps", *arguments],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )

        def to_its_end(*arguments: str) -> float:
            begun = time.perf_counter()
            child = start(*arguments)
            said = child.communicate()[1]
            if child.returncode:
                raise RuntimeError(said)
            return time.perf_counter() - begun

        out = root / "out"
        study = (options.study, "--quick", "--out")
        for name in ("warming", "reference"):
            undisturbed = to_its_end(*study, str(root / name))
        begun = time.perf_counter()
        outcome = Outcome(undisturbed, [], 0, 0, 0, 0.0)
        before: set[str] = set()
        saved: set[str] = set()
        while len(outcome.kills) < options.kills:
            # Short enough that several kills meet one study, long enough that some work is done.
            seconds = rng.uniform(0.1, 0.3) * undisturbed
            child = start(*study, str(out))
            time.sleep(seconds)
            child.kill()
            said = child.communicate()[1]
            if child.returncode == 0:
                raise RuntimeError(f"it ended within {seconds:.1f} s; allowed: fewer kills")
            if child.returncode != -signal.SIGKILL:
                raise RuntimeError(said)
            there, sets = _whole(out)
            # Blocks go when their part is saved.
            outcome.lost += 0 if sets > saved else len(before - there)
            outcome.kills.append((round(seconds, 1), len(there), len(sets)))
            before, saved = there, sets
        where = [] if options.on is None else ["--on", options.on]
        to_its_end("resume", str(out), *where)
        outcome.seconds = round(time.perf_counter() - begun, 1)
        expected, found = (_comparable(each) for each in (root / "reference", out))
        outcome.files, outcome.different = len(expected), differing(expected, found)
    return outcome


def _whole(out: Path) -> tuple[set[str], set[str]]:
    """The blocks that are there and whole, and the data sets that are."""
    from sweeps.store import blocks, datasets

    found = set()
    for path in (out / "data").rglob(f"[!.]*{blocks.SUFFIX}"):
        # A torn one counts as lost.
        try:
            blocks.read(path, path.stem)
        except blocks.DamagedBlock:
            continue
        found.add(path.name)
    sets = {path.stem for path in (out / "data").glob("[!.]*.nc")}
    return found, {name for name in sets if datasets.is_saved(out, name)}


def _comparable(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name not in _TIMES}


def run(options: Options, line: str) -> None:
    """Torture, print and save."""
    from benchmarks.write import Output, table

    output = Output("studies", "A study killed and resumed", line, options.json)
    outcome = torture(options)
    rows = [
        ["undisturbed, s", f"{outcome.undisturbed:.0f}"],
        ["kills", str(len(outcome.kills))],
        ["after so many seconds", ", ".join(f"{seconds:.0f}" for seconds, *_ in outcome.kills)],
        ["blocks of parts under way, after each", ", ".join(str(n) for _, n, _ in outcome.kills)],
        ["data sets saved, after each", ", ".join(str(n) for *_, n in outcome.kills)],
        ["whole blocks lost by a kill", str(outcome.lost)],
        ["files compared byte by byte", str(outcome.files)],
        ["of which differ, are missing or too many", str(outcome.different)],
        ["all runs that were killed and the last, s", f"{outcome.seconds:.0f}"],
    ]
    body = (
        f"`python -m sweeps {options.study} --quick`, killed at random and resumed"
        + (f", the last time with `--on {options.on}`" if options.on else "")
        + ".\n\n"
        + table(["", ""], rows)
    )
    output.save(body, {"options": asdict(options) | {"json": None}, **asdict(outcome)})


if __name__ == "__main__":
    chosen = tyro.cli(Options, prog="python -m benchmarks.studies")
    given = [f"--{name}={value}" for name, value in asdict(chosen).items()
             if name != "json" and value is not None]  # fmt: skip
    run(chosen, shlex.join(["python", "-m", "benchmarks.studies", *given]))
