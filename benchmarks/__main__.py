"""The command line: ``python -m benchmarks`` with the name of a benchmark."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sweeps.system.pipes import until_unread


@dataclass(frozen=True)
class Throughput:
    """Training runs a second of each algorithm and oracle; trace, lower and compile time;
    memory."""

    algorithm: str | None = None
    """Only this algorithm, one of the library's (default: the paper's four)."""
    oracle: str | None = None
    """Only this feedback type (default: the paper's four)."""
    runs: int = 8192
    """Training runs of a repeat; an eighth of them for a critique."""
    repeats: int = 5
    """Repeats of which the median is taken."""
    block_width: int | None = None
    """Runs of a block (default: the engine's own choice)."""
    json: Path | None = None
    """File for everything that was measured; a table and a figure are written beside it
    (default: results/benchmarks/throughput.json)."""


@dataclass(frozen=True)
class Peers:
    """The same work by NumPy, Numba, PyTorch and plain vmapped JAX, timed in turns with ours."""

    repeats: int = 5
    """Turns of which the median is taken."""
    seconds: float = 1.5
    """What one timing takes, about."""
    json: Path | None = None
    """File for everything that was measured; a table and a figure are written beside it
    (default: results/benchmarks/peers.json)."""


@dataclass(frozen=True)
class Scaling:
    """Speed, memory and compile time against runs, sizes, block width, algorithms and devices."""

    algorithm: str = "sdpo"
    """The algorithm."""
    oracle: str = "continuous"
    """The feedback type."""
    only: tuple[str, ...] = ()
    """Only these of: runs, steps, length, vocab_size, rollouts, block_width, algorithms,
    devices."""
    runs: int = 1_000_000
    """The largest number of training runs."""
    repeats: int = 3
    """Repeats of which the median is taken."""
    json: Path | None = None
    """File for everything that was measured; a table and a figure are written beside it
    (default: results/benchmarks/scaling.json)."""


@dataclass(frozen=True)
class Startup:
    """Imports, and the whole reproduction with a cold and a warm compilation cache."""

    seeds: int = 1000
    """Seeds of the reproduction."""
    repeats: int = 3
    """Repeats of which the median is taken (cold: once)."""
    json: Path | None = None
    """File for everything that was measured; a table is written beside it
    (default: results/benchmarks/startup.json)."""


@dataclass(frozen=True)
class Breakdown:
    """Where a step's time goes: each part alone, in a loop of its own on one core."""

    repeats: int = 15
    """Repeats of which the median is taken."""
    json: Path | None = None
    """File for everything that was measured; a table is written beside it
    (default: results/benchmarks/breakdown.json)."""


@dataclass(frozen=True)
class Losses:
    """Memory and time of the losses for language models, beside the obvious and TRL's."""

    sizes: tuple[int, int, int] = (4, 512, 32_768)
    """Sequences, positions and tokens of the vocabulary."""
    chunk: int = 4
    """Positions at a time."""
    repeats: int = 5
    """Turns of which the median is taken."""
    only: tuple[str, ...] = ()
    """Only these of: forward_kl, reverse_kl, jsd, top_k, token_log_probs, entropy."""
    trl_python: Path | None = None
    """Python of an environment that has TRL (default: this one)."""
    json: Path | None = None
    """File for everything that was measured; a table is written beside it
    (default: results/benchmarks/losses.json)."""


@dataclass(frozen=True)
class Versus:
    """This version against an older one, timed in turns: first calls and training runs a second."""

    commit: Annotated[str, tyro.conf.Positional] = "8de4b7d"
    """The older version, a commit of this repository."""
    repeats: int = 7
    """Turns of which the median is taken."""
    only: tuple[str, ...] = ()
    """Only these of: paper, divergences, large, large_divergences."""
    json: Path | None = None
    """File for everything that was measured; a table is written beside it
    (default: results/benchmarks/versus.json)."""


Command = (
    Annotated[Throughput, tyro.conf.subcommand("throughput")]
    | Annotated[Peers, tyro.conf.subcommand("peers")]
    | Annotated[Scaling, tyro.conf.subcommand("scaling")]
    | Annotated[Startup, tyro.conf.subcommand("startup")]
    | Annotated[Breakdown, tyro.conf.subcommand("breakdown")]
    | Annotated[Losses, tyro.conf.subcommand("losses")]
    | Annotated[Versus, tyro.conf.subcommand("versus")]
)


@until_unread
def main(arguments: list[str] | None = None) -> int:
    """Run a benchmark; the exit status is 0, or 2 for bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    command = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="python -m benchmarks",
        description="How fast, against what, and how it scales.",
        args=given,
    )
    try:
        _run(command, shlex.join(["python", "-m", "benchmarks", *given]))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(
    command: Throughput | Peers | Scaling | Startup | Breakdown | Losses | Versus, line: str
) -> None:
    if command.repeats < 1:
        raise ValueError(f"--repeats: {command.repeats}; allowed: 1 or more")
    # Imported when needed, so that --help is there at once.
    from benchmarks.write import Output

    if isinstance(command, Throughput):
        from benchmarks import throughput

        if command.runs < 1:
            raise ValueError(f"--runs: {command.runs}; allowed: 1 or more")
        throughput.run(
            command.algorithm,
            command.oracle,
            command.runs,
            command.repeats,
            command.block_width,
            Output("throughput", "Throughput", line, command.json),
        )
    elif isinstance(command, Peers):
        from benchmarks import compare
        from sweeps.system import cache

        if command.seconds <= 0:
            raise ValueError(f"--seconds: {command.seconds}; allowed: above 0")
        cache.enable()
        output = Output("peers", "Against everything else", line, command.json)
        compare.run(command.repeats, command.seconds, output)
    elif isinstance(command, Scaling):
        from benchmarks import scaling

        output = Output("scaling", "Scaling", line, command.json)
        scaling.run(
            command.algorithm, command.oracle, command.only, command.runs, command.repeats, output
        )
    elif isinstance(command, Breakdown):
        from benchmarks import breakdown

        output = Output("breakdown", "Where a step's time goes", line, command.json)
        breakdown.run(command.repeats, output)
    elif isinstance(command, Losses):
        from benchmarks import losses

        output = Output("losses", "Losses for language models", line, command.json)
        losses.run(
            command.sizes,
            command.chunk,
            command.repeats,
            command.trl_python,
            command.only,
            output,
        )
    elif isinstance(command, Versus):
        from benchmarks import versus

        output = Output("versus", "This version and an older one", line, command.json)
        versus.run(command.commit, command.only, command.repeats, output)
    else:
        from benchmarks import startup

        output = Output("startup", "Start-up", line, command.json)
        startup.run(command.seeds, command.repeats, output)


if __name__ == "__main__":
    sys.exit(main())
