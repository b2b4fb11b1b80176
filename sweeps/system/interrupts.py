"""Ctrl-C and SIGTERM as a wish to stop, which work in progress can be finished under."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdpo_jax import Progress


class Stopped(Exception):
    """The work was asked to stop; what is saved is kept."""


@dataclass(frozen=True)
class Control:
    """What work under way tells its caller, and asks of it.

    Attributes:
        progress: told of each piece of work.
        stop: once true, what is under way is finished and the rest left.
        check: called before anything is written; raises where it must not be.
    """

    progress: Callable[[Progress], None] = lambda told: None
    stop: Callable[[], bool] = lambda: False
    check: Callable[[], None] = lambda: None


class Stop:
    """Whether a signal asked for an end; ``status`` is what to exit with then."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        return self.signal is not None

    @property
    def status(self) -> int:
        """The exit status of a process that the signal ended: 130 for Ctrl-C."""
        return 128 + (self.signal or 0)


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """While this holds, the first signal asks for an end, and the second ends at once.

    Ending at once is safe: a file is whole or not there. Python gives signals to the main thread
    alone; in another one nothing is changed, and nothing asks for an end.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def asked(number: int, frame: FrameType | None) -> None:
        if stop():
            os._exit(128 + number)
        stop.signal = number
        print("stopping once what is under way is saved; again to stop now", file=sys.stderr)

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            # None is one that was not installed by Python, which can't be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
