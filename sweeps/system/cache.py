"""A persistent cache of compiled programs for the commands; the library never touches it.

What is loaded from the cache is machine code, so its folder belongs to the user alone. JAX's own
settings come first: ``JAX_COMPILATION_CACHE_DIR`` chooses another folder, and
``JAX_ENABLE_COMPILATION_CACHE=0`` switches the cache off.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
import warnings
from pathlib import Path
from typing import Any

# The cache is emptied of its oldest programs down to so many bytes; one is about a megabyte.
MAX_BYTES = 512 * 2**20
# How JAX says that it can't read an entry.
_UNREADABLE = re.compile(r"Error reading persistent compilation cache entry for '([^']*)'")


def enable() -> Path | None:
    """Let JAX keep compiled programs from here on; call it before anything is compiled.

    Returns:
        The folder, or ``None`` where the user's settings stand or no private folder can be had.
    """
    import jax

    # JAX defines its settings at run time.
    settings: Any = jax.config
    if not settings.jax_enable_compilation_cache or settings.jax_compilation_cache_dir:
        return None
    folder = default_folder()
    if not _make_private(folder):
        print(
            f"compiled programs are not kept: {folder} can't be made a folder of yours alone",
            file=sys.stderr,
        )
        return None
    prune(folder, MAX_BYTES)
    mend(folder)
    settings.update("jax_compilation_cache_dir", str(folder))
    # Small programs too: together they take seconds.
    settings.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder


def default_folder() -> Path:
    """``sdpo_jax`` in the user's cache folder: ``XDG_CACHE_HOME``, or the platform's own."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # As its specification says, a relative path is no setting.
    if os.path.isabs(given):
        home = Path(given)
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Caches"
    else:
        home = Path.home() / ".cache"
    return home / "sdpo_jax"


def prune(folder: Path, limit: int) -> None:
    """Remove the files that were written first, until the rest has at most ``limit`` bytes.

    Empty files go first: what a process that was killed left.
    """
    files = []
    for path in folder.iterdir():
        try:
            found = path.stat()
        except FileNotFoundError:
            continue  # another process pruned it
        if stat.S_ISREG(found.st_mode) and found.st_size == 0:
            path.unlink(missing_ok=True)
        elif stat.S_ISREG(found.st_mode):
            files.append((found.st_mtime, found.st_size, path))
    excess = sum(size for _, size, _ in files) - limit
    for _, size, path in sorted(files):
        if excess <= 0:
            break
        path.unlink(missing_ok=True)
        excess -= size


def mend(folder: Path) -> None:
    """From here on, remove a program from the cache that JAX warns it can't read.

    JAX compiles it again then, but keeps nothing in the place of a file that is there: what a
    process that was killed left half written would be warned of at every start.
    """
    show = warnings.showwarning
    if getattr(show, "mends", None) == folder:
        return

    def mending(message: Any, *arguments: Any, **options: Any) -> None:
        damaged = _UNREADABLE.search(str(message))
        if damaged is None:
            show(message, *arguments, **options)
            return
        # The warning tells a program's name, not its file; all of the name are compiled again.
        for path in folder.glob(f"{glob.escape(damaged[1])}-*"):
            path.unlink(missing_ok=True)

    mending.mends = folder  # pyright: ignore[reportFunctionMemberAccess]
    warnings.showwarning = mending


def _make_private(folder: Path) -> bool:
    """Make a folder that only its owner can read or write; whether it is one, and always was."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        others_may_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or others_may_write:
            return False
        folder.chmod(0o700)
        return os.access(folder, os.W_OK)
    except OSError:
        return False
