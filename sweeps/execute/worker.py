"""What a process of a cluster does for a sweep: functions of a path, texts and names.

Neither arrays nor code travel. The process derives the plan from the folder's manifest, compiles
each program once, and writes its blocks into the folder, which it must reach under the same path.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from sweeps.execute import threads
from sweeps.file import sweepfile
from sweeps.store.fingerprints import fingerprint_of
from sweeps.store.folder import Folder
from sweeps.store.manifest import Manifest, NoSweep
from sweeps.system import cache

# Seconds for which a file that another machine wrote may be waited for.
_PATIENCE = 20.0

_OPENING = threading.Lock()


class Unreachable(ValueError):
    """A process of the cluster has no such folder, or another one of that name."""


def name_of(manifest: Manifest) -> str:
    """A manifest in 16 letters."""
    content = [manifest.name, manifest.fingerprints, manifest.texts, manifest.current]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def fingerprint_here(text: str, name: str) -> dict[str, Any]:
    """What this process would compute the sweep of a sweep file's text with."""
    return fingerprint_of(sweepfile.parse(text, name))


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
    missing = {name for name in names if not folder.blocks.is_there(name)}
    # The cluster gives each process as many tasks at a time as it may use cores.
    threads.compute(folder.blocks, missing, workers=1)
    return time.perf_counter() - start


@lru_cache(2)
def _opened(path: str, manifest: str) -> Folder:
    cache.enable()
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            found = Manifest.read(Path(path))
            if name_of(found) == manifest:
                folder = Folder(Path(path), found)
                folder.admit(fingerprint_of(folder.sweep))
                return folder
            problem = "another sweep there"
        except NoSweep as error:
            problem = str(error).splitlines()[0]
        if time.monotonic() > end:
            raise Unreachable(
                f"{path}: not reached by a process of the cluster ({problem}); allowed: a folder "
                "on storage that all of its machines share, under the same path"
            )
        time.sleep(0.5)
