"""Intervals cover what they claim to, agree with scipy, and refuse what they cannot use."""

import numpy as np
import pytest
from scipy import stats

from sweeps import statistics
from sweeps.statistics import ranges

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
    # The last digit of a seed is rounding.
    rounded = [0.1] * 6 + [np.nextafter(0.1, 1)]
    interval = statistics.standard_deviation(rounded)
    assert (interval.estimate, interval.low, interval.high) == (0, 0, 0)
    with pytest.raises(statistics.Undefined, match="constant"):
        statistics.deviation_ratio(rounded, range(7))
    # Nearly equal seeds have the deviation of their differences.
    steps = np.arange(7) * 2.0**-40
    interval = statistics.standard_deviation(1 + steps)
    assert interval.estimate == pytest.approx(steps.std(ddof=1), rel=1e-12)


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
    """Two algorithms over grids, their runs of one seed alike: what they share, and a gap."""
    rng = np.random.default_rng(seeds)
    shared = rng.normal(size=(GRIDS, seeds))
    own = rng.normal(size=(2, GRIDS, seeds))
    return shared + own[0] + gap, shared + own[1]


def test_paired_differences_cover_on_synthetic_grids():
    interval = statistics.paired_difference(*shared_grids(20, 0.3))
    assert 0.93 <= coverage(interval, 0.3) <= 0.97


def paired_draws(kind, trials, seeds):
    """Draws of two algorithms, ``[trials, seeds]`` each, and how often the first is ahead.

    Worked out from the distributions, for runs of different seeds.
    """
    rng = np.random.default_rng(seeds)
    shared, first, second = rng.normal(size=(3, trials, seeds))
    if kind == "independent":
        return first + 0.5, second, stats.norm.cdf(0.5 / np.sqrt(2))
    if kind == "paired":
        return shared + first + 0.5, shared + second, stats.norm.cdf(0.25)
    if kind == "the same but for a constant":
        return shared + 0.01, shared, stats.norm.cdf(0.01 / np.sqrt(2))
    if kind == "nearly the same":
        gap, own = 0.1, 0.05
        truth = stats.norm.cdf(gap / np.sqrt(2 + 2 * own**2))
        return shared + gap + own * first, shared + own * second, truth
    if kind == "opposite":
        return shared, -shared, 0.5
    if kind == "far apart":
        return first + 4, second, stats.norm.cdf(4 / np.sqrt(2))
    if kind == "all ahead":
        return first + 99, second, 1.0
    if kind == "a bad seed now and then":
        return np.where(rng.random((trials, seeds)) < 0.1, -99, 99), second, 0.9
    # Few levels, drawn by the same numbers: most pairs of a seed are ties.
    assert kind == "tied"
    numbers = rng.random((trials, seeds))
    one, other = stats.binom(3, 0.6), stats.binom(3, 0.5)
    a, b = np.meshgrid(range(4), range(4))
    truth = (one.pmf(a) * other.pmf(b) * ((a > b) + 0.5 * (a == b))).sum()
    return one.ppf(numbers), other.ppf(numbers), truth


KINDS = (
    "independent",
    "paired",
    "the same but for a constant",
    "nearly the same",
    "opposite",
    "far apart",
    "all ahead",
    "a bad seed now and then",
    "tied",
)


@pytest.mark.parametrize("seeds", [5, 8, 16, 32, 64, 256])
@pytest.mark.parametrize("kind", KINDS)
def test_probability_of_improvement_covers_however_the_seeds_are_paired(kind, seeds):
    trials = 500 if seeds > 100 else 2_000
    first, second, truth = paired_draws(kind, trials, seeds)
    found = statistics.probability_of_improvement(first, second)
    assert np.all((found.low <= found.estimate) & (found.estimate <= found.high))
    # It may cover more, where pairing cancels most of the variation; two standard errors less.
    assert coverage(found, truth) >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / trials)
    assert np.mean(found.estimate) == pytest.approx(truth, abs=0.015)
    # Five seeds say little, but 256 do.
    width = np.mean(found.high - found.low)
    assert width < {5: 0.95, 8: 0.8, 16: 0.6}.get(seeds, 2.5 / seeds**0.5)
    # Where pairing cancels most of the variation, so does the interval.
    assert kind != "nearly the same" or seeds < 16 or width < 0.5 / seeds**0.5


