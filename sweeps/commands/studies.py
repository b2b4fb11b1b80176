"""What the commands of the studies have in common."""

from __future__ import annotations

import contextlib
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


def run_of_a_size(
    command: Any,
    kind: Any,
    full: Path,
    quick: Path,
    begin: Callable[[Path, Callable[[str], None], Callable[[], bool], Any], None],
) -> int:
    """Run a study that has a full and a quick size, and print what it found.

    Args:
        command: with ``seeds``, ``out``, ``quick`` and ``on``.
        kind: of the study.
        full: folder of the full size, if none was given.
        quick: the same of the quick one.
        begin: runs it into a folder; what is told of its way, what stops it, and its executor.

    Returns:
        0, or the status of the signal that ended it.
    """
    from sweeps.report.display import console

    check_seeds(command.seeds, command.quick)
    out = command.out or (quick if command.quick else full)
    tell = console(stderr=True).print
    status = until_stopped(lambda stop, executor: begin(out, tell, stop, executor), command.on)
    if status == 0:
        print_outcome(kind, out)
    return status


def until_stopped(work: Callable[[Callable[[], bool], Any], None], on: str | None) -> int:
    """Do the work of a study; 0, or the status of the signal that ended it.

    Args:
        work: given what stops it, and its executor.
        on: who computes, ``--on``.
    """
    from sweeps.system import cache
    from sweeps.system.interrupts import Stopped, stoppable

    cache.enable()
    with contextlib.ExitStack() as stack:
        executor = None
        if on is not None:
            from sweeps.execute.cluster import connected

            executor = stack.enter_context(connected(on))
        stop = stack.enter_context(stoppable())
        try:
            work(stop, executor)
        except Stopped:
            print(f"stopped; {GOES_ON}", file=sys.stderr)
            return stop.status
    return 0


def print_outcome(kind: Any, directory: Path) -> None:
    """Print what a study found, and where its page is."""
    for line in page_of(kind).summary_lines(directory):
        print(line)
    print(f"Page: {directory / kind.page}")
