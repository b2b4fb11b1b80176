"""A checked sweep: what a sweep file says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sdpo_jax
from sdpo_jax import Plan

# Ends the name of a grid's second table.
COMPARISONS = "-comparisons"


@dataclass(frozen=True)
class Grid:
    """One grid of a sweep: what ``plan_grid`` takes.

    Attributes:
        title: for readers.
        axes: as for ``plan_grid``.
        options: the other arguments of ``plan_grid``.
    """

    title: str
    axes: dict[str, Any]
    options: dict[str, Any]

    def plan(self) -> Plan:
        """The grid laid out."""
        return sdpo_jax.plan_grid(self.axes, **self.options)


@dataclass(frozen=True)
class Sweep:
    """A checked sweep file.

    Attributes:
        name: a plain word, for folders.
        title: for readers.
        grids: by name.
        text: the file as it was read.
        plans: by name, each grid laid out.
        named: as ``KIND NAME`` the parts that it names as ``module:name``.
    """

    name: str
    title: str
    grids: dict[str, Grid]
    text: str
    plans: dict[str, Plan] = field(repr=False)
    named: tuple[str, ...] = ()
