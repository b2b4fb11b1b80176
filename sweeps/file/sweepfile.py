"""Sweep files: a TOML page to checked grids, with every mistake found at once.

A file has a ``[base]`` (what no axis varies), ``[axes]`` whose product is trained, and any number
of ``[zip.NAME]`` tables, whose axes vary together along a dimension NAME. Several grids are tables
``[grid.NAME]`` with ``axes``, ``zip`` and ``base`` of their own. See ``docs/sweeps.md``.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeps.file.limits import LONGEST_NAME, MAX_BYTES, MAX_DEPTH, MAX_GRIDS, MAX_PROGRAMS, MAX_RUNS
from sweeps.file.mistakes import Mistake, SweepError, from_library, shortened
from sweeps.file.overrides import overridden
from sweeps.file.reader import Reader, elsewhere, runs_of
from sweeps.file.sweep import Sweep
from sweeps.file.tables import Top, models_for
from sweeps.file.values import DEVICES
from sweeps.system.text import plain

ONLY_GRID = "main"
# A dotted name of many parts, which takes a parser of TOML a time that grows with their square.
_PART = r"""(?:"[^"\n]*+"|'[^'\n]*+'|[\w-]++)[ \t]*+"""
_MANY_PARTS = re.compile(rf"(?<![\w-])(?:{_PART}\.[ \t]*+){{{MAX_DEPTH}}}")


def read(path: str | os.PathLike[str], settings: Sequence[str] = ()) -> Sweep:
    """Read and check a sweep file.

    Args:
        path: of the file.
        settings: values that are to be others than the file says, as ``overridden`` takes them.

    Raises:
        SweepError: mistakes in it, all of them.
        ValueError: a setting that can't be read.
        OSError: the file can't be read.
    """
    path = Path(path)
    problem, allowed = _not_a_page(path)
    if not problem:
        try:
            # Some editors put a mark of the byte order first.
            text = path.read_text(encoding="utf-8-sig")
            if settings:
                # What is wrong with the file itself is said first.
                _loaded(text, str(path))
                text = overridden(text, settings)
            return parse(text, path.stem, str(path), path.parent)
        except UnicodeDecodeError as error:
            problem, allowed = error.reason, "UTF-8 text"
    raise SweepError(str(path), [Mistake("file", problem, allowed)])


