"""The command line: ``python -m sweeps --help``."""

from __future__ import annotations

import functools
import io
import operator
import shlex
import sys
from collections.abc import Callable
from typing import Annotated, Any

import tyro

from sweeps.commands import (
    audit,
    calibrate,
    explore,
    export,
    in_context,
    plan,
    posterior,
    prepare,
    render,
    replay,
    reproduce,
    resume,
    run,
    status,
    work,
)
from sweeps.commands.arguments import GOES_ON
from sweeps.execute import GivenUp, Lost
from sweeps.system.pipes import until_unread
from sweeps.system.text import lines
from sweeps.system.writing import Busy

# By name what a command is given and what it does; it imports what it needs, and no more: looking
# at a sweep takes no plotting.
COMMANDS: dict[str, tuple[type, Callable[[Any, str], int]]] = {
    "run": (run.Run, run.run),
    "plan": (plan.Plan, plan.run),
    "status": (status.Status, status.run),
    "resume": (resume.Resume, resume.run),
    "prepare": (prepare.Prepare, prepare.run),
    "work": (work.Work, work.run),
    "render": (render.Render, render.run),
    "explore": (explore.Explore, explore.run),
    "export": (export.Export, export.run),
    "replay": (replay.Replay, replay.run),
    "reproduce": (reproduce.Reproduce, reproduce.run),
    "calibrate": (calibrate.Calibrate, calibrate.run),
    "posterior": (posterior.Posterior, posterior.run),
    "audit": (audit.Audit, audit.run),
    "in_context": (in_context.InContext, in_context.run),
}


@until_unread
def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Returns:
        0; 1 where something on the disk is wrong (`status`, `replay`) or blocks were left alone
        because processes ended on them (`run`, `resume`, `work`); 2 for bad input; 3 where a
        cluster can't be reached, or not any more; 128 and the number of the signal (143, 130) when
        told to stop, 141 when nobody reads what is printed any more, as after `| head`.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a letter of a title shows its number.
        sys.stdout.reconfigure(errors="backslashreplace")
    command = tyro.cli(
        _command(),
        prog="python -m sweeps",
        description="Sweeps of SDPO training runs: any grid, interruptible, labelled.",
        args=given,
    )
    line = shlex.join(["python", "-m", "sweeps", *given])
    try:
        return _run(command, line)
    except Lost as error:
        print(f"error: {lines(error)}", file=sys.stderr)
        return 3
    except (ValueError, Busy, FileNotFoundError) as error:
        print(f"error: {lines(error)}", file=sys.stderr)
        return 1 if isinstance(error, GivenUp) else 2
    except BrokenPipeError:
        raise
    except OSError as error:
        name = error.filename or error.filename2
        where = f"{name}: " if name else ""
        print(
            f"error: {lines(f'{where}{error.strerror or error}')}; what was saved before is kept, "
            "and the same command goes on",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; {GOES_ON}", file=sys.stderr)
        return 130


def _command() -> Any:
    """The type of all commands, as ``tyro`` takes it."""
    each = (Annotated[kind, tyro.conf.subcommand(name)] for name, (kind, _) in COMMANDS.items())
    return functools.reduce(operator.or_, each)


def _run(command: object, line: str) -> int:
    runs = {kind: run for kind, run in COMMANDS.values()}
    return runs[type(command)](command, line)


if __name__ == "__main__":
    sys.exit(main())
