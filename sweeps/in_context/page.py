"""The study's page, tables and verdicts as files: everything that is made from saved results."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from sdpo_jax.in_context import METHODS
from sweeps import store
from sweeps.claims.model import Claim
from sweeps.claims.write import capital, interval_text
from sweeps.in_context import analysis, figures, verdicts
from sweeps.in_context.analysis import Row
from sweeps.in_context.plan import (
    FIRST_EVALUATION_SEED,
    FIRST_TUNING_SEED,
    GROUPS,
    MAIN,
    REFERENCE,
    Plan,
)
from sweeps.web import inline_svg, style

PAGE = "in_context.html"

# In the manifest, by which a folder of this study is known.
STUDY = "in_context"


def render(out: Path) -> list[Path]:
    """Write tables, figures, verdicts and the page from what is saved under ``out``.

    Raises:
        MissingResults: a data set or the manifest is not there.
    """
    results = store.Results(out)
    manifest = store.read_manifest(out)
    plan = analysis.plan_of(manifest[STUDY])
    claims = verdicts.judge(plan, results)
    rows = {name: make(plan, results) for name, make in analysis.TABLES.items()}
    paths = [
        store.write_text(out / "tables" / f"{name}.csv", _csv(table))
        for name, table in rows.items()
    ]
    paths += figures.write_figures(plan, results, out)
    paths.append(store.write_json(out / "verdicts.json", [claim.row() for claim in claims]))
    paths.append(store.write_text(out / "verdicts.md", markdown(claims)))
    paths.append(store.write_text(out / PAGE, _page(out, plan, claims, rows, manifest)))
    return paths


def markdown(claims: list[Claim]) -> str:
    """The verdicts, each with its rule and numbers."""
    lines = ["# Verdicts on a self-teacher that reads its feedback", ""]
    for claim in claims:
        lines += [
            f"## {claim.id}: {capital(claim.claim)}",
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
    plan = analysis.plan_of(store.read_manifest(out)[STUDY])
    return [
        f"{claim.id}: {claim.verdict.value}; {claim.reason}"
        for claim in verdicts.judge(plan, store.Results(out))
    ]


def _page(
    out: Path,
    plan: Plan,
    claims: list[Claim],
    rows: Mapping[str, list[Row]],
    manifest: Mapping[str, Any],
) -> str:
    groups = {
        told: [row for row in rows["league"] if row["told"] == told]
        for told in GROUPS
        if any(row["told"] == told for row in rows["league"])
    }
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("sweeps.in_context").joinpath("page.html.j2")
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        style=style(),
        claims=claims,
        groups=groups,
        labels=figures.GROUP_LABELS,
        plan=plan,
        networks=rows["networks"],
        settings=len(rows["tuning"])
        // max(1, len({(r["contender"], r["feedback"]) for r in rows["tuning"]})),
        main=METHODS[MAIN].label,
        reference=METHODS[REFERENCE].label,
        figures=[
            {
                "name": name,
                "title": entry.title,
                "caption": entry.caption,
                "svg": Markup(
                    inline_svg(
                        (out / figures.FOLDER / f"{name}.svg").read_text(encoding="utf-8"),
                        f"in-context-{name}",
                    )
                ),
            }
            for name, entry in figures.FIGURES.items()
        ],
        first_tuning_seed=FIRST_TUNING_SEED,
        first_evaluation_seed=FIRST_EVALUATION_SEED,
        command=manifest["command"],
        versions=", ".join(f"{k} {v}" for k, v in manifest["versions"].items()),
        wall=f"{sum(manifest['wall_time'].values()):.0f}",
        text=interval_text,
        capital=capital,
        kind=lambda verdict: verdict.name.lower().replace("_", "-"),
    )


def _csv(rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _text(value) for name, value in row.items()})
    return text.getvalue()


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
