"""How speed, memory and compile time follow the size of everything."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.point import Point, measure, platform
from benchmarks.throughput import cases
from benchmarks.write import Output, bars, shown, spread, table
from sdpo_jax import ALGORITHMS, Sizes
from sweeps.report.style import ALGORITHM_LOOKS, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXES = (
    "runs",
    "steps",
    "length",
    "vocab_size",
    "rollouts",
    "block_width",
    "algorithms",
    "registered",
    "devices",
)

# From so many runs on two repeats are enough; up to so many, a repeat is a matter of a moment.
_MANY, _FEW = 100_000, 1_000
_MOMENTS = 20
_WIDTHS = {"cpu": (16, 32, 64, 128, 256, 1024)}
_ACCELERATOR_WIDTHS = (256, 1024, 4096, 8192, 16384, 32768)
_ALGORITHMS = (1, 2, 4, 8)
# The paper's algorithms alone, all that there are, and users' own beside them.
_REGISTERED = (4, len(ALGORITHMS), 4 * len(ALGORITHMS))
# Blocks of the widest that are computed.
_BLOCKS = 4


def points(
    algorithm: str, oracle: str, largest: int, repeats: int, device: str
) -> dict[str, list[tuple[int, Point]]]:
    """By what varies: its values, and what is measured there."""
    axes: dict[str, list[Any]] = {"algorithm": [algorithm], "oracle": [oracle]}
    runs = [10**power for power in range(2, 7) if 10**power <= largest]
    base = min(4096, largest)
    widths = _WIDTHS.get(device, _ACCELERATOR_WIDTHS)
    # The asked-for algorithm first, then one more at each point.
    algorithms = [algorithm, *(name for name in ALGORITHMS if name != algorithm)]

    def repeated(count: int) -> int:
        return min(repeats, 2) if count >= _MANY else max(repeats, _MOMENTS * (count <= _FEW))

    def sized(name: str, values: Sequence[int]) -> list[tuple[int, Point]]:
        usual = getattr(Sizes, name)
        # About as much work at each.
        return [
            (value, Point(axes, max(64, base * usual // value), repeats, {name: value}))
            for value in values
        ]

    return {
        "runs": [(count, Point(axes, count, repeated(count))) for count in runs],
        "steps": sized("steps", (75, 150, 300, 600, 1200)),
        "length": sized("length", (1, 3, 6, 12, 24)),
        "vocab_size": sized("vocab_size", (2, 4, 8, 16, 32)),
        "rollouts": sized("rollouts", (8, 16, 32, 64, 128)),
        "block_width": [
            (width, Point(axes, max(base, _BLOCKS * width), repeats, block_width=width))
            for width in widths
        ],
        "algorithms": [
            (count, Point({**axes, "algorithm": algorithms[:count]}, base * count, repeats))
            for count in _ALGORITHMS
        ],
        "registered": [
            (count, Point(axes, base, repeats, registered=count)) for count in _REGISTERED
        ],
        # Only host devices can be had in any number.
        "devices": [(count, Point(axes, base, repeats, devices=count)) for count in (1, 2)]
        if device == "cpu"
        else [],
    }


def run(
    algorithm: str,
    oracle: str,
    only: Collection[str],
    largest: int,
    repeats: int,
    output: Output,
) -> None:
    """Measure every point, each in a process of its own.

    Raises:
        ValueError: an unknown name, or fewer than 100 runs.
    """
    cases(algorithm, oracle)
    if largest < 100:
        raise ValueError(f"--runs: {largest}; allowed: 100 or more")
    for name in only:
        if name not in AXES:
            raise ValueError(f"--only: {name!r}; allowed: {', '.join(AXES)}")
    results: dict[str, list[dict[str, Any]]] = {}
    rows = []
    wanted = {
        name: chosen
        for name, chosen in points(algorithm, oracle, largest, repeats, platform()).items()
        if chosen and (not only or name in only)
    }
    for name, chosen in wanted.items():
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
        # All of it takes long, and what is measured should not be lost.
        last = len(results) == len(wanted)
        _save(results, rows, algorithm, oracle, output, last)


def _save(
    results: dict[str, list[dict[str, Any]]],
    rows: list[list[str]],
    algorithm: str,
    oracle: str,
    output: Output,
    last: bool,
) -> None:
    header = ["what varies", "runs", "runs/s", "compile (s)", "peak memory (MiB)"]
    body = (
        table(header, rows) + f"\n{algorithm}, {oracle} feedback; all else as in the paper, "
        "summaries only. Each row in a process of its own, with an empty compilation cache; "
        "median (range) of the repeats. *algorithms*: so many in one grid. *registered*: so many "
        "that the library knows, of which one is run. *devices*: JAX shows so many host "
        "devices, and the grid uses them all.\n"
    )
    body += _flatness(results.get("runs", []))
    drawn = [name for name in results if name not in ("algorithms", "registered", "devices")]
    draw = (lambda: _figure(results, drawn, algorithm)) if drawn else None
    output.save(body, results, draw, last)


def _flatness(by_runs: list[dict[str, Any]]) -> str:
    """How constant the cost of a run and the memory are, in words."""
    costs = {
        each["value"]: 1 / each["runs_per_second"]["median"]
        for each in by_runs
        if each["value"] >= 1_000
    }
    memory = {each["value"]: each["peak_mib"] for each in by_runs if each["value"] >= 10_000}
    if len(costs) < 2 or len(memory) < 2:
        return ""
    cost = max(costs.values()) / min(costs.values()) - 1
    least, most = min(memory), max(memory)
    grown = memory[most] / memory[least] - 1
    return (
        f"\nFrom {min(costs):,} to {most:,} runs the cost of a run varies by {cost:.1%}; from "
        f"{least:,} to {most:,} the peak of memory changes by {grown:+.1%}.\n"
    )


def _figure(
    results: dict[str, list[dict[str, Any]]], names: Sequence[str], algorithm: str
) -> Figure:
    from matplotlib.figure import Figure

    look = ALGORITHM_LOOKS.get(algorithm)
    style = {"marker": look.marker if look else "o", "color": look.colour if look else INK}
    figure = Figure(figsize=(1.2 + 2.1 * len(names), 6.5))
    axes = figure.subplots(3, len(names), sharex="col", sharey="row", squeeze=False)
    for column, name in enumerate(names):
        values = [each["value"] for each in results[name]]
        middle, ranges = bars([each["runs_per_second"] for each in results[name]])
        speed, memory, compiling = axes[:, column]
        speed.errorbar(values, middle, ranges, capsize=2, **style)
        memory.plot(values, [each["peak_mib"] for each in results[name]], **style)
        compiling.plot(values, [each["compile"] for each in results[name]], **style)
        speed.set(xscale="log", yscale="log")
        compiling.set_xlabel(name.replace("_", " "))
        if name != "runs":
            compiling.set_xticks(values, [f"{value:,}" for value in values])
            compiling.minorticks_off()
    axes[0, 0].set_ylabel("training runs a second")
    axes[1, 0].set_ylabel("peak memory (MiB)")
    axes[2, 0].set_ylabel("compile time (s)")
    axes[0, 0].yaxis.set_major_formatter("{x:,.0f}")
    axes[0, 0].yaxis.set_minor_formatter("")
    for row in axes[1:]:
        row[0].set_ylim(0, 1.1 * row[0].get_ylim()[1])
    figure.suptitle(f"Scaling of {look.label if look else algorithm}")
    return figure
