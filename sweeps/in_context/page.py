"""The study's page, tables and verdicts as files: everything that is made from saved results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdpo_jax.in_context import METHODS
from sweeps.in_context import analysis, figures, summary, verdicts
from sweeps.in_context.analysis import Row
from sweeps.in_context.experiments import league_name
from sweeps.in_context.plan import (
    FIRST_EVALUATION_SEED,
    FIRST_TUNING_SEED,
    GROUPS,
    MAIN,
    REFERENCE,
    Plan,
)
from sweeps.store import datasets
from sweeps.store.kinds import IN_CONTEXT
from sweeps.study import page
from sweeps.study.judgements import Claim
from sweeps.study.wording import decimals
from sweeps.system import writing

PAGE = IN_CONTEXT.page
# In the manifest, by which a folder of this study is known.
STUDY = IN_CONTEXT.entry


def render(out: Path) -> list[Path]:
    """Write tables, figures, verdicts and the page from what is saved under ``out``.

    Raises:
        MissingResults: a data set or the manifest is not there.
    """
    results = datasets.Results(out)
    manifest = datasets.read_manifest(out)
    plan = analysis.plan_of(manifest[STUDY])
    claims = verdicts.judge(plan, results)
    rows = {name: make(plan, results) for name, make in analysis.TABLES.items()}
    paths = page.write_tables(out, rows)
    paths += figures.write_figures(plan, results, out)
    title = "Verdicts on a self-teacher that reads its feedback"
    paths += page.write_verdicts(out, claims, page.markdown(title, claims, False))
    paths.append(writing.write_text(out / PAGE, _page(out, plan, results, claims, rows, manifest)))
    return paths


def summary_lines(out: Path) -> list[str]:
    """The verdicts in a line each, for a terminal."""
    plan = analysis.plan_of(datasets.read_manifest(out)[STUDY])
    return page.summary(verdicts.judge(plan, datasets.Results(out)))


def _page(
    out: Path,
    plan: Plan,
    results: analysis.Results,
    claims: list[Claim],
    rows: Mapping[str, list[Row]],
    manifest: Mapping[str, Any],
) -> str:
    groups = {
        told: [row for row in rows["league"] if row["told"] == told]
        for told in GROUPS
        if any(row["told"] == told for row in rows["league"])
    }
    return page.page(
        "sweeps.in_context",
        "page.html.j2",
        out,
        figures.FIGURES,
        manifest,
        claims=claims,
        sentences=summary.summary(
            plan,
            rows["league"],
            rows["skill"],
            float(analysis.at_start(results[league_name(REFERENCE)]).mean()),
            float(results["range"].best.mean()),
        ),
        groups=groups,
        decimals=decimals,
        labels=figures.GROUP_LABELS,
        plan=plan,
        networks=rows["networks"],
        settings=len(rows["tuning"])
        // max(1, len({(r["contender"], r["feedback"]) for r in rows["tuning"]})),
        main=METHODS[MAIN].label,
        reference=METHODS[REFERENCE].label,
        first_tuning_seed=FIRST_TUNING_SEED,
        first_evaluation_seed=FIRST_EVALUATION_SEED,
    )
