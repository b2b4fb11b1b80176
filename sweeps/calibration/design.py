"""What is simulated: a grid of settings, and for each the cells whose numbers the paper prints.

The paper's tables and figures 4 and 5 are one seed: one problem, and as far as its numbers show
(REINFORCE, which hears neither feedback nor noise, has ten different values there) luck of its own
in every cell. So every cell here is run on the same problems, ``problem_seed``, with rollouts of
its own, ``seed``. REINFORCE and the advantage-weighted algorithm run with the sign turned round,
which is what the published credit shows (see claim C08).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import sdpo_jax
from sdpo_jax import Config, Plan, Sizes, oracles
from sdpo_jax.grid import default_nodes

# Runs of the baselines whose mean stands for the ten that are published.
LUCKS = 4
# Apart from a problem's number: which cell a run's luck is for.
_LUCK_STRIDE = 1 << 20

SHARED_FEEDBACK = ("binary", "ordinal", "continuous")
NOISE = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
HYBRID_NOISE = 0.2


@dataclass(frozen=True)
class Settings:
    """The values of each unstated constant that are tried; every combination is a setting.

    Attributes:
        quality_scale: standard deviation of q.
        bigram_scale: standard deviation of b.
        pattern_weight: alpha_p.
        feedback_strength: beta.
        hint_noise: standard deviation of a critique's errors.
        ordinal: how a level of 5 is read.
        problems: for each setting.
    """

    quality_scale: tuple[float, ...] = (0.75, 1.0, 1.25)
    bigram_scale: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.5)
    pattern_weight: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.8)
    feedback_strength: tuple[float, ...] = (1.0, 1.5, 2.0, 2.5)
    hint_noise: tuple[float, ...] = (0.15, 0.3, 0.45, 0.6)
    ordinal: tuple[str, ...] = ("level / 5", "(level - 1) / 4")
    problems: int = 160

    def axes(self) -> dict[str, tuple[Any, ...]]:
        """The constants by name, in the order of every array of settings."""
        return {
            "quality_scale": self.quality_scale,
            "bigram_scale": self.bigram_scale,
            "pattern_weight": self.pattern_weight,
            "feedback_strength": self.feedback_strength,
            "hint_noise": self.hint_noise,
            "ordinal": self.ordinal,
        }


QUICK = Settings(
    quality_scale=(1.0,),
    bigram_scale=(0.3,),
    pattern_weight=(0.1, 0.5),
    feedback_strength=(1.0, 2.0),
    hint_noise=(0.45,),
    problems=64,
)

# Of the grids.
NAMES = (
    *("continuous", "binary", "ordinal", "critique", "hybrid", "hybrid_critique"),
    *("baselines", "shared", "shared_baseline"),
)

ORDINAL = {
    "level / 5": oracles.ordinal(5),
    "(level - 1) / 4": oracles.Oracle(
        None,
        np.float32(0),
        np.arange(1, 5, dtype=np.float32) / 5,
        np.full(4, 0.25, np.float32),
    ),
}


def plans(settings: Settings, sizes: Sizes | None = None) -> dict[str, Plan]:
    """The grids to train, by name.

    Each has a dimension ``draw``, cell by cell over the problems, and the constants as axes.
    """
    sizes = Sizes() if sizes is None else sizes
    constants = {
        name: values
        for name, values in settings.axes().items()
        if name not in ("hint_noise", "ordinal")
    }
    untaught = {name: values for name, values in constants.items() if name != "feedback_strength"}
    # One number of nodes for all, so that one program serves every setting.
    nodes = default_nodes(sizes, max(settings.feedback_strength), max(settings.quality_scale))

    def lay(luck: int, cells: int, axes: dict[str, Any], **options: Any) -> Plan:
        problem = np.tile(np.arange(settings.problems), cells)
        cell = np.repeat(np.arange(cells), settings.problems)
        draw = {
            "problem_seed": problem.tolist(),
            "seed": ((luck + cell + 1) * _LUCK_STRIDE + problem).tolist(),
        }
        noise = axes.pop("noise", None)
        if noise is not None:
            draw["noise"] = np.asarray(noise)[cell].tolist()
        return sdpo_jax.plan_grid(
            {**axes, "draw": draw},
            sizes=sizes,
            teacher_nodes=nodes,
            **options,
        )

    hints = {"hint_noise": settings.hint_noise}
    hybrid: dict[str, Any] = {
        "algorithm": "hybrid",
        "config": Config(noise=HYBRID_NOISE),
        "metrics": ("reward", "credit", "entropy", "weight"),
    }
    readings = {"oracle": {name: ORDINAL[name] for name in settings.ordinal}}
    return {
        "continuous": lay(0, 7, {**constants, "noise": (*NOISE, HYBRID_NOISE)}),
        "binary": lay(10, 1, {**constants}, oracle="binary"),
        "ordinal": lay(11, 1, {**constants, **readings}),
        "critique": lay(
            12, 2, {**constants, **hints, "noise": (0.0, HYBRID_NOISE)}, oracle="critique"
        ),
        "hybrid": lay(14, 1, {**constants}, **hybrid),
        "hybrid_critique": lay(15, 1, {**constants, **hints}, oracle="critique", **hybrid),
        "baselines": lay(
            20,
            LUCKS,
            {"algorithm": ("reinforce", "advantage_weighted"), **untaught},
            config=Config(sign=-1.0),
        ),
        "shared": lay(30, 1, {**constants, "oracle": SHARED_FEEDBACK}),
        "shared_baseline": lay(
            30, 1, {**untaught}, algorithm="reinforce", config=Config(sign=-1.0)
        ),
    }
