"""A plan to compiled programs to labelled arrays: the only file that knows blocks and devices.

A program computes blocks of one fixed width, the last one padded, so the compiled code, and with
it every bit of a run, is independent of what else the grid holds.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sdpo_jax import lanes
from sdpo_jax.checks import integer, shown
from sdpo_jax.config import Config
from sdpo_jax.curves import RUNS_AT_A_TIME, CurvesOver, attributes, check_quantiles
from sdpo_jax.oracle import Oracle
from sdpo_jax.plan import (
    Chunk,
    Group,
    Plan,
    plan_grid,
)
from sdpo_jax.program import FINITE_STEPS, Program, algorithm_of, chosen_metrics
from sdpo_jax.train import Result, train

if TYPE_CHECKING:
    import xarray as xr

_BLOCK_WIDTH = {"cpu": 64}
_ACCELERATOR_BLOCK_WIDTH = 8192

# Of curves that are summed up, where nothing else is asked for.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

# Blocks that one call computes, one after the other, so that what a call costs does not count.
_BLOCKS_A_CALL = {"cpu": 16}

# In one kernel, LLVM unrolls shorter loops before it makes vectors of them, and then not every lane
# gets the same instructions, and so not the same bits.
_KERNEL_WIDTH = 32

# Threads; more than this is a mistake in a number.
_MOST_WORKERS = 4096

# Compiled programs that are kept for the next call; each takes a few megabytes.
_MOST_PROGRAMS = 128

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


def default_block_width() -> int:
    """Runs that one dispatch computes side by side on the default device kind."""
    return _BLOCK_WIDTH.get(jax.default_backend(), _ACCELERATOR_BLOCK_WIDTH)


def default_workers() -> int:
    """Blocks that are computed at a time."""
    return len(_workers(None))


def output_bytes(plan: Plan, group: Group) -> int:
    """Bytes that a run of a group yields; nothing is compiled."""
    inputs = _padded(group, np.zeros(1, int), 1)
    block = partial(_train_block, group.program, plan.logits)
    shapes = jax.eval_shape(block, inputs)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def run_grid(
    axes: Mapping[str, Any],
    program: Program | None = None,
    config: Config | None = None,
    oracle: str | Oracle | Callable[..., Any] = "continuous",
    *,
    seed: int = 0,
    problem_seed: int | None = None,
    numbers: Mapping[str, float] | None = None,
    block_width: int | None = None,
    curves_over: str | None = None,
    quantiles: Sequence[float] = QUANTILES,
    logits: bool = False,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    **parts: Any,
) -> xr.Dataset:
    """Train a whole grid and label the outcome.

    Args:
        axes: the axes in the order of the result's dimensions. ``algorithm`` takes names of
            ``ALGORITHMS`` and functions, or a mapping of names to functions; ``oracle``,
            ``policy``, ``problem`` and ``optimizer`` the same of ``ORACLES``, ``POLICIES``,
            ``PROBLEMS`` and ``OPTIMIZERS``; ``seed`` and ``problem_seed`` integers; any field of
            ``Config`` or ``Sizes``, and any number of an algorithm's, policy's, problem's or
            oracle's own (``sdpo_jax.own_numbers``), its values. A run that differs from another
            only in a number that it does not read is not trained again. Axes of equal lengths
            that vary together are one entry: a name for the dimension, and a mapping of the axes
            to their values.
        program: what no axis varies of what is static.
        config: the numbers that no axis varies.
        oracle: the feedback type, where no axis varies it.
        seed, problem_seed: what no axis varies. The problem's seed is the run's where there is
            none.
        numbers: by name the own numbers of parts that no axis varies and that are not at their
            defaults.
        parts: fields of ``Program`` by name, instead of those of ``program``: ``algorithm``,
            ``policy``, ``problem``, ``sizes``, ``metrics``, ``record``, ``record_every``,
            ``optimizer``, and ``teacher_nodes``, which is ``default_nodes`` of each run's own
            numbers where it is not given.
        curves_over: a dimension (``"seed"``, as a rule) over which curves are summed up as they
            come instead of kept, so that memory does not grow with it: ``NAME_curve`` is then
            their mean over it, ``NAME_curve_sd`` their standard deviation, ``NAME_curve_count``
            the finite values of each point, and ``NAME_curve_quantile`` their quantiles.
        quantiles: which ones, of metrics that have bounds; right to 1/1000 of a metric's range.
        block_width: runs of a block, rounded up to a multiple of 16. Bits are the same for the
            same width, whatever the grid.
        logits: whether the last logits are kept, along ``position`` and ``token``.
        workers: blocks computed at a time; by default one a core on a CPU, else one a device.
        progress: called after each compilation and each block.

    Returns:
        A ``Dataset`` with the axes as coordinates: for each metric its final value under the
        metric's name, ``NAME_mean`` over all steps, and ``NAME_curve`` along ``step``; and
        ``finite_steps``, the steps before a run's first non-finite number (all of them, where it
        has none). With ``curves_over``, curves lack that dimension.

    Raises:
        ValueError: an unknown axis, name or value, in one line, before anything is compiled.
    """
    check_quantiles(quantiles)
    devices = _workers(workers)
    if not (progress is None or callable(progress)):
        raise ValueError(f"progress: {shown(progress)}; allowed: a function of a Progress")
    plan = plan_grid(
        axes,
        program,
        config,
        oracle,
        width=default_block_width() if block_width is None else block_width,
        seed=seed,
        problem_seed=problem_seed,
        numbers=numbers,
        logits=logits,
        **parts,
    )
    size = plan.width * len(devices) * _blocks_a_call(devices[0])
    outcome: Arrays = {}
    if curves_over is None:
        execution = _Execution(
            plan, plan.groups, plan.chunks(size), plan.trained, devices, progress
        )
        for chunk, arrays in execution.results():
            fill(outcome, plan.total, *chunk.group.everywhere(chunk.runs, arrays))
        return label(plan, outcome)
    curves = CurvesOver(plan, curves_over, quantiles)
    chunks = list(plan.chunks(max(1, RUNS_AT_A_TIME // plan.width) * plan.width))
    done = _Execution(plan, plan.groups, iter(chunks), plan.trained, devices, progress)
    for chunk, arrays in _in_order(chunks, done.results()):
        runs, arrays = chunk.group.everywhere(chunk.runs, arrays)
        fill(outcome, plan.total, runs, curves.take(runs, arrays))
    return _with_curves(label(plan, outcome), plan, curves, quantiles)


def _in_order(
    chunks: Sequence[Chunk], done: Iterable[tuple[Chunk, Arrays]]
) -> Iterator[tuple[Chunk, Arrays]]:
    """What is done, in the order of ``chunks``: sums depend on it in their last bits."""
    early: dict[int, Arrays] = {}
    following = iter(chunks)
    upcoming = next(following, None)
    for chunk, arrays in done:
        early[id(chunk)] = arrays
        while upcoming is not None and id(upcoming) in early:
            yield upcoming, early.pop(id(upcoming))
            upcoming = next(following, None)


def _with_curves(
    data: xr.Dataset, plan: Plan, curves: CurvesOver, quantiles: Sequence[float]
) -> xr.Dataset:
    described = describe(plan)
    for name, (dims, values) in curves.variables().items():
        of = described[name[: name.rindex("_curve")] + "_curve"][1]
        data[name] = (dims, values, attributes(name, of))
    if any("quantile" in data[name].dims for name in data.data_vars):
        data = data.assign_coords(quantile=("quantile", list(quantiles), _attributes("quantile")))
    return data


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
    execution = _Execution(plan, groups, iter(chunks), total, _workers(workers), progress, stop)
    return execution.results()


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


def label(plan: Plan, outcome: Mapping[str, Any]) -> xr.Dataset:
    """The Dataset of ``run_grid``.

    Args:
        plan: from ``plan_grid``.
        outcome: by variable ``[runs, ...]``, or ``[*plan.shape, ...]``, which may then be a lazy
            array of xarray's.
    """
    import xarray as xr
    from xarray.core.indexing import ExplicitlyIndexed, LazilyIndexedArray, MemoryCachedArray

    def shaped(array: Any) -> Any:
        if isinstance(array, ExplicitlyIndexed):
            return MemoryCachedArray(LazilyIndexedArray(array))
        return array.reshape((*plan.shape, *array.shape[1:]))

    dims = tuple(axis.dimension for axis in plan.axes)
    described = describe(plan)
    variables = {
        name: (
            (*dims, *described[name][0]),
            shaped(array),
            described[name][1],
        )
        for name, array in outcome.items()
    }
    coordinates: dict[str, Any] = {
        name: ((axis.dimension,), _coordinate(labels), _attributes(plan.titles[name]))
        for axis in plan.axes
        for name, labels in axis.labels.items()
    }
    if plan.base.record:
        steps = np.arange(0, plan.base.sizes.steps, plan.base.record_every)
        coordinates["step"] = (("step",), steps, _attributes(plan.titles["step"]))
    data = xr.Dataset(variables, coordinates, {**plan.held, "block_width": plan.width})
    zipped = [name for axis in plan.axes for name in axis.labels if name != axis.dimension]
    for name in zipped:
        data = data.set_xindex(name)
    return data


def _coordinate(labels: Any) -> Any:
    import pandas as pd

    if isinstance(labels, range | np.ndarray):
        # Of millions of seeds xarray would make a copy, and of a range an array.
        return pd.Index(labels, copy=False)
    return list(labels)


def describe(plan: Plan) -> dict[str, tuple[tuple[str, ...], dict[str, str]]]:
    """By variable of the outcome: its dimensions behind the plan's, and its attributes."""
    chosen = chosen_metrics(plan.base)
    found: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {}
    for name, metric in chosen.items():
        found[name] = ((), _attributes(metric.title))
        found[f"{name}_mean"] = ((), _attributes(metric.title, ", mean over steps"))
    for name in plan.base.record:
        found[f"{name}_curve"] = (("step",), _attributes(chosen[name].title))
    if plan.logits:
        found["logits"] = (("position", "token"), _attributes("logits after the last step"))
    found[FINITE_STEPS] = ((), _attributes("steps before the first non-finite number"))
    return found


