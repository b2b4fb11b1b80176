"""``python -m sweeps work``: one of many processes that compute blocks of a sweep."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from typing import Annotated

from sweeps.commands.arguments import FolderArgument, default
from sweeps.system.text import plain


@dataclass(frozen=True)
class Work:
    """Compute blocks of a sweep that nobody has, until none is left: one of many processes.

    For job arrays and for several machines that share a folder, which `run` or `prepare` began.
    SIGTERM and Ctrl-C end it after the block under way; what is saved is kept, and whoever comes
    next goes on. Exits with 0 where all is done, 128 and the number of the signal (143, 130) where
    it was told to stop, 1 where blocks were left alone because three processes ended on each, and
    2 for bad input.
    """

    directory: FolderArgument
    """Folder that `run` or `prepare` wrote."""
    shard: Annotated[str | None, default("I/N", "all that nobody has")] = None
    """No more than every N-th block, from the I-th on."""


def run(command: Work, line: str) -> int:
    """Compute what nobody has."""
    from sweeps.execute.work import Outcome, part_of, work
    from sweeps.report.display import Display
    from sweeps.system import cache
    from sweeps.system.interrupts import stoppable

    shard = None if command.shard is None else part_of(command.shard)
    cache.enable()
    with Display() as display, stoppable() as stop:

        def begun(outcome: Outcome) -> None:
            display.start(outcome.folder.sweep.name, 0, outcome.runs)

        found = work(command.directory, shard, progress=display.advance, begun=begun, stop=stop)
    what = plain(found.folder.sweep.name) + (f", part {command.shard}" if command.shard else "")
    print(f"{what}: {found.done:,} of {found.runs:,} runs saved")
    if found.given_up:
        again = shlex.quote(str(command.directory))
        print(
            f"{len(found.given_up)} blocks were left alone, for each ended several processes: "
            f"{', '.join(sorted(found.given_up)[:3])}; allowed: python -m sweeps resume {again}, "
            "which tries them again",
            file=sys.stderr,
        )
        return 1
    return stop.status if found.done < found.runs else 0