def test_probability_of_improvement_of_two_nearly_equal_algorithms():
    """The pairs of one seed, all of them lost by a hair, do not count."""
    seeds = np.random.default_rng(0).normal(size=1500)
    found = statistics.probability_of_improvement(seeds - 1e-3, seeds)
    truth = stats.norm.cdf(-1e-3 / np.sqrt(2))
    assert found.estimate == pytest.approx(truth, abs=2e-5)
    assert found.low < truth < found.high
    assert found.high - found.low < 0.003


def test_probability_of_improvement_counts_pairs_of_different_seeds():
    first, second = np.round(draws((2, 3, 40)), 0)
    found = statistics.probability_of_improvement(first, second)
    different = ~np.eye(40, dtype=bool)
    for row in range(3):
        a, b = first[row][:, None], second[row]
        wins = (a > b) + 0.5 * (a == b)
        assert found[row].estimate == pytest.approx(wins[different].mean(), rel=1e-12)
    turned = statistics.probability_of_improvement(second, first)
    np.testing.assert_allclose(turned.low, 1 - found.high, rtol=1e-9)
    # All ahead: Wilson's bound for so many seeds, with Student's quantile.
    always = statistics.probability_of_improvement(first[0] + 100, second[0])
    room = stats.t.ppf(0.975, 39) ** 2 / 40
    assert (always.estimate, always.high) == (1, 1)
    assert always.low == pytest.approx(1 / (1 + room), rel=1e-9)


def test_a_proportion_has_wilsons_interval():
    values = np.zeros((3, 30))
    values[1, :4] = 1
    values[2] = 1
    found = statistics.proportion(values)
    for row, count in enumerate((0, 4, 30)):
        expected = stats.binomtest(count, 30).proportion_ci(method="wilson")
        assert found[row].low == pytest.approx(expected.low, abs=1e-12)
        assert found[row].high == pytest.approx(expected.high, abs=1e-12)
    with pytest.raises(ValueError, match="outside 0 to 1"):
        statistics.proportion([0.0, 2.0])


def spread_pairs(trials, seeds, skewed):
    """An algorithm of twice the deviation of another, and a gap of 3 of the other's; paired."""
    rng = np.random.default_rng(seeds)
    shared, own, other = rng.normal(size=(3, trials, seeds))
    if skewed:
        shared, own, other = (rng.gamma(4.0, size=(3, trials, seeds)) - 4) / 2
    return 3 + 2 * (0.8 * shared + 0.6 * own), 0.8 * shared + 0.6 * other


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("seeds", [5, 16, 64])
def test_ratios_over_few_seeds_cover(seeds, skewed):
    trials = 2_000
    first, second = spread_pairs(trials, seeds, skewed)
    # Skewness of 1 costs the jackknife up to two points; a bootstrap of 16 seeds, up to ten.
    least = 0.95 - (0.03 if skewed else 0.0) - 3 * np.sqrt(0.95 * 0.05 / trials)
    assert coverage(statistics.deviation_ratio(first, second), 2.0) >= least
    assert coverage(statistics.margin_ratio(first, second), 3.0) >= least


def test_ratios_are_jackknifed_as_by_hand():
    first, second = draws((2, 12))
    for ratio, scale, found in (
        (
            lambda a, b: a.std(ddof=1) / b.std(ddof=1),
            np.log,
            statistics.deviation_ratio(first, second, 0.9),
        ),
        (
            lambda a, b: (a - b).mean() / b.std(ddof=1),
            np.asarray,
            statistics.margin_ratio(first, second, 0.9),
        ),
    ):
        left = np.array(
            [scale(ratio(np.delete(first, i), np.delete(second, i))) for i in range(12)]
        )
        error = np.sqrt(11 / 12 * ((left - left.mean()) ** 2).sum()) * stats.t.ppf(0.95, 11)
        assert found.estimate == pytest.approx(ratio(first, second))
        assert scale(found.high) - scale(found.estimate) == pytest.approx(error, rel=1e-9)
        assert scale(found.estimate) - scale(found.low) == pytest.approx(error, rel=1e-9)