def _attributes(title: str, more: str = "") -> dict[str, str]:
    """Long name and unit; a unit stands in brackets at the end of a title."""
    name, _, unit = title.partition(" (")
    return {"long_name": name + more, "units": unit.rstrip(")") or "1"}


def _train_block(program: Program, logits: bool, inputs: dict[str, Any]) -> dict[str, Array]:
    """By variable, runs last."""
    # The words of a raw key are uint32, as two seeds of a grid would be.
    seed, problem_seed = (
        jax.lax.bitcast_convert_type(inputs[name], jnp.int32) for name in ("seed", "problem_seed")
    )
    result: Result = train(
        seed,
        program,
        inputs["config"],
        inputs["oracle"],
        problem_seed=problem_seed,
        numbers=inputs["numbers"],
    )
    outcome = {**result.final, FINITE_STEPS: result.finite_steps}
    outcome |= {f"{name}_mean": value for name, value in result.mean.items()}
    outcome |= {f"{name}_curve": value for name, value in result.curves.items()}
    return outcome | ({"logits": result.logits} if logits else {})


def _train_blocks(
    program: Program, logits: bool, width: int, inputs: dict[str, Any], count: Array
) -> dict[str, Array]:
    """The first ``count`` blocks of ``[..., blocks * width]`` runs; what is behind them is 0."""
    block = jax.jit(partial(_train_block, program, logits))

    def at(index: Any) -> dict[str, Any]:
        return jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, index * width, width, leaf.ndim - 1),
            inputs,
        )

    def add(index: Array, outcome: dict[str, Array]) -> dict[str, Array]:
        return jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_slice_in_dim(
                whole, part, index * width, whole.ndim - 1
            ),
            outcome,
            block(at(index)),
        )

    runs = inputs["seed"].shape[-1]
    empty = jax.tree.map(
        lambda leaf: jnp.zeros((*leaf.shape[:-1], runs), leaf.dtype), jax.eval_shape(block, at(0))
    )
    return jax.lax.fori_loop(0, count, add, empty)


