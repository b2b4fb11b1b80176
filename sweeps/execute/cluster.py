"""Blocks computed by the processes of a Dask cluster.

A task is a function of a module, a folder and the name of a block. No more tasks are handed out
than keep the processes busy, so that a sweep of a million blocks takes no more memory here than a
small one; a process that is lost loses its block under way, which is given to another one.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sdpo_jax import Progress
from sdpo_jax.engine.checks import shown
from sweeps.execute import GivenUp, Lost
from sweeps.execute.executors import Call
from sweeps.system.interrupts import Control, Stopped

# Tasks that are handed out for each thread of the cluster: one works, the other one waits.
_AHEAD = 2
# Seconds to wait for the first process of a cluster, for an answer of its scheduler, and between
# two looks at a wish to stop.
_PATIENCE = 60.0
_ANSWER = 15
_LOOK = 0.5

# Of those that Dask gives levels of their own, and of what it is built on.
_LOGS = ("distributed", "distributed.client", "tornado.application", "asyncio")

_LOCAL = re.compile(r"local:([0-9]{1,4})")
_ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx|inproc)://\S+")
_MOST_PROCESSES = 1024


_RUNNING = "what is saved is kept; allowed: the same command once a scheduler runs, or without --on"
_UNREACHABLE = f"the cluster's scheduler can't be reached any more; {_RUNNING}"


class Cluster:
    """An ``Executor`` of a Dask client's."""

    def __init__(self, client: Any):
        """
        Args:
            client: a ``distributed.Client``, not an asynchronous one.
        """
        self.client = client

    def ask(self, stop: Callable[[], bool], function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function of a module returns in one of the cluster's processes.

        Raises:
            Lost: the cluster has no process, or can't be reached.
            Stopped: ``stop`` was true before one answered.
        """
        with _told():
            self._wait_for_worker(stop)
            future = self.client.submit(function, *arguments, pure=False)
            try:
                while not self._finished([future]):
                    if stop():
                        raise Stopped
                return future.result()
            finally:
                with contextlib.suppress(Exception):
                    future.release()

    def _wait_for_worker(self, stop: Callable[[], bool]) -> None:
        """Wait until the cluster has a process.

        Raises:
            Lost: it has none after a while.
            Stopped: ``stop`` was true before.
        """
        end = time.monotonic() + _PATIENCE
        told = False
        while not self.client.nthreads():
            if stop():
                raise Stopped
            self._check()
            if time.monotonic() > end:
                raise Lost(
                    f"the cluster has had no worker for {_PATIENCE:.0f} s; allowed: start one "
                    "(`dask worker` with the scheduler's address), then the same command"
                )
            if not told:
                told = True
                print("waiting for a worker of the cluster", file=sys.stderr)
            time.sleep(_LOOK)

    def _check(self) -> None:
        """See that the scheduler answers.

        Raises:
            Lost: it does not.
        """
        if self.client.status not in ("running", "connecting"):
            raise Lost(_UNREACHABLE)

    def compute(
        self, calls: Iterable[Call], runs: int, control: Control, place: str = "blocks"
    ) -> None:
        """Compute blocks. Arguments and errors as for ``Executor.compute``."""
        left, done, hurt = iter(calls), 0, list[str]()
        following = next(left, None)
        mark = secrets.token_hex(4)
        under_way: dict[Any, Call] = {}
        with _told():
            try:
                while following is not None or under_way:
                    if control.stop():
                        following = None
                    while following is not None and len(under_way) < self._room():
                        control.check()
                        future = self.client.submit(
                            following.function,
                            *following.arguments,
                            key=f"sdpo_jax-block-{mark}-{following.identity}",
                            pure=False,
                        )
                        under_way[future] = following
                        following = next(left, None)
                    for future in self._finished(list(under_way)):
                        call = under_way.pop(future)
                        seconds = _seconds(future, hurt, call)
                        if seconds is None:
                            continue
                        done += call.runs
                        control.progress(Progress("block", call.label, done, runs, seconds))
            finally:
                # Where this ends early: no process begins what nobody waits for.
                for future in under_way:
                    with contextlib.suppress(Exception):
                        future.cancel()
        if hurt:
            raise GivenUp(
                f"{place}: {len(hurt)} blocks ended every process that computed them, "
                f"{', '.join(hurt[:3])}{' ...' if len(hurt) > 3 else ''}; the others are done; "
                "allowed: the same command to try again, or without --on to see why"
            )

    def _room(self) -> int:
        """How many tasks to hand out, by the threads that the cluster has now."""
        return _AHEAD * max(1, sum(self.client.nthreads().values()))

    def _finished(self, under_way: list[Any]) -> list[Any]:
        """Those that are done, or failed, after a short wait."""
        from distributed import wait

        with contextlib.suppress(TimeoutError):
            wait(under_way, timeout=_LOOK, return_when="FIRST_COMPLETED")
        self._check()
        return [future for future in under_way if future.done()]


def _seconds(future: Any, hurt: list[str], call: Call) -> float | None:
    """What a task took; ``None`` of one that no process survived, whose name is kept."""
    from distributed import KilledWorker

    if future.status in ("cancelled", "lost"):
        raise Lost(f"the cluster lost a task, so its scheduler has ended; {_RUNNING}")
    try:
        return future.result()
    except KilledWorker:
        hurt.append(call.identity)
        return None


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What the cluster raises where it can't be reached, as one line."""
    from distributed import CancelledError
    from distributed.comm.core import CommClosedError

    try:
        yield
    except Lost:
        raise
    except (CancelledError, CommClosedError, TimeoutError) as error:
        # A client speaks to the scheduler alone. Which of these it raises depends on what it was
        # asking when the connection broke, and what they say lists tasks and ports.
        raise Lost(_UNREACHABLE) from error
    except RuntimeError as error:
        # A client that was closed meanwhile, by whoever has it.
        if "closed" not in str(error) and "not running" not in str(error):
            raise
        raise Lost(f"the client was closed while it was needed; {_RUNNING}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What Dask logs of a connection that is lost, with its traceback, says nothing more."""
    logs = [logging.getLogger(name) for name in _LOGS]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


@contextlib.contextmanager
def connected(text: str) -> Iterator[Cluster]:
    """The executor that ``--on`` names: a scheduler's address, or ``local:N``.

    Raises:
        ValueError: neither, or Dask is not installed.
        Lost: nobody answers there.
    """
    local = _LOCAL.fullmatch(text)
    if local is None and not _ADDRESS.fullmatch(text):
        raise ValueError(
            f"--on: {text[:80]!r}; allowed: the address of a Dask scheduler, such as "
            "tcp://host:8786, or local:N for N processes on this machine"
        )
    if local is not None and not 1 <= int(local[1]) <= _MOST_PROCESSES:
        raise ValueError(f"--on: {text}; allowed: local:1 to local:{_MOST_PROCESSES}")
    try:
        from distributed import Client
    except ImportError:
        raise ValueError(
            f"--on: {text} needs distributed, which is not installed; "
            "allowed: `pip install 'sdpo_jax[dask]'` first"
        ) from None
    with _quiet(), contextlib.ExitStack() as stack:
        if local is not None:
            cluster = stack.enter_context(_processes(int(local[1])))
            client = stack.enter_context(Client(cluster))
        else:
            try:
                client = stack.enter_context(Client(text, timeout=_ANSWER))
            except OSError as error:
                said = " ".join(str(error).split())
                raise Lost(
                    f"--on: {text}: no scheduler answers there ({said[:200]}); {_RUNNING}"
                ) from error
        yield Cluster(client)


def _processes(count: int) -> Any:
    """Processes of one thread each on this machine."""
    from distributed import LocalCluster

    options: dict[str, Any] = {
        "threads_per_worker": 1,
        # None is not none, but port 8787, which two at a time quarrel about.
        "dashboard_address": "127.0.0.1:0",
        # A block and its program are small; the machine's memory is not divided by hand.
        "memory_limit": 0,
        "preload": ["sweeps.execute.uninterrupted"],
    }
    return LocalCluster(n_workers=count, processes=True, **options)


def of_client(client: Any) -> Cluster:
    """The executor of a client that the user has.

    Raises:
        ValueError: no client, an asynchronous one, or one that is closed.
    """
    if not all(hasattr(client, name) for name in ("submit", "nthreads", "asynchronous")):
        raise ValueError(f"client: {shown(client)}; allowed: a distributed.Client")
    if client.asynchronous:
        raise ValueError("client: an asynchronous one; allowed: a distributed.Client that is not")
    if client.status not in ("running", "connecting"):
        raise ValueError(
            f"client: {client.status}; allowed: a distributed.Client that is connected"
        )
    return Cluster(client)
