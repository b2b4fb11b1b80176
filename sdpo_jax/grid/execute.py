"""Chunks of a plan to arrays: programs are compiled and blocks computed by a pool of threads."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

import numpy as np

from sdpo_jax.grid.devices import devices_of
from sdpo_jax.grid.groups import Group
from sdpo_jax.grid.plan import Chunk, Plan
from sdpo_jax.grid.programs import blocks_a_call, padded_inputs, program_of

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Progress:
    """Told to the caller after each piece of work, from the calling thread.

    Attributes:
        kind: ``"compile"`` or ``"block"``.
        label: the program, such as ``"sdpo, continuous"``.
        done: runs finished so far.
        total: runs that are trained.
        seconds: what this piece took.
    """

    kind: str
    label: str
    done: int
    total: int
    seconds: float


def compute(
    plan: Plan,
    chunks: Iterable[Chunk],
    *,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[tuple[Chunk, Arrays]]:
    """Train chosen runs of a plan, and yield each chunk as soon as all of it is done.

    Args:
        plan: from ``plan_grid``.
        chunks: what is wanted; chunks of one program had better stand together.
        workers: as for ``run_grid``.
        progress: as for ``run_grid``; ``total`` is the runs of all the chunks.
        stop: asked before each chunk; once true, no further one is begun and those that are
            under way are finished.

    Yields:
        A chunk and its arrays by the name of the variable, runs first: ``[n, ...]``.

    Raises:
        ValueError: fewer than one worker.
    """
    chunks = list(chunks)
    groups = {id(chunk.group): chunk.group for chunk in chunks}.values()
    total = sum(len(chunk.places) for chunk in chunks)
    devices = devices_of(workers)
    return Execution(plan, groups, iter(chunks), total, devices, progress, stop).results()


@contextmanager
def compiled_ahead(groups: Sequence[tuple[Plan, Group]]) -> Iterator[None]:
    """Compile the programs of groups, one after the other, beside what the body does.

    For plans that are computed in turn: where one of them has fewer blocks left than there are
    cores, or Python is at work, the next one's programs are compiled meanwhile.

    Args:
        groups: each with its plan, in the order in which they will be needed.
    """
    left = threading.Event()

    def work() -> None:
        devices = dict.fromkeys(devices_of(None))
        for (plan, group), device in itertools.product(groups, devices):
            if left.is_set():
                return
            # Whoever computes the group meets the error too, where it can be told.
            with suppress(Exception):
                program_of(plan, group, device)

    thread = threading.Thread(target=work, name="compiled ahead")
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


def fill(outcome: Arrays, total: int, runs: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
    """Put what some runs yielded into the arrays of all of them, which the first call makes.

    Args:
        outcome: by variable ``[total, ...]``; changed.
        total: how many runs there are.
        runs: ``[n]``, which these are.
        arrays: by variable ``[n, ...]``.
    """
    for name, array in arrays.items():
        if name not in outcome:
            outcome[name] = np.empty((total, *array.shape[1:]), array.dtype)
        outcome[name][runs] = array


@dataclass
class _Under:
    """A chunk that is being computed."""

    chunk: Chunk
    left: int
    arrays: Arrays = field(default_factory=dict)


class _State(Enum):
    """How far the program of a group is."""

    WAITING = "waiting"
    BUILDING = "building"  # being compiled, for one device or for several
    READY = "ready"  # compiled, and no chunk of it begun
    BEGUN = "begun"


class Execution:
    """Chunks computed by a pool of threads, one for each of the devices given.

    Programs are compiled a few ahead of the chunks that need them, so that the first results of a
    sweep of many programs are there soon. A chunk is cut into pieces, each one call of its program.
    """

    def __init__(
        self,
        plan: Plan,
        groups: Iterable[Group],
        chunks: Iterator[Chunk],
        total: int,
        devices: Sequence[Any],
        progress: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ):
        self.plan, self.total, self.devices = plan, total, devices
        self.progress, self.stop = progress, stop
        self.most = blocks_a_call(devices[0])
        self.waiting = deque(groups)
        self.states = dict.fromkeys(self.waiting, _State.WAITING)
        self.builds: dict[Group, int] = {}
        self.chunks, self.upcoming = chunks, None
        self.pieces: deque[tuple[_Under, np.ndarray]] = deque()
        self.running: dict[Future, Callable[[Any], Iterator[tuple[Chunk, Arrays]]]] = {}
        self.done = 0
        self.free = list(devices)
        self.lock = threading.Lock()

    def results(
        self, meanwhile: Callable[[], None] | None = None
    ) -> Iterator[tuple[Chunk, Arrays]]:
        """Each chunk with its arrays, as soon as it is done.

        Args:
            meanwhile: called once, while the first programs are compiled.
        """
        self.upcoming = next(self.chunks, None)
        with ThreadPoolExecutor(len(self.devices)) as pool:
            try:
                while True:
                    # One piece waits for each worker: enough to keep it busy.
                    while len(self.running) < 2 * len(self.devices) and self._submit(pool):
                        pass
                    if meanwhile is not None:
                        meanwhile()
                        meanwhile = None
                    if not self.running:
                        return
                    finished, _ = wait(self.running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        yield from self.running.pop(future)(future.result())
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _submit(self, pool: ThreadPoolExecutor) -> bool:
        """Hand one more piece of work to the pool, if there is one that can begin."""
        stopped = self.stop is not None and self.stop()
        ahead = len(self._in(_State.BUILDING)) + len(self._in(_State.READY))
        if self.waiting and not stopped and ahead <= len(self.devices):
            self._submit_builds(pool, self.waiting.popleft())
            return True
        if not self.pieces and self.upcoming is not None and not stopped:
            compiled = (_State.READY, _State.BEGUN)
            if self.states.get(self.upcoming.group) in compiled:
                chunk, self.upcoming = self.upcoming, next(self.chunks, None)
                self.states[chunk.group] = _State.BEGUN
                self.pieces.extend(self._cut(chunk))
        if not self.pieces:
            return False
        under, where = self.pieces.popleft()
        future = pool.submit(self._calculate, under.chunk.group, under.chunk.places[where])
        self.running[future] = partial(self._after_piece, under, where)
        return True

    def _in(self, state: _State) -> list[Group]:
        return [group for group, each in self.states.items() if each is state]

    def _submit_builds(self, pool: ThreadPoolExecutor, group: Group) -> None:
        targets = list(dict.fromkeys(self.devices))
        self.states[group], self.builds[group] = _State.BUILDING, len(targets)
        for device in targets:
            future = pool.submit(self._build, group, device)
            self.running[future] = partial(self._after_build, group)

    def _cut(self, chunk: Chunk) -> Iterator[tuple[_Under, np.ndarray]]:
        """The pieces of a chunk: as many blocks a call as leave no worker without one."""
        count = len(chunk.places)
        under = _Under(chunk, count)
        width = chunk.group.width
        blocks = -(-count // width)
        size = width * min(self.most, -(-blocks // len(self.devices)))
        for start in range(0, count, size):
            yield under, np.arange(start, min(start + size, count))

    # In a worker.

    def _build(self, group: Group, device: Any) -> float:
        start = time.perf_counter()
        with _named(group):
            program_of(self.plan, group, device)
        return time.perf_counter() - start

    def _calculate(self, group: Group, places: np.ndarray) -> tuple[Arrays, float]:
        with self.lock:
            device = self.free.pop()
        start = time.perf_counter()
        try:
            with _named(group):
                inputs = padded_inputs(group, places, self.most * group.width)
                blocks = np.int32(-(-len(places) // group.width))
                run = program_of(self.plan, group, device, inputs)
                # The call itself puts arrays on its device, in less time than `device_put`.
                outcome = run(inputs, blocks)
                arrays = {
                    name: np.moveaxis(np.asarray(array), -1, 0)[: len(places)]
                    for name, array in outcome.items()
                }
            return arrays, time.perf_counter() - start
        finally:
            with self.lock:
                self.free.append(device)

    # When a worker is done.

    def _after_build(self, group: Group, seconds: float) -> Iterator[tuple[Chunk, Arrays]]:
        self.builds[group] -= 1
        if self.builds[group] == 0:
            self.states[group] = _State.READY
        self._report("compile", group.label, seconds)
        yield from ()

    def _after_piece(
        self, under: _Under, where: np.ndarray, outcome: tuple[Arrays, float]
    ) -> Iterator[tuple[Chunk, Arrays]]:
        arrays, seconds = outcome
        fill(under.arrays, len(under.chunk.places), where, arrays)
        under.left -= len(where)
        self.done += len(where)
        self._report("block", under.chunk.group.label, seconds)
        if under.left == 0:
            yield under.chunk, under.arrays

    def _report(self, kind: str, label: str, seconds: float) -> None:
        if self.progress is not None:
            self.progress(Progress(kind, label, self.done, self.total, seconds))


@contextmanager
def _named(group: Group) -> Iterator[None]:
    """Say of an error in a worker which program it came from."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the program of {group.label}")
        raise
