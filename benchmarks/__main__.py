"""The command line: ``python -m benchmarks throughput``, ``peers`` and ``scaling``."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks import compare, scaling, throughput


@dataclass(frozen=True)
class Throughput:
    """Training runs a second of each method and oracle; trace, lower and compile time; memory."""

    method: str | None = None
    """Only this method."""
    oracle: str | None = None
    """Only this feedback type."""
    runs: int = 8192
    """Training runs of a repeat."""
    repeats: int = 5
    """Repeats of which the median is taken."""
    json: Path | None = None
    """File for everything that was measured (default: results/benchmarks/throughput.json)."""


@dataclass(frozen=True)
class Peers:
    """The same work by NumPy, Numba, PyTorch and plain vmapped JAX, timed in turns with ours."""

    repeats: int = 5
    """Turns of which the median is taken."""
    json: Path | None = None
    """File for everything that was measured (default: results/benchmarks/peers.json)."""


@dataclass(frozen=True)
class Scaling:
    """Speed, memory and compile time against runs, sizes, methods and devices."""

    runs: int = 1_000_000
    """The largest number of training runs."""
    repeats: int = 3
    """Repeats of which the median is taken."""
    json: Path | None = None
    """File for everything that was measured (default: results/benchmarks/scaling.json)."""


Command = (
    Annotated[Throughput, tyro.conf.subcommand("throughput")]
    | Annotated[Peers, tyro.conf.subcommand("peers")]
    | Annotated[Scaling, tyro.conf.subcommand("scaling")]
)


def main(arguments: list[str] | None = None) -> int:
    """Run a benchmark; the exit status is 0, or 2 for bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    command = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="python -m benchmarks",
        description="How fast, against what, and how it scales.",
        args=given,
    )
    line = shlex.join(["python", "-m", "benchmarks", *given])
    try:
        if isinstance(command, Throughput):
            throughput.run(
                command.method, command.oracle, command.runs, command.repeats, command.json, line
            )
        elif isinstance(command, Peers):
            compare.run(command.repeats, command.json, line)
        else:
            scaling.run(command.runs, command.repeats, command.json, line)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
