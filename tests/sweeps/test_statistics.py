"""Intervals cover what they claim to, agree with scipy, and refuse what they cannot use."""

import numpy as np
import pytest
from scipy import stats

from sweeps import statistics

RNG_KEY = 20260601


def draws(shape, skewed=False):
    rng = np.random.default_rng(RNG_KEY)
    return rng.gamma(4.0, size=shape) if skewed else rng.normal(2.0, 3.0, size=shape)


def coverage(interval, truth):
    return np.mean((interval.low <= truth) & (truth <= interval.high))


def within_error(share, expected, trials):
    return abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / trials)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_mean_interval_covers_the_mean_as_often_as_it_says(level):
    trials = 8_000
    interval = statistics.mean(draws((trials, 12)), level)
    assert within_error(coverage(interval, 2.0), level, trials)


def test_mean_agrees_with_scipy():
    values = draws((3, 40), skewed=True)
    interval = statistics.mean(values, 0.9)
    for row in range(3):
        expected = stats.ttest_1samp(values[row], 0).confidence_interval(0.9)
        assert interval[row].low == pytest.approx(expected.low, rel=1e-12)
        assert interval[row].high == pytest.approx(expected.high, rel=1e-12)
    assert interval.seeds == 40


def test_paired_difference_is_free_of_what_the_seeds_share():
    shared = 100 * draws(50)
    own = draws((2, 50), skewed=True)
    interval = statistics.paired_difference(shared + own[0] + 1, shared + own[1])
    alone = statistics.paired_difference(own[0] + 1, own[1])
    assert interval.low == pytest.approx(alone.low, rel=1e-9)
    assert interval.high - interval.low < 2


def test_ratio_interval_covers_the_ratio():
    trials = 4_000
    rng = np.random.default_rng(RNG_KEY)
    bottom = 5 + rng.normal(size=(trials, 60))
    top = 2 * bottom + rng.normal(size=(trials, 60))
    interval = statistics.ratio_of_means(top, bottom)
    # The linearised interval is right only to first order: allow it one point besides.
    assert coverage(interval, 2.0) == pytest.approx(0.95, abs=0.01 + 4 * 0.0035)
    with pytest.raises(ValueError, match="bottom"):
        statistics.ratio_of_means([1.0, 2.0], [-1.0, 1.0])


@pytest.mark.parametrize("skewed", [False, True])
def test_deviation_interval_covers_the_deviation_whatever_the_shape(skewed):
    trials = 4_000
    interval = statistics.standard_deviation(draws((trials, 100), skewed))
    # Bonett's interval is approximate for skewed draws; chi-square's would cover 85% of them.
    assert 0.93 < coverage(interval, 2.0 if skewed else 3.0) < 0.97


def test_deviation_of_constant_seeds_is_zero():
    interval = statistics.standard_deviation(np.full(10, 0.5))
    assert (interval.estimate, interval.low, interval.high) == (0, 0, 0)


def test_deviation_ratio_finds_the_ratio_and_keeps_the_pairing():
    rng = np.random.default_rng(RNG_KEY)
    shared = rng.normal(size=400)
    first, second = 2 * shared + 0.1 * rng.normal(size=400), shared
    interval = statistics.deviation_ratio(first, second)
    assert interval.low < 2 < interval.high
    assert interval.high - interval.low < 0.05  # unpaired it would be about 0.5
    again = statistics.deviation_ratio(first, second)
    assert (again.low, again.high) == (interval.low, interval.high)
    with pytest.raises(ValueError, match="constant"):
        statistics.deviation_ratio(first, np.ones(400))


@pytest.mark.parametrize("seeds", [6, 25])
def test_median_interval_covers_at_least_as_often_as_it_says(seeds):
    trials = 8_000
    interval = statistics.median(draws((trials, seeds), skewed=True))
    share = coverage(interval, stats.gamma(4.0).median())
    assert share > 0.95 - 0.01
    exact = 1 - 2 * stats.binom.cdf(stats.binom.ppf(0.025, seeds, 0.5) - 1, seeds, 0.5)
    assert within_error(share, exact, trials)


