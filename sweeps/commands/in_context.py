"""``python -m sweeps in_context``: a self-teacher that reads its feedback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from sweeps.commands.arguments import Where, default
from sweeps.commands.studies import run_of_a_size

DEFAULT_SEEDS = 32
DEFAULT_OUT = Path("results/in_context")
QUICK_OUT = Path("results/in_context-quick")


@dataclass(frozen=True)
class InContext:
    """A self-teacher that reads its feedback: small networks, methods each at their own best.

    What an interrupted run had finished is kept: the same command goes on from there.
    """

    seeds: Annotated[int | None, default("N", "32; 8 with --quick")] = None
    """Number of evaluation seeds."""
    out: Annotated[
        Path | None, default("DIR", "results/in_context; results/in_context-quick with --quick")
    ] = None
    """Folder of the results."""
    quick: bool = False
    """A first look: a tiny network and world, few contenders, 8 seeds."""
    on: Where = None
    """Who computes: the address of a Dask scheduler, such as tcp://host:8786, or local:N for N
    processes on this machine."""


def run(command: InContext, line: str) -> int:
    """Run it, or go on with it."""
    from sweeps.store import kinds

    def begin(
        out: Path, report: Callable[[str], None], stop: Callable[[], bool], executor: Any
    ) -> None:
        from sweeps.in_context import plan
        from sweeps.in_context.run import study

        seeds = DEFAULT_SEEDS if command.seeds is None else command.seeds
        study(
            out, plan.quick() if command.quick else plan.full(seeds), line, report, stop, executor
        )

    return run_of_a_size(command, kinds.IN_CONTEXT, DEFAULT_OUT, QUICK_OUT, begin)
