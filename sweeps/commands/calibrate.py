"""``python -m sweeps calibrate``: the constants that the paper does not state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sweeps.commands.arguments import Where, default
from sweeps.commands.studies import until_stopped


@dataclass(frozen=True)
class Calibrate:
    """Infer the constants that the paper does not state, from all that it publishes.

    Trains a grid of settings over many problems, and asks how likely each setting makes the
    published numbers: posterior, best settings, goodness of fit, figure.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("results/calibration")
    """Folder of the results."""
    problems: Annotated[int | None, default("N", "160; 64 with --quick")] = None
    """Problems for each setting."""
    quick: bool = False
    """A first look: few settings, few problems."""
    on: Where = None
    """Who computes: the address of a Dask scheduler, such as tcp://host:8786, or local:N for N
    processes on this machine."""


def run(command: Calibrate, line: str) -> int:
    """Run it, or go on with it."""
    from sweeps.calibration.run import calibrate

    def work(stop: Callable[[], bool], executor: Any) -> None:
        calibrate(
            *(command.out, command.problems, command.quick, line, stop),
            executor=executor,
        )

    return until_stopped(work, command.on)