def test_a_ratio_has_no_bounds_where_its_denominator_may_be_zero():
    rng = np.random.default_rng(RNG_KEY)
    bottom = np.stack([0.1 + rng.normal(size=12), 9 + rng.normal(size=12)])
    found = statistics.ratio_of_means(1 + rng.normal(size=(2, 12)), bottom)
    assert (found.low[0], found.high[0]) == (-np.inf, np.inf)
    assert -1 < found.low[1] < found.high[1] < 1


# Published values among the seeds


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize(("group", "deviation"), [(1, False), (5, False), (5, True)])
@pytest.mark.parametrize("seeds", [5, 16, 64, 250])
def test_a_value_of_the_same_population_is_seldom_impossible(seeds, group, deviation, skewed):
    """As often as stated, 1%, however few seeds there are; twice that for skewed ones."""
    trials = 100 if seeds > 199 else 8_000
    rng = np.random.default_rng(seeds)

    def sample(count):
        size = (trials, count)
        return rng.gamma(4.0, size=size) if skewed else rng.normal(size=size)

    own = sample(group)
    value = own.std(axis=-1, ddof=1) if deviation else own.mean(axis=-1)
    found = statistics.among(value, sample(seeds), group=group, deviation=deviation)
    rate = 0.02 if skewed else 0.01
    assert (~found.possible).mean() <= rate + 3 * np.sqrt(rate / trials)
    assert np.all(found.possible | ~found.inside)
    assert np.all(found.inside | ~found.surely)
    # More seeds leave less open.
    undecided = (found.possible & ~found.surely).mean()
    assert undecided < {5: 0.65, 16: 0.25, 64: 0.1, 250: 0.05}[seeds]


@pytest.mark.parametrize(("group", "deviation"), [(1, False), (5, False), (5, True)])
def test_a_value_at_the_edge_of_the_range_is_undecided(group, deviation):
    trials = 4_000
    seeds = np.random.default_rng(3).normal(size=(trials, 16))
    edge = stats.norm.ppf(0.995) / np.sqrt(group)
    if deviation:
        edge = np.sqrt(stats.chi2.ppf(0.995, group - 1) / (group - 1))
    found = statistics.among(edge, seeds, group=group, deviation=deviation)
    assert (~found.possible).mean() < 0.07
    assert found.surely.mean() < 0.07


@pytest.mark.parametrize("own", [0.05, 0.5, 10.0])
@pytest.mark.parametrize("seeds", [16, 250])
def test_joint_ranges_hold_all_of_a_further_sample(seeds, own, monkeypatch):
    """Eight cells at once: one in a hundred samples is outside, not up to eight."""
    monkeypatch.setattr(ranges, "_SCORES", 4_000)
    cells, trials, others = 8, 100, 15
    rng = np.random.default_rng(seeds)

    def sample(*shape):
        return rng.normal(size=(*shape[:-1], 1, shape[-1])) + own * rng.normal(
            size=(*shape[:-1], cells, shape[-1])
        )

    outside = alone = 0
    for _ in range(trials):
        known, further = sample(seeds), sample(others)
        level = statistics.joint_central(known)
        low, high = statistics.central_range(known, level)
        some = (further < low[:, None]) | (further > high[:, None])
        outside += some.any(axis=0).sum()
        low, high = statistics.central_range(known)
        alone += ((further < low[:, None]) | (further > high[:, None])).any(axis=0).sum()
    # The further samples of one trial share its ranges: count as a third of so many.
    rate = outside / (others * trials)
    assert rate <= 0.01 + 3 * np.sqrt(0.01 / (others * trials / 3))
    assert own < 0.1 or alone > 1.5 * outside


def test_joint_levels_between_one_cell_and_independent_cells():
    rng = np.random.default_rng(RNG_KEY)
    same = np.tile(rng.normal(size=500), (6, 1))
    assert statistics.joint_central(same) == pytest.approx(0.99, abs=5e-4)
    apart = rng.normal(size=(6, 5_000))
    assert statistics.joint_central(apart) == pytest.approx(0.99 ** (1 / 6), abs=2e-4)
    # A constant cell is one that never leaves its range.
    assert 0.99 <= statistics.joint_central(np.vstack([same[:1], np.ones(500)])) <= 0.996


