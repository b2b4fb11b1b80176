"""Self-teachers: the policy tilted by feedback, what a student does with them, and from what."""

from __future__ import annotations

from sdpo_jax.teachers.interpolation import (
    LARGEST_ERROR,
    MAX_NODES,
    NODE_CHOICES,
    check_nodes,
    interpolation_error,
    nodes_for,
    steepest,
    weights_at_0,
)
from sdpo_jax.teachers.teacher import (
    Levels,
    Teacher,
    from_levels,
    from_shifts,
    hint_exposure,
    hint_shift,
    prepare,
    teach,
    too_steep,
    weights,
)

__all__ = [
    "LARGEST_ERROR",
    "MAX_NODES",
    "NODE_CHOICES",
    "Levels",
    "Teacher",
    "check_nodes",
    "from_levels",
    "from_shifts",
    "hint_exposure",
    "hint_shift",
    "interpolation_error",
    "nodes_for",
    "prepare",
    "steepest",
    "teach",
    "too_steep",
    "weights",
    "weights_at_0",
]
