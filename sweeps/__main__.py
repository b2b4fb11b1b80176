"""The command line: ``python -m sweeps reproduce`` and ``python -m sweeps render DIR``."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from sdpo_jax import Progress
from sweeps import store
from sweeps.render import render, summary_lines
from sweeps.reproduce import reproduce

DEFAULT_SEEDS = 1000
QUICK_SEEDS = 16
DEFAULT_OUT = Path("results/paper")
QUICK_OUT = Path("results/quick")
AUDIT_SEEDS = 256
AUDIT_OUT = Path("results/audit")
AUDIT_QUICK_OUT = Path("results/audit-quick")


@dataclass(frozen=True)
class Reproduce:
    """Run the whole paper over many seeds; write tables, figures, verdicts and a report.

    What an interrupted run had finished is kept: the same command goes on from there.
    """

    seeds: int | None = None
    """Number of seeds (default: 1000; 16 with --quick)."""
    out: Path | None = None
    """Folder of the results (default: results/paper; results/quick with --quick)."""
    quick: bool = False
    """A first look: 16 seeds."""


@dataclass(frozen=True)
class Render:
    """Make tables, figures, verdicts and report again from saved results, without running."""

    directory: tyro.conf.Positional[Path]
    """Folder that `reproduce` wrote."""


@dataclass(frozen=True)
class Audit:
    """Every method at its own best, among those that are told the same: league, crossover, biases.

    What an interrupted run had finished is kept: the same command goes on from there.
    """

    seeds: int | None = None
    """Number of evaluation seeds (default: 256; 16 with --quick)."""
    out: Path | None = None
    """Folder of the results (default: results/audit; results/audit-quick with --quick)."""
    quick: bool = False
    """A first look: small problems, few contenders, 16 seeds."""


Command = (
    Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[Render, tyro.conf.subcommand("render")]
    | Annotated[Audit, tyro.conf.subcommand("audit")]
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit status is 0, 2 for bad input, 130 when interrupted."""
    given = sys.argv[1:] if arguments is None else arguments
    command = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="python -m sweeps",
        description="Sweeps of SDPO training runs.",
        args=given,
    )
    try:
        if isinstance(command, Render):
            render(command.directory)
            _print_outcome(command.directory)
        elif isinstance(command, Audit):
            _audit(command, shlex.join(["python", "-m", "sweeps", *given]))
        else:
            _reproduce(command, shlex.join(["python", "-m", "sweeps", *given]))
    except (ValueError, store.MissingResults) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from what is saved", file=sys.stderr)
        return 130
    return 0


def _reproduce(command: Reproduce, line: str) -> None:
    if command.quick and command.seeds is not None:
        raise ValueError(f"--seeds: {command.seeds} beside --quick; allowed: one of the two")
    seeds = QUICK_SEEDS if command.quick else command.seeds
    out = command.out or (QUICK_OUT if command.quick else DEFAULT_OUT)
    with _Display(Console(stderr=True)) as display:
        reproduce(out, DEFAULT_SEEDS if seeds is None else seeds, display, line)
    _print_outcome(out)


def _audit(command: Audit, line: str) -> None:
    # Imported here: no other command needs it.
    from sweeps.audit import page, plan
    from sweeps.audit.run import audit

    if command.quick and command.seeds is not None:
        raise ValueError(f"--seeds: {command.seeds} beside --quick; allowed: one of the two")
    chosen = plan.quick() if command.quick else plan.full(command.seeds or AUDIT_SEEDS)
    out = command.out or (AUDIT_QUICK_OUT if command.quick else AUDIT_OUT)
    console = Console(stderr=True)
    audit(out, chosen, line, lambda text: console.print(text, highlight=False))
    for text in page.summary_lines(out):
        print(text)
    print(f"Page: {out / page.PAGE}")


def _print_outcome(directory: Path) -> None:
    for line in summary_lines(directory):
        print(line)
    print(f"Report: {directory / 'report.html'}")


class _Display:
    """A live bar on a terminal; elsewhere one plain line for each experiment."""

    def __init__(self, console: Console):
        self._console = console
        self._live = console.is_terminal
        self._begun = time.perf_counter()
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("runs, {task.fields[doing]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not self._live,
        )
        self._task = self._bar.add_task("", doing="", total=None)
        self._before = 0
        self._title = ""

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start(self, name: str, title: str, runs: int) -> None:
        self._title = title
        self._before = 0
        self._runs = runs
        self._bar.reset(self._task, total=runs, description=title, doing="starting")

    def advance(self, progress: Progress) -> None:
        if progress.kind == "compile":
            self._bar.update(self._task, doing=f"compiled {progress.label}")
            return
        # An experiment of two grids counts on where the first one ended.
        if progress.done < self._last:
            self._before += self._last
        self._last = progress.done
        self._bar.update(self._task, completed=self._before + progress.done, doing=progress.label)

    def finish(self, name: str, seconds: float, reused: bool) -> None:
        took = "saved earlier" if reused else f"{seconds:.1f} s"
        self._bar.update(self._task, completed=self._runs, doing="saved")
        self._console.print(f"{self._title}: {self._runs:,} runs, {took}", highlight=False)
        self._last = 0

    _last = 0
    _runs = 0


if __name__ == "__main__":
    sys.exit(main())
