"""What a place that computes blocks can do, and what it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from sweeps.system.interrupts import Control


@dataclass(frozen=True, slots=True)
class Call:
    """A block that is to be computed by another process, which writes it where it belongs.

    Attributes:
        identity: of the block.
        label: of its program, for readers.
        runs: in it.
        function: of a module; called with ``arguments``, computes and writes the block, and returns
            the seconds that it took. A block that is there already is not computed again.
        arguments: small, and can be pickled.
    """

    identity: str
    label: str
    runs: int
    function: Callable[..., float]
    arguments: tuple[Any, ...]


class Executor(Protocol):
    """Where blocks are computed, other than by threads of this process."""

    def ask(self, stop: Callable[[], bool], function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function of a module returns there. Raises ``Stopped`` once ``stop`` is true."""
        ...

    def compute(
        self, calls: Iterable[Call], runs: int, control: Control, place: str = "blocks"
    ) -> None:
        """Compute blocks.

        Args:
            calls: of the blocks; taken one by one.
            runs: in all of them.
            control: whom to tell and to ask.
            place: what messages call the folder.

        Raises:
            Lost: the place can't be reached any more; what was saved is kept.
            GivenUp: blocks that no process survived; the others are done.
            OtherFingerprint: a process there would compute other bits.
        """
        ...
