"""Loaded first by each process of ``--on local:N``, for Dask (``preload``).

Ctrl-C in a terminal goes to every process of the command. The one that was started takes it as a
wish to stop; those that compute finish the block that they have.
"""

from __future__ import annotations

import signal
import threading
from typing import Any


def dask_setup(worker: Any) -> None:
    """Let Ctrl-C be."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
