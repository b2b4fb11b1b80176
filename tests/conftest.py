"""Compiled programs are kept in a folder of this process, and never in the user's cache.

Most of what the tests take is compilation, and many compile the same.
"""

import atexit
import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

# JAX reads these when it is imported. A process that a test starts reads what is kept and adds
# nothing: it may be killed while it writes, and JAX warns of what is half written.
_CACHE = tempfile.mkdtemp(prefix="sdpo_jax-tests-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "1e9"

# Linux ends a process that maps more than 65,530 pieces of memory, of which each program that is
# compiled and kept has a few. A process of the suite compiles tens of thousands.
_MAPS = Path("/proc/self/maps")
_MOST_MAPS = 30_000
# To count them takes as long as a small test.
_TESTS_BETWEEN = 8
_tests = 0


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="the tests that are marked slow as well")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow; pytest --slow"))


@pytest.fixture(autouse=True)
def _keep_programs():
    """Keep what is compiled here, from where a test or one before it has imported JAX."""
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture(autouse=True)
def _forget_programs():
    """Forget compiled programs before there are too many; those that are needed come again."""
    yield
    global _tests
    _tests += 1
    if _tests % _TESTS_BETWEEN == 0 and "jax" in sys.modules and _MAPS.exists():
        with _MAPS.open() as lines:
            count = sum(1 for _ in lines)
        if count > _MOST_MAPS:
            sys.modules["jax"].clear_caches()
            gc.collect()
