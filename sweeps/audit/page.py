"""The audit's page, tables and verdicts as files: everything that is made from saved results."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from markupsafe import Markup

from sdpo_jax import Sizes
from sweeps.audit import analysis, figures, verdicts
from sweeps.audit.contenders import CONTENDERS
from sweeps.audit.experiments import KNOBS
from sweeps.audit.plan import FIRST_EVALUATION_SEED, FIRST_TUNING_SEED
from sweeps.audit.readers import READINGS
from sweeps.audit.summary import GROUPS, summary
from sweeps.paper import about
from sweeps.report import web
from sweeps.report.web import inline_svg
from sweeps.store import datasets, places
from sweeps.store.kinds import AUDIT
from sweeps.study import page as study_page
from sweeps.study import page_content, pinned, progress
from sweeps.study.judgements import Claim
from sweeps.study.pinned import Pin
from sweeps.study.wording import capital, decimals, interval_text
from sweeps.system import writing

PAGE = AUDIT.page
SHOWN = 3

# Contenders of whom runs are pinned: one of each kind that the reproduction has none of.
PINNED = ("rlhf", "sdpo_reverse")

# The figure at the top of the page.
FIRST_FIGURE = "crossover"

# Reward from the end of a range that a reader is told of.
EDGE_GAIN = 0.005


def render(out: Path) -> list[Path]:
    """Write tables, figures, verdicts and the page from what is saved under ``out``.

    Where the results themselves are not there, as in a clone of the repository, the page alone is
    made again, from the tables, figures and verdicts that are.

    Raises:
        MissingResults: a data set or the manifest is not there.
    """
    if (out / page_content.PAGE_NAME).is_file() and not (out / places.DATA).is_dir():
        return [write_page(out)]
    results = datasets.Results(out)
    manifest = datasets.read_manifest(out)
    claims = verdicts.judge(results)
    rows = {name: make(results) for name, make in analysis.TABLES.items()}
    paths = study_page.write_tables(out, rows)
    paths += figures.write_figures(results, out)
    paths += study_page.write_verdicts(
        out, claims, study_page.markdown("The audit's verdicts", claims)
    )
    content = {
        "summary": summary(rows["league"], rows["crossover"]),
        "claims": [claim.whole() for claim in claims],
    }
    # What a test trains again is of the default sizes, as the full audit is.
    usual = manifest["plan"]["sizes"] == progress.plain(dataclasses.asdict(Sizes()))
    paths.append(pinned.write(out, pins(analysis.league(results)) if usual else []))
    paths.append(page_content.write_page_content(out, content))
    return [*paths, write_page(out)]


def pins(league: xr.Dataset) -> list[Pin]:
    """The runs by which the audit shows whether its code has moved on (``sweeps.study.pinned``)."""
    algorithms = {name: CONTENDERS[name].algorithm for name in PINNED}
    return _of_league(league, algorithms, KNOBS, FIRST_EVALUATION_SEED)


def _of_league(
    league: xr.Dataset,
    contenders: Mapping[str, str],
    own: Sequence[str],
    first_seed: int,
    seeds: int = 2,
) -> list[Pin]:
    """Runs of the audit: contenders at their best settings, continuous feedback, noise 0.2.

    Args:
        league: evaluated cells, along ``cell``; their seeds are counted from ``first_seed``.
        contenders: name of the algorithm by that of the contender; those that are not there are
            left out.
        own: the coordinates that are numbers of algorithms; NaN where a contender has none.
    """
    pins = []
    for place in range(league.sizes["cell"]):
        at = league.isel(cell=place)
        name, noise = str(at.contender.values), float(at.noise)
        if name not in contenders or str(at.oracle.values) != "continuous" or noise != 0.2:
            continue
        if float(at.knowledge) != 1.0:
            continue
        numbers = {"noise": noise, "learn_from_feedback": 1.0}
        numbers |= {
            key: float(at[key]) for key in ("learning_rate", *own) if np.isfinite(float(at[key]))
        }
        for seed in at.seed.values[:seeds].tolist():
            # Entropy is there of the last steps, and not of the last one.
            values = {metric: float(at[metric].sel(seed=seed)) for metric in ("reward", "credit")}
            pins.append(
                Pin("league", contenders[name], "continuous", first_seed + seed, numbers, values)
            )
    return pins


def summary_lines(out: Path) -> list[str]:
    """The outcome and the verdicts in a line each, for a terminal.

    Raises:
        MissingResults: ``render`` has not been run.
    """
    content = page_content.read_page_content(out)
    verdicts_told = [f"{row['id']}: {row['verdict']}; {row['reason']}" for row in content["claims"]]
    return [*content["summary"], *verdicts_told]


def write_page(out: Path) -> Path:
    """Write the page from ``page.json``, the tables, the figures and the manifest.

    Raises:
        MissingResults: one of them is not there.
    """
    content, manifest = page_content.read_page_content(out), datasets.read_manifest(out)
    league, crossovers = (_read(out, name) for name in ("league", "crossover"))
    cells: dict[str, list[analysis.Row]] = {}
    taken: dict[Any, int] = {}
    for row in league:
        where = (row["group"], row["oracle"], row["noise"])
        taken[where] = taken.get(where, 0) + 1
        if taken[where] <= SHOWN:
            cells.setdefault(row["group"], []).append(row)
    drawn = [_figure(out, name, f"audit-{name}") for name in figures.FIGURES]
    plan = manifest["plan"]
    took_part = [name for name in CONTENDERS if any(row["contender"] == name for row in league)]
    page = web.page(
        "sweeps.audit",
        "audit.html.j2",
        about=about,
        drawing=about.drawing(),
        summary=content["summary"],
        claims=[Claim.of(row) for row in content["claims"]],
        groups=cells,
        titles=GROUPS,
        contenders=[(CONTENDERS[name], READINGS[name]) for name in took_part],
        edge=EDGE_GAIN,
        crossovers=crossovers,
        crossing=verdicts.crossover_text,
        labels={name: contender.label for name, contender in CONTENDERS.items()},
        figures=drawn,
        first_figure=_figure(out, FIRST_FIGURE, "first"),
        seeds=plan["seeds"],
        tuning_seeds=plan["tuning_seeds"],
        settings=plan["settings"],
        first_tuning_seed=FIRST_TUNING_SEED,
        first_evaluation_seed=FIRST_EVALUATION_SEED,
        command=manifest["command"],
        source=manifest["source"],
        commit=manifest["commit"],
        versions=", ".join(f"{k} {v}" for k, v in manifest["versions"].items()),
        wall=f"{sum(manifest['wall_time'].values()) / 60:.0f}",
        text=interval_text,
        capital=capital,
        decimals=decimals,
        kind=lambda verdict: verdict.name.lower().replace("_", "-"),
    )
    return writing.write_text(out / PAGE, page)


def _figure(out: Path, name: str, prefix: str) -> dict[str, Any]:
    path = _existing(out / figures.FOLDER / f"{name}.svg", out)
    svg = Markup(inline_svg(path.read_text(encoding="utf-8"), prefix))
    entry = figures.FIGURES[name]
    return {"name": name, "title": entry.title, "caption": entry.caption, "svg": svg}


# Columns of the tables' files that are not numbers.
_WORDS = ("group", "oracle", "contender", "label", "setting", "best_told_feedback")


def _read(out: Path, name: str) -> list[analysis.Row]:
    """The rows of a table's file: numbers, ``None`` for an empty field."""
    path = _existing(out / "tables" / f"{name}.csv", out)
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {
                column: text if column in _WORDS else float(text) if text else None
                for column, text in row.items()
            }
            for row in csv.DictReader(file)
        ]


def _existing(path: Path, out: Path) -> Path:
    if not path.is_file():
        raise datasets.MissingResults(f"{path}: missing; `python -m sweeps render {out}` writes it")
    return path