def _not_a_page(path: Path) -> tuple[str, str]:
    """What stands in the place of a sweep file, and what may; empty where nothing is wrong.

    Looked at before it is opened: a pipe would be waited for, a large file read for minutes.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"FILE: {plain(str(path))!r}: no such file; allowed: a page of TOML that is there"
        ) from None
    if stat.S_ISDIR(found.st_mode):
        return "a folder", "a page of TOML; `resume` goes on with what `run` wrote into a folder"
    if not stat.S_ISREG(found.st_mode):
        return "a pipe or a device", "a page of TOML"
    if found.st_size > MAX_BYTES:
        return f"{found.st_size:,} bytes", f"at most {MAX_BYTES:,}"
    return "", ""


def parse(text: str, stem: str, shown: str | None = None, beside: Path | None = None) -> Sweep:
    """Check the text of a sweep file.

    Args:
        text: TOML.
        stem: the sweep's name where the file gives none.
        shown: what messages call the file.
        beside: a folder in which modules of one's own may stand.

    Raises:
        SweepError: mistakes in it, all of them.
    """
    shown = stem if shown is None else shown
    raw = _loaded(text, shown)
    reader = Reader()
    reader.models = models_for(reader.parts(raw, beside))
    top = reader.section((), raw, Top) or {}
    name = top.get("name", _name_of(stem))
    shared = reader.section(("base",), raw.get("base", {}), reader.models.base)
    grids = {}
    parts = list(_parts(raw))
    reader.names([path[-1] for path, _ in parts if path])
    for path, part in parts if len(parts) <= MAX_GRIDS else ():
        title = part.get("title", "")
        grid_name = path[-1] if path else ONLY_GRID
        own = (
            {}
            if not path
            else reader.section((*path, "base"), part.get("base", {}), reader.models.base)
        )
        axes = reader.axes(path, part)
        base = {**(shared or {}), **(own or {})}
        grids[grid_name] = reader.grid(path, title, base, axes)
    if raw.get("grid") == {}:
        reader.mistakes.append(Mistake("grid", "no grids", "one or more tables [grid.NAME]"))
    runs = sum(runs_of(grid.axes) for grid in grids.values())
    if runs > MAX_RUNS and not reader.mistakes:
        reader.mistakes.append(Mistake("grid", f"{runs} runs", f"at most {MAX_RUNS}"))
    # All of them before the first one is trained: the last may be the one that can't be.
    plans = {}
    if not reader.mistakes:
        for grid_name, grid in grids.items():
            try:
                plans[grid_name] = grid.plan()
            except ValueError as error:
                where = ("grid", grid_name) if "grid" in raw else ()
                reader.mistakes.append(from_library(where, None, error))
    if reader.mistakes:
        raise SweepError(shown, reader.mistakes)
    programs = sum(len(plan.groups) for plan in plans.values())
    if programs > MAX_PROGRAMS:
        too_many = Mistake("file", f"{programs} programs", f"at most {MAX_PROGRAMS}")
        raise SweepError(shown, [too_many])
    return Sweep(name, top.get("title", ""), grids, text, plans, elsewhere(raw))


def _loaded(text: str, shown: str) -> dict[str, Any]:
    """The tables of a text.

    Raises:
        SweepError: it is no TOML, or TOML that would take too long or too much of the stack.
    """
    many = _MANY_PARTS.search(text)
    deep = Mistake("file", f"more than {MAX_DEPTH} levels deep", f"at most {MAX_DEPTH}")
    if len(text) > MAX_BYTES:
        mistake = Mistake("file", f"{len(text):,} characters", f"at most {MAX_BYTES:,}")
    elif many is not None:
        number = text.count("\n", 0, many.start()) + 1
        mistake = Mistake(f"line {number}", f"a name of more than {MAX_DEPTH} parts", "fewer")
    elif not text.strip():
        mistake = Mistake("file", "empty", "a page of TOML, with [axes] or [base]")
    else:
        try:
            raw = tomllib.loads(text)
            if not _deeper(raw, MAX_DEPTH):
                return raw
            mistake = deep
        except tomllib.TOMLDecodeError as error:
            mistake = _syntax(text, str(error))
        except RecursionError:
            mistake = deep
        except ValueError as error:
            # From Python's own readers of numbers and dates.
            reason = str(error).partition(";")[0]
            mistake = Mistake("file", reason, "numbers and dates that can be read")
    raise SweepError(shown, [mistake]) from None


def _deeper(raw: Any, most: int) -> bool:
    """Whether tables and lists stand more than so many levels deep in each other."""
    level = [raw]
    for _ in range(most):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return any(isinstance(each, (dict, list)) for each in level)


def _name_of(stem: str) -> str:
    """A plain word for a file's name: the same where it is one, and never that of another file."""
    # A file system may give the name back with its accents apart.
    stem = unicodedata.normalize("NFC", stem)
    word = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")
    if word and word == stem and len(word) <= LONGEST_NAME and not DEVICES.fullmatch(word):
        return word
    whole = stem.encode("utf-8", "surrogatepass")
    return f"{word[: LONGEST_NAME - 9] or 'sweep'}-{hashlib.sha256(whole).hexdigest()[:8]}"


def _parts(raw: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Each grid of a file: where it stands, and its table."""
    grids = raw.get("grid")
    if grids is None:
        yield (), raw
    elif isinstance(grids, Mapping):
        for name, part in grids.items():
            if isinstance(part, Mapping):
                yield ("grid", name), part


def _syntax(text: str, message: str) -> Mistake:
    """What tomllib says, with the line that it means."""
    lines = text.rstrip().splitlines() or [""]
    found = re.search(r"at line (\d+)", message)
    number = min(int(found[1]), len(lines)) if found else len(lines)
    reason = re.sub(r"\s*\(at .*", "", message)
    return Mistake(f"line {number}", f"{reason} in {shortened(lines[number - 1].strip())}", "TOML")
