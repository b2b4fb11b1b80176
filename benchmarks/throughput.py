"""Training runs a second of each algorithm and oracle, and what a start costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.point import Point, measure
from benchmarks.write import Output, bars, shown, spread, table
from sdpo_jax import ALGORITHMS, ORACLES, Program
from sdpo_jax.program import needs_teacher
from sweeps.report.style import ALGORITHM_LOOKS, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The paper's.
_ALGORITHMS = ("sdpo", "reinforce", "advantage_weighted", "hybrid")
_ORACLES = ("binary", "ordinal", "continuous", "critique")
# A critique gives every rollout a teacher of its own: so many times fewer runs take as long.
_CRITIQUE_SHARE = 8
_STARTS = ("trace", "lower", "compile", "first")


def cases(algorithm: str | None, oracle: str | None) -> list[tuple[str, str]]:
    """The paper's algorithms under the paper's oracles, or those that are named.

    Raises:
        ValueError: an unknown name.
    """
    for option, name, allowed in (
        ("--algorithm", algorithm, ALGORITHMS),
        ("--oracle", oracle, ORACLES),
    ):
        if name is not None and name not in allowed:
            raise ValueError(f"{option}: {name!r}; allowed: {', '.join(allowed)}")
    algorithms = _ALGORITHMS if algorithm is None else (algorithm,)
    oracles = _ORACLES if oracle is None else (oracle,)
    return [(name, kind) for name in algorithms for kind in oracles]


def run(
    algorithm: str | None,
    oracle: str | None,
    runs: int,
    repeats: int,
    block_width: int | None,
    output: Output,
) -> None:
    """Measure each case in a process of its own.

    Raises:
        ValueError: an unknown name.
    """
    results = []
    for name, kind in cases(algorithm, oracle):
        costly = ORACLES[kind]().hints is not None and needs_teacher(Program(name))
        count = max(1, runs // (_CRITIQUE_SHARE if costly else 1))
        axes = {"algorithm": [name], "oracle": [kind]}
        outcome = measure(Point(axes, count, repeats, block_width=block_width))
        rate = spread([outcome["runs"] / seconds for seconds in outcome["seconds"]])
        results.append({"algorithm": name, "oracle": kind, "runs_per_second": rate, **outcome})
    rows = [
        [
            f"{each['algorithm']}, {each['oracle']}",
            shown(each["runs_per_second"]),
            *(f"{each[part]:.2f}" for part in _STARTS),
            f"{each['peak_mib']:,.0f}",
        ]
        for each in results
    ]
    header = ["case", "runs/s", *(f"{part} (s)" for part in _STARTS), "peak memory (MiB)"]
    body = (
        table(header, rows) + "\nRuns of 300 steps with per-step reward, credit and entropy, from "
        f"the call to the labelled result: median (range) of {repeats} repeats of {runs:,} runs "
        f"({runs // _CRITIQUE_SHARE:,} where a critique teaches). Each case in a process of its "
        "own, with an empty compilation cache; *first* is the first call, of one block, with "
        "everything that it traces, lowers and compiles.\n"
    )
    output.save(body, results, lambda: _figure(results))


def _label(algorithm: str) -> str:
    look = ALGORITHM_LOOKS.get(algorithm)
    return look.label if look else algorithm


def _figure(results: list[dict[str, Any]]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.6 + 0.27 * len(results)))
    axes = figure.subplots()
    middle, ranges = bars([each["runs_per_second"] for each in results])
    colours = [
        ALGORITHM_LOOKS[each["algorithm"]].colour if each["algorithm"] in ALGORITHM_LOOKS else INK
        for each in results
    ]
    names = [
        f"{getattr(ALGORITHM_LOOKS.get(each['algorithm']), 'label', each['algorithm'])}, "
        f"{each['oracle']}"
        for each in results
    ]
    axes.barh(names, middle, xerr=ranges, color=colours, ecolor=INK, height=0.7)
    for place, value in enumerate(middle):
        axes.annotate(
            f" {value:,.0f}", (max(value, middle[place] + ranges[1][place]), place), va="center"
        )
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="training runs a second (median; bar: range)", title="Throughput")
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return figure