class _Programs:
    """Compiled programs: those that were used last are kept.

    One that is dropped lives on for as long as somebody holds it.
    """

    def __init__(self, most: int = _MOST_PROGRAMS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Any, Future] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(
        self, program: Program, logits: bool, width: int, inputs: dict[str, Any], device: Any
    ) -> Any:
        """The program for blocks of this width and inputs of this shape on this device.

        Who asks while another thread compiles it waits for that.
        """
        leaves, structure = jax.tree.flatten(inputs)
        key = (
            program,
            _parts(program),
            logits,
            width,
            structure,
            tuple((leaf.shape, leaf.dtype) for leaf in leaves),
            device,
        )
        own: Future = Future()
        with self._lock:
            found = self._kept.setdefault(key, own)
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        if found is own:
            try:
                own.set_result(self._compile(program, logits, width, inputs, device))
            except BaseException as error:
                with self._lock:
                    if self._kept.get(key) is own:
                        del self._kept[key]
                own.set_exception(error)
        return found.result()

    @staticmethod
    def _compile(
        program: Program, logits: bool, width: int, inputs: dict[str, Any], device: Any
    ) -> Any:
        sharding = jax.sharding.SingleDeviceSharding(device)
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            (inputs, np.int32(0)),
        )
        return _compiled(program, logits, width, shapes, device)


