"""One point of a benchmark, in a process of its own: ``python -m benchmarks.point '{...}'``.

A fresh process is the only honest cold start, and the only one whose peak memory is its own.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

# JAX's own names for the parts of a start-up.
_PARTS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
}


@dataclass(frozen=True)
class Point:
    """What is measured.

    Attributes:
        axes: as for ``run_grid``, without ``seed``.
        runs: training runs; the seeds are 0 up to the runs of a cell.
        repeats: how often the whole is timed, after a first time that compiles.
        sizes: those of ``Sizes`` that are not the paper's.
        block_width: runs of a block; the engine's own choice if ``None``.
        devices: host devices that JAX shows; 0 for what it shows by itself.
    """

    axes: dict[str, list[Any]]
    runs: int
    repeats: int
    sizes: dict[str, int] = field(default_factory=dict)
    block_width: int | None = None
    devices: int = 0


def measure(point: Point) -> dict[str, Any]:
    """Measure a point in a fresh process.

    Returns:
        ``seconds`` of each repeat, ``trace``, ``lower``, ``compile``, ``import`` and ``first``
        seconds, ``peak_mib``, ``runs``, and the mean final value of each metric.

    Raises:
        RuntimeError: the process failed; the message holds what it printed.
    """
    environment = dict(os.environ)
    if point.devices:
        environment["JAX_NUM_CPU_DEVICES"] = str(point.devices)
    outcome = subprocess.run(
        [sys.executable, "-m", "benchmarks.point", json.dumps(asdict(point))],
        capture_output=True,
        text=True,
        env=environment,
    )
    if outcome.returncode:
        raise RuntimeError(f"{point}: {outcome.stderr}")
    return json.loads(outcome.stdout.splitlines()[-1])


def _measure_here(point: Point) -> dict[str, Any]:
    begun = time.perf_counter()
    import jax

    import sdpo_jax

    imported = time.perf_counter()
    parts = dict.fromkeys(_PARTS.values(), 0.0)

    def hear(event: str, seconds: float, **_: Any) -> None:
        if event in _PARTS:
            parts[_PARTS[event]] += seconds

    jax.monitoring.register_event_duration_secs_listener(hear)
    cells = 1
    for values in point.axes.values():
        cells *= len(values)
    seeds = max(1, point.runs // cells)
    sizes = sdpo_jax.Sizes(**point.sizes)

    def run(count: int) -> Any:
        return sdpo_jax.run_grid(
            {**point.axes, "seed": range(count)}, sizes=sizes, block_width=point.block_width
        )

    run(1)
    first = time.perf_counter() - imported
    seconds = []
    for _ in range(point.repeats):
        start = time.perf_counter()
        data = run(seeds)
        seconds.append(time.perf_counter() - start)
    # Linux counts in KiB, macOS in bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {
        "runs": seeds * cells,
        "seconds": seconds,
        "import": imported - begun,
        "first": first,
        **parts,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit,
        "means": {name: float(data[name].mean()) for name in ("reward", "credit", "entropy")},
    }


if __name__ == "__main__":
    print(json.dumps(_measure_here(Point(**json.loads(sys.argv[1])))))
