"""What the pages of the studies have in common: verdicts as text, tables, figures in a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sweeps.report import web
from sweeps.report.drawing import FOLDER
from sweeps.report.web import inline_svg
from sweeps.study.judgements import Claim
from sweeps.study.wording import capital, interval_text
from sweeps.system import writing


def markdown(title: str, claims: Iterable[Claim], place: bool = True) -> str:
    """Verdicts, each with its rule and numbers.

    Args:
        title: of the text.
        claims: the verdicts.
        place: whether each says where its claim stands.
    """
    lines = [f"# {title}", ""]
    for claim in claims:
        lines += [
            f"## {claim.id}: {capital(claim.claim)}" + (f" ({claim.where})" if place else ""),
            "",
            f"**{claim.verdict.value}**: {claim.reason}.",
            "",
            f"- {capital(claim.statistic)}: {interval_text(claim, 'estimate')} "
            f"({interval_text(claim, 'interval')}; {claim.seeds} seeds)",
            *(f"- {capital(line)}" for line in claim.evidence),
            f"- Rule: {claim.rule}",
            "",
        ]
    return "\n".join(lines)


def summary(claims: Iterable[Claim]) -> list[str]:
    """Verdicts in a line each, for a terminal."""
    return [f"{claim.id}: {claim.verdict.value}; {claim.reason}" for claim in claims]


def write_tables(out: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Path]:
    """Write each table as ``OUT/tables/NAME.csv``; return the paths."""
    return [
        writing.write_text(out / "tables" / f"{name}.csv", _csv(rows))
        for name, rows in tables.items()
    ]


def write_verdicts(out: Path, claims: Sequence[Claim], text: str) -> list[Path]:
    """Write ``OUT/verdicts.json`` and, of a text for readers, ``OUT/verdicts.md``."""
    return [
        writing.write_json(out / "verdicts.json", [claim.row() for claim in claims]),
        writing.write_text(out / "verdicts.md", text),
    ]


def page(
    package: str,
    template: str,
    out: Path,
    figures: Mapping[str, Any],
    manifest: Mapping[str, Any],
    **values: Any,
) -> str:
    """A page of a template.

    Args:
        package: that has the template.
        template: its name.
        out: the study's folder, in which the figures are drawn.
        figures: by name, each with a title and a caption.
        manifest: of the study.
        values: what else the template asks for.
    """
    prefix = package.rpartition(".")[2].replace("_", "-")
    return web.page(
        package,
        template,
        figures=[
            {
                "name": name,
                "title": entry.title,
                "caption": entry.caption,
                "svg": Markup(
                    inline_svg(
                        (out / FOLDER / f"{name}.svg").read_text(encoding="utf-8"),
                        f"{prefix}-{name}",
                    )
                ),
            }
            for name, entry in figures.items()
        ],
        command=manifest["command"],
        versions=", ".join(f"{k} {v}" for k, v in manifest["versions"].items()),
        wall=f"{sum(manifest['wall_time'].values()):.0f}",
        text=interval_text,
        capital=capital,
        kind=lambda verdict: verdict.name.lower().replace("_", "-"),
        **values,
    )


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _text(value) for name, value in row.items()})
    return text.getvalue()


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
