"""No test, and no process that a test starts, uses the user's cache of compiled programs."""

import gc
import os
import sys
from pathlib import Path

import pytest

# Before JAX is imported, which reads it then.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "0"

# Linux ends a process that maps more than 65,530 pieces of memory, of which each program that is
# compiled and kept has a few. A process of the suite compiles tens of thousands.
_MAPS = Path("/proc/self/maps")
_MOST_MAPS = 15_000


@pytest.fixture(autouse=True)
def _forget_programs():
    """Forget compiled programs before there are too many; those that are needed come again."""
    yield
    if "jax" in sys.modules and _MAPS.exists():
        with _MAPS.open() as lines:
            count = sum(1 for _ in lines)
        if count > _MOST_MAPS:
            sys.modules["jax"].clear_caches()
            gc.collect()
