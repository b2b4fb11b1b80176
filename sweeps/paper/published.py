"""What the paper publishes, as data, and where its text disagrees with its own numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

ALGORITHMS = ("sdpo", "reinforce", "advantage_weighted")
BASELINES = ("reinforce", "advantage_weighted")

# Half of the last digit printed in the paper's tables and figure labels.
ROUNDING = 0.0005


@dataclass(frozen=True)
class TextCheck:
    """One number of the text beside the same quantity computed from the published numbers.

    ``agrees`` allows for the rounding of both: ``tolerance`` is the sum of the two.
    """

    name: str
    where: str
    quote: str
    text: float
    data: float
    source: str
    tolerance: float

    @property
    def agrees(self) -> bool:
        # The last term keeps a difference that is exactly the tolerance on the agreeing side.
        return abs(self.text - self.data) <= self.tolerance + 1e-12


@cache
def published() -> dict[str, Any]:
    """Tables 1-3 and figures 4-6 of the paper, as ``published.json`` has them."""
    return _read("published.json")


@cache
def text_claims() -> dict[str, Any]:
    """Numbers that the paper's text states: statements, limits, and a reading of figure 1."""
    return _read("text_claims.json")


def limit(name: str, field: str) -> float:
    """A bound that a claim of the text sets, such as the step by which curves converge."""
    return float(text_claims()["limits"][name][field])


def table(number: int, algorithm: str) -> np.ndarray:
    """Row ``algorithm`` of table 1 (reward), 2 (credit) or 3 (entropy): ``[oracle]``."""
    name = {
        1: "table1_final_reward",
        2: "table2_credit_correlation",
        3: "table3_final_entropy",
    }[number]
    return np.array(published()[name][algorithm])


def text_checks(
    numbers: dict[str, Any] | None = None, text: dict[str, Any] | None = None
) -> dict[str, TextCheck]:
    """Every statement of the text against the paper's own tables and plots, by name.

    Args:
        numbers: as ``published()``, which is the default.
        text: as ``text_claims()``, which is the default.
    """
    numbers = published() if numbers is None else numbers
    text = text_claims() if text is None else text
    return {
        name: TextCheck(
            name,
            statement["where"],
            statement["quote"],
            statement["value"],
            float(value),
            source,
            statement["tolerance"] + error,
        )
        for name, (value, error, source) in _from_numbers(numbers, text).items()
        for statement in [text["statements"][name]]
    }


def _from_numbers(p: dict[str, Any], text: dict[str, Any]) -> dict[str, tuple[float, float, str]]:
    """For each statement: the value that the published numbers give, its error, their source."""
    reward = {name: np.array(row) for name, row in p["table1_final_reward"].items()}
    credit = {name: np.array(row) for name, row in p["table2_credit_correlation"].items()}
    entropy = {name: np.array(row) for name, row in p["table3_final_entropy"].items()}
    margins = {name: reward["sdpo"] - reward[name] for name in BASELINES}
    all_margins = np.concatenate(list(margins.values()))
    reduction = 1 - entropy["sdpo"] / np.stack([entropy[name] for name in BASELINES])
    reduction_error = 2 * ROUNDING / entropy["reinforce"].min()
    noise = {name: np.array(row) for name, row in p["figure4_noise"]["reward"].items()}
    gaps = noise["sdpo"] - noise["reinforce"]
    plotted = p["figure4_noise"]["credit_read_off_plot"]
    hybrid = p["figure5_hybrid"]
    hybrid_entropy = [cell["hybrid"] for cell in hybrid["entropy"].values()]
    five = p["figure6_multiseed"]["reward_mean_std"]
    steps = text["figure1_reading"]["last_step"]
    # A straight line has made as large a share of its rise as of its steps.
    late = 1 - text["limits"]["convergence"]["step"] / steps
    difference = 2 * ROUNDING
    return {
        "margin_abstract_low": (all_margins.min(), difference, "table 1"),
        "margin_conclusion_low": (all_margins.min(), difference, "table 1"),
        "margin_reinforce_low": (margins["reinforce"].min(), difference, "table 1"),
        "margin_reinforce_high": (margins["reinforce"].max(), difference, "table 1"),
        "margin_advantage_weighted_low": (
            margins["advantage_weighted"].min(),
            difference,
            "table 1",
        ),
        "margin_advantage_weighted_high": (
            margins["advantage_weighted"].max(),
            difference,
            "table 1",
        ),
        "worst_sdpo_reward": (reward["sdpo"].min(), ROUNDING, "table 1"),
        "late_rise": (late, 0.0, "figure 1"),
        "advantage_weighted_credit_high": (
            credit["advantage_weighted"].max(),
            ROUNDING,
            "table 2",
        ),
        "advantage_weighted_credit_low": (credit["advantage_weighted"].min(), ROUNDING, "table 2"),
        "entropy_reduction_abstract_low": (reduction.min(), reduction_error, "table 3"),
        "entropy_reduction_low": (reduction.min(), reduction_error, "table 3"),
        "entropy_reduction_high": (reduction.max(), reduction_error, "table 3"),
        "noise_loss": (
            1 - noise["sdpo"][-1] / noise["sdpo"][0],
            difference / noise["sdpo"][0],
            "figure 4",
        ),
        "noise_gap_none": (gaps[0], difference, "figure 4"),
        "noise_gap_most": (gaps[-1], difference, "figure 4"),
        "noise_credit_none": (plotted["sdpo"][0], plotted["tolerance"], "figure 4"),
        "noise_credit_most": (plotted["sdpo"][-1], plotted["tolerance"], "figure 4"),
        "alpha_start": (min(hybrid["alpha_read_off_plot"]["at_step_0"]), 0.01, "figure 5"),
        "hybrid_entropy_low": (min(hybrid_entropy), ROUNDING, "figure 5"),
        "hybrid_entropy_high": (max(hybrid_entropy), ROUNDING, "figure 5"),
        "multiseed_gap": (five["sdpo"][0] - five["reinforce"][0], difference, "figure 6"),
    }


def _read(name: str) -> dict[str, Any]:
    return json.loads(resources.files("sweeps.paper").joinpath(name).read_text(encoding="utf-8"))
