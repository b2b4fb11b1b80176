"""Which process of which machine, and whether it is gone: for what it left in a shared folder."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

_NAMED = re.compile(r"([0-9a-f]{8})-([0-9]+)-([0-9]+)")


@dataclass(frozen=True)
class Process:
    """A process, as other processes name it.

    Attributes:
        machine: 8 letters that differ wherever process numbers mean other processes.
        number: its process number.
        begun: when it began, in the system's own ticks; 0 where that can't be known. A number
            that is given to another process later has another beginning.
    """

    machine: str
    number: int
    begun: int

    def __str__(self) -> str:
        return f"{self.machine}-{self.number}-{self.begun}"

    @classmethod
    def here(cls) -> Process:
        """This process."""
        number = os.getpid()
        return cls(_machine(), number, _begun(number) or 0)

    @classmethod
    def named(cls, text: str) -> Process | None:
        """The process that a text names; ``None`` where it names none."""
        found = _NAMED.fullmatch(text)
        return None if found is None else cls(found[1], int(found[2]), int(found[3]))

    @property
    def gone(self) -> bool | None:
        """Whether it has ended; ``None`` of a process of another machine."""
        if self.machine != _machine():
            return None
        begun = _begun(self.number)
        return begun is None or (0 not in (begun, self.begun) and begun != self.begun)


def _begun(number: int) -> int | None:
    """When a process began; 0 where that can't be known, ``None`` where there is none."""
    try:
        text = Path(f"/proc/{number}/stat").read_text(encoding="ascii", errors="replace")
        # Its second entry is a name in parentheses, which may hold anything. What has ended and
        # is still listed, its third tells.
        entries = text.rpartition(")")[2].split()
        return None if entries[0] in "ZX" else int(entries[19])
    except (OSError, ValueError, IndexError):
        pass
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:
        pass
    return 0


@functools.cache
def _machine() -> str:
    parts = [platform.node()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            link = os.path.islink(path)
            parts.append(os.readlink(path) if link else Path(path).read_text(encoding="ascii"))
        except OSError:
            parts.append("")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
