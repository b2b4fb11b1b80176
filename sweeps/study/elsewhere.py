"""What a process of a cluster does for a study: functions of a place, names and small arguments.

A block's plan travels as its description, a few kilobytes, in which functions of modules are names;
a network's parameters travel where it is trained from them. The process writes its blocks into the
study's folder, which it must reach under the same path.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sdpo_jax import Plan
from sdpo_jax.grid import default_block_width
from sweeps.execute import threads
from sweeps.execute.worker import reached
from sweeps.store import blocks, datasets, fingerprints
from sweeps.store.fingerprints import digest
from sweeps.store.makers import Makers
from sweeps.store.tasks import Blocks, tasks_of
from sweeps.system import cache

_OPENING = threading.Lock()


@dataclass(frozen=True)
class Place:
    """Where blocks of a study belong.

    Attributes:
        out: the study's folder.
        folder: of the blocks.
        first: digest of the fingerprint in its manifest.
        source: a function of a module: digest of the code that decides the study's numbers.
    """

    out: str
    folder: str
    first: str
    source: Callable[[], str]


# Entries of a manifest that say what computes.
COMPUTES = (
    *("versions", "device", "compiler", "runtime", "instructions", "flags", "settings"),
    *("block_width", "source"),
)


def computed_with(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The fingerprint in a manifest. Raises ``KeyError`` where it has none."""
    return {name: manifest[name] for name in COMPUTES}


def fingerprint(source: str) -> dict[str, Any]:
    """What a study's bits depend on beside its plan.

    Args:
        source: digest of the code that decides them.
    """
    return {**fingerprints.fingerprint(default_block_width()), "source": source}


def fingerprint_here(source: Callable[[], str]) -> dict[str, Any]:
    """What this process would compute a study with."""
    return fingerprint(source())


def packed(plans: Sequence[Plan]) -> bytes:
    """Plans in a form that travels."""
    import cloudpickle

    return cloudpickle.dumps(list(plans))


def train(place: Place, plans: bytes, name: str) -> float:
    """Compute a block of some plans and write it; return the seconds that it took.

    Raises:
        Unreachable: there is no such folder here.
        OtherFingerprint: this process would compute other bits than the study's.
        OSError: the block can't be written.
    """
    start = time.perf_counter()
    with _OPENING:
        maker, accepted = _admitted(place)
        tasks = _tasks(plans)
    mine = Blocks(Path(place.folder), tasks, accepted)
    mine.maker = maker
    if not mine.is_whole(name):
        # The cluster gives each process as many tasks at a time as it may use cores.
        threads.compute(mine, {name}, workers=1)
    return time.perf_counter() - start


def keep(
    place: Place,
    name: str,
    label: str,
    compute: Callable[..., Mapping[str, np.ndarray]],
    arguments: tuple[Any, ...],
) -> float:
    """Compute a block of another program and write it; return the seconds that it took.

    Errors as for ``train``.
    """
    start = time.perf_counter()
    with _OPENING:
        maker, _ = _admitted(place)
    folder = Path(place.folder)
    arrays = compute(*arguments)
    folder.mkdir(parents=True, exist_ok=True)
    blocks.write(folder / f"{name}{blocks.SUFFIX}", name, maker, label, arrays)
    return time.perf_counter() - start


@lru_cache(8)
def _tasks(plans: bytes) -> list[Any]:
    """The tasks of some plans, whose programs are compiled once."""
    known = blocks.Known()
    return [task for plan in pickle.loads(plans) for task in tasks_of(plan, known)]


@lru_cache(8)
def _admitted(place: Place) -> tuple[str, list[str]]:
    """The digest of what computes here, and those whose blocks count."""
    cache.enable()
    out = Path(place.out)

    def known() -> dict[str, Any] | str:
        try:
            found = computed_with(datasets.read_manifest(out))
        except (KeyError, ValueError, OSError) as error:
            return str(error).splitlines()[0]
        return found if digest(found) == place.first else "another study there"

    makers = Makers(out, [reached(os.fspath(out), known)])
    return makers.admit(fingerprint_here(place.source)), makers.accepted
