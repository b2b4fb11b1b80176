"""The tables hold the numbers of the saved results, in the promised columns and bytes."""

import csv

import numpy as np
import pytest
from scipy import stats

from sweeps.paper import tables
from sweeps.paper.published import ALGORITHMS, published
from sweeps.store import datasets
from tests.sweeps import synthetic

SEEDS = 48
COLUMNS = "published,mean,ci_low,ci_high,seed_sd,seeds,published_percentile"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return synthetic.write(tmp_path_factory.mktemp("results"), seeds=SEEDS, steps=60)


@pytest.fixture(scope="module")
def results(out):
    return datasets.Results(out)


@pytest.fixture(scope="module")
def written(out):
    return {path.stem: path for path in tables.write_tables(out)}


def read(path):
    with open(path, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def one(rows, **labels):
    (found,) = [row for row in rows if all(row[name] == label for name, label in labels.items())]
    return found


@pytest.mark.parametrize(
    ("name", "head", "count"),
    [
        ("table1", "algorithm,oracle", 12),
        ("table2", "algorithm,oracle", 12),
        ("table3", "algorithm,oracle", 12),
        ("noise", "algorithm,oracle,noise,metric", 36),
        ("hybrid", "algorithm,oracle,metric", 14),
    ],
)
def test_each_file_has_the_promised_columns_and_rows(written, name, head, count):
    lines = written[name].read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"{head},{COLUMNS}"
    assert len(lines) == count + 1
    assert all(line.count(",") == lines[0].count(",") for line in lines)


@pytest.mark.parametrize(("number", "metric"), [(1, "reward"), (2, "credit"), (3, "entropy")])
def test_a_row_of_tables_1_to_3_against_scipy(written, results, number, metric):
    rows = read(written[f"table{number}"])
    name = {1: "table1_final_reward", 2: "table2_credit_correlation", 3: "table3_final_entropy"}
    for algorithm in ALGORITHMS:
        for index, kind in enumerate(published()["feedback_order"]):
            row = one(rows, algorithm=algorithm, oracle=kind)
            seeds = (
                results["algorithms"][metric].sel({"algorithm": algorithm, "oracle": kind}).values
            )
            seeds = seeds.astype(float)
            printed = published()[name[number]][algorithm][index]
            ends = stats.ttest_1samp(seeds, 0).confidence_interval(0.95)
            percentile = stats.percentileofscore(seeds, printed, kind="mean")
            assert float(row["published"]) == printed
            assert float(row["mean"]) == pytest.approx(seeds.mean(), abs=6e-6)
            assert float(row["ci_low"]) == pytest.approx(ends.low, abs=6e-6)
            assert float(row["ci_high"]) == pytest.approx(ends.high, abs=6e-6)
            assert float(row["seed_sd"]) == pytest.approx(np.std(seeds, ddof=1), abs=6e-6)
            assert float(row["published_percentile"]) == pytest.approx(percentile, abs=6e-3)
            assert int(row["seeds"]) == SEEDS


def test_noise_has_the_published_value_of_its_level(written):
    rows = read(written["noise"])
    assert one(rows, algorithm="sdpo", noise="0.50", metric="reward")["published"] == "0.624"
    assert one(rows, algorithm="reinforce", noise="0.20", metric="credit")["published"] == "-0.596"
    assert {row["oracle"] for row in rows} == {"continuous"}


def test_hybrid_leaves_empty_what_was_not_published(written, results):
    rows = read(written["hybrid"])
    absent = one(rows, algorithm="reinforce", oracle="critique", metric="reward")
    assert absent["published"] == absent["published_percentile"] == ""
    assert float(absent["mean"]) > 0
    weight = one(rows, algorithm="hybrid", oracle="critique", metric="alpha")
    whole_run = results["hybrid"]["alpha_curve"].sel({"oracle": "critique"}).mean()
    assert float(weight["mean"]) == pytest.approx(float(whole_run), abs=6e-6)


def test_multiseed_sets_five_seeds_against_groups_of_five(written, results):
    rows = read(written["multiseed"])
    reward = results["algorithms"]["reward"].sel({"oracle": "continuous"})
    sdpo, reinforce = (
        reward.sel({"algorithm": algorithm}).values.astype(float) for algorithm in ALGORITHMS[:2]
    )
    gap = one(rows, algorithm="reinforce", statistic="gap")
    assert float(gap["published"]) == pytest.approx(0.669 - 0.486)
    assert float(gap["mean"]) == pytest.approx((sdpo - reinforce).mean(), abs=6e-6)
    assert float(gap["seed_sd"]) == pytest.approx((sdpo - reinforce).std(ddof=1), abs=6e-6)
    # A group's mean is nearly normal, with the correction for drawing without repeats.
    spread = (sdpo - reinforce).std(ddof=1) / np.sqrt(5) * np.sqrt(1 - 5 / SEEDS)
    expected = stats.norm.sf(0.669 - 0.486, (sdpo - reinforce).mean(), spread)
    assert float(gap["gap_frequency"]) == pytest.approx(expected, abs=0.01)
    mean = one(rows, algorithm="sdpo", statistic="mean")
    spread = sdpo.std(ddof=1) / np.sqrt(5) * np.sqrt(1 - 5 / SEEDS)
    expected = 100 * stats.norm.cdf(0.669, sdpo.mean(), spread)
    assert float(mean["published_percentile"]) == pytest.approx(expected, abs=3)
    deviation = one(rows, algorithm="sdpo", statistic="sd")
    assert float(deviation["mean"]) == pytest.approx(sdpo.std(ddof=1), abs=6e-6)
    assert deviation["seed_sd"] == deviation["gap_frequency"] == ""


def test_a_gap_that_is_always_there_has_frequency_one(tmp_path):
    synthetic.write(tmp_path, seeds=12, steps=40)
    dataset = datasets.load(tmp_path, "algorithms")
    dataset["reward"].loc[{"algorithm": "sdpo"}] += 0.3
    datasets.save(tmp_path, "algorithms", dataset)
    row = one(
        tables.multiseed_rows(datasets.Results(tmp_path)), algorithm="reinforce", statistic="gap"
    )
    assert row["gap_frequency"] == 1
    assert row["published_percentile"] == 0


def test_rows_have_the_columns_of_their_file(results):
    for name, rows in tables.ROWS.items():
        for row in rows(results):
            assert set(row) == set(tables.COLUMNS[name])


def test_numbers_are_rounded_and_minus_zero_is_zero():
    row = {"algorithm": "sdpo", "mean": 0.123456789, "ci_low": -1e-9, "seeds": 7, "published": None}
    assert tables.formatted(row) == {
        "algorithm": "sdpo",
        "mean": "0.12346",
        "ci_low": "0.00000",
        "seeds": "7",
        "published": "",
    }


def test_the_bytes_are_the_same_each_time(out, written):
    first = {name: path.read_bytes() for name, path in written.items()}
    again = {path.stem: path.read_bytes() for path in tables.write_tables(out)}
    assert again == first


def test_nothing_is_written_when_results_are_missing(tmp_path):
    synthetic.write(tmp_path, seeds=6, steps=40)
    datasets.data_path(tmp_path, "hybrid").unlink()
    with pytest.raises(datasets.MissingResults, match=r"hybrid\.nc"):
        tables.write_tables(tmp_path)
    assert not (tmp_path / "tables").exists()


def test_a_seed_that_is_not_finite_is_refused(tmp_path):
    synthetic.write(tmp_path, seeds=6, steps=40)
    dataset = datasets.load(tmp_path, "noise")
    dataset["credit"][0, 0, 3] = np.nan
    datasets.save(tmp_path, "noise", dataset)
    with pytest.raises(ValueError, match="not finite"):
        tables.write_tables(tmp_path)
