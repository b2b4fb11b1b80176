"""The one look of every figure: an algorithm's name, colour, marker and line never change.

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
