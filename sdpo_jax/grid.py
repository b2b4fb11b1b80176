"""Named axes to compiled programs to labelled arrays: the only file that knows blocks and devices.

Runs that share everything static (the method, the structure of the oracle, the sizes) share one
program. A program computes blocks of one fixed width, the last one padded, so the compiled code,
and with it every bit of a run, is independent of what else the grid holds.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax
from scipy.stats import studentized_range

from sdpo_jax import oracle as oracles
from sdpo_jax import teacher as teachers
from sdpo_jax.config import CONFIG_FIELDS, SIZE_FIELDS, Config, Sizes, check_sizes, check_value
from sdpo_jax.metrics import Metric
from sdpo_jax.oracle import ORACLES, Oracle
from sdpo_jax.train import (
    Optimizer,
    Program,
    Result,
    check_program,
    chosen_metrics,
    method_function,
    needs_teacher,
    train,
)

if TYPE_CHECKING:
    import xarray as xr

SEED_AXES = ("seed", "problem_seed")
NAMED_AXES = ("method", "feedback")
AXES = (*NAMED_AXES, *SEED_AXES, *CONFIG_FIELDS, *SIZE_FIELDS)

# Cuts that an oracle is padded to in programs that never ask what kind of oracle it is.
_PADDED_CUTS = 8

_BLOCK_WIDTH = {"cpu": 64}
_ACCELERATOR_BLOCK_WIDTH = 8192


@dataclass(frozen=True)
class Progress:
    """Told to the caller after each piece of work, from the calling thread.

    Attributes:
        kind: ``"compile"`` or ``"block"``.
        label: the program, such as ``"sdpo, continuous"``.
        done: runs finished so far, in the whole grid.
        total: runs of the grid.
        seconds: what this piece took.
    """

    kind: str
    label: str
    done: int
    total: int
    seconds: float


@dataclass
class _Group:
    """Runs that share a program: which ones, and what the program takes."""

    program: Program
    label: str
    runs: np.ndarray
    inputs: dict[str, Any]
    executables: dict[Any, Any] = field(default_factory=dict)


def default_block_width() -> int:
    """Runs that one dispatch computes side by side on the default device kind."""
    return _BLOCK_WIDTH.get(jax.default_backend(), _ACCELERATOR_BLOCK_WIDTH)


def default_nodes(sizes: Sizes, strength: float, quality_scale: float) -> int:
    """Teacher nodes that keep the interpolation error below 1e-5 for a typical table.

    A typical range is the median, over tables drawn at this scale, of the largest over rows. It
    depends on a run's own numbers only, not on what its table turns out to be.
    """
    slope = abs(strength) * quality_scale * _typical_range(sizes.length, sizes.vocab_size)
    # Rounded up, so that an axis of many strengths has few slopes to find nodes for.
    return teachers.nodes_for(math.ceil(20 * slope) / 20)


def run_grid(
    axes: Mapping[str, Any],
    *,
    config: Config | None = None,
    sizes: Sizes | None = None,
    metrics: Sequence[str | tuple[str, Metric]] = ("reward", "credit", "entropy"),
    record: Sequence[str] = (),
    record_every: int = 1,
    optimizer: Optimizer = optax.sgd,
    block_width: int | None = None,
    teacher_nodes: int | None = None,
    logits: bool = False,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> xr.Dataset:
    """Train a whole grid and label the outcome.

    Args:
        axes: the axes in the order of the result's dimensions. ``method`` takes names of
            ``METHODS`` or a mapping of names to functions; ``feedback`` names of ``ORACLES`` or a
            mapping of names to oracles; ``seed`` and ``problem_seed`` integers; and any field of
            ``Config`` or ``Sizes`` its values. ``method`` is SDPO, ``feedback`` continuous and
            ``seed`` 0 where there is no such axis.
        config: the numbers that no axis varies.
        sizes: the sizes that no axis varies.
        metrics: names of ``METRICS``, or pairs of a name and a metric of one's own.
        record: metrics whose curves are kept.
        record_every: steps between two points of a curve.
        optimizer: from a learning rate to an optax transformation.
        block_width: runs of a block. Bits are the same for the same width, whatever the grid.
        teacher_nodes: see ``Program``; by default ``default_nodes`` of each run's own numbers.
        logits: whether the last logits are kept, along ``position`` and ``token``.
        workers: blocks computed at a time; by default one a core on a CPU, else one a device.
        progress: called after each compilation and each block.

    Returns:
        A ``Dataset`` with the axes as coordinates: for each metric its final value under the
        metric's name, ``NAME_mean`` over all steps, and ``NAME_curve`` along ``step``.

    Raises:
        ValueError: an unknown axis, name or value, in one line, before anything is compiled.
    """
    config = Config() if config is None else config
    sizes = Sizes() if sizes is None else sizes
    width = default_block_width() if block_width is None else block_width
    if width < 1:
        raise ValueError(f"block_width: {width!r}; allowed: 1 or more")
    base = Program(
        sizes=sizes,
        metrics=tuple(metrics),
        record=tuple(record),
        record_every=record_every,
        optimizer=optimizer,
    )
    values = _checked_axes(axes, base)
    devices = _workers(workers)
    groups = _groups(values, config, base, teacher_nodes)
    shape = tuple(len(value) for value in values.values())
    if logits and not {"length", "vocab_size"}.isdisjoint(values):
        raise ValueError("logits: True; allowed: no axis of length or vocab_size beside it")
    wanted = ("final", "mean", "curves") + (("logits",) if logits else ())
    outcome = _execute(groups, math.prod(shape), width, devices, wanted, progress)
    return _labelled(outcome, axes, values, shape, config, base, width)


def _checked_axes(axes: Mapping[str, Any], base: Program) -> dict[str, list[tuple[str, Any]]]:
    """Each axis as pairs of a label and a value, checked."""
    checked: dict[str, list[tuple[Any, Any]]] = {}
    for name, given in axes.items():
        if name not in AXES:
            raise ValueError(f"axes: {name!r}; allowed: {', '.join(AXES)}")
        if isinstance(given, str) or not isinstance(given, (Mapping, Sequence, range, np.ndarray)):
            raise ValueError(f"{name}: {given!r}; allowed: a sequence of values")
        if len(given) == 0:
            raise ValueError(f"{name}: no values; allowed: one or more")
        pairs = [_checked_value(name, value, given) for value in given]
        labels = [label for label, _ in pairs]
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise ValueError(f"{name}: {twice!r} occurs twice; allowed: each value once")
        checked[name] = pairs
    for name in chosen_metrics(base):
        if name in checked:
            raise ValueError(f"metrics: {name!r} is also an axis; allowed: a name of its own")
    if base.record and "steps" in checked:
        raise ValueError("record: curves of different lengths; allowed: no axis of steps")
    return checked


def _checked_value(name: str, value: Any, given: Any) -> tuple[Any, Any]:
    if name == "method":
        method = given[value] if isinstance(given, Mapping) else value
        method_function(method)
        return (value if isinstance(value, str) else method.__name__), method
    if name == "feedback":
        if isinstance(given, Mapping):
            oracles.check_oracle(given[value])
            return value, given[value]
        return value, oracle_by_name(value)
    if name in SEED_AXES:
        if not isinstance(value, (int, np.integer)) or not 0 <= value < 2**32:
            raise ValueError(f"{name}: {value!r}; allowed: integers from 0 to 2**32 - 1")
        return int(value), int(value)
    if name in SIZE_FIELDS:
        steps = value if name == "steps" else max(int(value), Sizes.steps)
        if name == "final_window":
            check_sizes(Sizes(final_window=value, steps=steps))
        else:
            check_sizes(replace(Sizes(final_window=1), **{name: value}))
        return int(value), int(value)
    check_value(name, value)
    return float(value), float(value)


def oracle_by_name(name: str) -> Oracle:
    """An oracle with its usual numbers.

    Raises:
        ValueError: an unknown name.
    """
    if name not in ORACLES:
        raise ValueError(f"feedback: {name!r}; allowed: {', '.join(ORACLES)}")
    return ORACLES[name]()


def _groups(
    values: dict[str, list[tuple[Any, Any]]],
    config: Config,
    base: Program,
    teacher_nodes: int | None,
) -> list[_Group]:
    shape = tuple(len(value) for value in values.values())
    places = dict(zip(values, np.unravel_index(np.arange(math.prod(shape)), shape), strict=True))

    def column(name: str, default: Any) -> np.ndarray:
        if name not in values:
            return np.broadcast_to(np.asarray(default), math.prod(shape))
        return np.asarray([value for _, value in values[name]])[places[name]]

    numbers = {}
    for name in CONFIG_FIELDS:
        check_value(name, getattr(config, name))
        numbers[name] = column(name, getattr(config, name)).astype(np.float32)
    seeds = column("seed", 0).astype(np.uint32)
    inputs = {
        "seed": seeds,
        "problem_seed": column("problem_seed", 0).astype(np.uint32)
        if "problem_seed" in values
        else seeds,
        "config": Config(**numbers),
    }
    methods = values.get("method", [("sdpo", "sdpo")])
    feedbacks = values.get("feedback", [("continuous", oracles.continuous())])
    # Static coordinates of each run, then one group for each combination that occurs.
    static = [
        places.get("method", np.zeros(math.prod(shape), int)),
        places.get("feedback", np.zeros(math.prod(shape), int)),
        *(column(name, getattr(base.sizes, name)) for name in SIZE_FIELDS),
        _nodes_of_runs(numbers, column, base.sizes, teacher_nodes),
    ]
    groups: dict[Any, list[tuple[np.ndarray, Oracle]]] = {}
    labels: dict[Any, list[str]] = {}
    for row in np.unique(np.stack(static), axis=1).T:
        runs = np.flatnonzero((np.stack(static) == row[:, None]).all(0))
        (method_label, method), (feedback_label, oracle) = methods[row[0]], feedbacks[row[1]]
        row_sizes = Sizes(**{n: int(v) for n, v in zip(SIZE_FIELDS, row[2:-1], strict=True)})
        program = replace(base, method=method, sizes=row_sizes)
        check_program(program)
        if not needs_teacher(program):
            oracle = _padded(oracle)
        elif oracle.gain is not None and oracle.hints is None:
            program = replace(program, teacher_nodes=int(row[-1]))
        key = (program, jax.tree.structure(oracle), np.shape(oracle.cuts)[0])
        groups.setdefault(key, []).append((runs, oracle))
        label = [method_label]
        if needs_teacher(program):
            label.append(feedback_label)
        label += [f"{name} {getattr(row_sizes, name)}" for name in SIZE_FIELDS if name in values]
        labels[key] = label
    return [
        _Group(key[0], ", ".join(labels[key]), *_gathered(parts, inputs))
        for key, parts in groups.items()
    ]


def _nodes_of_runs(
    numbers: Mapping[str, np.ndarray],
    column: Callable[[str, Any], np.ndarray],
    sizes: Sizes,
    teacher_nodes: int | None,
) -> np.ndarray:
    strength, scale = numbers["feedback_strength"], numbers["quality_scale"]
    if teacher_nodes is not None:
        teachers.check_nodes(teacher_nodes)
        return np.full(strength.shape, teacher_nodes)
    length = column("length", sizes.length)
    vocab_size = column("vocab_size", sizes.vocab_size)
    rows = np.stack([strength, scale, length, vocab_size])
    kinds, of_run = np.unique(rows, axis=1, return_inverse=True)
    nodes = [
        default_nodes(replace(sizes, length=int(kind[2]), vocab_size=int(kind[3])), *kind[:2])
        for kind in kinds.T.tolist()
    ]
    return np.asarray(nodes)[of_run.reshape(-1)]


def _gathered(
    parts: list[tuple[np.ndarray, Oracle]], inputs: dict[str, Any]
) -> tuple[np.ndarray, dict[str, Any]]:
    """The runs of a group and, runs last, what its program takes."""
    runs = np.concatenate([indices for indices, _ in parts])

    def spread(*leaves: Any) -> np.ndarray:
        columns = [
            np.repeat(np.asarray(leaf, np.float32)[..., None], len(indices), axis=-1)
            for leaf, (indices, _) in zip(leaves, parts, strict=True)
        ]
        return np.concatenate(columns, axis=-1)

    taken = jax.tree.map(lambda leaf: leaf[runs], inputs)
    taken["oracle"] = jax.tree.map(spread, *(oracle for _, oracle in parts))
    return runs, taken


def _padded(oracle: Oracle) -> Oracle:
    """The same feedback, in the structure that all oracles without hints can share."""
    cuts, rises = np.asarray(oracle.cuts), np.asarray(oracle.rises)
    room = max(_PADDED_CUTS, 2 ** (len(cuts) - 1).bit_length() if len(cuts) else 0)
    missing = (0, room - len(cuts))
    gain = np.float32(0) if oracle.gain is None else oracle.gain
    # R~ never reaches a cut at 2.
    return Oracle(
        gain,
        oracle.base,
        np.pad(cuts, missing, constant_values=2.0),
        np.pad(rises, missing),
        judge=oracle.judge,
    )


@cache
def _typical_range(length: int, vocab_size: int) -> float:
    return float(studentized_range.ppf(0.5 ** (1 / length), vocab_size, np.inf))


def _train_block(program: Program, inputs: dict[str, Any]) -> dict[str, Any]:
    result: Result = train(
        inputs["seed"],
        program,
        inputs["config"],
        inputs["oracle"],
        problem_seed=inputs["problem_seed"],
    )
    return {
        "final": result.final,
        "mean": result.mean,
        "curves": result.curves,
        "logits": {"logits": result.logits},
    }


class _Programs:
    """Compiled programs, kept for the life of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Any, Any] = {}

    def get(self, program: Program, inputs: dict[str, Any], device: Any) -> tuple[Any, float]:
        """The program for inputs of this shape on this device, and the seconds it took."""
        leaves, structure = jax.tree.flatten(inputs)
        key = (program, structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves), device)
        with self._lock:
            if key in self._kept:
                return self._kept[key], 0.0
        start = time.perf_counter()
        sharding = jax.sharding.SingleDeviceSharding(device)
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), inputs
        )
        compiled = _jitted(program).lower(shapes).compile(_compiler_options(device))
        with self._lock:
            self._kept[key] = compiled
        return compiled, time.perf_counter() - start


