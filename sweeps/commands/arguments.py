"""Arguments that several commands have, and what the help says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


def default(metavar: str, value: str) -> Any:
    """What the help says of an option that is ``None`` where it is not given."""
    hint = f"(default: {value})"
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)


# What the help and the messages call them.
FolderArgument = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
SweepFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
Settings = Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KEY=VALUE")]
OnChange = Literal["refuse", "keep", "redo"]
Where = Annotated[str | None, default("WHERE", "threads of this process")]

GOES_ON = "the same command goes on from what is saved"
WRITERS = "`run`, `reproduce`, `audit` or `in_context`"
