"""Which devices compute blocks, how many at a time, and how wide a block is."""

from __future__ import annotations

import os
from typing import Any

import jax

from sdpo_jax.engine.checks import integer
from sdpo_jax.grid.limits import LANES, block_bytes
from sdpo_jax.program import Program

# On a CPU, of tables of so many logits and of larger ones: so that a step's arrays stay in a cache.
_SMALL_TABLE = 128
_CPU_WIDTHS = 64, 16
# Elsewhere the most, and the part of a device's memory that a block may take by what is known of
# it: the compiler keeps more than that, and blocks of several programs are on their way at a time.
_ACCELERATOR_WIDTH = 8192
_PART_OF_MEMORY = 1 / 4

# Threads; more than this is a mistake in a number.
_MOST_WORKERS = 4096


def default_block_width(program: Program | None = None, hints: bool = False) -> int:
    """Runs that are computed side by side on the default kind of device.

    On a CPU it depends on the program's sizes alone, and so do a run's bits. On an accelerator it
    is halved until a block fits into the device's memory.

    Args:
        program: whose block; the paper's by default.
        hints: whether its oracle gives hints.
    """
    program = Program() if program is None else program
    if jax.default_backend() == "cpu":
        small = program.sizes.length * program.sizes.vocab_size <= _SMALL_TABLE
        return _CPU_WIDTHS[0 if small else 1]
    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    width = _ACCELERATOR_WIDTH
    while (
        width > LANES and memory and block_bytes(program, hints, width) > _PART_OF_MEMORY * memory
    ):
        width //= 2
    return width


def default_workers() -> int:
    """Blocks that are computed at a time."""
    return len(devices_of(None))


def devices_of(given: int | None) -> list[Any]:
    """The device of each worker."""
    devices = jax.local_devices()
    if given is not None:
        given = integer("workers", given, 1)
        if given > _MOST_WORKERS:
            raise ValueError(f"workers: {given}; allowed: up to {_MOST_WORKERS}")
        return [devices[i % len(devices)] for i in range(given)]
    if devices[0].platform == "cpu" and len(devices) == 1:
        return devices * len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [0])
    return devices
