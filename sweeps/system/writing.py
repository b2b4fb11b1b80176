"""Files that are whole or not there, and a lock on a folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.system.processes import Process

# In the names of files that are being written, and in no others.
_PARTIAL = "sdpo_jax-partial"
_PARTIAL_NAME = re.compile(
    rf"\..+\.[0-9a-f]{{8,16}}(-(?P<writer>[0-9a-f]+-[0-9]+-[0-9]+))?\.{_PARTIAL}(\.[^.]+)?"
)
# Seconds after which a file that a process of another machine began is not written any more.
_ABANDONED = 3600.0

# Seconds for which a lock is waited for: others look whether a folder is in use by taking it for a
# moment, or write its manifest under it.
_PATIENCE = 1.0
_LOOK = 0.02

# What a file system answers that has no locks, or none on folders: NFS, EFS, Lustre and others.
_NO_LOCKS = {errno.EBADF, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}


class Busy(ValueError):
    """Another process is writing into the folder."""


class Moved(ValueError):
    """The folder is not where it was any more."""


@dataclass(frozen=True)
class Held:
    """A folder that is held against other processes.

    Attributes:
        folder: its path.
        handle: the open folder.
    """

    folder: Path
    handle: int

    def check(self) -> None:
        """See that the folder is still there: a new one in its place would get half the results.

        Raises:
            Moved: it was moved or removed.
        """
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self.handle), os.stat(self.folder)):
                return
        raise Moved(
            f"{self.folder}: moved or removed while it was written; allowed: the same command on "
            "the folder where it is now (what was saved is in there)"
        )


def write_atomically(path: Path, write: Callable[[Path], Any], parents: bool = True) -> None:
    """Let ``write`` make a file under a temporary name, then move it to ``path`` in one step.

    Args:
        path: where; the file has the rights that the user's mask gives.
        write: is given the temporary name. Called again where another process took that away.
        parents: whether the folder is made if there is none.

    Raises:
        OSError: it can't be written, with the name of the file; nothing of it is left.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        try:
            _write(path, write)
        except FileNotFoundError:
            # Whoever begins to work in a folder clears away what killed processes left there.
            _write(path, write)
    except OSError as error:
        # Of a full disk the system does not say which file it was.
        if error.errno is None:
            raise OSError(errno.EIO, str(error), str(path)) from error
        error.filename, error.filename2 = str(path), None
        raise
    # The rename itself is on disk only once the folder is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    temporary = partial_name(path)
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        write(temporary)
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def partial_name(path: Path, writer: Process | None = None) -> Path:
    """A new temporary name beside a path, which ``remove_partial_files`` knows.

    Args:
        path: what is being written.
        writer: who writes it; this process by default.
    """
    # It keeps the suffix, from which some writers tell the format.
    letters = f"{secrets.token_hex(4)}-{writer or Process.here()}"
    return path.with_name(f".{path.stem}.{letters}.{_PARTIAL}{path.suffix}")


def remove_partial_files(*folders: Path) -> None:
    """Remove what writes that were killed left in some folders, and nothing else.

    What a process that lives is writing is left; so is that of another machine's, until it is an
    hour old.
    """
    for folder in folders:
        if not folder.is_dir():
            continue
        for path in list(folder.iterdir()):
            if not _is_abandoned(path):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _is_abandoned(path: Path) -> bool:
    """Whether a path is a partial file's whose writer is gone."""
    found = _PARTIAL_NAME.fullmatch(path.name)
    if found is None:
        return False
    writer = Process.named(found["writer"] or "")
    gone = True if writer is None else writer.gone
    if gone is None:
        try:
            return time.time() - path.lstat().st_mtime > _ABANDONED
        except FileNotFoundError:
            return False
    return gone


def make_room(path: Path) -> None:
    """Take away a folder that stands where a file belongs; one that is not empty is renamed."""
    if not path.is_dir() or path.is_symlink():
        return
    try:
        path.rmdir()
    except OSError:
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.aside")
        path.rename(aside)
        print(f"{path}: a folder in place of a file; it is {aside} now", file=sys.stderr)


@contextlib.contextmanager
def locked(folder: Path, shared: bool = False) -> Iterator[Held]:
    """Hold a folder against other processes. A process that dies lets go of it.

    Where the file system has no locks, a line says so: two processes then do the same work, but
    as each file is whole or not there, and the same from both, nothing is lost.

    Args:
        folder: its path.
        shared: whether others that share it may hold it too.

    Raises:
        Busy: another process holds it.
    """
    # On the folder itself, so that no file has to be made or left.
    handle = os.open(folder, os.O_RDONLY)
    end = time.monotonic() + _PATIENCE
    try:
        try:
            while not _lock(handle, shared):
                if time.monotonic() > end:
                    raise Busy(
                        f"{folder}: another process is at work there; allowed: wait for it, or "
                        "`status`"
                    )
                time.sleep(_LOOK)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            print(
                f"{folder}: can't be locked ({error.strerror}); a second process would not be "
                "noticed: it would do the same work again, and harm nothing",
                file=sys.stderr,
            )
        yield Held(folder, handle)
    finally:
        os.close(handle)


def _lock(handle: int, shared: bool) -> bool:
    """Take a lock, if nobody has it. Raises ``OSError`` where there are none."""
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def in_use(folder: Path) -> bool:
    """Whether a process holds a folder; ``False`` where the file system has no locks."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        return not _lock(handle, shared=False)
    except OSError:
        return False
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


def write_json(path: Path, value: Any) -> Path:
    """Write ``value`` as indented JSON, atomically. NaN is refused: it is not JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return write_text(path, text)


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` as UTF-8 with Unix line ends, atomically."""
    write_atomically(path, lambda temporary: temporary.write_bytes(text.encode("utf-8")))
    return path
