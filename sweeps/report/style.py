"""The one look of every figure: an algorithm's name, colour, marker and line are the same
everywhere.

Colours are Okabe and Ito's, which stay apart for colour-blind readers; markers and line patterns
say the same once more, for print in grey.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Look:
    """How one algorithm is shown."""

    label: str
    colour: str
    marker: str
    line: Literal["-", "--", ":", "-."]


ALGORITHM_LOOKS = {
    "sdpo": Look("SDPO", "#0072B2", "o", "-"),
    "reinforce": Look("REINFORCE", "#D55E00", "s", "--"),
    "advantage_weighted": Look("Advantage-weighted", "#009E73", "^", ":"),
    "hybrid": Look("Hybrid", "#CC79A7", "D", "-."),
}

# Names of the other algorithms for readers; of these here it is their look's.
_NAMES = {
    "advantage_weighted": "advantage-weighted",
    "dense_reward": "dense reward for free",
    "distillation": "distillation",
    "dpo": "DPO",
    "dpo_best_worst": "DPO, best against worst",
    "dr_grpo": "Dr. GRPO",
    "grpo": "GRPO",
    "hybrid": "hybrid",
    "opsd": "OPSD",
    "ppo": "PPO-clip",
    "process_reward": "process reward, exact",
    "process_reward_learned": "process reward, learned",
    "reinforce": "REINFORCE",
    "rlhf": "RLHF",
    "rloo": "RLOO",
    "scar": "SCAR",
    "scar_sampled": "SCAR, sampled",
    "sdft": "SDFT",
    "sdpo": "SDPO",
}
_PARTS = {"ema": "EMA", "jsd": "JSD"}


def readers_name(name: str) -> str:
    """An algorithm's name in running text and tables: ``RLOO``, ``SDPO, JSD, EMA``.

    A name that the library has not given stays as it is.
    """
    if name in _NAMES:
        return _NAMES[name]
    if name.startswith("sdpo_"):
        rest = name.removeprefix("sdpo_").replace("top_k", "top-k").split("_")
        return ", ".join(["SDPO", *(_PARTS.get(part, part) for part in rest)])
    return name


FEEDBACK_LABELS = {
    "binary": "Binary",
    "ordinal": "Ordinal",
    "continuous": "Continuous",
    "critique": "Critique",
}

# A published value is never confused with an algorithm's marker: a cross in the algorithm's colour,
# lined with white so that it shows on top of bands.
PUBLISHED_MARKER = "X"

INK = "#333333"

# Sizes are for a figure 4.8 inches wide: a telephone shows it at three quarters of that.
RC = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
    "path.simplify": True,
}
