"""Rows of a sweep as tables: files of CSV, and what a page shows of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from sweeps.report.style import readers_name
from sweeps.report.summary import OF_TWO, Row
from sweeps.system.text import exact, plain

FOLDER = "tables"
# Rows of a table that the page shows; the file beside it has all.
SHOWN_ROWS = 200


def as_csv(rows: Sequence[Row]) -> str:
    """Rows as a file of CSV, with the columns of the first one."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows(_texts(row, 6) for row in rows)
    return file.getvalue()


# Columns that hold names of algorithms.
_OF_ALGORITHMS = ("algorithm", "first", "second")


def heading(column: str) -> str:
    """A column of a table for readers: ``mean_low`` is the low end of the mean's interval."""
    for end in ("low", "high"):
        if column.endswith(f"_{end}"):
            return f"{heading(column.removesuffix(f'_{end}'))}, interval {end}"
    return {"oracle": "feedback", "p_holm": "p, corrected", "iqm": "interquartile mean"}.get(
        column, column.replace("_", " ")
    )


def shown(rows: Sequence[Row]) -> dict[str, Any]:
    """The first rows as a page's template takes them: a header, and cells in few digits."""
    if not rows:
        return {"header": [], "rows": []}
    return {
        "header": [heading(name) for name in rows[0]],
        "rows": [
            [
                plain(readers_name(text) if name in _OF_ALGORITHMS else text)
                for name, text in zip(row, _texts(row, 4), strict=True)
            ]
            for row in rows[:SHOWN_ROWS]
        ],
    }


def _texts(row: Row, digits: int) -> list[str]:
    """A row as text: labels so that they select again, estimates in so many digits."""
    labels = list(row)[: list(row).index("metric")]
    labels += [name for name in row if name.startswith(OF_TWO)]
    return [
        ""
        if value is None
        else f"{value:.{digits}g}"
        if isinstance(value, float) and name not in labels
        else exact(value)
        for name, value in row.items()
    ]
