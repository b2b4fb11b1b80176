"""Training runs a second of each method and oracle, and what a start costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.point import Point, measure
from benchmarks.write import save, shown, spread, table

CASES = (
    ("sdpo", "continuous"),
    ("sdpo", "binary"),
    ("sdpo", "ordinal"),
    ("sdpo", "critique"),
    ("reinforce", "continuous"),
    ("advantage_weighted", "continuous"),
    ("hybrid", "continuous"),
    ("hybrid", "critique"),
)
# A critique gives every rollout a teacher of its own: fewer runs take as long.
_SHARE = {"critique": 8}


def run(
    method: str | None, oracle: str | None, runs: int, repeats: int, path: Path | None, line: str
) -> list[dict[str, Any]]:
    """Measure every case, or those of one method or oracle."""
    cases = [case for case in CASES if method in (None, case[0]) and oracle in (None, case[1])] or [
        (method or "sdpo", oracle or "continuous")
    ]
    results = []
    for name, feedback in cases:
        count = max(1, runs // _SHARE.get(feedback, 1))
        outcome = measure(Point({"method": [name], "feedback": [feedback]}, count, repeats))
        rate = spread([outcome["runs"] / seconds for seconds in outcome["seconds"]])
        results.append({"method": name, "feedback": feedback, "runs_per_second": rate, **outcome})
    rows = [
        [
            f"{each['method']}, {each['feedback']}",
            shown(each["runs_per_second"]),
            f"{each['trace']:.1f}",
            f"{each['lower']:.1f}",
            f"{each['compile']:.1f}",
            f"{each['peak_mib']:,.0f}",
        ]
        for each in results
    ]
    header = ["case", "runs/s", "trace (s)", "lower (s)", "compile (s)", "peak memory (MiB)"]
    body = (
        table(header, rows) + "\nRuns of 300 steps with per-step reward, credit and entropy; "
        f"median (range) of {repeats} repeats of up to {runs:,} runs, each case in a process of "
        "its own.\n"
    )
    save("throughput", "Throughput", line, body, results, path)
    return results