def test_median_needs_enough_seeds_for_its_level():
    statistics.median(np.arange(6.0))
    with pytest.raises(ValueError, match="at least 6"):
        statistics.median(np.arange(5.0))
    with pytest.raises(ValueError, match="at least 8"):
        statistics.median(np.arange(7.0), level=0.99)


def test_percentile_agrees_with_scipy():
    values = np.round(draws((4, 60)), 1)
    published = np.array([values[0, 3], -99.0, 99.0, np.nan])
    percentile = statistics.percentile_of(published, values)
    for row in range(3):
        expected = stats.percentileofscore(values[row], published[row], kind="mean")
        assert percentile[row] == pytest.approx(expected, rel=1e-12)
    assert list(percentile[1:3]) == [0, 100]
    assert np.isnan(percentile[3])


@pytest.mark.parametrize("seeds", [8, 199, 600])
def test_central_range_holds_one_further_seed(seeds):
    trials = 4_000
    values = draws((trials, seeds + 1))
    low, high = statistics.central_range(values[:, :-1], 0.99)
    inside = (low <= values[:, -1]) & (values[:, -1] <= high)
    assert within_error(inside.mean(), 0.99, trials)


def test_plausible_allows_for_rounding_and_no_more():
    values = np.linspace(0, 1, 1001)
    low, high = statistics.central_range(values, 0.9)
    assert statistics.plausible(high + 0.009, values, 0.9, tolerance=0.01)
    assert not statistics.plausible(high + 0.011, values, 0.9, tolerance=0.01)
    assert not statistics.plausible(low - 0.011, values, 0.9, tolerance=0.01)
    with pytest.raises(ValueError, match="published"):
        statistics.plausible(np.nan, values)


@pytest.mark.parametrize("seeds", [5, 16, 400])
def test_groups_hold_different_seeds_each_as_often_as_the_others(seeds):
    groups = statistics.group_draws(np.arange(float(seeds)), 5, draws=8_000)
    assert groups.shape == (8_000, 5)
    assert all(len(set(group)) == 5 for group in groups[:500])
    counts = np.bincount(groups.astype(int).ravel(), minlength=seeds)
    assert stats.chisquare(counts).pvalue > 1e-4


