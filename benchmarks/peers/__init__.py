"""The same training runs by other means, to be timed beside the engine.

Each peer is a module with one function, ``prepare(algorithm, feedback, runs)``. It compiles and
warms up, and returns a function from a first seed to the final reward, credit and entropy of that
many runs, each ``[runs]``. Peers import nothing of the engine.

Of a library there may be two: the equations as one writes them in it, and a version tuned by hand
for this very model, to show how far the library goes at the price of the code's clarity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from benchmarks.peers.common import cpp_compiler

Train = Callable[[int], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Peer:
    """A peer that may lack its library.

    Attributes:
        title: what it is, for tables.
        module: of this package, where its ``prepare`` is; imported when it is first asked for.
        extra: the package it needs beyond the project's own, if any.
    """

    title: str
    module: str
    extra: str | None = None

    @property
    def available(self) -> bool:
        """Whether the extra package is installed."""
        return self.extra is None or find_spec(self.extra) is not None

    def prepare(self, algorithm: str, oracle: str, runs: int) -> Train:
        """Compile and warm up; see the module."""
        module = import_module(f"{__name__}.{self.module}")
        return module.prepare(algorithm, oracle, runs)


_COMPILED = "compiled" if cpp_compiler() else "eager"

PEERS: dict[str, Peer] = {
    "numpy_loop": Peer("NumPy, one run at a time", "numpy_loop"),
    "numpy_batched": Peer("NumPy, batched", "numpy_batched"),
    "numpy_tuned": Peer("NumPy, batched, tuned by hand", "numpy_tuned"),
    "numba_parallel": Peer("Numba, parallel", "numba_parallel", "numba"),
    "numba_tuned": Peer("Numba, parallel, tuned by hand", "numba_tuned", "numba"),
    "torch_batched": Peer(f"PyTorch, batched, {_COMPILED}", "torch_batched", "torch"),
    "torch_tuned": Peer(f"PyTorch, batched, {_COMPILED}, tuned by hand", "torch_tuned", "torch"),
    "jax_vmapped": Peer("JAX, vmap of one run", "jax_vmapped"),
}
