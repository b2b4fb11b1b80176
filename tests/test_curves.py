"""Curves that are summed up over runs, against those that are kept."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

import sdpo_jax
from sdpo_jax import METRICS, Config, Metric, Sizes
from sdpo_jax.curves import BINS

SIZES = Sizes(length=3, vocab_size=4, rollouts=6, steps=12, final_window=4)
RECORD = ("reward", "credit", "entropy", "drift")
QUANTILES = (0.0, 0.05, 0.5, 0.8, 1.0)
AXES = {
    "oracle": ["binary", "continuous"],
    "seed": range(70),
    "setting": {"learning_rate": [0.1, 1.0], "noise": [0.0, 0.3]},
}
RANGES = {"reward": 1.0, "credit": 2.0, "entropy": math.log(4)}


def run(axes=AXES, **options):
    return sdpo_jax.run_grid(
        axes,
        **{"sizes": SIZES, "metrics": RECORD, "record": RECORD, "record_every": 5, **options},
    )


@pytest.fixture(scope="module")
def kept():
    return run()


@pytest.fixture(scope="module")
def summed():
    return run(curves_over="seed", quantiles=QUANTILES)


def test_the_runs_themselves_are_the_same(kept, summed):
    for name in (*RECORD, *(f"{name}_mean" for name in RECORD), "finite_steps"):
        assert summed[name].equals(kept[name]), name
    assert summed.step.equals(kept.step)


@pytest.mark.parametrize("name", RECORD)
def test_means_and_deviations_are_those_of_the_curves(kept, summed, name):
    curves = kept[f"{name}_curve"].astype(float)
    found = summed[f"{name}_curve"]
    assert found.dims == ("oracle", "setting", "step")
    expected = curves.mean("seed").transpose(*found.dims)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    deviation = curves.std("seed", ddof=1).transpose(*found.dims)
    np.testing.assert_allclose(summed[f"{name}_curve_sd"], deviation, rtol=1e-6, atol=1e-8)
    assert (summed[f"{name}_curve_count"] == 70).all()


@pytest.mark.parametrize("name", RANGES)
def test_quantiles_are_right_to_a_part_of_the_range(kept, summed, name):
    found = summed[f"{name}_curve_quantile"]
    curves = kept[f"{name}_curve"].transpose(*found.dims[:-1], "seed")
    for quantile in QUANTILES:
        # Between two values that follow each other any number is a quantile.
        low, high = (
            np.quantile(curves.values, quantile, axis=-1, method=method)
            for method in ("lower", "higher")
        )
        at = found.sel(quantile=quantile).values
        part = 1.001 * RANGES[name] / BINS
        assert (at >= low - part).all() and (at <= high + part).all(), quantile


def test_a_metric_without_bounds_has_no_quantiles(summed):
    assert METRICS["drift"].bounds is None
    assert "drift_curve_quantile" not in summed
    assert "drift_curve_sd" in summed
    assert summed.reward_curve_quantile.attrs["units"] == "1"
    assert summed.entropy_curve_sd.attrs["units"] == "nats"


def test_the_bits_depend_neither_on_workers_nor_on_what_comes_first(monkeypatch):
    monkeypatch.setattr("sdpo_jax.grid.RUNS_AT_A_TIME", 32)
    options = {"curves_over": "seed", "block_width": 32}
    alone = run(workers=1, **options)
    for workers in (2, 3):
        together = run(workers=workers, **options)
        assert together.identical(alone)


def test_a_number_that_is_not_finite_is_left_out():
    def measure(view):
        wanted = jnp.asarray(view.seed) % 3 == 0
        return jnp.where(wanted & (view.step >= 5), jnp.nan, view.reward.mean(0))

    metric = Metric(measure, "reward with holes", bounds=METRICS["reward"].bounds)
    found = run(
        {"seed": range(9)}, metrics=[("holes", metric)], record=["holes"], curves_over="seed"
    )
    assert found.holes_curve_count.values.tolist() == [9, 6, 6]
    assert np.isfinite(found.holes_curve).all()
    assert np.isfinite(found.holes_curve_quantile).all()


def test_a_point_without_any_number_is_nan():
    metric = Metric(lambda view: jnp.full_like(view.reward[0], jnp.nan), "nothing",
                    bounds=METRICS["reward"].bounds)  # fmt: skip
    found = run({"seed": range(3)}, metrics=[("nothing", metric)], record=["nothing"],
                curves_over="seed")  # fmt: skip
    assert (found.nothing_curve_count == 0).all()
    for name in ("nothing_curve", "nothing_curve_sd", "nothing_curve_quantile"):
        assert np.isnan(found[name]).all(), name


def test_a_grid_of_one_axis_and_no_quantiles():
    found = run({"seed": range(5)}, curves_over="seed", quantiles=())
    assert found.reward_curve.dims == ("step",)
    assert "reward_curve_quantile" not in found and "quantile" not in found.coords


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"curves_over": "noise"}, "curves_over: 'noise'; allowed: one of the axes oracle, seed"),
        ({"curves_over": "seed", "record": ()}, "curves_over: 'seed'; allowed: with curves"),
        ({"curves_over": "seed", "quantiles": [0.5, 1.5]}, "quantiles: 1.5; allowed: 0 to 1"),
    ],
)
def test_what_can_not_be_is_said_before_anything_is_compiled(options, message, monkeypatch):
    monkeypatch.setattr("sdpo_jax.grid._Execution", lambda *_: pytest.fail("computed"))
    with pytest.raises(ValueError) as told:
        run(**options)
    assert str(told.value).startswith(message) and "\n" not in str(told.value)


def test_counts_that_would_fill_the_memory_are_refused(monkeypatch):
    monkeypatch.setattr("sdpo_jax.grid._Execution", lambda *_: pytest.fail("computed"))
    axes = {"learning_rate": np.linspace(0.1, 1, 500).tolist(), "seed": range(4)}
    with pytest.raises(ValueError, match=r"quantiles: counts of 500 cells at 300 steps"):
        run(axes, sizes=Sizes(), record_every=1, config=Config(), curves_over="seed")
