"""All claims judged, and written as ``claims.json`` and ``claims.md``."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeps.paper import about
from sweeps.paper.claims.registry import RULES
from sweeps.store import datasets
from sweeps.study.judgements import Claim
from sweeps.study.wording import capital, interval_text, tally
from sweeps.system import writing

JSON_NAME = "claims.json"
MARKDOWN_NAME = "claims.md"
OPEN_CONSTANTS = (
    "The paper leaves several constants open. Ours were fitted to its published SDPO and REINFORCE "
    "numbers, so agreement in level is expected and is weak evidence; orders, contrasts, intervals "
    "over seeds and control runs were not fitted."
)
HOW_SURE = (
    "Intervals are 95% over seeds, wider where a claim spans several cells so that all of them "
    "hold together; differences are taken within seeds. Published numbers are compared with the "
    "central 99% of our seeds, where a single run like ours falls in 99 of 100 cases (joint: all "
    'of its numbers at once). Of a claim that is true a rule says "fails" in at most 5% of '
    'samples, however few the seeds; where they are too few the verdict is "undecided".'
)
# Below this an interval between order statistics does not exist at the joint level.
MIN_SEEDS = 10


def judge(out_dir: str | os.PathLike[str]) -> list[Claim]:
    """Judge every claim from the results saved under ``out_dir``, in the order of their ids.

    Raises:
        MissingResults: a data set that a rule needs is not there.
        ValueError: fewer than ``MIN_SEEDS`` seeds, or numbers that are not finite.
    """
    results = datasets.Results(out_dir)
    seeds = results["algorithms"].sizes["seed"]
    if seeds < MIN_SEEDS:
        raise ValueError(f"seeds: {seeds}; allowed: at least {MIN_SEEDS} to judge the claims")
    return [RULES[identifier](results) for identifier in sorted(RULES)]


def write_claims(
    out_dir: str | os.PathLike[str], claims: Sequence[Claim] | None = None
) -> list[Path]:
    """Write ``OUT/claims.json`` and ``OUT/claims.md``; return the paths.

    Args:
        claims: as ``judge`` returns them; judged here if not given.

    Raises:
        As ``judge``.
    """
    claims = judge(out_dir) if claims is None else claims
    folder = Path(out_dir)
    return [
        writing.write_json(folder / JSON_NAME, [claim.row() for claim in claims]),
        writing.write_text(folder / MARKDOWN_NAME, markdown(claims)),
    ]


def load_claims(out_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of ``OUT/claims.json``.

    Raises:
        MissingResults: there is none.
    """
    path = Path(out_dir) / JSON_NAME
    if not path.is_file():
        raise datasets.MissingResults(
            f"{path}: missing; `python -m sweeps render {out_dir}` writes it"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def markdown(claims: Sequence[Claim]) -> str:
    """The verdicts as a table, then each claim with its rule and numbers."""
    lines = [
        "# The paper's claims, judged",
        "",
        f"The paper: *{about.TITLE}* ({about.AUTHORS}).",
        "",
        f"Of {len(claims)} claims {tally(claim.verdict for claim in claims)}.",
        "",
        f"Each verdict follows from the saved results by the rule given with the claim. {HOW_SURE} "
        "`python -m sweeps render DIR` makes this file again.",
        "",
        "| id | claim | verdict | published | estimate | 95% interval |",
        "|---|---|---|---|---|---|",
    ]
    lines.insert(
        lines.index("| id | claim | verdict | published | estimate | 95% interval |"),
        OPEN_CONSTANTS + "\n",
    )
    lines += [
        f"| [{c.id}](#{c.id.lower()}) | {capital(c.claim)} | **{c.verdict.value}** | "
        f"{interval_text(c, 'published')} | {interval_text(c, 'estimate')} | "
        f"{interval_text(c, 'interval')} |"
        for c in claims
    ]
    for c in claims:
        lines += [
            "",
            f"## {c.id}",
            "",
            f"**{capital(c.claim)}** ({c.where}): **{c.verdict.value}**",
            "",
            f"- {capital(c.reason)}.",
            (
                f"- Statistic: {c.statistic}: {interval_text(c, 'estimate')}, "
                f"{interval_text(c, 'interval')} ({c.seeds} seeds); "
                f"published: {interval_text(c, 'published')}."
            ),
        ]
        if c.control:
            lines.append(
                f"- Control run `{c.control.split(':')[0]}`:{c.control.partition(':')[2]}."
            )
        lines += [f"- {capital(line)}." for line in c.evidence]
        lines.append(f"- Rule: {c.rule}")
    return "\n".join(lines) + "\n"