_PROGRAMS = _Programs()


def _parts(program: Program) -> Any:
    """What the names of a program stand for now: a registry may have something else for them."""
    return algorithm_of(program.algorithm), tuple(chosen_metrics(program).values())


def _blocks_a_call(device: Any) -> int:
    return _BLOCKS_A_CALL.get(device.platform, 1)


def _program(plan: Plan, group: Group, device: Any) -> Any:
    """The compiled program of a group."""
    inputs = _padded(group, np.zeros(1, int), _blocks_a_call(device) * plan.width)
    return _PROGRAMS.get(group.program, plan.logits, plan.width, inputs, device)


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
        devices = dict.fromkeys(_workers(None))
        for (plan, group), device in itertools.product(groups, devices):
            if left.is_set():
                return
            # Whoever computes the group meets the error too, where it can be told.
            with suppress(Exception):
                _program(plan, group, device)

    thread = threading.Thread(target=work, name="compiled ahead")
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


def _compiled(program: Program, logits: bool, width: int, shapes: Any, device: Any) -> Any:
    """A program for a device; in one kernel where that is a CPU and all of it can be in one."""
    options, parts = compiler_options(device), _parts(program)
    if device.platform == "cpu" and width >= _KERNEL_WIDTH:
        whole = _jitted(program, parts, logits, width, one_kernel=True).lower(*shapes)
        if lanes.fits_one_kernel(whole.as_text()):
            return whole.compile(options)
    plain = _jitted(program, parts, logits, width, one_kernel=False)
    return plain.lower(*shapes).compile(options)


# Held only while the devices of one program compile it in turn: it keeps the user's functions.
@lru_cache(16)
def _jitted(program: Program, parts: Any, logits: bool, width: int, one_kernel: bool) -> Any:
    def blocks(inputs: dict[str, Any], count: Array) -> dict[str, Array]:
        return _train_blocks(program, logits, width, inputs, count)

    def kernel(inputs: dict[str, Any], count: Array) -> dict[str, Array]:
        return lanes.one_kernel(blocks, inputs, count)

    return jax.jit(kernel if one_kernel else blocks)


