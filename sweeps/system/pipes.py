"""A command whose output nobody reads any more, as in ``| head``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable


def until_unread(command: Callable[..., int]) -> Callable[..., int]:
    """The exit status of a command line; 141, quietly, once nobody reads what is printed.

    Args:
        command: from arguments, or ``sys.argv``'s if ``None``, to the exit status.
    """

    def main(arguments: list[str] | None = None) -> int:
        try:
            try:
                return command(arguments)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            # Or Python would try to write the rest when it ends, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE

    main.__doc__ = command.__doc__
    return main
