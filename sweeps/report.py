"""One offline page of everything: verdicts, findings, tables, figures, and how they were made.

Reads what was saved: the results for the verdicts and findings, the tables and figures as files.
The page needs no network and no scripts.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from sweeps import claims, drawing, figures, store, tables
from sweeps.claims import Claim
from sweeps.claims.rules import number
from sweeps.claims.write import OPEN_CONSTANTS, capital, counts, interval_text
from sweeps.headline import headline
from sweeps.web import NAME, inline_svg, style

TEMPLATE = "report.html.j2"

# The folder of the audit, beside that of the report.
AUDIT = "audit"

TABLE_TITLES = {
    "table1": "Table 1: final reward",
    "table2": "Table 2: credit correlation",
    "table3": "Table 3: final entropy",
    "noise": "Figure 4 as numbers: noise in the feedback",
    "hybrid": "Figure 5 as numbers: the hybrid algorithm",
    "multiseed": "Figure 6 as numbers: several seeds",
}


def write_report(out_dir: str | os.PathLike[str], judged: Sequence[Claim] | None = None) -> Path:
    """Write ``OUT/report.html`` from the results, tables and figures under ``out_dir``.

    Args:
        judged: the claims as ``claims.judge`` returns them; judged here if not given.

    Raises:
        MissingResults: the results, a table or a figure is not there.
        ValueError: results that cannot be judged (see ``claims.judge``).
    """
    results = store.Results(out_dir)
    judged = claims.judge(out_dir) if judged is None else judged
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("sweeps").joinpath(TEMPLATE).read_text(encoding="utf-8")
    page = environment.from_string(source).render(
        style=style(),
        headline=headline(results),
        open_constants=OPEN_CONSTANTS,
        claims=judged,
        counts=counts(claim.verdict for claim in judged),
        findings=claims.find(results),
        coverage=claims.coverage_text(results),
        uncovered=claims.uncovered(results),
        number=number,
        tables=[_table(out_dir, name) for name in tables.ROWS],
        figures=[_figure(out_dir, name) for name in figures.FIGURES],
        audit=_audit(out_dir),
        manifest=list(_flat(results.manifest)),
        run_command=results.manifest.get("command", "python -m sweeps reproduce"),
        render_command=f"python -m sweeps render {_shown_path(out_dir)}",
        text=interval_text,
        capital=capital,
        kind=lambda verdict: verdict.name.lower().replace("_", "-"),
    )
    return store.write_text(Path(out_dir) / NAME, page)


def _audit(out_dir: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the page says of the audit in the folder beside, where there is one."""
    folder = Path(out_dir).absolute().parent / AUDIT
    page = folder / "audit.html"
    verdicts = folder / "verdicts.json"
    if not (page.is_file() and verdicts.is_file()):
        return None
    rows = json.loads(verdicts.read_text(encoding="utf-8"))
    return {
        "link": f"../{AUDIT}/{page.name}",
        "rows": [row | {"verdict": claims.Verdict(row["verdict"])} for row in rows],
    }


def _figure(out_dir: str | os.PathLike[str], name: str) -> dict[str, Any]:
    path = _existing(out_dir, drawing.FOLDER, f"{name}.svg")
    entry = figures.FIGURES[name]
    return {
        "name": name,
        "title": entry.title,
        "caption": entry.caption,
        "svg": Markup(inline_svg(path.read_text(encoding="utf-8"), name)),
    }


def _table(out_dir: str | os.PathLike[str], name: str) -> dict[str, Any]:
    path = _existing(out_dir, tables.FOLDER, f"{name}.csv")
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return {
        "name": name,
        "title": TABLE_TITLES.get(name, name),
        "header": [column.replace("_", " ") for column in header],
        "rows": rows,
    }


def _existing(out_dir: str | os.PathLike[str], folder: str, name: str) -> Path:
    path = Path(out_dir) / folder / name
    if not path.is_file():
        raise store.MissingResults(
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
