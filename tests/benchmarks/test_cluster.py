"""What the benchmark of a cluster simulates, in small."""

from __future__ import annotations

import tracemalloc

import distributed
import pytest

from benchmarks import cluster
from sweeps.store import tasks


def used(monkeypatch, count):
    """The most memory of planning and handing out so many blocks, in bytes."""
    # Both are replaced by the benchmark, in a process of its own.
    monkeypatch.setattr(tasks, "block_runs", tasks.block_runs)
    monkeypatch.setattr(distributed, "wait", distributed.wait)
    tracemalloc.start()
    try:
        found = cluster.handed_out(count)
        assert found["blocks"] == found["submitted"] == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_million_blocks_take_less_than_two_gigabytes(monkeypatch):
    used(monkeypatch, 10)  # what is imported and kept once
    few, many = (used(monkeypatch, count) for count in (200, 1700))
    assert (many - few) / 1500 == pytest.approx(1000, rel=0.8)
    assert (many - few) / 1500 * 1e6 < 1.7e9
