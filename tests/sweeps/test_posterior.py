"""Verdicts over the posterior: shares, the constant that a verdict changes with, going on."""

from __future__ import annotations

import dataclasses

import pytest

from sweeps.__main__ import main
from sweeps.calibration import posterior
from sweeps.calibration.posterior import Setting
from sweeps.paper import claims, experiments
from sweeps.paper.claims import RULES, Verdict
from sweeps.report.display import PaperDisplay
from sweeps.store import datasets, kinds
from sweeps.system.interrupts import Stopped
from tests.sweeps import synthetic

HEADER = (
    "quality_scale,bigram_scale,pattern_weight,feedback_strength,hint_noise,ordinal,"
    "posterior_all,log_likelihood\n"
)


@pytest.fixture
def calibration(tmp_path):
    folder = tmp_path / "calibration"
    folder.mkdir()
    (folder / "posterior.csv").write_text(
        HEADER
        + "1.0,0.3,0.1,2.0,0.3,level / 5,0.3,94\n"
        + "1.0,0.3,0.1,1.5,0.3,level / 5,0.1,93\n"
        + "1.0,0.3,0.1,2.0,0.3,(level - 1) / 4,0.05,92\n"
    )
    return folder


def test_settings_are_those_that_can_be_run_and_their_weights_are_shares(calibration, tmp_path):
    found = posterior.settings(calibration)
    assert [each.weight for each in found] == pytest.approx([0.75, 0.25])
    assert [each.numbers["feedback_strength"] for each in found] == [2.0, 1.5]
    assert len(posterior.settings(calibration, 1)) == 1
    with pytest.raises(datasets.MissingResults, match=r"posterior\.csv: missing; .*calibrate"):
        posterior.settings(tmp_path)


def test_a_verdict_changes_with_the_constant_that_parts_it():
    chosen = [
        Setting(str(place), 0.25, dict.fromkeys(posterior._CONSTANTS, 1.0) | numbers)
        for place, numbers in enumerate(
            {"feedback_strength": beta, "hint_noise": hints}
            for beta in (1.5, 2.0)
            for hints in (0.15, 0.45)
        )
    ]
    same = dict.fromkeys(RULES, Verdict.HOLDS)
    verdicts = {setting.name: dict(same) for setting in chosen} | {posterior.DEFAULTS: dict(same)}
    for setting in chosen:
        if setting.numbers["hint_noise"] > 0.3:
            verdicts[setting.name]["C06"] = Verdict.FAILS
    found = posterior.outcome(chosen, verdicts, 64, "python", 0.75)
    rows = {row["id"]: row for row in found["claims"]}
    assert rows["C06"]["shares"]["holds"] == rows["C06"]["shares"]["fails"] == 0.5
    assert rows["C06"]["constant"] == "hint_noise"
    assert rows["C01"]["shares"]["holds"] == 1 and rows["C01"]["constant"] is None
    (row,) = [line for line in posterior.markdown(found).splitlines() if line.startswith("| C06 |")]
    assert "critique" in row and "| holds | 50% | 0% | 0% | 0% | 50% | " in row
    assert "They hold 75% of the posterior" in posterior.markdown(found)
    posterior.draw(found)


def test_an_experiment_keeps_the_numbers_that_it_sets_itself():
    base = {"feedback_strength": 2.0, "hint_noise": 0.15, "quality_scale": 0.75}
    plain, based = experiments.experiments(), experiments.experiments(base)
    assert list(plain) == list(based)
    for name, experiment in based.items():
        for grid, before in zip(experiment.grids, plain[name].grids, strict=True):
            expected = dataclasses.asdict(before.config)
            expected |= {"feedback_strength": 2.0, "hint_noise": 0.15}
            assert dataclasses.asdict(grid.config) == expected
            assert grid.numbers == {"quality_scale": 0.75}
            plan = grid.plan(12)
            (quality_scale,) = {float(each) for group in plan.groups
                                for each in group.inputs["numbers"]["quality_scale"]}  # fmt: skip
            assert quality_scale == 0.75
            assert grid.axes.keys() == before.axes.keys()
    assert based["flipped"].grids[0].config.sign == -1.0


def test_a_study_that_was_stopped_goes_on(calibration, tmp_path, monkeypatch, capsys):
    """Each setting is a reproduction of its own, begun in order; the last of them is stopped."""
    begun = []

    def reproduced(folder, seeds, reporter, command, stop, base, pages, executor):
        begun.append((folder.name, base))
        if stop is not None and len(begun) == 3:
            raise Stopped
        synthetic.write(folder, seeds=seeds)
        assert pages is False

    monkeypatch.setattr(posterior, "reproduce", reproduced)
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="--seeds: 5; allowed: 10 or more"):
        posterior.study(out, calibration, 5, PaperDisplay(), "python")
    with pytest.raises(Stopped):
        posterior.study(out, calibration, 12, PaperDisplay(), "python", stop=lambda: False)
    assert not (out / posterior.JSON_NAME).exists()
    assert main(["status", str(out)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "a study of the posterior of 12 seeds" in said and "2 of 3 finished" in said
    assert f"go on with: python -m sweeps resume {out}" in said
    line = kinds.find(out).arguments
    assert line == [
        *("posterior", "--seeds", "12", "--calibration", str(calibration), "--out", str(out))
    ]
    with pytest.raises(ValueError, match="another study of the posterior"):
        posterior.study(out, calibration, 12, PaperDisplay(), "python", count=1)
    found = posterior.study(out, calibration, 12, PaperDisplay(), "python")
    assert [name for name, _ in begun] == ["defaults", "00", "01", "defaults", "00", "01"]
    assert begun[3][1] == {} and begun[5][1]["feedback_strength"] == 1.5
    assert posterior.load(out) == found
    assert {row["id"] for row in found["claims"]} == set(claims.RULES)
    assert main(["status", str(out)]) == 0
    assert "go on" not in capsys.readouterr().out
    written = {path: path.read_bytes() for path in out.glob("posterior.*")}
    assert main(["render", str(out)]) == 0
    assert "Of 22 claims 0 get more than one verdict." in capsys.readouterr().out
    assert all(path.read_bytes() == before for path, before in written.items())
    for name in ("posterior.md", "figures/posterior.svg", "figures/posterior.png"):
        assert (out / name).is_file()
