"""``python -m sweeps audit``: every algorithm at its own best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from sweeps.commands.arguments import Where, default
from sweeps.commands.studies import run_of_a_size

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
    on: Where = None
    """Who computes: the address of a Dask scheduler, such as tcp://host:8786, or local:N for N
    processes on this machine."""


def run(command: Audit, line: str) -> int:
    """Run it, or go on with it."""
    from sweeps.store import kinds

    def begin(
        out: Path, report: Callable[[str], None], stop: Callable[[], bool], executor: Any
    ) -> None:
        from sweeps.audit import plan
        from sweeps.audit.run import audit

        seeds = DEFAULT_SEEDS if command.seeds is None else command.seeds
        audit(
            out, plan.quick() if command.quick else plan.full(seeds), line, report, stop, executor
        )

    return run_of_a_size(command, kinds.AUDIT, DEFAULT_OUT, QUICK_OUT, begin)
