"""``python -m sweeps posterior``: the claims over the posterior of the constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from sweeps.commands.arguments import Where, default
from sweeps.commands.studies import check_seeds, print_outcome, until_stopped


@dataclass(frozen=True)
class Posterior:
    """Judge the paper's claims over the posterior of the constants that it does not state.

    The reproduction is run at each of the most probable settings of `calibrate`. What an
    interrupted run had finished is kept: the same command goes on from there.
    """

    seeds: Annotated[int | None, default("N", "64; 16 with --quick")] = None
    """Seeds of each setting."""
    out: Annotated[
        Path | None, default("DIR", "results/posterior; results/posterior-quick with --quick")
    ] = None
    """Folder of the results."""
    calibration: Path = Path("results/calibration")
    """Folder that `calibrate` wrote."""
    quick: bool = False
    """A first look: 3 settings, 16 seeds."""
    on: Where = None
    """Who computes: the address of a Dask scheduler, such as tcp://host:8786, or local:N for N
    processes on this machine."""


def run(command: Posterior, line: str) -> int:
    """Run it, or go on with it."""
    from sweeps.report.display import PaperDisplay
    from sweeps.store import kinds

    check_seeds(command.seeds, command.quick)
    seeds = 16 if command.quick else 64 if command.seeds is None else command.seeds
    count = 3 if command.quick else None
    out = command.out or Path("results/posterior-quick" if command.quick else "results/posterior")

    def work(stop: Callable[[], bool], executor: Any) -> None:
        from sweeps.calibration import posterior

        with PaperDisplay() as display:
            posterior.study(
                *(out, command.calibration, seeds, display, line, stop, count),
                executor=executor,
            )

    status = until_stopped(work, command.on)
    if status == 0:
        print_outcome(kinds.POSTERIOR, out)
    return status
