"""Everything that is made from saved results: tables, figures, claims, report."""

from __future__ import annotations

import os
from pathlib import Path

from sweeps import claims, store
from sweeps.claims.write import tally
from sweeps.figures import write_figures
from sweeps.headline import headline
from sweeps.report import write_report
from sweeps.tables import write_tables


def render(out_dir: str | os.PathLike[str]) -> list[Path]:
    """Write tables, figures, claims and report from the results under ``out_dir``.

    Returns:
        The paths, in the order of writing.

    Raises:
        MissingResults: a data set or the manifest is not there; the message names the file and
            the command that writes it.
        ValueError: results that cannot be summarised, such as too few seeds.
    """
    # First what can be missing: nothing is written when something is.
    judged = claims.judge(out_dir)
    store.read_manifest(out_dir)
    paths = [*write_tables(out_dir), *write_figures(out_dir)]
    paths += claims.write_claims(out_dir, judged)
    return [*paths, write_report(out_dir, judged)]


def summary_lines(out_dir: str | os.PathLike[str]) -> list[str]:
    """The headline and the verdict counts, for a terminal.

    Raises:
        MissingResults: there are no results, or ``render`` has not been run.
    """
    rows = claims.load_claims(out_dir)
    count = f"{len(rows)} claims: {tally(row['verdict'] for row in rows)}."
    return [*headline(store.Results(out_dir)), count]
