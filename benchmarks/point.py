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
        repeats: how often the whole is timed, after a first time that compiles; 1 or more.
        sizes: those of ``Sizes`` that are not the paper's.
        block_width: runs of a block; the engine's own choice if ``None``.
        devices: host devices that JAX shows; 0 for what it shows by itself.
        registered: algorithms that the library knows; 0 for its own.
    """

    axes: dict[str, list[Any]]
    runs: int
    repeats: int
    sizes: dict[str, int] = field(default_factory=dict)
    block_width: int | None = None
    devices: int = 0
    registered: int = 0


def measure(point: Point) -> dict[str, Any]:
    """Measure a point in a fresh process.

    Returns:
        ``runs``; ``seconds`` of each repeat; of the start, in seconds, ``import``, ``trace``,
        ``lower``, ``compile`` (each summed over programs and devices) and ``first`` (all of a
        first call but the import); ``peak_mib``; ``means``, the mean final value of each metric.

    Raises:
        RuntimeError: the process failed; the message holds what it printed.
    """
    # Compiled anew, whatever an earlier process left in a cache.
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "0"}
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


def platform() -> str:
    """The kind of device that JAX picks, asked in a fresh process: this one holds no device."""
    ask = "import jax; print(jax.default_backend())"
    return subprocess.check_output([sys.executable, "-c", ask], text=True).split()[-1]


def peak_mib(usage: resource.struct_rusage) -> float:
    """The largest resident memory, in MiB."""
    # Linux counts in KiB, macOS in bytes.
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _measure_here(point: Point) -> dict[str, Any]:
    begun = time.perf_counter()
    import jax

    import sdpo_jax

    imported = time.perf_counter()
    parts = dict.fromkeys(_PARTS.values(), 0.0)

    def hear(event: str, duration_secs: float, **_: str | int) -> None:
        if event in _PARTS:
            parts[_PARTS[event]] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(hear)
    cells = 1
    for values in point.axes.values():
        cells *= len(values)
    seeds = max(1, point.runs // cells)
    sizes = sdpo_jax.Sizes(**point.sizes)
    if point.registered:
        _register(point.registered, point.axes["algorithm"])

    def run(count: int) -> tuple[float, dict[str, float]]:
        start = time.perf_counter()
        data = sdpo_jax.run_grid(
            {**point.axes, "seed": range(count)}, sizes=sizes, block_width=point.block_width
        )
        taken = time.perf_counter() - start
        # Not xarray's own mean, which copies what this is to measure the memory of.
        means = {name: float(data[name].values.mean()) for name in ("reward", "credit", "entropy")}
        return taken, means

    first, means = run(1)
    seconds = []
    for _ in range(point.repeats):
        taken, means = run(seeds)
        seconds.append(taken)
    return {
        "runs": seeds * cells,
        "seconds": seconds,
        "import": imported - begun,
        "first": first,
        **parts,
        "peak_mib": peak_mib(resource.getrusage(resource.RUSAGE_SELF)),
        "means": means,
    }


def _register(count: int, measured: list[str]) -> None:
    """Leave so many algorithms in the registry, or add copies of its own up to so many."""
    from sdpo_jax import ALGORITHMS

    # Those that are measured stay, whatever goes.
    known = sorted(ALGORITHMS.items(), key=lambda item: item[0] not in measured)
    ALGORITHMS.clear()
    ALGORITHMS.update(known[:count])
    for number in range(count - len(ALGORITHMS)):
        name, algorithm = known[number % len(known)]
        ALGORITHMS[f"{name}_{number}"] = algorithm


if __name__ == "__main__":
    print(json.dumps(_measure_here(Point(**json.loads(sys.argv[1])))))
