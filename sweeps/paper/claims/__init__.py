"""The claims of the paper, C01 to C22, judged from saved results by stated rules.

Each module judges one group of claims; the docstring of each rule is the rule, and is printed
with its verdict. The seed is the unit, differences are paired within seeds, intervals are 95%,
joint over the cells that a claim spans (``rules``). Published single-seed values are held against
the distribution of our seeds, and five-seed values against that of groups of five.
"""

from __future__ import annotations

# Importing a module registers its rules.
from sweeps.paper.claims import credit, entropy, hybrid, noise, reward, seeds, teacher
from sweeps.paper.claims.coverage import Uncovered, coverage_text, uncovered
from sweeps.paper.claims.findings import Finding, find
from sweeps.paper.claims.registry import RULES
from sweeps.paper.claims.write import MIN_SEEDS, judge, load_claims, write_claims
from sweeps.study.judgements import Claim, Verdict

GROUPS = (reward, credit, entropy, noise, hybrid, seeds, teacher)

__all__ = [
    "GROUPS",
    "MIN_SEEDS",
    "RULES",
    "Claim",
    "Finding",
    "Uncovered",
    "Verdict",
    "coverage_text",
    "find",
    "judge",
    "load_claims",
    "uncovered",
    "write_claims",
]
