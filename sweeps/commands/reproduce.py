"""``python -m sweeps reproduce``: the whole paper over many seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from sweeps.commands.arguments import Where, default
from sweeps.commands.studies import check_seeds, print_outcome, until_stopped

DEFAULT_SEEDS = 1000
QUICK_SEEDS = 16
DEFAULT_OUT = Path("results/paper")
QUICK_OUT = Path("results/quick")


@dataclass(frozen=True)
class Reproduce:
    """Run the whole paper over many seeds; write tables, figures, verdicts and a report.

    What an interrupted run had finished is kept: the same command goes on from there.
    """

    seeds: Annotated[int | None, default("N", "1000; 16 with --quick")] = None
    """Number of seeds."""
    out: Annotated[Path | None, default("DIR", "results/paper; results/quick with --quick")] = None
    """Folder of the results."""
    quick: bool = False
    """A first look: 16 seeds."""
    on: Where = None
    """Who computes: the address of a Dask scheduler, such as tcp://host:8786, or local:N for N
    processes on this machine."""


def run(command: Reproduce, line: str) -> int:
    """Run it, or go on with it."""
    from sweeps.report.display import PaperDisplay
    from sweeps.store import kinds

    check_seeds(command.seeds, command.quick)
    usual = QUICK_SEEDS if command.quick else DEFAULT_SEEDS
    seeds = usual if command.seeds is None else command.seeds
    out = command.out or (QUICK_OUT if command.quick else DEFAULT_OUT)

    def work(stop: Callable[[], bool], executor: Any) -> None:
        from sweeps.paper.reproduce import reproduce

        with PaperDisplay() as display:
            reproduce(out, seeds, display, line, stop, executor=executor)

    status = until_stopped(work, command.on)
    if status == 0:
        print_outcome(kinds.REPRODUCTION, out)
    return status
