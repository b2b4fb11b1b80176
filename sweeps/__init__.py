"""The paper reproduced, and sweeps in general: runs the library, stores results, reads them.

>>> import sweeps
>>> data = sweeps.run({"noise": [0.0, 0.3], "seed": range(64)}, "results/noise")  # doctest: +SKIP
>>> data = sweeps.open("results/noise")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.api.joining import join_sweeps as join
    from sweeps.api.running import run_sweep as run
    from sweeps.store.labelled import open_sweep as open

__all__ = ["join", "open", "run"]

# Imported when they are first asked for: a command that needs none of them starts sooner.
_PLACES = {
    "join": ("sweeps.api.joining", "join_sweeps"),
    "open": ("sweeps.store.labelled", "open_sweep"),
    "run": ("sweeps.api.running", "run_sweep"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, function = _PLACES[name]
    return getattr(importlib.import_module(module), function)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