def test_gap_frequency_against_the_exact_share():
    rng = np.random.default_rng(RNG_KEY)
    first, second = rng.normal(1, 1, 5_000), rng.normal(0, 1, 5_000)
    gap = (first - second).mean()
    spread = (first - second).std() / np.sqrt(5)
    share = statistics.gap_frequency(first, second, gap + spread)
    assert share.value == pytest.approx(stats.norm.sf(1), abs=0.012)
    assert statistics.gap_frequency(first, second, -99).value == 1
    never = statistics.gap_frequency(first, second, 99)
    assert never.value == 0
    assert 0 < never.error < 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistics.mean([1.0]), "at least 2"),
        (lambda: statistics.mean(1.0), "0 seeds"),
        (lambda: statistics.mean([1.0, np.nan, 2.0]), "seed position 1"),
        (lambda: statistics.mean([1.0, 2.0], level=1.0), "level"),
        (lambda: statistics.paired_difference([1.0, 2.0], [1.0, 2.0, 3.0]), "same seeds"),
        (lambda: statistics.standard_deviation(np.ones(4)), "at least 5"),
        (lambda: statistics.group_draws(np.ones(4)), "at least 5"),
        (lambda: statistics.frequency(np.array([], dtype=bool)), "at least one draw"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


GRIDS = 2_000


def iqm(values, axis=-1):
    return stats.trim_mean(values, 0.25, axis=axis)


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize(
    ("interval", "statistic"),
    [
        (statistics.mean, np.mean),
        (lambda values: statistics.bootstrap(values, np.mean, resamples=1_000), np.mean),
        (lambda values: statistics.bootstrap(values, np.median, resamples=1_000), np.median),
        (lambda values: statistics.interquartile_mean(values, resamples=1_000), iqm),
    ],
    ids=["mean, Student", "mean", "median", "interquartile mean"],
)
def test_intervals_cover_on_synthetic_grids(interval, statistic, skewed):
    truth = float(statistic(draws(2_000_000, skewed)))
    for seeds in (32, 64):
        values = np.random.default_rng(seeds)
        shape = (GRIDS, seeds)
        sample = values.gamma(4.0, size=shape) if skewed else values.normal(2.0, 3.0, size=shape)
        assert 0.93 <= coverage(interval(sample), truth) <= 0.97, seeds


def shared_grids(seeds, gap):
    """Two methods over grids, their runs of one seed alike: what they share, and a gap."""
    rng = np.random.default_rng(seeds)
    shared = rng.normal(size=(GRIDS, seeds))
    own = rng.normal(size=(2, GRIDS, seeds))
    return shared + own[0] + gap, shared + own[1]


def test_paired_differences_cover_on_synthetic_grids():
    interval = statistics.paired_difference(*shared_grids(20, 0.3))
    assert 0.93 <= coverage(interval, 0.3) <= 0.97


def test_probability_of_improvement_covers_on_synthetic_grids():
    first, second = shared_grids(32, 0.5)
    # Two runs of different seeds differ by a normal of variance 4.
    truth = stats.norm.cdf(0.5 / 2)
    hits = 0
    for a, b in zip(first, second, strict=True):
        interval = statistics.probability_of_improvement(a, b, resamples=400)
        hits += interval.low <= truth <= interval.high
    assert 0.93 <= hits / GRIDS <= 0.97


def test_probability_of_improvement_is_mann_whitneys():
    first, second = np.round(draws((2, 40)), 0)
    interval = statistics.probability_of_improvement(first, second)
    expected = stats.mannwhitneyu(first, second).statistic / 40**2
    assert interval.estimate == pytest.approx(expected, rel=1e-12)
    always = statistics.probability_of_improvement(first + 100, second)
    bound = stats.binomtest(40, 40).proportion_ci(method="wilson")
    assert (always.estimate, always.high) == (1, 1)
    assert always.low == pytest.approx(bound.low, rel=1e-9)
    never = statistics.probability_of_improvement(first, second + 100)
    assert never.high == pytest.approx(1 - bound.low, rel=1e-9)


def test_holm_against_values_worked_out_by_hand():
    # Holm (1979): 4, 3, 2, 1 times the ascending values, never falling, at most 1.
    found = statistics.holm([0.01, 0.04, np.nan, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, 0.06, np.nan, 0.06, 0.02], rtol=1e-12)
    assert statistics.holm([0.9, 0.8]).tolist() == [1, 1]
    assert statistics.holm(np.full((2, 3), 0.01)).shape == (2, 3)
    with pytest.raises(ValueError, match="p_values"):
        statistics.holm([1.5])


def null_grids(methods, cells, seeds):
    """Grids of identical methods, whose runs of one seed are alike."""
    rng = np.random.default_rng(RNG_KEY)
    shared = rng.gamma(4.0, size=(GRIDS, 1, cells, seeds))
    return shared + rng.gamma(4.0, size=(GRIDS, methods, cells, seeds))


def test_false_claims_on_null_grids_stay_below_the_stated_rate():
    values = null_grids(methods=4, cells=5, seeds=20)
    pairs = [(i, j) for i in range(4) for j in range(i)]
    p = np.stack([statistics.paired_p_value(values[:, i], values[:, j]) for i, j in pairs], 1)
    uncorrected = (p < 0.05).any(axis=(1, 2)).mean()
    corrected = np.mean([(statistics.holm(each) < 0.05).any() for each in p])
    # What the correction is for, and what it does; two standard errors of 2,000 grids.
    assert uncorrected > 0.5
    assert corrected <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / GRIDS)


def test_paired_p_value_is_students():
    first, second = draws((2, 3, 30))
    found = statistics.paired_p_value(first, second)
    np.testing.assert_allclose(found, stats.ttest_rel(first, second, axis=-1).pvalue, rtol=1e-9)
    assert statistics.paired_p_value(first, first).tolist() == [1, 1, 1]
    assert statistics.paired_p_value(first[0] + 1, first[0]) < 1e-12
