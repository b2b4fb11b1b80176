"""This version against an older one, case by case, timed in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.write import Output, shown, spread, table

_HERE = Path(__file__).resolve().parent.parent
_STARTS = 3


@dataclass(frozen=True)
class Case:
    """What is trained, and how many runs of it a turn times."""

    algorithm: str
    oracle: str
    runs: int
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """For a table."""
        sizes = ", ".join(f"{name} {value}" for name, value in self.sizes.items())
        return f"{self.algorithm}, {self.oracle}" + f" ({sizes})" * bool(sizes)


_LARGE = {"length": 48, "vocab_size": 128, "steps": 30}
CASES = {
    "paper": (
        Case("sdpo", "continuous", 8192),
        Case("reinforce", "continuous", 8192),
        Case("sdpo", "critique", 1024),
    ),
    "divergences": tuple(
        Case(name, "continuous", 1024)
        for name in ("sdpo_reverse", "sdpo_jsd", "sdpo_jsd_ema_top_k")
    ),
    "large": (
        Case("sdpo", "continuous", 64, _LARGE),
        Case("reinforce", "continuous", 64, _LARGE),
    ),
    "large_divergences": (Case("sdpo_jsd_ema_top_k", "continuous", 64, _LARGE),),
}


class Side:
    """A process with one version of the library and one case."""

    def __init__(self, folder: Path, case: Case):
        # Compiled anew, whatever an earlier process left in a cache.
        environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "JAX_ENABLE_COMPILATION_CACHE": "0",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_HERE / "benchmarks" / "side.py"), json.dumps(asdict(case))],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.start = self._answer()

    def train(self, runs: int) -> dict[str, float]:
        """Train so many: the seconds that it took, and their mean reward."""
        assert self._process.stdin is not None
        print(runs, file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args}: ended with {self._process.wait()}")
        return json.loads(line)


def run(commit: str, only: tuple[str, ...], repeats: int, output: Output) -> None:
    """Measure the cases of some groups, all by default.

    Raises:
        ValueError: a group that is none, or a commit that is none of this repository.
    """
    for name in only:
        if name not in CASES:
            raise ValueError(f"--only: {name!r}; allowed: {', '.join(CASES)}")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        older = Path(folder)
        _check_out(commit, older)
        for group in only or CASES:
            for case in CASES[group]:
                results.append(asdict(case) | {"group": group} | _measured(case, older, repeats))
                print(_rows(results)[-1], file=sys.stderr, flush=True)
    header = [
        "case",
        "first call, then (s)",
        "here (s)",
        "compiled, then (s)",
        "here (s)",
        "runs/s, then",
        "here",
        "here / then",
        "reward, then",
        "here",
    ]
    body = (
        table(header, _rows(results)) + f"\n*Then* is commit {commit}. Each case in two processes, "
        f"one of each version, that were started {_STARTS} times each in turns with nothing in a "
        f"cache (first call: of one block, with all that it compiles; median), and train in "
        f"turns: median (range) of {repeats}; *here / then* is the median (range) of the quotients "
        "of neighbours. The rewards are means over the same seeds.\n"
    )
    output.save(body, results)


def _measured(case: Case, older: Path, repeats: int) -> dict[str, Any]:
    places = {"then": older, "here": _HERE}
    starts: dict[str, list[dict[str, float]]] = {name: [] for name in places}
    for turn in range(_STARTS):
        with ExitStack() as stack:
            sides = {}
            for name, folder in places.items():
                sides[name] = Side(folder, case)
                stack.callback(sides[name].close)
                starts[name].append(sides[name].start)
            if turn < _STARTS - 1:
                continue
            trained: dict[str, list[dict[str, float]]] = {name: [] for name in places}
            for number in range(repeats):
                # Neither always goes first.
                for name in sorted(places, reverse=bool(number % 2)):
                    trained[name].append(sides[name].train(case.runs))
            return {
                "reward": {name: trained[name][0]["reward"] for name in places},
                "seconds": {name: [each["seconds"] for each in trained[name]] for name in places},
                "first": {name: [each["first"] for each in starts[name]] for name in places},
                "compile": {name: [each["compile"] for each in starts[name]] for name in places},
            }
    raise AssertionError("no turn is the last")


def _rows(results: list[dict[str, Any]]) -> list[list[str]]:
    rows = []
    for each in results:
        rates = {
            name: [each["runs"] / seconds for seconds in taken]
            for name, taken in each["seconds"].items()
        }
        quotients = [here / then for then, here in zip(rates["then"], rates["here"], strict=True)]
        title = Case(each["algorithm"], each["oracle"], each["runs"], each["sizes"]).title
        rows.append(
            [
                title,
                *(
                    f"{spread(each[part][name])['median']:.2f}"
                    for part in ("first", "compile")
                    for name in ("then", "here")
                ),
                *(shown(spread(rates[name])) for name in ("then", "here")),
                shown(spread(quotients), 2),
                *(f"{each['reward'][name]:.4f}" for name in ("then", "here")),
            ]
        )
    return rows


def _check_out(commit: str, folder: Path) -> None:
    archive = subprocess.run(
        ["git", "archive", commit, "sdpo_jax"], cwd=_HERE, capture_output=True, check=False
    )
    if archive.returncode:
        raise ValueError(f"COMMIT: {commit!r}; allowed: a commit of this repository")
    with tempfile.TemporaryFile() as file:
        file.write(archive.stdout)
        file.seek(0)
        with tarfile.open(fileobj=file) as held:
            held.extractall(folder, filter="data")
