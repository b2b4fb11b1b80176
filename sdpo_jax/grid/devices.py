"""Which devices compute blocks, how many at a time, and how wide a block is."""

from __future__ import annotations

import os
from typing import Any

import jax

from sdpo_jax.engine.checks import integer

_BLOCK_WIDTH = {"cpu": 64}
_ACCELERATOR_BLOCK_WIDTH = 8192

# Threads; more than this is a mistake in a number.
_MOST_WORKERS = 4096


def default_block_width() -> int:
    """Runs that one dispatch computes side by side on the default device kind."""
    return _BLOCK_WIDTH.get(jax.default_backend(), _ACCELERATOR_BLOCK_WIDTH)


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
