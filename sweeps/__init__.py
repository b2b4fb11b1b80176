"""The paper reproduced, and sweeps in general: runs the library, stores results, reads them.

>>> import sweeps
>>> data = sweeps.run({"noise": [0.0, 0.3], "seed": range(64)}, "results/noise")  # doctest: +SKIP
>>> data = sweeps.open("results/noise")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.api.join import join_sweeps as join
    from sweeps.api.open import open_sweep as open
    from sweeps.api.run import run_sweep as run

__all__ = ["join", "open", "run"]

# Imported when they are first asked for: a command that needs none of them starts sooner.
_PLACES = {
    "join": ("sweeps.api.join", "join_sweeps"),
    "open": ("sweeps.api.open", "open_sweep"),
    "run": ("sweeps.api.run", "run_sweep"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, function = _PLACES[name]
    return getattr(importlib.import_module(module), function)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
