"""Training steps a second of the laboratory of networks: ``python -m benchmarks.in_context``.

Whole training runs in blocks, a block for each thread, as the study runs them, beside the same in
plain PyTorch where that is installed (``torch_lab.py``), in turns in one run. What is counted is
steps over all runs, of wall time, of which other work on the machine takes its share, and of
processor time, on which it has less effect. What a method costs to compile comes first.
"""

from __future__ import annotations

import importlib.util
import shlex
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from benchmarks.peers.common import cores
from benchmarks.write import Output, shown, spread, table
from sdpo_jax import compiler_options, problems
from sdpo_jax.in_context import METHODS, Lab, Setting, Transformer, World, kinds, train

BASE = {"width": 32, "layers": 2, "length": 6, "runs": 16}
_METHODS = ("grpo", "sdpo_live_forward", "sdpo_composed_forward")
# What torch_lab.py knows.
_PEER = ("grpo", "sdpo_live_forward")
_SCALES = {"width": (16, 64, 128), "layers": (1, 4), "length": (3, 12), "runs": (4, 64)}
_STEPS, _ROLLOUTS = 20, 32


@dataclass(frozen=True)
class Options:
    """Steps a second of networks in training, beside PyTorch, and by their sizes."""

    seconds: float = 5.0
    """Of each measurement."""
    repeats: int = 3
    """Measurements of each, of which the median is shown."""
    scaling: bool = True
    """Also by width, layers, length and runs."""
    torch: bool = True
    """Beside PyTorch, where it is installed."""
    json: Path | None = None
    """File of the result (default: results/benchmarks/in_context.json)."""


def _world(length: int) -> World:
    return World(length=length)


def _network(world: World, width: int, layers: int) -> Transformer:
    return Transformer(world.ids, world.vocab_size, world.places, width=width, layers=layers)


def ours(
    method: str, width: int, layers: int, length: int, runs: int
) -> tuple[Callable[[float], tuple[float, float]], float]:
    """What measures for so many seconds (steps a second of wall, of processor), and compile time.

    Args:
        method: its name.
        width: of the network.
        layers: of the network.
        length: T.
        runs: of a block; each core has one.
    """
    world = _world(length)
    network = _network(world, width, layers)
    first = network.init(jax.random.key(0))
    lab = Lab(world, network, METHODS[method], steps=_STEPS, rollouts=_ROLLOUTS)
    critique = kinds(["critique"])[0]

    def run(seed: Any) -> Any:
        return train(lab, first, seed, Setting(1e-3, critique)).curves["reward"]

    begun = time.perf_counter()
    program = jax.jit(jax.vmap(run), compiler_options=compiler_options())
    compiled = program.lower(jnp.arange(runs)).compile()
    compiling = time.perf_counter() - begun

    def measure(seconds: float) -> tuple[float, float]:
        end = time.perf_counter() + seconds

        def work(worker: int) -> int:
            blocks, seeds = 0, jnp.arange(runs) + runs * worker
            while blocks == 0 or time.perf_counter() < end:
                jax.block_until_ready(compiled(seeds))
                blocks += 1
            return blocks

        begun, used = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(cores()) as pool:
            blocks = sum(pool.map(work, range(cores())))
        steps = blocks * runs * lab.steps
        return steps / (time.perf_counter() - begun), steps / (time.process_time() - used)

    return measure, compiling


def peer(
    method: str, width: int, layers: int, length: int, runs: int
) -> Callable[[float], tuple[float, float]]:
    """The same of PyTorch, whose threads share the cores. Arguments as for ``ours``."""
    import torch  # pyright: ignore[reportMissingImports]

    from benchmarks import torch_lab

    torch.set_num_threads(cores())
    runs *= cores()
    world = _world(length)
    network = _network(world, width, layers)
    one = network.init(jax.random.key(0))
    first = torch_lab.stacked(
        jax.tree.map(lambda each: jnp.broadcast_to(each, (runs, *each.shape)), one)
    )
    drawn = problems.sample_problem(jnp.arange(runs), length, world.vocab_size)
    lab = torch_lab.Lab(method, length, world.vocab_size)

    def measure(seconds: float) -> tuple[float, float]:
        begun, used = time.perf_counter(), time.process_time()
        calls = 0
        while calls == 0 or time.perf_counter() - begun < seconds:
            lab.train(first, torch_lab.problems_of(drawn), _STEPS, _ROLLOUTS)
            calls += 1
        steps = calls * runs * _STEPS
        return steps / (time.perf_counter() - begun), steps / (time.process_time() - used)

    return measure


