"""How far the work is: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Iterator
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from sdpo_jax import Progress
from sweeps.system.text import lines, plain

# Seconds between two looks at the bar, and between two plain lines.
_REFRESH = 0.1
_LINE_EVERY = 10.0


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads any more. Rich would exit with 1, which `status` says of damage."""
        raise BrokenPipeError(errno.EPIPE, "nobody reads what is printed")


def console(**options: Any) -> Console:
    """A console that shows text as it is: names and titles may hold what looks like markup."""
    return _Console(markup=False, emoji=False, highlight=False, **options)


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        total = 0 if task.total is None else task.total
        return Text(f"{task.completed:,.0f}/{total:,.0f}")


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


def _column(widest: int | None = None) -> Column:
    """A column of one line, cut with a sign where it lacks room."""
    return Column(no_wrap=True, overflow="ellipsis", max_width=widest, ratio=None if widest else 1)


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Shows on a terminal that something is going on, and for how long it has."""
    shown = console(stderr=True)
    bar = Bar(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn(),
        console=shown, disable=not shown.is_terminal, transient=True,
    )  # fmt: skip
    with bar:
        bar.add_task(plain(what), total=None)
        yield


class Display:
    """Told of each piece of work of a sweep; shows runs, speed, time left and the program."""

    def __init__(self, shown: Console | None = None):
        self._console = shown or console(stderr=True)
        self._live = self._console.is_terminal
        # It fits a terminal of 80 columns: what is cut is the program's name, then the title.
        self._bar = Bar(
            TextColumn("{task.description}", markup=False, table_column=_column(20)),
            BarColumn(bar_width=10),
            _Count(),
            _Speed(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[doing]}", markup=False, table_column=_column()),
            console=self._console,
            disable=not self._live,
            expand=True,
        )
        self._task: Any = None
        self._shown = 0.0
        self._begun = 0.0
        # Runs of the bar that were there before, of what came before, and in all.
        self._base = 0
        self._before = 0
        self._total = 0

    def __enter__(self) -> Self:
        self._bar.start()
        self._begun = self._shown = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(lines(text), soft_wrap=True)

    def start(self, title: str, done: int, total: int) -> None:
        """Work of so many runs begins, of which some are done already."""
        self._base, self._total = done, total
        self._begun = self._shown = time.perf_counter()
        self._title = title = plain(title)
        self._task = self._bar.add_task(title, total=total, completed=done, doing="compiling")

    def advance(self, told: Progress) -> None:
        """A program was compiled or a block computed."""
        now = time.perf_counter()
        last = told.done == told.total
        if told.kind == "compile":
            self._bar.update(self._task, doing=f"compiled {plain(told.label)}")
            if told.done == 0:
                # What the first programs took says nothing of the time that is left.
                self._begun = now
            return
        if now - self._shown < (_REFRESH if self._live else _LINE_EVERY) and not last:
            return
        self._shown = now
        done = self._base + told.done
        self._bar.update(self._task, completed=self._before + done, doing=plain(told.label))
        if not self._live:
            rate = told.done / max(now - self._begun, 1e-9)
            left = (told.total - told.done) / rate
            self.say(
                f"{self._title}: {done:,} of {self._total:,} runs, {rate:,.0f} runs/s, "
                f"{duration(left)} left, {told.label}"
            )


class PaperDisplay(Display):
    """The same for the paper's experiments: one bar for all, a line for each that is saved."""

    def whole(self, title: str, runs: int) -> None:
        """All experiments together have so many runs."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._before = 0
        self._task = self._bar.add_task(plain(title), total=runs, doing="compiling")

    def begin(self, title: str, runs: int) -> None:
        """An experiment of so many runs begins."""
        self._title, self._base, self._total = plain(title), 0, runs
        self._begun = self._shown = time.perf_counter()
        self._bar.update(self._task, doing=f"compiling: {self._title}")

    def part(self, done: int) -> None:
        """So many of its runs are there already."""
        self._base = done

    def finish(self, seconds: float, reused: bool) -> None:
        """The experiment is saved."""
        took = "saved earlier" if reused else f"{seconds:.1f} s"
        self._before += self._total
        self._bar.update(self._task, completed=self._before, doing=f"saved: {self._title}")
        self.say(f"{self._title}: {self._total:,} runs, {took}")


def duration(seconds: float) -> str:
    """Seconds for readers: ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def size(count: float) -> str:
    """Bytes for readers."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
