"""``python -m sweeps resume``: a sweep or a study is gone on with."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tyro

from sweeps.commands import audit, calibrate, in_context, posterior, reproduce
from sweeps.commands.arguments import FolderArgument, OnChange, Where
from sweeps.commands.run import run_into


@dataclass(frozen=True)
class Resume:
    """Go on with a sweep or a study from what is saved; repair what is damaged."""

    directory: FolderArgument
    """Folder that `run`, `reproduce`, `audit`, `in_context` or `calibrate` wrote."""
    on_change: OnChange = "refuse"
    """As for `run`."""
    on: Where = None
    """As for `run`."""


# By name the commands of the studies.
_STUDIES: dict[str, tuple[type, Callable[[Any, str], int]]] = {
    "reproduce": (reproduce.Reproduce, reproduce.run),
    "calibrate": (calibrate.Calibrate, calibrate.run),
    "posterior": (posterior.Posterior, posterior.run),
    "audit": (audit.Audit, audit.run),
    "in_context": (in_context.InContext, in_context.run),
}


def run(command: Resume, line: str) -> int:
    """Go on by the command that made the folder."""
    from sweeps.store import kinds
    from sweeps.store.manifest import saved_sweep

    made = kinds.find(command.directory)
    if made is None:
        sweep = saved_sweep(command.directory)
        return run_into(command.directory, sweep, command.on_change, command.on)
    if command.on_change != "refuse":
        raise ValueError(
            f"--on-change: {command.on_change} for {made}; allowed: with a sweep of `run`'s"
        )
    name, *options = made.arguments
    study, run_study = _STUDIES[name]
    where = [] if command.on is None else ["--on", command.on]
    asked = tyro.cli(study, prog=f"python -m sweeps {name}", args=[*options, *where])
    return run_study(asked, shlex.join(["python", "-m", "sweeps", *made.arguments]))
