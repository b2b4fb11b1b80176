"""Everything that is made from saved results: tables, figures, claims, report."""

from __future__ import annotations

import os
from pathlib import Path

from sweeps.paper import claims
from sweeps.paper.figures import write_figures
from sweeps.paper.page import write_page, write_report
from sweeps.paper.tables import write_tables
from sweeps.store import datasets, places
from sweeps.study import page_content
from sweeps.study.wording import tally


def render(out_dir: str | os.PathLike[str]) -> list[Path]:
    """Write tables, figures, claims and report from the results under ``out_dir``.

    Where the results themselves are not there, as in a clone of the repository, the report alone
    is made again, from the tables, figures and verdicts that are.

    Returns:
        The paths, in the order of writing.

    Raises:
        MissingResults: a data set or the manifest is not there; the message names the file and
            the command that writes it.
        ValueError: results that cannot be summarised, such as too few seeds.
    """
    if has_page_only(out_dir):
        return [write_page(out_dir)]
    # First what can be missing: nothing is written when something is.
    judged = claims.judge(out_dir)
    datasets.read_manifest(out_dir)
    paths = [*write_tables(out_dir), *write_figures(out_dir)]
    paths += claims.write_claims(out_dir, judged)
    return [*paths, write_report(out_dir, judged)]


def has_page_only(out_dir: str | os.PathLike[str]) -> bool:
    """Whether a folder has what a page is made from, but not the results."""
    out = Path(out_dir)
    return (out / page_content.PAGE_NAME).is_file() and not (out / places.DATA).is_dir()


def summary_lines(out_dir: str | os.PathLike[str]) -> list[str]:
    """The headline and the verdict counts, for a terminal.

    Raises:
        MissingResults: ``render`` has not been run.
    """
    content = page_content.read_page_content(out_dir)
    rows = content["claims"]
    count = f"Of {len(rows)} claims {tally(row['verdict'] for row in rows)}."
    return [*content["headline"], count]