# Whatever the data


CALLS = {
    "mean": lambda x: statistics.mean(x[0]),
    "difference": lambda x: statistics.paired_difference(x[0], x[1]),
    "ratio of means": lambda x: statistics.ratio_of_means(x[0], x[1]),
    "deviation": lambda x: statistics.standard_deviation(x[0]),
    "ratio of deviations": lambda x: statistics.deviation_ratio(x[0], x[1]),
    "margin": lambda x: statistics.margin_ratio(x[0], x[1]),
    "median": lambda x: statistics.median(x[0]),
    "bootstrap": lambda x: statistics.bootstrap(x[0], np.median, resamples=50),
    "iqm": lambda x: statistics.interquartile_mean(x[0], resamples=50),
    "improvement": lambda x: statistics.probability_of_improvement(x[0], x[1]),
    "proportion": lambda x: statistics.proportion(np.clip(np.round(x[0]), 0, 1)),
}


@pytest.mark.parametrize("name", CALLS)
def test_any_data_give_an_interval_or_say_why_not(name):
    """Few seeds, ties, constants, outliers, huge and tiny numbers, NaN and infinity."""
    rng = np.random.default_rng(7)
    given = 0
    for trial in range(300):
        seeds = int(rng.integers(1, 9))
        values = rng.normal(size=(2, seeds)) * 10.0 ** rng.integers(-12, 13)
        kind = trial % 8
        if kind == 1:
            values = np.round(rng.normal(size=(2, seeds)))
        elif kind == 2:
            values[rng.integers(2)] = values[0, 0]
        elif kind == 3:
            values[1] = values[0]
        elif kind == 4:
            values[:, rng.integers(seeds)] *= 1e6
        elif kind == 5:
            values[rng.integers(2), rng.integers(seeds)] = rng.choice([np.nan, np.inf, -np.inf])
        elif kind == 6:
            values = values.astype(np.float32)
        elif kind == 7:
            # Equal up to rounding, or nearly.
            away = rng.integers(-3, 4, size=(2, seeds)) * 10 ** rng.integers(0, 9)
            values = values[:, :1] * (1 + np.finfo(float).eps * away)
        try:
            found = CALLS[name](values)
        except statistics.Undefined as error:
            assert "allowed" in str(error)
            assert "\n" not in str(error)
            continue
        given += 1
        assert np.isfinite(found.estimate)
        rounding = 1e-9 * abs(found.estimate)
        assert found.low - rounding <= found.estimate <= found.high + rounding
    assert given > 50


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_equal_differences_have_the_p_value_of_the_sign_test(kind):
    """Not 0: a step of 0.1 in two seeds out of two comes up in one of two by chance."""
    for seeds in (2, 5, 12):
        second = np.random.default_rng(seeds).random(seeds).astype(kind)
        first = (second + kind(0.1)).astype(kind)
        p = statistics.paired_p_value(first, second)
        assert p == pytest.approx(stats.binomtest(seeds, seeds).pvalue, rel=1e-9)
        assert statistics.paired_p_value(second, second) == 1


def test_holm_against_values_worked_out_by_hand():
    # Holm (1979): 4, 3, 2, 1 times the ascending values, never falling, at most 1.
    found = statistics.holm([0.01, 0.04, np.nan, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, 0.06, np.nan, 0.06, 0.02], rtol=1e-12)
    assert statistics.holm([0.9, 0.8]).tolist() == [1, 1]
    assert statistics.holm(np.full((2, 3), 0.01)).shape == (2, 3)
    with pytest.raises(ValueError, match="p_values"):
        statistics.holm([1.5])


def null_grids(algorithms, cells, seeds):
    """Grids of identical algorithms, whose runs of one seed are alike."""
    rng = np.random.default_rng(RNG_KEY)
    shared = rng.gamma(4.0, size=(GRIDS, 1, cells, seeds))
    return shared + rng.gamma(4.0, size=(GRIDS, algorithms, cells, seeds))


def test_false_claims_on_null_grids_stay_below_the_stated_rate():
    values = null_grids(algorithms=4, cells=5, seeds=20)
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
    assert statistics.paired_p_value(first[0] + 1, first[0]) == pytest.approx(2.0**-29)
