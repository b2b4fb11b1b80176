"""``python -m sweeps render``: tables, figures and pages from saved results."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Annotated

import tyro

from sweeps.commands.arguments import WRITERS, FolderArgument, default
from sweeps.commands.studies import page_of, print_outcome
from sweeps.system.text import plain


@dataclass(frozen=True)
class Render:
    """Make tables, figures and report again from saved results, without running.

    With --x, --y, --color, --facet or --at it makes one figure of a sweep, and the table of its
    points, instead: `render DIR --x learning_rate --y reward --color algorithm`.
    """

    directory: FolderArgument
    """Folder that `run`, `reproduce`, `audit` or `in_context` wrote."""
    x: Annotated[str | None, default("AXIS", "the longest axis of numbers")] = None
    """Along which axis of the sweep; `step` for the recorded curve."""
    y: Annotated[str | None, default("METRIC", "reward")] = None
    """Which metric; NAME_mean is its mean over all steps."""
    color: Annotated[str | None, default("AXIS", "algorithm, where it is an axis")] = None
    """A colour for each value of which axis."""
    facet: Annotated[str | None, default("AXIS", "one panel")] = None
    """A panel for each value of which axis."""
    at: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="AXIS=VALUE")
    ] = ()
    """Where an axis is held, such as noise=0.2; one that is not shown is at its first value."""
    grid: Annotated[str | None, default("NAME", "the only one")] = None
    """Which grid that figure is of, where there are several."""


def run(command: Render, line: str) -> int:
    """Make them."""
    from sweeps.report.display import working
    from sweeps.store import kinds, places
    from sweeps.store.manifest import is_sweep
    from sweeps.store.places import clear_partial_files
    from sweeps.system.writing import Busy, locked

    directory = command.directory
    if not directory.is_dir() or not any(directory.iterdir()):
        what = "not a folder" if directory.is_file() else "no such folder"
        what = "an empty folder" if directory.is_dir() else what
        raise ValueError(f"{plain(str(directory))}: {what}; allowed: a folder that {WRITERS} wrote")
    if (directory / places.MANIFEST).is_file():
        # Of a command that was killed; while another one is at work there, it is left.
        with contextlib.suppress(Busy, PermissionError), locked(directory):
            clear_partial_files(directory)
    asked = {name: getattr(command, name) for name in ("x", "y", "color", "facet", "at", "grid")}
    given = [name for name, value in asked.items() if value]
    if is_sweep(directory):
        if given:
            from sweeps.report.asked import render_view

            with working("reading runs, making figure and table"):
                paths = render_view(directory, **asked)
            for path in paths:
                print(path)
            return 0
        from sweeps.report.pages import render_sweep

        with working("reading runs, making tables, figures and report"):
            path = render_sweep(directory)[-1]
        print(f"Report: {path}")
        return 0
    made = kinds.find(directory)
    if made is None:
        raise ValueError(f"{directory}: no results there; allowed: a folder that {WRITERS} wrote")
    if given:
        raise ValueError(f"--{given[0]}: for {made}; allowed: with a folder that `run` wrote")
    if made.kind is kinds.CALIBRATION:
        raise ValueError(
            f"{directory}: {made}; allowed: {made.again}, which makes its page from what is saved"
        )
    with working("making tables, figures and page"):
        page_of(made.kind).render(directory)
    print_outcome(made.kind, directory)
    return 0
