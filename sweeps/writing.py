"""Files that are whole or not there, and a lock on a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_PARTIAL = ".partial"


class Busy(ValueError):
    """Another process is writing into the folder."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` make a file under a temporary name, then move it to ``path`` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The temporary name keeps the suffix, from which some writers tell the format.
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.stem}.", suffix=f"{_PARTIAL}{path.suffix}"
    )
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        # mkstemp makes files that only the owner may read.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The rename itself is on disk only once the folder is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_partial_files(folder: Path) -> None:
    """Remove what writes that were killed left behind. Only the owner of the lock may."""
    for path in folder.glob(f".*{_PARTIAL}*"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes. A process that dies lets go of it.

    Raises:
        Busy: another process holds it.
    """
    # On the folder itself, so that no file has to be made or left.
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Busy(
            f"{folder}: another process is at work there; allowed: wait for it, or `status`"
        ) from None
    try:
        yield
    finally:
        os.close(handle)


def check_writable(folder: Path, flag: str) -> None:
    """Make a folder if there is none, and see that files can be made in it.

    Raises:
        ValueError: it can't be, in one line.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{flag}: {folder} is not a folder; allowed: a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(
            f"{flag}: {folder} can't be written ({reason}); allowed: a folder that can"
        ) from None
