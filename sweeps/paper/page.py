"""One offline page of everything: verdicts, findings, tables, figures, and how they were made.

Reads what was saved: the results for the verdicts and findings, the tables and figures as files.
The page needs no network and no scripts.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr
from markupsafe import Markup

from sweeps.paper import about, claims, figures, tables
from sweeps.paper.claims import Claim
from sweeps.paper.claims.write import HOW_SURE, OPEN_CONSTANTS
from sweeps.paper.headline import headline
from sweeps.report import drawing, web
from sweeps.report.web import NAME, inline_svg
from sweeps.store import datasets
from sweeps.study import page_content, pinned
from sweeps.study.pinned import Pin
from sweeps.study.wording import (
    capital,
    counted,
    counts,
    decimals,
    interval_text,
    name,
    number,
    tally,
)
from sweeps.system import writing

TEMPLATE = "report.html.j2"

# The figure beside the findings: what the paper's main table of credit becomes.
FIRST_FIGURE = "figure2"

# The folders of the audit and of the posterior, beside that of the report.
AUDIT = "audit"
POSTERIOR = "posterior"

# Columns of the tables' files, as readers call them.
HEADERS = {
    "oracle": "feedback",
    "ci_low": "interval low",
    "ci_high": "interval high",
    "seed_sd": "sd over seeds",
    "published_percentile": "published at percentile",
    "gap_frequency": "share of groups with so large a gap",
    "gap_frequency_error": "its error",
}

TABLE_TITLES = {
    "table1": "Table 1: final reward",
    "table2": "Table 2: credit correlation",
    "table3": "Table 3: final entropy",
    "noise": "Figure 4 as numbers: noise in the feedback",
    "hybrid": "Figure 5 as numbers: the hybrid algorithm",
    "multiseed": "Figure 6 as numbers: several seeds",
}


def write_report(out_dir: str | os.PathLike[str], judged: Sequence[Claim] | None = None) -> Path:
    """Write ``page.json`` and ``pinned.json`` from the results, and ``report.html`` from the first.

    Args:
        judged: the claims as ``claims.judge`` returns them; judged here if not given.

    Raises:
        MissingResults: the results, a table or a figure is not there.
        ValueError: results that cannot be judged (see ``claims.judge``).
    """
    results = datasets.Results(out_dir)
    judged = claims.judge(out_dir) if judged is None else judged
    content = {
        "headline": headline(results),
        "claims": [claim.whole() for claim in judged],
        "findings": [dataclasses.asdict(finding) for finding in claims.find(results)],
        "coverage": claims.coverage_text(results),
        "uncovered": [dataclasses.asdict(each) for each in claims.uncovered(results)],
    }
    pinned.write(out_dir, pins(results))
    page_content.write_page_content(out_dir, content)
    return write_page(out_dir)


def write_page(out_dir: str | os.PathLike[str]) -> Path:
    """Write ``OUT/report.html`` from ``page.json``, the tables, the figures and the manifest.

    None of them is large, so a page can be made again where the results themselves are not.

    Raises:
        MissingResults: one of them is not there.
    """
    content = page_content.read_page_content(out_dir)
    manifest = datasets.read_manifest(out_dir)
    judged = [claims.Claim.of(row) for row in content["claims"]]
    page = web.page(
        "sweeps.paper",
        TEMPLATE,
        about=about,
        drawing=about.drawing(),
        headline=content["headline"],
        open_constants=OPEN_CONSTANTS,
        how_sure=HOW_SURE,
        claims=judged,
        tally=tally(claim.verdict for claim in judged),
        counts=counts(claim.verdict for claim in judged),
        counted=counted,
        findings=content["findings"],
        coverage=content["coverage"],
        uncovered=content["uncovered"],
        number=number,
        name=name,
        tables=[_table(out_dir, each) for each in tables.ROWS],
        figures=[_figure(out_dir, each) for each in figures.FIGURES],
        first_figure=FIRST_FIGURE,
        audit=_audit(out_dir),
        posterior=_posterior(out_dir, judged),
        manifest=list(_flat(manifest)),
        run_command=manifest.get("command", "python -m sweeps reproduce"),
        render_command=f"python -m sweeps render {_shown_path(out_dir)}",
        text=interval_text,
        capital=capital,
        kind=lambda verdict: verdict.name.lower().replace("_", "-"),
    )
    return writing.write_text(Path(out_dir) / NAME, page)


def pins(results: Mapping[str, xr.Dataset], seeds: int = 2) -> list[Pin]:
    """Runs of the reproduction: each algorithm, and a value of each control.

    Few programs serve them all: binary and ordinal feedback would need one of their own each.
    """
    wanted: list[tuple[str, str, str, dict[str, float], dict[str, Any]]] = [
        ("algorithms", "sdpo", oracle, {}, {"algorithm": "sdpo", "oracle": oracle})
        for oracle in ("continuous", "critique")
    ]
    for algorithm in ("reinforce", "advantage_weighted"):
        at = {"algorithm": algorithm}
        wanted += [
            ("algorithms", algorithm, "continuous", {}, {**at, "oracle": "continuous"}),
            ("flipped", algorithm, "continuous", {"sign": -1.0}, at),
            (
                "on_feedback", algorithm, "continuous",
                {"learn_from_feedback": 1.0, "noise": 0.3}, {**at, "noise": 0.3},
            ),
        ]  # fmt: skip
    for data, label, value in (
        ("noise", "noise", 0.5),
        ("knowledge", "knowledge", 0.5),
        ("kl_weight", "kl_weight", 1.0),
        ("learning_rate", "learning_rate", 0.08),
    ):
        at = {label: value} | ({} if data in ("knowledge", "kl_weight") else {"algorithm": "sdpo"})
        wanted.append((data, "sdpo", "continuous", {label: value}, at))
    at = {"algorithm": "hybrid", "oracle": "continuous"}
    wanted.append(("hybrid", "hybrid", "continuous", {"noise": 0.2}, at))
    return [
        Pin(
            data, algorithm, oracle, seed, numbers,
            {
                metric: float(datasets.cells(results[data][metric], **labels)[place])
                for metric in pinned.METRICS
            },
        )
        for data, algorithm, oracle, numbers, labels in wanted
        for place, seed in enumerate(results[data]["seed"].values[:seeds].tolist())
    ]  # fmt: skip


def _audit(out_dir: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the page says of the audit in the folder beside, where there is one."""
    folder = Path(out_dir).absolute().parent / AUDIT
    page = folder / "audit.html"
    verdicts = folder / "verdicts.json"
    if not (page.is_file() and verdicts.is_file()):
        return None
    rows = json.loads(verdicts.read_text(encoding="utf-8"))
    has_content = (folder / page_content.PAGE_NAME).is_file()
    return {
        "link": f"../{AUDIT}/{page.name}",
        "rows": [row | {"verdict": claims.Verdict(row["verdict"])} for row in rows],
        "summary": page_content.read_page_content(folder)["summary"] if has_content else [],
    }


