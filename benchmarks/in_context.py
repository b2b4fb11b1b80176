"""Training steps a second of the laboratory of networks: ``python -m benchmarks.in_context``.

Whole training runs in blocks, a block for each thread, as the study runs them. The first call
compiles; then each thread trains blocks until its time is over. What is printed is steps a second
over all runs, steps a second of processor time (what other work on the machine hardly changes), and
how many seconds it took to compile.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp

from sdpo_jax import compiler_options
from sdpo_jax.in_context import METHODS, Lab, Setting, Transformer, World, kinds, train


def measured(
    method: str, width: int, layers: int, length: int, runs: int, workers: int, seconds: float
) -> tuple[float, float, float]:
    """Steps a second over all runs, the same of processor time, and seconds to compile."""
    world = World(length=length)
    network = Transformer(world.ids, world.vocab_size, world.places, width=width, layers=layers)
    first = network.init(jax.random.key(0))
    lab = Lab(world, network, METHODS[method], steps=20)
    critique = kinds(["critique"])[0]

    def run(seed: Any) -> Any:
        return train(lab, first, seed, Setting(1e-3, critique)).curves["reward"]

    begun = time.perf_counter()
    program = jax.jit(jax.vmap(run), compiler_options=compiler_options())
    compiled = program.lower(jnp.arange(runs)).compile()
    compiling = time.perf_counter() - begun

    def work(worker: int) -> int:
        blocks, seeds = 0, jnp.arange(runs) + runs * worker
        while time.perf_counter() < end:
            jax.block_until_ready(compiled(seeds))
            blocks += 1
        return blocks

    begun, used = time.perf_counter(), time.process_time()
    end = begun + seconds
    with ThreadPoolExecutor(workers) as pool:
        blocks = sum(pool.map(work, range(workers)))
    steps = blocks * runs * lab.steps
    wall, used = time.perf_counter() - begun, time.process_time() - used
    return steps / wall, steps / used, compiling


def main() -> None:
    """Measure methods, then how it scales in width, layers, length and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement")
    parser.add_argument(
        "--scaling", action="store_true", help="also in width, layers, length, runs"
    )
    given = parser.parse_args()
    has_affinity = hasattr(os, "sched_getaffinity")
    workers = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    base = {"width": 32, "layers": 2, "length": 6, "runs": 16}
    cases = [
        ("grpo", base),
        ("sdpo_live_forward", base),
        ("sdpo_composed_forward", base),
    ]
    if given.scaling:
        for name, values in {
            "width": (16, 64), "layers": (1, 4), "length": (3, 12), "runs": (4, 64)
        }.items():  # fmt: skip
            cases += [("sdpo_live_forward", {**base, name: value}) for value in values]
    print(f"{workers} threads; load {os.getloadavg()[0]:.1f}; steps a second over all runs")
    for method, sizes in cases:
        rate, of_processor, compiling = measured(
            method, **sizes, workers=workers, seconds=given.seconds
        )
        shown = ", ".join(f"{name} {value}" for name, value in sizes.items())
        print(
            f"{method:24s} {shown:44s} {rate:6.0f} steps/s, {of_processor:6.0f} a second of one "
            f"processor, compiled in {compiling:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
