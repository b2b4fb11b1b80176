"""What the commands of the studies have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweeps.commands.arguments import GOES_ON


def page_of(kind: Any) -> Any:
    """The module that makes the page of a study, and its lines for a terminal."""
    from sweeps.store import kinds

    if kind is kinds.AUDIT:
        from sweeps.audit import page
    elif kind is kinds.IN_CONTEXT:
        from sweeps.in_context import page
    elif kind is kinds.POSTERIOR:
        from sweeps.calibration import posterior as page
    else:
        from sweeps.paper import render as page
    return page


def check_seeds(seeds: int | None, quick: bool) -> None:
    """See that not both are given.

    Raises:
        ValueError: they are.
    """
    if quick and seeds is not None:
        raise ValueError(f"--seeds: {seeds} beside --quick; allowed: one of the two")


def until_stopped(work: Callable[[Callable[[], bool]], None]) -> int:
    """Do the work of a study; 0, or the status of the signal that ended it."""
    from sweeps.system import cache
    from sweeps.system.interrupts import Stopped, stoppable

    cache.enable()
    with stoppable() as stop:
        try:
            work(stop)
        except Stopped:
            print(f"stopped; {GOES_ON}", file=sys.stderr)
            return stop.status
    return 0


def print_outcome(kind: Any, directory: Path) -> None:
    """Print what a study found, and where its page is."""
    for line in page_of(kind).summary_lines(directory):
        print(line)
    print(f"Page: {directory / kind.page}")
