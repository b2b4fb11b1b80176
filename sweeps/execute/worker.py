"""What a process of a cluster does for a sweep: functions of a path, texts and names.

Neither arrays nor code travel. The process derives the plan from the folder's manifest, compiles
each program once, and writes its blocks into the folder, which it must reach under the same path.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from sweeps.execute import threads
from sweeps.execute.executors import Call
from sweeps.file import sweepfile
from sweeps.store.fingerprints import fingerprint_of
from sweeps.store.folder import Folder
from sweeps.store.manifest import Manifest, NoSweep
from sweeps.system import cache

# Seconds for which a file that another machine wrote may be waited for.
_PATIENCE = 20.0

_OPENING = threading.Lock()

T = TypeVar("T")


class Unreachable(ValueError):
    """A process of the cluster has no such folder, or another one of that name."""


def name_of(manifest: Manifest) -> str:
    """A manifest in 16 letters."""
    content = [manifest.name, manifest.fingerprints, manifest.texts, manifest.current]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def fingerprint_here(text: str, name: str) -> dict[str, Any]:
    """What this process would compute the sweep of a sweep file's text with."""
    return fingerprint_of(sweepfile.parse(text, name))


def calls(folder: Folder, wanted: Collection[str]) -> Iterator[Call]:
    """Those blocks of a folder, for an ``Executor``."""
    path, manifest = str(folder.path.absolute()), name_of(folder.manifest)
    for task in folder.blocks.tasks:
        if task.identity in wanted:
            arguments = (path, manifest, [task.identity])
            label = task.chunk.group.label
            yield Call(task.identity, label, len(task.keys), compute, arguments)


def compute(path: str, manifest: str, names: list[str]) -> float:
    """Compute blocks of a folder; return the seconds that it took.

    Args:
        path: the folder.
        manifest: its manifest, by ``name_of``.
        names: of the blocks. One that is there and whole is not computed again.

    Raises:
        Unreachable: there is no such folder here.
        OtherFingerprint: this process would compute other bits than are there.
        OSError: a block can't be written.
    """
    start = time.perf_counter()
    with _OPENING:
        folder = _opened(path, manifest)
    # All its bytes: what is damaged was sent here to be computed again.
    missing = {name for name in names if not folder.blocks.is_whole(name)}
    # The cluster gives each process as many tasks at a time as it may use cores.
    threads.compute(folder.blocks, missing, workers=1)
    return time.perf_counter() - start


@lru_cache(2)
def _opened(path: str, manifest: str) -> Folder:
    cache.enable()

    def here() -> Manifest | str:
        try:
            found = Manifest.read(Path(path))
        except NoSweep as error:
            return str(error).splitlines()[0]
        return found if name_of(found) == manifest else "another sweep there"

    folder = Folder(Path(path), reached(path, here))
    folder.admit(fingerprint_of(folder.sweep))
    return folder


def reached(path: str, look: Callable[[], T | str]) -> T:
    """What a folder holds, as soon as this process sees it.

    Args:
        path: the folder.
        look: what it holds; in words what is in the way, where it does not yet.

    Raises:
        Unreachable: it does not within some seconds.
    """
    end = time.monotonic() + _PATIENCE
    while isinstance(found := look(), str):
        if time.monotonic() > end:
            raise Unreachable(
                f"{path}: not reached by a process of the cluster ({found}); allowed: a folder "
                "on storage that all of its machines share, under the same path"
            )
        time.sleep(0.5)
    return found
