"""How speed, memory and compile time follow the size of everything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure

from benchmarks.point import Point, measure
from benchmarks.write import FOLDER, save, shown, spread, table
from sdpo_jax import METHODS, Sizes
from sweeps.style import METHOD_LOOKS, RC

# Two repeats of what takes minutes.
_FEW = 100_000
_SDPO: dict[str, list[Any]] = {"method": ["sdpo"], "feedback": ["continuous"]}


def points(largest: int, repeats: int) -> dict[str, list[tuple[float, Point]]]:
    """By what varies: its values, and what is measured there."""
    runs = [10**power for power in range(2, 7) if 10**power <= largest]
    base = min(4096, largest)

    def sized(name: str, values: Sequence[int]) -> list[tuple[float, Point]]:
        usual = getattr(Sizes, name)
        # About as much work at each.
        return [
            (value, Point(_SDPO, max(64, base * usual // value), repeats, _sizes(name, value)))
            for value in values
        ]

    return {
        "runs": [(count, Point(_SDPO, count, 2 if count >= _FEW else repeats)) for count in runs],
        "steps": sized("steps", (75, 150, 300, 600, 1200)),
        "length": sized("length", (1, 3, 6, 12, 24)),
        "vocab_size": sized("vocab_size", (2, 4, 8, 16, 32)),
        "rollouts": sized("rollouts", (8, 16, 32, 64, 128)),
        "methods": [
            (count, Point({**_SDPO, "method": list(METHODS)[:count]}, base * count, repeats))
            for count in range(1, len(METHODS) + 1)
        ],
        "devices": [(count, Point(_SDPO, base, repeats, devices=count)) for count in (1, 2)],
    }


def run(largest: int, repeats: int, path: Path | None, line: str) -> dict[str, Any]:
    """Measure every point, each in a process of its own."""
    results: dict[str, list[dict[str, Any]]] = {}
    rows = []
    for name, chosen in points(largest, repeats).items():
        results[name] = []
        for value, point in chosen:
            outcome = measure(point)
            rate = spread([outcome["runs"] / seconds for seconds in outcome["seconds"]])
            results[name].append({"value": value, "runs_per_second": rate, **outcome})
            rows.append(
                [
                    f"{name} {value:,}",
                    f"{outcome['runs']:,}",
                    shown(rate),
                    f"{outcome['compile']:.1f}",
                    f"{outcome['peak_mib']:,.0f}",
                ]
            )
    folder = FOLDER if path is None else path.parent
    header = ["what varies", "runs", "runs/s", "compile (s)", "peak memory (MiB)"]
    body = (
        table(header, rows) + "\nSDPO on continuous feedback; all else as in the paper. Each row "
        "in a process of its own; median (range) of the repeats. With devices, JAX shows so many "
        "host devices, and the grid uses them all.\n\n![Scaling](scaling.png)\n"
    )
    save("scaling", "Scaling", line, body, results, path)
    _draw(results, folder)
    return results


def _sizes(name: str, value: int) -> dict[str, int]:
    return {name: value}


def _draw(results: dict[str, list[dict[str, Any]]], folder: Path) -> None:
    with matplotlib.style.context(["default", RC]):
        _drawn(results).savefig(folder / "scaling.png", dpi=150, metadata={"Software": None})


def _drawn(results: dict[str, list[dict[str, Any]]]) -> Figure:
    names = ("runs", "steps", "length", "vocab_size", "rollouts")
    look = METHOD_LOOKS["sdpo"]
    figure = Figure(figsize=(12, 4.5))
    axes = figure.subplots(2, len(names), sharex="col")
    for column, name in enumerate(names):
        values = [each["value"] for each in results[name]]
        rates = [each["runs_per_second"] for each in results[name]]
        middle = [rate["median"] for rate in rates]
        bars = [
            [rate["median"] - rate["least"] for rate in rates],
            [rate["largest"] - rate["median"] for rate in rates],
        ]
        memory = [each["peak_mib"] for each in results[name]]
        axes[0, column].errorbar(values, middle, bars, marker=look.marker, color=look.colour)
        axes[1, column].plot(values, memory, marker=look.marker, color=look.colour)
        axes[0, column].set(xscale="log", yscale="log")
        axes[1, column].set(xlabel=name.replace("_", " "), ylim=(0, None))
    axes[0, 0].set_ylabel("training runs a second")
    axes[1, 0].set_ylabel("peak memory (MiB)")
    return figure
