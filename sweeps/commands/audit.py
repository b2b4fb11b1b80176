"""``python -m sweeps audit``: every algorithm at its own best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from sweeps.commands.arguments import default
from sweeps.commands.studies import check_seeds, print_outcome, until_stopped

DEFAULT_SEEDS = 256
DEFAULT_OUT = Path("results/audit")
QUICK_OUT = Path("results/audit-quick")


@dataclass(frozen=True)
class Audit:
    """Every algorithm at its own best, among those that are told the same: league, crossover,
    biases.

    What an interrupted run had finished is kept: the same command goes on from there.
    """

    seeds: Annotated[int | None, default("N", "256; 16 with --quick")] = None
    """Number of evaluation seeds."""
    out: Annotated[
        Path | None, default("DIR", "results/audit; results/audit-quick with --quick")
    ] = None
    """Folder of the results."""
    quick: bool = False
    """A first look: small problems, few contenders, 16 seeds."""


def run(command: Audit, line: str) -> int:
    """Run it, or go on with it."""
    from sweeps.report.display import console
    from sweeps.store import kinds

    check_seeds(command.seeds, command.quick)
    out = command.out or (QUICK_OUT if command.quick else DEFAULT_OUT)

    def work(stop: Callable[[], bool]) -> None:
        from sweeps.audit import plan
        from sweeps.audit.run import audit

        seeds = DEFAULT_SEEDS if command.seeds is None else command.seeds
        wanted = plan.quick() if command.quick else plan.full(seeds)
        audit(out, wanted, line, console(stderr=True).print, stop)

    status = until_stopped(work)
    if status == 0:
        print_outcome(kinds.AUDIT, out)
    return status
