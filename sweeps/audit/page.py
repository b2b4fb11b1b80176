"""The audit's page, tables and verdicts as files: everything that is made from saved results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeps import store, study_page
from sweeps.audit import analysis, figures, verdicts
from sweeps.audit.contenders import CONTENDERS
from sweeps.audit.plan import FIRST_EVALUATION_SEED, FIRST_TUNING_SEED
from sweeps.claims.model import Claim
from sweeps.kinds import AUDIT

PAGE = AUDIT.page
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
    paths = study_page.write_tables(out, rows)
    paths += figures.write_figures(results, out)
    text = study_page.markdown("The audit's verdicts", claims)
    paths += study_page.write_verdicts(out, claims, text)
    paths.append(store.write_text(out / PAGE, _page(out, claims, rows, manifest)))
    return paths


def summary_lines(out: Path) -> list[str]:
    """The verdicts in a line each, for a terminal."""
    return study_page.summary(verdicts.judge(store.Results(out)))


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
    return study_page.page(
        "sweeps.audit",
        "audit.html.j2",
        out,
        figures.FIGURES,
        manifest,
        claims=claims,
        groups=groups,
        edge=EDGE_GAIN,
        crossovers=rows["crossover"],
        crossing=verdicts.crossover_text,
        labels={name: contender.label for name, contender in CONTENDERS.items()},
        seeds=manifest["plan"]["seeds"],
        tuning_seeds=manifest["plan"]["tuning_seeds"],
        settings=manifest["plan"]["settings"],
        first_tuning_seed=FIRST_TUNING_SEED,
        first_evaluation_seed=FIRST_EVALUATION_SEED,
    )
