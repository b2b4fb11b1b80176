"""What a figure was measured on."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sweeps.provenance import machine, sources

_PEERS = ("numba", "torch")
_VECTORS = ("avx512f", "avx2", "asimd")


def fingerprint() -> dict[str, Any]:
    """The machine and the versions, as JSON."""
    return {
        **machine.device(),
        "vectors": _vectors(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "commit": sources.commit(),
        **machine.versions(),
        **{name: found for name in _PEERS if (found := _version(name)) is not None},
    }


def described(found: dict[str, Any]) -> str:
    """A fingerprint in one line."""
    where = f"{found['processor']}, {found['cores']} cores, {found['vectors']}"
    if found["platform"] != "cpu":
        where = f"{found['devices']} x {found['kind']} ({where})"
    return f"{where}; jax {found['jax']}, Python {found['python']}"


def _vectors() -> str:
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.exists() else []
    return next((name for name in _VECTORS if name in flags), "vector width unknown")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
