"""The calibration: its densities against scipy's, and that it finds a setting it was given."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

import sweeps
from sdpo_jax import Sizes
from sweeps.__main__ import main
from sweeps.calibration import design, likelihood, run
from sweeps.calibration.likelihood import Simulated


@pytest.fixture
def numbers():
    return tuple(likelihood.Number(f"n{i}", 0.1 * i, 0.0, "T1") for i in range(4))


def sample(problems, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(4, 4))
    return rng.normal(size=(problems, 4)) @ mixing


def test_the_predictive_density_of_one_number_is_students(numbers):
    single = sample(30)
    found = likelihood.log_likelihood(
        Simulated(single, np.zeros((2, 6))), numbers, np.array([True, False, False, False]), False
    )
    x = single[:, 0]
    scale = x.std(ddof=1) * np.sqrt(1 + 1 / 30)
    assert found == pytest.approx(stats.t.logpdf(0.0, 29, x.mean(), scale), rel=1e-10)


def test_the_predictive_density_integrates_what_the_sample_leaves_open():
    # With few problems a normal density with the sample's covariance put in is far too sure: its
    # mean over samples is not the density of a new draw. Student's covers as it says.
    rng = np.random.default_rng(1)
    inside = {"t": 0, "normal": 0}
    for _ in range(400):
        draws = rng.normal(size=(13, 4))
        new = draws[-1]
        found = tuple(likelihood.Number(f"n{i}", float(v), 0.0, "T1") for i, v in enumerate(new))
        fit = likelihood.fit(Simulated(draws[:-1], np.zeros((2, 6))), found, np.ones(4, bool))
        inside["t"] += fit.p_value > 0.1
        inside["normal"] += stats.chi2.sf(fit.chi_square, 4) > 0.1
    assert abs(inside["t"] / 400 - 0.9) < 4 * np.sqrt(0.09 / 400)
    assert inside["normal"] / 400 < 0.8


def test_reading_errors_widen_the_density(numbers):
    single = sample(40)
    wide = tuple(likelihood.Number(n.name, n.value, 2.0, n.where) for n in numbers)
    used = np.ones(4, bool)
    sharp, blunt = (likelihood.fit(Simulated(single, np.zeros((2, 6))), n, used)
                    for n in (numbers, wide))  # fmt: skip
    assert blunt.chi_square < sharp.chi_square
    assert (abs(blunt.z) < abs(sharp.z)).all()


def test_too_few_problems_are_refused(numbers):
    with pytest.raises(ValueError, match="--problems"):
        likelihood.fit(Simulated(sample(5), np.zeros((2, 6))), numbers, np.ones(4, bool))


def test_posterior_is_bayes():
    weights = likelihood.posterior(np.log(np.array([[0.2, 0.2], [0.4, 1.2]])) - 700)
    np.testing.assert_allclose(weights, [[0.1, 0.1], [0.2, 0.6]], rtol=1e-10)
    np.testing.assert_allclose(likelihood.marginal(weights, 0), [0.2, 0.8], rtol=1e-10)
    np.testing.assert_allclose(likelihood.marginal(weights, 1), [0.3, 0.7], rtol=1e-10)


def test_every_published_number_is_used_once():
    found = likelihood.numbers()
    assert len({each.name for each in found}) == len(found) == 37
    assert likelihood.of_tables(found).sum() == 15
    assert likelihood.eleven(found).sum() == 11
    by_name = {each.name: each.value for each in found}
    assert by_name["sdpo critique entropy"] == 1.78
    assert by_name["sdpo noise 0.5 reward"] == 0.624
    assert by_name["hybrid critique at 0.2 reward"] == 0.631
    assert by_name["reinforce reward"] == pytest.approx(0.5127)


def test_cells_share_problems_and_no_luck():
    plans = design.plans(design.Settings(problems=5), Sizes(length=2, vocab_size=3, rollouts=2))
    luck = []
    for plan in plans.values():
        for group in plan.groups:
            pairs = np.stack([group.inputs["problem_seed"], group.inputs["seed"]])
            assert set(pairs[0].tolist()) == set(range(5))
            luck.append(np.unique(pairs, axis=1))
    cells = np.unique(np.concatenate(luck, axis=1), axis=1)
    assert len(np.unique(cells[1])) == cells.shape[1]
    shared = [np.unique(plans[name].groups[0].inputs["seed"])
              for name in ("shared", "shared_baseline")]  # fmt: skip
    np.testing.assert_array_equal(*shared)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """A calibration on problems too small to resemble the paper's."""
    out = tmp_path_factory.mktemp("calibration")
    sizes = Sizes(length=2, vocab_size=3, rollouts=4, steps=30)
    run.calibrate(out, 48, True, "python -m sweeps calibrate --quick", sizes=sizes)
    return out


