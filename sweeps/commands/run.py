"""``python -m sweeps run``: a sweep file is trained into a folder."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sweeps.commands.arguments import GOES_ON, OnChange, Settings, SweepFile, Where, default
from sweeps.system.text import plain

if TYPE_CHECKING:
    from sweeps.file.sweep import Sweep
    from sweeps.store.folder import Folder
    from sweeps.store.tasks import Survey


@dataclass(frozen=True)
class Run:
    """Run a sweep file into a folder, or go on with it.

    A sweep file is a page of TOML, such as sweeps/examples/learning_rate.toml:

        [base]
        noise = 0.1
        [axes]
        algorithm = ["sdpo", "reinforce"]
        learning_rate = { logspace = [0.005, 5.0, 7] }
        seed = { count = 64 }

    Every mistake in it is named before anything is compiled. Results are saved as they come:
    Ctrl-C, a crash or a power cut loses no more than the block that is under way, and the same
    command goes on. A changed file adds to what is there. Look at the results with
    `sweeps.open(DIR)` in Python, `render` or `export`.
    """

    file: SweepFile
    """The sweep file."""
    out: Annotated[Path | None, default("DIR", "results/NAME")] = None
    """Folder of the results."""
    on_change: OnChange = "refuse"
    """Where other code, versions or device computed what is there: refuse, keep it and go on, or
    redo all."""
    set: Settings = ()
    """A value other than the file's, such as base.noise=0.2 or "axes.noise=[0.0, 0.3]"."""
    on: Where = None
    """Who computes: the address of a Dask scheduler, such as tcp://host:8786, or local:N for N
    processes on this machine."""


def run(command: Run, line: str) -> int:
    """Run it."""
    from sweeps.file import sweepfile
    from sweeps.store.places import SWEEPS_OUT

    sweep = sweepfile.read(command.file, command.set)
    out = command.out or SWEEPS_OUT / sweep.name
    return run_into(out, sweep, command.on_change, command.on)


def run_into(out: Path, sweep: Sweep, on_change: str, on: str | None) -> int:
    """Run a sweep into a folder, and say what became of it."""
    from sweeps.execute import running
    from sweeps.report.display import Display, duration
    from sweeps.system import cache
    from sweeps.system.interrupts import Stopped, stoppable

    cache.enable()
    begun = time.perf_counter()
    with contextlib.ExitStack() as stack:
        executor = None
        if on is not None:
            from sweeps.execute.cluster import connected

            executor = stack.enter_context(connected(on))
        display, stop = stack.enter_context(Display()), stack.enter_context(stoppable())

        def surveyed(folder: Folder, survey: Survey) -> None:
            for message in survey.damaged.values():
                display.say(f"{message}; runs again")
            if survey.other:
                display.say(f"{len(survey.other)} blocks of another fingerprint; run again")
            done = sum(len(t.keys) for t in folder.blocks.tasks if t.identity in survey.done)
            display.start(sweep.name, done, folder.runs)

        try:
            folder = running.run(
                out,
                sweep,
                on_change=on_change,
                progress=display.advance,
                surveyed=surveyed,
                stop=stop,
                executor=executor,
            )
        except Stopped:
            print(f"stopped before anything was begun; {GOES_ON}", file=sys.stderr)
            return stop.status
    again = f"python -m sweeps resume {shlex.quote(str(out))}"
    left = folder.blocks.absent()
    if left:
        print(f"stopped: {folder.runs - left:,} of {folder.runs:,} runs saved; go on with: {again}")
        return stop.status
    took = duration(time.perf_counter() - begun)
    print(f"{plain(sweep.name)}: {folder.runs:,} runs, {took}, in {out}")
    print(f"look: python -m sweeps render {shlex.quote(str(out))}, or sweeps.open({str(out)!r})")
    return 0