def compiler_options(device: Any = None) -> dict[str, Any]:
    """What ``run_grid`` tells the compiler for a device, the default one if ``None``.

    For whoever compiles ``train`` himself: ``jax.jit(f, compiler_options=compiler_options())``.
    It is part of what decides a run's bits. On a CPU it also leaves out a rewriting pass of XLA
    that is wrong in jaxlib 0.10.2 and later ones: what is summed up of a small matrix product, such
    as ``(matrix @ view.reward).sum(0)`` in a metric of one's own, is then another number in the
    last of a little more than 32,768 runs that are mapped over at once.

    Returns:
        By option its value; empty where nothing has to be said.
    """
    if (jax.local_devices()[0] if device is None else device).platform != "cpu":
        return {}
    return {
        # Blocks keep the cores busy; threads inside a kernel of a few microseconds only wait.
        "xla_cpu_multi_thread_eigen": False,
        # LLVM's own choice is half of what the processor has.
        "xla_cpu_prefer_vector_width": 512,
        # Calls of a library, for sums, are not for arrays this small; and not part of one kernel.
        "xla_cpu_experimental_ynn_fusion_type": "",
    }


def _workers(given: int | None) -> list[Any]:
    """The device of each worker."""
    devices = jax.local_devices()
    if given is not None:
        given = integer("workers", given, 1)
        if given > _MOST_WORKERS:
            raise ValueError(f"workers: {given}; allowed: up to {_MOST_WORKERS}")
        return [devices[i % len(devices)] for i in range(given)]
    if devices[0].platform == "cpu" and len(devices) == 1:
        return devices * len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [0])
    return devices


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


class _Execution:
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
        progress: Callable[[Progress], None] | None,
        stop: Callable[[], bool] | None = None,
    ):
        self.plan, self.total, self.devices = plan, total, devices
        self.progress, self.stop = progress, stop
        self.most = _blocks_a_call(devices[0])
        self.waiting = deque(groups)
        self.states = dict.fromkeys(self.waiting, _State.WAITING)
        self.builds: dict[Group, int] = {}
        self.chunks, self.upcoming = chunks, None
        self.pieces: deque[tuple[_Under, np.ndarray]] = deque()
        self.running: dict[Future, Callable[[Any], Iterator[tuple[Chunk, Arrays]]]] = {}
        self.done = 0
        self.free = list(devices)
        self.lock = threading.Lock()

    def results(self) -> Iterator[tuple[Chunk, Arrays]]:
        """Each chunk with its arrays, as soon as it is done."""
        self.upcoming = next(self.chunks, None)
        with ThreadPoolExecutor(len(self.devices)) as pool:
            try:
                while True:
                    # One piece waits for each worker: enough to keep it busy.
                    while len(self.running) < 2 * len(self.devices) and self._submit(pool):
                        pass
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
        blocks = -(-count // self.plan.width)
        size = self.plan.width * min(self.most, -(-blocks // len(self.devices)))
        for start in range(0, count, size):
            yield under, np.arange(start, min(start + size, count))

    # In a worker.

    def _build(self, group: Group, device: Any) -> float:
        start = time.perf_counter()
        with _named(group):
            _program(self.plan, group, device)
        return time.perf_counter() - start

    def _calculate(self, group: Group, places: np.ndarray) -> tuple[Arrays, float]:
        with self.lock:
            device = self.free.pop()
        start = time.perf_counter()
        try:
            with _named(group):
                plan = self.plan
                inputs = _padded(group, places, self.most * plan.width)
                blocks = np.int32(-(-len(places) // plan.width))
                run = _PROGRAMS.get(group.program, plan.logits, plan.width, inputs, device)
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


def _padded(group: Group, places: np.ndarray, size: int) -> dict[str, Any]:
    """What the program takes for the runs at ``places``; up to the size, the last is repeated."""
    return group.given(places[np.minimum(np.arange(size), len(places) - 1)])
