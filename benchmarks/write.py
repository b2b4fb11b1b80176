"""Results on disk: JSON that holds everything, a Markdown table to read, a figure to look at."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import described, fingerprint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path("results/benchmarks")


@dataclass(frozen=True)
class Output:
    """Where a benchmark's results go.

    Attributes:
        name: of the benchmark.
        title: of the page.
        command: what makes it again.
        path: of the JSON, ``results/benchmarks/NAME.json`` by default; the page and the figure
            lie beside it.
        load: how many processes wanted a core before it began.
    """

    name: str
    title: str
    command: str
    path: Path | None = None
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    def save(
        self, body: str, data: Any, draw: Callable[[], Figure] | None = None, last: bool = True
    ) -> None:
        """Write a page of Markdown with its data and its figure; print it, if it is the last."""
        path = FOLDER / f"{self.name}.json" if self.path is None else self.path
        machine = fingerprint() | {"load_before": round(self.load, 2)}
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = {"command": self.command, "machine": machine, "results": data}
        path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        page = f"# {self.title}\n\n{body}\n"
        if draw is not None:
            _write_figure(path.with_suffix(".png"), draw)
            page += f"![{self.title}]({path.stem}.png)\n\n"
        page += f"Measured on {described(machine)}. Made by `{self.command}`.\n"
        path.with_suffix(".md").write_text(page, encoding="utf-8")
        if last:
            print(page)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {
        "median": statistics.median(values),
        "least": min(values),
        "largest": max(values),
    }


def bars(spreads: Sequence[dict[str, float]]) -> tuple[list[float], list[list[float]]]:
    """Medians, and how far down and up their ranges reach, for error bars."""
    middle = [each["median"] for each in spreads]
    down = [each["median"] - each["least"] for each in spreads]
    up = [each["largest"] - each["median"] for each in spreads]
    return middle, [down, up]


def shown(values: dict[str, float], digits: int = 0) -> str:
    """A median with its range, as ``12,345 (11,900-12,800)``."""
    text = {name: f"{value:,.{digits}f}" for name, value in values.items()}
    return f"{text['median']} ({text['least']}-{text['largest']})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the columns after the first are set right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows)) + "\n"


def _write_figure(path: Path, draw: Callable[[], Figure]) -> None:
    import matplotlib.style

    from sweeps.report.style import RC

    with matplotlib.style.context(["default", RC]):
        draw().savefig(path, dpi=150, metadata={"Software": None})
