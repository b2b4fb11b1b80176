"""Results on disk: JSON that holds everything, a Markdown table to read, a figure to look at."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import described, fingerprint

FOLDER = Path("results/benchmarks")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {
        "median": statistics.median(values),
        "least": min(values),
        "largest": max(values),
    }


def shown(values: dict[str, float], digits: int = 0) -> str:
    """A median with its range, as ``12,345 (11,900-12,800)``."""
    text = {name: f"{value:,.{digits}f}" for name, value in values.items()}
    return f"{text['median']} ({text['least']}-{text['largest']})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the columns after the first are set right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows)) + "\n"


def save(name: str, title: str, command: str, body: str, data: Any, path: Path | None) -> None:
    """Print a table, and write it with its data as ``NAME.md`` and ``NAME.json``.

    Args:
        name: of the benchmark.
        title: of the page.
        command: what makes it again.
        body: Markdown.
        data: everything that was measured, for JSON.
        path: of the JSON, and of the page beside it; in ``results/benchmarks`` by default.
    """
    machine = fingerprint()
    path = FOLDER / f"{name}.json" if path is None else path
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"command": command, "machine": machine, "results": data}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    page = f"# {title}\n\n{body}\nMeasured on {described(machine)}. Made by `{command}`.\n"
    path.with_suffix(".md").write_text(page, encoding="utf-8")
    print(page)