_PROGRAMS = _Programs()


@cache
def _jitted(program: Program) -> Any:
    return jax.jit(lambda inputs: _train_block(program, inputs))


def _compiler_options(device: Any) -> dict[str, Any]:
    # Blocks keep the cores busy; threads inside a kernel of a few microseconds only wait.
    return {"xla_cpu_multi_thread_eigen": False} if device.platform == "cpu" else {}


def _workers(given: int | None) -> list[Any]:
    """The device of each worker."""
    devices = jax.local_devices()
    if given is not None:
        if given < 1:
            raise ValueError(f"workers: {given!r}; allowed: 1 or more")
        return [devices[i % len(devices)] for i in range(given)]
    if devices[0].platform == "cpu" and len(devices) == 1:
        return devices * len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [0])
    return devices


def _execute(
    groups: list[_Group],
    total: int,
    width: int,
    devices: Sequence[Any],
    wanted: Sequence[str],
    progress: Callable[[Progress], None] | None,
) -> dict[str, dict[str, np.ndarray]]:
    outcome: dict[str, dict[str, np.ndarray]] = {}
    done = 0

    def report(kind: str, label: str, seconds: float) -> None:
        if progress is not None:
            progress(Progress(kind, label, done, total, seconds))

    free = list(devices)
    lock = threading.Lock()

    def on_device(work: Callable[[Any], Any]) -> tuple[Any, float]:
        with lock:
            device = free.pop()
        start = time.perf_counter()
        try:
            return work(device), time.perf_counter() - start
        finally:
            with lock:
                free.append(device)

    def compile_on(group: _Group, device: Any) -> None:
        group.executables[device], _ = _PROGRAMS.get(
            group.program, _block(group.inputs, 0, width), device
        )

    def compute(group: _Group, start: int) -> tuple[_Group, int, Any]:
        def work(device: Any) -> Any:
            inputs = jax.device_put(_block(group.inputs, start, width), device)
            parts = group.executables[device](inputs)
            return {part: jax.tree.map(np.asarray, parts[part]) for part in wanted}

        block, seconds = on_device(work)
        return group, start, (block, seconds)

    with ThreadPoolExecutor(len(devices)) as pool:
        try:
            compiling = {}
            for group in groups:
                for device in dict.fromkeys(devices):
                    future = pool.submit(_timed, compile_on, group, device)
                    compiling[future] = group
            for future in as_completed(compiling):
                report("compile", compiling[future].label, future.result())
            blocks = [
                pool.submit(compute, group, start)
                for group in groups
                for start in range(0, len(group.runs), width)
            ]
            for future in as_completed(blocks):
                group, start, (block, seconds) = future.result()
                runs = group.runs[start : start + width]
                for part, arrays in block.items():
                    for name, array in arrays.items():
                        kept = outcome.setdefault(part, {})
                        if name not in kept:
                            kept[name] = np.empty((*array.shape[:-1], total), array.dtype)
                        kept[name][..., runs] = array[..., : len(runs)]
                done += len(runs)
                report("block", group.label, seconds)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return outcome