def _posterior(out_dir: str | os.PathLike[str], judged: Sequence[Claim]) -> dict[str, Any] | None:
    """What the page says of other constants, where the study in the folder beside has been made."""
    folder = Path(out_dir).absolute().parent / POSTERIOR
    table = folder / f"{POSTERIOR}.json"
    figure = folder / drawing.FOLDER / f"{POSTERIOR}.svg"
    if not (table.is_file() and figure.is_file()):
        return None
    found = json.loads(table.read_text(encoding="utf-8"))
    shares = {
        row["id"]: [
            (claims.Verdict(verdict), share) for verdict, share in row["shares"].items() if share
        ]
        for row in found["claims"]
    }
    # What is only undecided there is so for want of seeds.
    others = [
        {"id": claim.id, "here": claim.verdict, "there": verdict, "share": share}
        for claim in judged
        for verdict, share in shares[claim.id]
        if share > 0.5 and verdict not in (claim.verdict, claims.Verdict.UNDECIDED)
    ]
    return found | {
        "others": others,
        "link": f"../{POSTERIOR}/{POSTERIOR}.md",
        "shares": shares,
        "changes": {row["id"]: row["changes_with"] for row in found["claims"]},
        "svg": Markup(inline_svg(figure.read_text(encoding="utf-8"), POSTERIOR)),
    }


def _figure(out_dir: str | os.PathLike[str], name: str) -> dict[str, Any]:
    path = _existing(out_dir, drawing.FOLDER, f"{name}.svg")
    entry = figures.FIGURES[name]
    return {
        "name": name,
        "title": entry.title,
        "caption": entry.caption,
        "svg": Markup(inline_svg(path.read_text(encoding="utf-8"), name)),
        "first_svg": Markup(inline_svg(path.read_text(encoding="utf-8"), f"first-{name}")),
    }


def _table(out_dir: str | os.PathLike[str], name: str) -> dict[str, Any]:
    path = _existing(out_dir, tables.FOLDER, f"{name}.csv")
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return {
        "name": name,
        "title": TABLE_TITLES.get(name, name),
        "header": [HEADERS.get(column, column.replace("_", " ")) for column in header],
        "rows": [
            [_cell(column, cell) for column, cell in zip(header, row, strict=True)] for row in rows
        ],
    }


def _cell(column: str, text: str) -> str:
    """A cell of a table's file for readers, with no more digits than the seeds support."""
    places = {"published_percentile": 0, "gap_frequency": 4, "gap_frequency_error": 4}
    _, point, fraction = text.partition(".")
    if point and len(fraction) > places.get(column, 3):
        return decimals(text, places=places.get(column, 3))
    return name(text)


def _existing(out_dir: str | os.PathLike[str], folder: str, name: str) -> Path:
    path = Path(out_dir) / folder / name
    if not path.is_file():
        raise datasets.MissingResults(
            f"{path}: missing; `python -m sweeps render {out_dir}` writes it"
        )
    return path


def _shown_path(out_dir: str | os.PathLike[str]) -> str:
    """The folder as a reader would type it: relative where it lies below the current one."""
    path = Path(out_dir).resolve()
    here = Path.cwd().resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(out_dir)


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The manifest as pairs of a dotted name and a text."""
    pairs: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            pairs += _flat(item, f"{name}.")
        elif isinstance(item, list):
            pairs.append((name, ", ".join(map(str, item))))
        else:
            pairs.append((name, f"{item:g}" if isinstance(item, float) else str(item)))
    return pairs
