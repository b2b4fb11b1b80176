"""What is kept of the steps of a training run: final values, means and curves of metrics.

    recorder = Recorder(program, runs)
    kept = recorder.empty()
    kept = recorder.add(kept, view, state, index)        after each step
    final, mean, curves, finite_steps = recorder.result(kept)

Reductions inside the loop, so that memory does not grow with the number of steps; a loop of one's
own that records so has the results of ``train``.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sdpo_jax.algorithm import returned
from sdpo_jax.engine import lanes
from sdpo_jax.engine.materialise import or_zeros
from sdpo_jax.metrics import Metric, View
from sdpo_jax.program import Program, chosen_metrics


class Kept(NamedTuple):
    """What was kept so far.

    Attributes:
        finite_steps: ``[*runs]`` int32, the steps that left all parameters finite.
        final: by metric ``[*runs]``, sums over the final window.
        sums: by metric ``[*runs]``, sums over steps.
        curves: by recorded metric ``[points, *runs]``.
    """

    finite_steps: Array
    final: dict[str, Array]
    sums: dict[str, Array]
    curves: dict[str, Array]


class Recorder:
    """Records the metrics of a program's steps from ``start`` to before ``stop``."""

    def __init__(
        self, program: Program, runs: tuple[int, ...], start: int = 0, stop: int | None = None
    ):
        """
        Args:
            program: names the metrics, those whose curves are recorded and how often.
            runs: the shape of the runs.
            start: the first step.
            stop: the step before which it ends; ``sizes.steps`` by default.
        """
        self.metrics = chosen_metrics(program)
        self.names = program.record
        self.every = program.record_every
        self.runs = runs
        self.start = start
        self.stop = program.sizes.steps if stop is None else stop
        self.window = min(program.sizes.final_window, self.stop - start)
        # Curves have a point at every multiple of ``every``.
        self.first = -(-start // self.every)
        self.points = -(-self.stop // self.every) - self.first

    def empty(self) -> Kept:
        """Before the first step."""
        zeros = jnp.zeros(self.runs, jnp.float32)
        return Kept(
            jnp.zeros(self.runs, jnp.int32),
            dict.fromkeys(self.metrics, zeros),
            dict.fromkeys(self.metrics, zeros),
            {name: jnp.zeros((self.points, *self.runs), jnp.float32) for name in self.names},
        )

    def add(self, kept: Kept, view: View, params: Any, index: Array) -> Kept:
        """After a step.

        Args:
            kept: so far.
            view: of the step.
            params: the parameters after it.
            index: of the step, in order from ``start``.

        Raises:
            ValueError: a metric that returns another shape or type than it should, in one line.
        """
        on_record = index % self.every == 0
        last = index == self.stop - 1
        final, sums, curves = dict(kept.final), dict(kept.sums), dict(kept.curves)
        for name, metric in self.metrics.items():
            in_window = index >= self.stop - self.window if metric.windowed else last
            if metric.costly:
                value = or_zeros(on_record | in_window, partial(self._measured, name, metric, view))
                sums[name] += jnp.where(on_record, value, 0)
            else:
                value = self._measured(name, metric, view)
                sums[name] += value
            if metric.windowed:
                final[name] += jnp.where(in_window, value, 0)
            else:
                final[name] = jnp.where(in_window, value, final[name])
            if name in curves and self.points:
                point = index // self.every - self.first
                curve = curves[name]
                before = jax.lax.dynamic_index_in_dim(curve, point, 0, keepdims=False)
                curves[name] = jax.lax.dynamic_update_index_in_dim(
                    curve, jnp.where(on_record, value, before), point, 0
                )
        # Parameters that are not finite stay so: what counts the finite ones finds the first.
        finite = _finite(params, len(self.runs))
        return Kept(kept.finite_steps + finite.astype(jnp.int32), final, sums, curves)

    def _measured(self, name: str, metric: Metric, view: View) -> Array:
        return returned(f"metrics: {name} returns a value", metric.measure(view), (self.runs,))

    def result(self, kept: Kept) -> tuple[dict[str, Array], dict[str, Array], dict, Array]:
        """Final values, means, curves and finite steps, as in ``Result``."""
        final, mean = {}, {}
        # A run that broke down has no value, however plausible its last ones were: 0 / 0 there. (A
        # constant NaN would stop whoever debugs for NaNs, also where no run broke down.)
        whole = (kept.finite_steps == self.stop - self.start).astype(jnp.float32)
        known = whole / whole
        for name, metric in self.metrics.items():
            window = self.window if metric.windowed else 1
            count = self.points if metric.costly else self.stop - self.start
            final[name] = known * (kept.final[name] / window)
            mean[name] = known * (kept.sums[name] / count)
        return final, mean, kept.curves, kept.finite_steps


def _finite(params: Any, axes_of_runs: int) -> Array:
    """Whether all parameters of each run are, ``[*runs]``."""
    finite = []
    for leaf in jax.tree.leaves(params):
        largest = jnp.abs(leaf)
        for _ in range(leaf.ndim - axes_of_runs):
            largest = lanes.largest(largest, largest.ndim - axes_of_runs - 1)
        finite.append(jnp.isfinite(largest))
    together = finite[0]
    for each in finite[1:]:
        together = together & each
    return together
