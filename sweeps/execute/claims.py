"""Which process has which block under way, for several that work on one folder.

A claim is a file ``data/claims/BLOCK``, made in one step by who takes the block. It spares others
the same work and no more: a block that two compute is the same from both. So no lock is needed, and
a claim of a process that is gone, or of another machine's that was not heard of for a while, is
taken over.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
import time
import types
from pathlib import Path
from typing import Self

from sweeps.system.processes import Process

# A block whose processes ended so many times before it was done is left alone.
MOST_DEATHS = 3
# Seconds between two signs of life of a claim, and after how many it is taken for abandoned.
_BEAT = 20.0
_ABANDONED = 300.0


class Claims:
    """The claims of this process on blocks of a folder; a thread keeps them alive."""

    def __init__(self, folder: Path):
        """
        Args:
            folder: of the claims; made if there is none.
        """
        self.folder = folder
        self.given_up: dict[str, int] = {}
        self.suspects: set[str] = set()
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="claims", daemon=True)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._left.set()
        self._thread.join()
        for identity in list(self._held):
            self.release(identity)
        # Others' claims may be in it.
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def take(self, identity: str, suspect: bool = False) -> bool:
        """Claim a block, if nobody has it who may still be at work on it.

        One that a process ended on is entered into ``suspects``, and one that is left alone for
        good into ``given_up``.

        Args:
            identity: of the block.
            suspect: whether a suspect is taken. It had better be computed alone: of several that a
                process had, one may have ended it.
        """
        path = self.folder / identity
        deaths = 0
        # A second time where an abandoned claim was removed.
        for _ in range(2):
            if self._make(path, deaths):
                with self._lock:
                    self._held.add(identity)
                return True
            found = self._abandoned(path)
            if found is None:
                return False
            deaths = found + 1
            if deaths >= MOST_DEATHS:
                self.given_up[identity] = deaths
                return False
            self.suspects.add(identity)
            if not suspect:
                return False
            path.unlink(missing_ok=True)
        return False

    def release(self, identity: str) -> None:
        """Let go of a block, done or not."""
        with self._lock:
            self._held.discard(identity)
        (self.folder / identity).unlink(missing_ok=True)

    def clear(self, identity: str) -> None:
        """Remove the claim on a block that is done, if a process that is gone left one."""
        path = self.folder / identity
        if path.exists() and self._abandoned(path) is not None:
            path.unlink(missing_ok=True)

    def _make(self, path: Path, deaths: int) -> bool:
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        except FileNotFoundError:
            # Somebody cleared all claims away.
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_CREAT | os.O_WRONLY, 0o666)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            json.dump({"process": str(Process.here()), "deaths": deaths}, file)
        return True

    def _abandoned(self, path: Path) -> int | None:
        """How many processes ended on a block before the one that left it; ``None`` if none did."""
        found = _read(path)
        if found is None:
            return None  # released, or removed, meanwhile
        process, deaths, changed = found
        gone = None if process is None else process.gone
        if gone is None:
            gone = self._now() - changed > _ABANDONED
        return deaths if gone else None

    def _now(self) -> float:
        """The time by the clock of the file system, which may be another machine's."""
        # A name of its own: others look at the same moment.
        try:
            handle, name = tempfile.mkstemp(dir=self.folder, prefix=f".{Process.here()}.")
        except FileNotFoundError:
            return 0.0  # Somebody cleared all claims away, this one too.
        try:
            return os.fstat(handle).st_mtime
        finally:
            os.close(handle)
            Path(name).unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._left.wait(_BEAT):
            with self._lock:
                held = list(self._held)
            for identity in held:
                with contextlib.suppress(OSError):
                    os.utime(self.folder / identity)


def _read(path: Path) -> tuple[Process | None, int, float] | None:
    """Whose a claim is, how many processes ended on the block before, and when it last changed."""
    try:
        text, changed = path.read_text(encoding="ascii"), path.stat().st_mtime
    except (OSError, ValueError):
        return None
    try:
        content = json.loads(text)
        return Process.named(content["process"]), int(content["deaths"]), changed
    except (ValueError, TypeError, KeyError, RecursionError):
        return None, 0, changed  # being written, or cut off while it was


def alive(folder: Path) -> bool:
    """Whether a process that has not ended, as far as is known, has a block under way."""
    for path in folder.glob("[!.]*"):
        found = _read(path)
        if found is not None:
            process, _, changed = found
            gone = None if process is None else process.gone
            if gone is False or (gone is None and time.time() - changed <= _ABANDONED):
                return True
    return False
