"""What lies where in a folder of results."""

from __future__ import annotations

from pathlib import Path

from sweeps.system.writing import remove_partial_files

MANIFEST = "manifest.json"
DATA = "data"
# Where a sweep gets its folder unless another one is named.
SWEEPS_OUT = Path("results")
# Under ``data``: what other machines computed with, beside the manifest's fingerprints.
FINGERPRINTS = "fingerprints"
# And which process has which block under way.
CLAIMS = "claims"
# What ``render``, ``replay`` and ``export`` write beside the data.
MADE = ("tables", "figures", "replays", "export")


def clear_partial_files(folder: Path) -> None:
    """Remove what writes that were killed left in a folder of results and in its own folders."""
    remove_partial_files(folder, *(folder / name for name in (DATA, *MADE)))