def _rates(
    measures: dict[str, Callable[[float], tuple[float, float]]], options: Options
) -> dict[str, dict[str, dict[str, float]]]:
    """By name the spread of both rates, measured in turns, after one that does not count."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in measures}
    for turn in range(options.repeats + 1):
        for name, measure in measures.items():
            rates = measure(options.seconds if turn else 0.0)
            if turn:
                found[name].append(rates)
    return {
        name: {
            what: spread([each[i] for each in rates])
            for i, what in enumerate(("wall", "processor"))
        }
        for name, rates in found.items()
    }


def run(options: Options, line: str) -> None:
    """Measure, print and save."""
    output = Output("in_context", "Networks in training", line, options.json)
    has_torch = options.torch and importlib.util.find_spec("torch") is not None
    rows, results = [], dict[str, Any]()
    for method in _METHODS:
        measure, compiling = ours(method, **BASE)
        measures = {"JAX": measure}
        if has_torch and method in _PEER:
            measures["PyTorch"] = peer(method, **BASE)
        rates = _rates(measures, options)
        results[method] = {"compile": compiling, "rates": rates}
        for name, both in rates.items():
            mine = rates["JAX"]["wall"]["median"]
            rows.append(
                [
                    f"{METHODS[method].label}, {name}",
                    shown(both["wall"]),
                    shown(both["processor"]),
                    f"{compiling:.1f}" if name == "JAX" else "",
                    "" if name == "JAX" else f"{mine / both['wall']['median']:.1f}",
                ]
            )
        print(*rows[-1], sep=" | ", flush=True)
    columns = ["steps a second over all runs", "of one processor", "compile, s", "JAX is faster by"]
    body = (
        f"Transformer of {BASE['layers']} layers of width {BASE['width']}, T={BASE['length']}, "
        f"V=8, {_ROLLOUTS} rollouts, blocks of {BASE['runs']} runs, {cores()} cores; median "
        f"(range) of {options.repeats} measurements of {options.seconds:g} s, in turns. The "
        "teachers read a critique.\n\n" + table(["", *columns], rows)
    )
    if not has_torch:
        body += "\nPyTorch was not installed, so it is not compared with.\n"
    if options.scaling:
        rows = []
        method = _METHODS[1]
        for name, values in _SCALES.items():
            for value in sorted({*values, BASE[name]}):
                measure, compiling = ours(method, **{**BASE, name: value})
                both = _rates({"JAX": measure}, options)["JAX"]
                results[f"{name} {value}"] = {"compile": compiling, "rates": both}
                rows.append(
                    [f"{name} {value}", shown(both["wall"]), shown(both["processor"]),
                     f"{compiling:.1f}"]
                )  # fmt: skip
                print(*rows[-1], sep=" | ", flush=True)
        body += f"\n{METHODS[method].label} by one size at a time, the others as above:\n\n"
        body += table(["", *columns[:3]], rows)
    output.save(body, {"options": asdict(options) | {"json": None}, **results})


if __name__ == "__main__":
    chosen = tyro.cli(Options, prog="python -m benchmarks.in_context")
    given = [f"--seconds={chosen.seconds:g}", f"--repeats={chosen.repeats}"]
    given += [] if chosen.scaling else ["--no-scaling"]
    given += [] if chosen.torch else ["--no-torch"]
    run(chosen, shlex.join(["python", "-m", "benchmarks.in_context", *given]))
