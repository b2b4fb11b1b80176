"""A sweep in numbers: rows against pandas and scipy, and what is left out of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

from sweeps.report import summary
from sweeps.report.health import health


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    shape = (2, 3, 12)
    dims = ("algorithm", "noise", "seed")
    reward = rng.normal(size=shape) + np.arange(2)[:, None, None]
    entropy = 1 + rng.random(shape)
    names = {"reward": reward, "reward_mean": reward, "entropy": entropy}
    return xr.Dataset(
        {name: (dims, value.astype(np.float32)) for name, value in names.items()}
        | {"finite_steps": (dims, np.full(shape, 40, np.int32))},
        {"algorithm": ["a", "b"], "noise": [0.0, 0.1, 0.2], "seed": np.arange(12)},
        {"steps": 40},
    )


def test_rows_hold_what_scipy_says(data):
    rows = pd.DataFrame(summary.summary_rows(data))
    assert len(rows) == 6
    for _, row in rows.iterrows():
        values = data.reward.sel({"algorithm": row.algorithm, "noise": row.noise}).values.astype(
            float
        )
        assert row["mean"] == pytest.approx(values.mean())
        assert row["median"] == pytest.approx(np.median(values))
        assert row.iqm == pytest.approx(stats.trim_mean(values, 0.25))
        low, high = stats.ttest_1samp(values, 0).confidence_interval()
        assert (row.mean_low, row.mean_high) == (pytest.approx(low), pytest.approx(high))
        assert row.iqm_low < row.iqm < row.iqm_high
        assert (row.seeds, row.unfinished, row.not_finite) == (12, 0, 0)


def test_what_went_wrong_is_left_out_and_counted(data):
    data.finite_steps[0, 1, 3] = 17
    data.reward[0, 1, 3] = np.nan
    finished = np.ones(data.reward.shape, bool)
    finished[0, 1, 5] = False
    data["finished"] = (data.reward.dims, finished)
    data.entropy[1, 0, :2] = 0.0
    rows = pd.DataFrame(summary.summary_rows(data)).set_index(["algorithm", "noise"])
    row = rows.loc[("a", 0.1)]
    good = np.delete(data.reward.values[0, 1], [3, 5]).astype(float)
    assert (row.seeds, row.unfinished, row.not_finite) == (10, 1, 1)
    assert row["mean"] == pytest.approx(good.mean())
    assert rows.collapsed.tolist() == [0, 0, 0, 2, 0, 0]
    found = health(data)
    assert (found.runs, found.unfinished, found.broken) == (72, 1, 1)
    assert (found.first_step, found.collapsed) == (17, 2)


def test_comparisons_are_paired_and_corrected(data):
    rows = pd.DataFrame(summary.comparison_rows(data))
    assert len(rows) == 3
    for _, row in rows.iterrows():
        a, b = (data.reward.sel({"algorithm": m, "noise": row.noise}).values.astype(float)
                for m in ("a", "b"))  # fmt: skip
        assert row.difference == pytest.approx((a - b).mean())
        assert row.p == pytest.approx(stats.ttest_rel(a, b).pvalue)
        different = ~np.eye(12, dtype=bool)
        assert row.improvement == pytest.approx((a[:, None] > b)[different].mean())
        assert row.improvement_low < row.improvement < row.improvement_high
    assert (rows.p_holm >= rows.p).all()
    assert rows.p_holm.min() == pytest.approx(3 * rows.p.min())


def test_a_constant_difference_is_not_beyond_all_doubt(data):
    """Twelve equal differences in float32: 2 of 4,096 flips of their signs do as well."""
    data["reward"][1] = data["reward"][0] + np.float32(0.1)
    rows = pd.DataFrame(summary.comparison_rows(data))
    np.testing.assert_allclose(rows.p, 2 / 2**12)
    data["reward"][1] = data["reward"][0]
    rows = pd.DataFrame(summary.comparison_rows(data))
    assert (rows.p == 1).all()
    assert ((rows.improvement_low < 0.5) & (rows.improvement_high > 0.5)).all()


def test_without_algorithms_or_seeds_nothing_is_compared(data):
    assert summary.comparison_rows(data.isel(algorithm=0)) == []
    single = data.isel(seed=0)
    assert summary.comparison_rows(single) == []
    rows = list(summary.summary_rows(single))
    assert rows[0]["mean"] == pytest.approx(float(single.reward[0, 0]))
    assert rows[0]["mean_low"] is None