def test_files_are_written_and_finite(calibrated):
    written = {path.name for path in calibrated.iterdir()}
    assert written == {
        "calibration.json", "calibration.md", "calibration.png", "calibration.svg",
        "numbers.csv", "posterior.csv", "data", "manifest.json",
    }  # fmt: skip
    outcome = json.loads((calibrated / "calibration.json").read_text())
    for weighing in outcome["posterior"].values():
        for posterior in weighing.values():
            assert sum(posterior.values()) == pytest.approx(1, abs=1e-3)
    assert outcome["made"]["runs"] == 48 * (4 * 7 + 4 + 8 + 8 + 4 + 4 + 16 + 12 + 2)
    assert len((calibrated / "numbers.csv").read_text().splitlines()) == 1 + 36 + 6


def test_calibrating_again_computes_nothing(calibrated):
    before = {path: path.stat().st_mtime_ns for path in (calibrated / "data").iterdir()}
    sizes = Sizes(length=2, vocab_size=3, rollouts=4, steps=30)
    run.calibrate(calibrated, 48, True, "again --quick", sizes=sizes)
    assert {path: path.stat().st_mtime_ns for path in (calibrated / "data").iterdir()} == before


def test_a_calibration_is_known_opened_and_gone_on_with(calibrated, capsys):
    assert main(["status", str(calibrated)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "a calibration of 48 problems" in said
    assert "9 of 9 finished" in said and "4,128 of 4,128 done" in said
    assert "go on with" not in said
    data = sweeps.open(calibrated, "binary")
    assert data.finished.all() and data.sizes["draw"] == 48
    with pytest.raises(ValueError, match=r"grid: None; allowed: continuous, binary"):
        sweeps.open(calibrated)
    # What is damaged is named, and the command that repairs it.
    block = min((calibrated / "data").glob("*.block"))
    whole = block.read_bytes()
    block.write_bytes(whole[:-1])
    try:
        assert main(["status", str(calibrated)]) == 1
        assert f"python -m sweeps resume {calibrated}" in capsys.readouterr().out
    finally:
        block.write_bytes(whole)
    # It was made of problems smaller than the command's own, which is another calibration.
    assert main(["resume", str(calibrated)]) == 2
    assert "holds another calibration" in capsys.readouterr().err


def test_a_calibration_of_before_there_were_manifests_is_known(calibrated, tmp_path, capsys):
    text = (calibrated / "calibration.json").read_text()
    (tmp_path / "calibration.json").write_text(text)
    assert main(["status", str(tmp_path)]) == 0
    assert "a calibration of 48 problems" in capsys.readouterr().out


def test_a_setting_that_made_the_numbers_is_found():
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(3, 4))
    mixing = rng.normal(size=(4, 4)) * 0.2
    hits = 0
    for _ in range(60):
        truth = int(rng.integers(3))
        value = centres[truth] + rng.normal(size=4) @ mixing
        found = tuple(likelihood.Number(f"n{i}", float(v), 0.0, "T1") for i, v in enumerate(value))
        scores = [
            likelihood.log_likelihood(
                Simulated(centre + rng.normal(size=(60, 4)) @ mixing, np.zeros((2, 6))),
                found, np.ones(4, bool), False,
            )
            for centre in centres
        ]  # fmt: skip
        hits += int(np.argmax(scores)) == truth
    assert hits >= 57
