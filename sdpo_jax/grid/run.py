"""A whole grid in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sdpo_jax.config import Config
from sdpo_jax.engine.checks import shown
from sdpo_jax.grid.curves import RUNS_AT_A_TIME, CurvesOver, attributes, check_quantiles
from sdpo_jax.grid.devices import devices_of
from sdpo_jax.grid.execute import Arrays, Execution, Progress, fill
from sdpo_jax.grid.label import attributes_of, describe, label, prepare
from sdpo_jax.grid.plan import Chunk, Plan, plan_grid
from sdpo_jax.grid.programs import blocks_a_call
from sdpo_jax.oracles import Oracle
from sdpo_jax.program import Program

if TYPE_CHECKING:
    import xarray as xr


# Of curves that are summed up, where nothing else is asked for.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


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
            oracle's own (``sdpo_jax.engine.own_numbers``), its values. A run that differs from
            another only in a number that it does not read is not trained again. Axes of equal
            lengths that vary together are one entry: a name for the dimension, and a mapping of
            the axes to their values.
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
        block_width: runs of a block, rounded up to a multiple of 16; by default
            ``default_block_width`` of each program. Bits are the same for the same width,
            whatever the grid.
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
    devices = devices_of(workers)
    if not (progress is None or callable(progress)):
        raise ValueError(f"progress: {shown(progress)}; allowed: a function of a Progress")
    plan = plan_grid(
        axes,
        program,
        config,
        oracle,
        width=block_width,
        seed=seed,
        problem_seed=problem_seed,
        numbers=numbers,
        logits=logits,
        **parts,
    )
    width = max(plan.widths)
    size = width * len(devices) * blocks_a_call(devices[0])
    outcome: Arrays = {}
    if curves_over is None:
        done = Execution(plan, plan.groups, plan.chunks(size), plan.trained, devices, progress)
        for chunk, arrays in done.results(prepare):
            fill(outcome, plan.total, *chunk.group.everywhere(chunk.runs, arrays))
        return label(plan, outcome)
    curves = CurvesOver(plan, curves_over, quantiles)
    chunks = list(plan.chunks(max(1, RUNS_AT_A_TIME // width) * width))
    done = Execution(plan, plan.groups, iter(chunks), plan.trained, devices, progress)
    for chunk, arrays in _in_order(chunks, done.results(prepare)):
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
        data = data.assign_coords(quantile=("quantile", list(quantiles), attributes_of("quantile")))
    return data