def _timed(function: Callable[..., None], *arguments: Any) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def _block(inputs: dict[str, Any], start: int, width: int) -> dict[str, Any]:
    """So many runs from ``start``; past the end the last run is repeated."""

    def cut(leaf: np.ndarray) -> np.ndarray:
        index = np.minimum(np.arange(start, start + width), leaf.shape[-1] - 1)
        return np.ascontiguousarray(leaf[..., index])

    return jax.tree.map(cut, inputs)


def _labelled(
    outcome: dict[str, dict[str, np.ndarray]],
    axes: Mapping[str, Any],
    values: dict[str, list[tuple[Any, Any]]],
    shape: tuple[int, ...],
    config: Config,
    base: Program,
    width: int,
) -> xr.Dataset:
    import xarray as xr

    dims = tuple(values)
    chosen = chosen_metrics(base)
    variables: dict[str, Any] = {}
    for name, metric in chosen.items():
        title = {"long_name": metric.title}
        variables[name] = (dims, outcome["final"][name].reshape(shape), title)
        mean_title = {"long_name": f"{metric.title}, mean over steps"}
        variables[f"{name}_mean"] = (dims, outcome["mean"][name].reshape(shape), mean_title)
    for name in base.record:
        curve = np.moveaxis(outcome["curves"][name], 0, -1).reshape(*shape, -1)
        variables[f"{name}_curve"] = (
            (*dims, "step"),
            curve,
            {"long_name": chosen[name].title},
        )
    if "logits" in outcome:
        last = np.moveaxis(outcome["logits"]["logits"], -1, 0)
        variables["logits"] = (
            (*dims, "position", "token"),
            last.reshape(*shape, *last.shape[1:]),
            {"long_name": "logits after the last step"},
        )
    coordinates: dict[str, Any] = {
        name: [label for label, _ in pairs] for name, pairs in values.items()
    }
    if base.record:
        coordinates["step"] = np.arange(0, base.sizes.steps, base.record_every)
    held = {name: getattr(config, name) for name in CONFIG_FIELDS if name not in values}
    held |= {name: getattr(base.sizes, name) for name in SIZE_FIELDS if name not in values}
    attributes = {name: float(value) for name, value in held.items()}
    attributes["block_width"] = width
    return xr.Dataset(variables, coordinates, attributes)
