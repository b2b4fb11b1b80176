"""JSON of files that may come from anywhere."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

# More than any file that is written here; what is larger is not read.
_MOST_BYTES = 2**26


def read_json(path: Path) -> Any:
    """The value in a file of JSON.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no file, too large, no JSON, or nested too deep.
    """
    try:
        return json.loads(read_bytes(path, _MOST_BYTES))
    except RecursionError:
        raise ValueError(f"{path}: not readable as JSON (nested too deep)") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not readable as JSON (not UTF-8)") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not readable as JSON ({error})") from error


def read_bytes(path: Path, most: int, least: int = 0) -> bytes:
    """The bytes of a file, if there are at most so many and at least so many.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no file, a link to none, or has another size. Nothing was read then.
    """
    try:
        # Without waiting: a pipe has no end to wait for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except NotADirectoryError:
        raise FileNotFoundError(f"{path}: not there") from None
    except FileNotFoundError:
        if os.path.islink(path):
            raise ValueError(f"{path}: a link to nothing") from None
        raise
    except OSError as error:
        # A link to itself, or a socket.
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise ValueError(f"{path}: not a file") from None
        raise
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path}: not a file")
        if not least <= found.st_size <= most:
            raise ValueError(f"{path}: {found.st_size} bytes; allowed: {least} to {most}")
        with open(handle, "rb", closefd=False) as file:
            return file.read(found.st_size)
    finally:
        os.close(handle)
