"""Whole grids of training runs: planned, compiled, computed in blocks, labelled."""

from __future__ import annotations

from sdpo_jax.grid.axes import AXES, TITLES, check_size
from sdpo_jax.grid.devices import default_block_width, default_workers
from sdpo_jax.grid.execute import Progress, compiled_ahead, compute, fill
from sdpo_jax.grid.groups import Group, default_nodes
from sdpo_jax.grid.label import describe, label
from sdpo_jax.grid.plan import Chunk, Plan, plan_grid
from sdpo_jax.grid.programs import compiler_options, output_bytes
from sdpo_jax.grid.run import run_grid

__all__ = [
    "AXES",
    "TITLES",
    "Chunk",
    "Group",
    "Plan",
    "Progress",
    "check_size",
    "compiled_ahead",
    "compiler_options",
    "compute",
    "default_block_width",
    "default_nodes",
    "default_workers",
    "describe",
    "fill",
    "label",
    "output_bytes",
    "plan_grid",
    "run_grid",
]
