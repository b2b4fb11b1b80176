"""The audit's page, tables and verdicts as files: everything that is made from saved results."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from sweeps import store
from sweeps.audit import analysis, figures, verdicts
from sweeps.audit.contenders import CONTENDERS
from sweeps.audit.plan import FIRST_EVALUATION_SEED, FIRST_TUNING_SEED
from sweeps.claims.model import Claim
from sweeps.claims.write import capital, interval_text
from sweeps.web import inline_svg, style

PAGE = "audit.html"
SHOWN = 3

# Reward from the end of a range that a reader is told of.
EDGE_GAIN = 0.005


def render(out: Path) -> list[Path]:
    """Write tables, figures, verdicts and the page from what is saved under ``out``.

    Raises:
        MissingResults: a data set or the manifest is not there.
    """
    results = store.Results(out)
    manifest = store.read_manifest(out)
    claims = verdicts.judge(results)
    rows = {name: make(results) for name, make in analysis.TABLES.items()}
    paths = [
        store.write_text(out / "tables" / f"{name}.csv", _csv(table))
        for name, table in rows.items()
    ]
    paths += figures.write_figures(results, out)
    paths.append(store.write_json(out / "verdicts.json", [claim.row() for claim in claims]))
    paths.append(store.write_text(out / "verdicts.md", markdown(claims)))
    paths.append(store.write_text(out / PAGE, _page(out, claims, rows, manifest)))
    return paths


def markdown(claims: list[Claim]) -> str:
    """The verdicts, each with its rule and numbers."""
    lines = ["# The audit's verdicts", ""]
    for claim in claims:
        lines += [
            f"## {claim.id}: {capital(claim.claim)} ({claim.where})",
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


def summary_lines(out: Path) -> list[str]:
    """The verdicts in a line each, for a terminal."""
    return [
        f"{claim.id}: {claim.verdict.value}; {claim.reason}"
        for claim in verdicts.judge(store.Results(out))
    ]


def _page(
    out: Path, claims: list[Claim], rows: Mapping[str, list[analysis.Row]], manifest: Any
) -> str:
    groups: dict[str, list[analysis.Row]] = {}
    taken: dict[Any, int] = {}
    for row in rows["league"]:
        where = (row["group"], row["oracle"], row["noise"])
        taken[where] = taken.get(where, 0) + 1
        if taken[where] <= SHOWN:
            groups.setdefault(row["group"], []).append(row)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("sweeps.audit").joinpath("audit.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        style=style(),
        claims=claims,
        groups=groups,
        edge=EDGE_GAIN,
        crossovers=rows["crossover"],
        crossing=verdicts.crossover_text,
        labels={name: contender.label for name, contender in CONTENDERS.items()},
        figures=[
            {
                "name": name,
                "title": entry.title,
                "caption": entry.caption,
                "svg": Markup(
                    inline_svg(
                        (out / figures.FOLDER / f"{name}.svg").read_text(encoding="utf-8"),
                        f"audit-{name}",
                    )
                ),
            }
            for name, entry in figures.FIGURES.items()
        ],
        seeds=manifest["plan"]["seeds"],
        tuning_seeds=manifest["plan"]["tuning_seeds"],
        settings=manifest["plan"]["settings"],
        first_tuning_seed=FIRST_TUNING_SEED,
        first_evaluation_seed=FIRST_EVALUATION_SEED,
        command=manifest["command"],
        versions=", ".join(f"{k} {v}" for k, v in manifest["versions"].items()),
        wall=f"{sum(manifest['wall_time'].values()):.0f}",
        text=interval_text,
        capital=capital,
        kind=lambda verdict: verdict.name.lower().replace("_", "-"),
    )


def _csv(rows: list[analysis.Row]) -> str:
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
