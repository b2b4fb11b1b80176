"""``python -m sweeps render``: tables, figures and pages from saved results."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from sweeps.commands.arguments import WRITERS, FolderArgument
from sweeps.commands.studies import page_of, print_outcome
from sweeps.system.text import plain


@dataclass(frozen=True)
class Render:
    """Make tables, figures and report again from saved results, without running."""

    directory: FolderArgument
    """Folder that `run`, `reproduce`, `audit` or `in_context` wrote."""


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
    if is_sweep(directory):
        from sweeps.report.pages import render_sweep

        with working("reading runs, making tables, figures and report"):
            path = render_sweep(directory)[-1]
        print(f"Report: {path}")
        return 0
    made = kinds.find(directory)
    if made is None:
        raise ValueError(f"{directory}: no results there; allowed: a folder that {WRITERS} wrote")
    if made.kind is kinds.CALIBRATION:
        raise ValueError(
            f"{directory}: {made}; allowed: {made.again}, which makes its page from what is saved"
        )
    with working("making tables, figures and page"):
        page_of(made.kind).render(directory)
    print_outcome(made.kind, directory)
    return 0
