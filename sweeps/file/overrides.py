"""Values of a sweep file given on the command line: ``run FILE --set base.noise=0.2``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Any

import tomli_w

from sweeps.system.text import plain

# A bare value is a word, such as the name of an algorithm: TOML would want quotes round it.
_WORD = re.compile(r"[A-Za-z_][\w.:-]*")
_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def overridden(text: str, settings: Sequence[str]) -> str:
    """The text of a sweep file with some values others than it says.

    Args:
        text: TOML.
        settings: ``KEY=VALUE`` each, the key with dots (``base.noise``), the value as in TOML
            (``0.2``, ``[0.0, 0.3]``, ``{ count = 8 }``); a word needs no quotes.

    Returns:
        TOML; ``text`` itself where there are no settings, else without its comments.

    Raises:
        ValueError: a setting that is no such pair, or one whose key leads through a value.
    """
    if not settings:
        return text
    tables = tomllib.loads(text)
    for setting in settings:
        key, given, value = setting.partition("=")
        if not given or not _KEY.fullmatch(key.strip()):
            raise ValueError(
                f"--set: {plain(setting)!r}; allowed: KEY=VALUE, such as base.noise=0.2"
            )
        *above, name = key.strip().split(".")
        table: dict[str, Any] = tables
        for part in above:
            inner = table.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ValueError(
                    f"--set: {plain(setting)!r}: {part} is a value in the file; allowed: the key "
                    "of a value in a table"
                )
            table = inner
        table[name] = _value(setting, value.strip())
    return tomli_w.dumps(tables)


def _value(setting: str, text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        if _WORD.fullmatch(text):
            return text
        raise ValueError(
            f"--set: {plain(setting)!r}; allowed: a value as in TOML, such as 0.2, [0.0, 0.3], "
            'sdpo or "sdpo"'
        ) from None
