"""Where results come from: versions, device, commit, and a digest of the code that ran."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import sdpo_jax

_PACKAGES = ("jax", "jaxlib", "numpy", "optax", "scipy", "xarray")
_ROOT = Path(__file__).resolve().parent.parent


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version(), "sdpo_jax": sdpo_jax.__version__}
    return found | {name: metadata.version(name) for name in _PACKAGES}


def device() -> dict[str, Any]:
    """What computed: the backend, the kind of device, how many, and the processor's name."""
    devices = jax.local_devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "devices": len(devices),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def commit() -> str | None:
    """The commit of the checkout, with ``-dirty`` where files differ; ``None`` outside git."""
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "sdpo_jax", "sweeps")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}-dirty" if changed else head


def source_digest() -> str:
    """SHA-256 of the code that decides the paper's numbers, so that stale data are never reused."""
    experiments = (_ROOT / "sweeps" / f"{name}.py" for name in ("landscape", "paper"))
    return _digest([*_library(), *experiments])


def library_digest() -> str:
    """SHA-256 of the library's code, which decides what a run of a sweep yields."""
    return _digest(_library())


def _library() -> list[Path]:
    return sorted((_ROOT / "sdpo_jax").rglob("*.py"))


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(_ROOT).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _git(*arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
