"""The audit: equal budgets, separate seeds, and the whole of it on small problems."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from sdpo_jax import ALGORITHMS, Sizes
from sweeps import statistics
from sweeps.__main__ import main
from sweeps.audit import analysis, experiments, plan, run, trials, verdicts
from sweeps.audit.contenders import CONTENDERS, FEEDBACK_ONLY
from sweeps.audit.readers import READINGS
from sweeps.paper.claims import Verdict
from sweeps.statistics import Interval
from sweeps.store import blocks
from sweeps.system import interrupts

FULL, QUICK = plan.full(), plan.quick()


# What is fair


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_gets_as_many_settings(name):
    contender = CONTENDERS[name]
    for settings in (FULL.settings, FULL.scaling_settings, QUICK.settings):
        axes = contender.axes(settings)
        assert math.prod(len(values) for values in axes.values()) == settings
        rates = axes["learning_rate"]
        assert rates == sorted(set(rates))
    assert len(contender.knobs) <= 2
    assert contender.algorithm in ALGORITHMS


def test_a_budget_that_the_knobs_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="settings: 7; allowed: multiples of the sdft"):
        CONTENDERS["sdft"].axes(7)


def test_tuning_and_evaluation_share_no_seed():
    for each in (FULL, QUICK):
        assert not set(each.tuning) & set(each.evaluation)


def test_groups_are_what_contenders_are_told():
    assert set(FEEDBACK_ONLY) >= {"reinforce", "rloo", "grpo", "ppo", "dpo", "rlhf", "sdft"}
    assert CONTENDERS["sdpo"].group == "knowledge table"
    assert CONTENDERS["scar"].group == "reward of any sequence"
    assert CONTENDERS["opsd"].group == "solution"
    named = {*FULL.feedback_only, *FULL.reward_models, *FULL.taught, *FULL.solved}
    assert named == set(CONTENDERS)


def test_the_full_plan_reaches_the_sizes_asked_for():
    assert max(length for length, _ in FULL.scaling) >= 12
    assert max(vocab_size for _, vocab_size in FULL.scaling) >= 32
    assert FULL.seeds >= 256


# Arithmetic


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([-0.2, -0.1, 0.1, 0.2], 0.5),
        ([-0.3, 0.1, 0.2, 0.3], 0.25),
        ([0.1, 0.2, 0.3, 0.4], 0.0),
        ([-0.4, -0.3, -0.2, -0.1], np.inf),
        # It has to stay above: a lead that is lost again does not count.
        ([0.1, -0.1, -0.1, 0.1], 5 / 6),
    ],
)
def test_where_the_gap_stays_above_nothing(gaps, expected):
    knowledge = np.linspace(0, 1, 4)
    assert analysis.crossing(knowledge, np.array(gaps)) == pytest.approx(expected)


def test_an_improvement_counts_seeds():
    found = analysis.improvement(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 2.0, 4.0, 3.0]))
    assert float(found.estimate) == pytest.approx(2.5 / 4)


def test_a_wider_level_widens_a_students_interval():
    draw = np.random.default_rng(0).normal(size=20)
    row = {"seeds": 20, **analysis.ends(statistics.mean(draw), "loss_beyond_noise")}
    found = verdicts._beyond_noise(row, 0.999)
    expected: Interval = statistics.mean(draw, 0.999)
    assert float(found.low) == pytest.approx(float(expected.low))
    assert float(found.high) == pytest.approx(float(expected.high))


def test_the_best_setting_is_the_one_of_the_largest_mean_reward():
    rates, knob = [0.1, 1.0, 10.0], [1.0, 2.0, 3.0]
    reward = np.array([[0.5, 0.6, 0.4], [0.55, 0.7, 0.5], [0.3, 0.2, 0.1]])
    rows = [
        {"reward": reward[i, j], "learning_rate": rate, "clip": value}
        for i, rate in enumerate(rates)
        for j, value in enumerate(knob)
    ]
    settings = {"learning_rate": rates, "clip": knob}
    assert trials.best(rows, settings) == {**rows[4], "edge_gain": 0.0}
    rows[3]["reward"] = 0.75
    assert trials.best(rows, settings) == {**rows[3], "edge_gain": pytest.approx(0.05)}
    # Of a knob with one value there is no end.
    assert trials.best(rows[1::3], {**settings, "clip": [2.0]})["edge_gain"] == 0.0
    assert np.isnan(trials.best(rows[:1], settings)["edge_gain"])


def test_reward_and_entropy_are_of_the_same_steps(tmp_path):
    # All of them, so that the last steps' means are the means.
    sizes = Sizes(length=2, vocab_size=3, rollouts=4, steps=12, final_window=12)
    data = trials.train(
        trials.Trainer.by_hand(tmp_path, "mine"),
        CONTENDERS["sdpo_annealed"],
        {"learning_rate": [10.0], "final_strength": [0.0]},
        range(4),
        sizes,
        experiments.oracles(["continuous"]),
    )
    for name in ("reward", "entropy"):
        np.testing.assert_allclose(data[name], data[f"{name}_mean"], rtol=1e-5)


# What each verdict follows from


def seeds_of(mean, spread=0.005, seeds=64):
    values = np.random.default_rng(1).normal(size=seeds)
    return mean + spread * (values - values.mean()) / values.std()


@pytest.mark.parametrize(
    ("gap", "dense", "spread", "verdict"),
    [
        (0.1, 0.1, 0.005, Verdict.HOLDS),
        (0.1, 0.0, 0.005, Verdict.OTHER_REASON),
        (0.1, 0.01, 0.005, Verdict.UNDECIDED),
        (0.0, 0.1, 0.005, Verdict.FAILS),
        (0.01, 0.1, 0.005, Verdict.UNDECIDED),
        (0.1, 0.1, 5.0, Verdict.UNDECIDED),
        (np.nan, 0.1, 0.005, Verdict.UNDECIDED),
        (0.1, np.nan, 0.005, Verdict.UNDECIDED),
    ],
)
def test_why_sdpo_wins_follows_from_two_gaps(monkeypatch, gap, dense, spread, verdict):
    monkeypatch.setattr(analysis, "source_oracle", lambda _: ("continuous", 0.2))
    known = np.stack([seeds_of(gap), seeds_of(gap, spread)])
    monkeypatch.setattr(analysis, "gaps_of", lambda *_: (np.array([0.0, 1.0]), known, "grpo"))
    monkeypatch.setattr(
        verdicts, "dense_against_sparse", lambda _: statistics.mean(seeds_of(dense))
    )
    assert judged(monkeypatch, "C23").verdict == verdict


@pytest.mark.parametrize(
    ("gap", "spread", "verdict"),
    [
        (0.0, 0.005, Verdict.HOLDS),
        (-0.1, 0.005, Verdict.FAILS),
        (-0.01, 0.005, Verdict.UNDECIDED),
        (0.1, 5.0, Verdict.UNDECIDED),
        (np.nan, 0.005, Verdict.UNDECIDED),
    ],
)
def test_what_ground_truth_is_needed_follows_from_the_gap(monkeypatch, gap, spread, verdict):
    monkeypatch.setattr(analysis, "source_oracle", lambda _: ("continuous", 0.2))
    gaps = np.stack([seeds_of(gap, spread), seeds_of(0.1)])
    monkeypatch.setattr(analysis, "gaps_of", lambda *_: (np.array([0.0, 1.0]), gaps, "grpo"))
    row = {"oracle": "continuous", "noise": 0.2, "best_told_feedback": "grpo"}
    row |= {"crossover": 0.5, "crossover_low": 0.4, "crossover_high": 0.6}
    monkeypatch.setattr(analysis, "crossover_rows", lambda _: [row])
    assert judged(monkeypatch, "C24").verdict == verdict


@pytest.mark.parametrize(
    ("beyond", "spread", "verdict"),
    [
        (0.1, 0.005, Verdict.HOLDS),
        (-0.1, 0.005, Verdict.HOLDS),
        (0.0, 0.005, Verdict.FAILS),
        (0.01, 0.005, Verdict.UNDECIDED),
        (0.0, 5.0, Verdict.UNDECIDED),
        (np.nan, 0.005, Verdict.UNDECIDED),
    ],
)
def test_whether_bias_is_noise_follows_from_what_it_costs_beyond(
    monkeypatch, beyond, spread, verdict
):
    def rows(_):
        found = []
        for mean, wide in ((0.0, 0.005), (beyond, spread)):
            lost = statistics.mean(seeds_of(mean, wide))
            row = {"contender": "grpo", "bias": "halo", "strength": 0.5, "seeds": 64}
            found.append(
                row | analysis.ends(lost, "loss") | analysis.ends(lost, "loss_beyond_noise")
            )
        return found

    monkeypatch.setattr(analysis, "bias_rows", rows)
    monkeypatch.setattr(verdicts, "_biases", lambda _: {"halo"})
    assert judged(monkeypatch, "F2").verdict == verdict


@pytest.mark.parametrize(
    ("lead", "spread", "verdict"),
    [
        (0.1, 0.005, Verdict.HOLDS),
        (0.0, 0.005, Verdict.FAILS),
        (0.01, 0.005, Verdict.UNDECIDED),
        (0.1, 5.0, Verdict.UNDECIDED),
        (np.nan, 0.005, Verdict.UNDECIDED),
    ],
)
def test_what_keeps_diversity_follows_from_reward_at_equal_entropy(
    monkeypatch, lead, spread, verdict
):
    reward = np.stack([np.full(64, 0.6), 0.6 + seeds_of(lead, spread), np.full(64, 0.55)])
    frontier = xr.Dataset(
        {"reward": (("point", "seed"), reward)},
        {
            "contender": ("point", ["sdpo", "sdpo_entropy", "sdpo_annealed"]),
            "floor": ("point", [1.5] * 3),
            "knowledge": ("point", [1.0] * 3),
        },
    )
    assert judged(monkeypatch, "F3", {"frontier": frontier}).verdict == verdict


def judged(monkeypatch, identifier, results=None):
    """The claim as ``verdicts.judge`` has it; its rule names the verdict that came out."""
    monkeypatch.setattr(verdicts, "RULES", {identifier: verdicts.RULES[identifier]})
    (claim,) = verdicts.judge(results or {})
    words = {
        Verdict.HOLDS: "Holds",
        Verdict.FAILS: "ails",
        Verdict.OTHER_REASON: "Holds for another reason",
        Verdict.UNDECIDED: "ndecided",
    }
    assert words[claim.verdict] in claim.rule
    json.dumps(claim.row(), allow_nan=False)
    return claim


def test_a_lead_over_all_seeds_has_a_width():
    """All of 64 seeds ahead: not every seed there is."""
    found = analysis.improvement(np.ones(64), np.zeros(64))
    assert (float(found.estimate), float(found.high)) == (1, 1)
    assert 0.9 < found.low < 0.95


def test_a_gap_that_is_not_finite_has_no_crossing():
    with pytest.raises(statistics.Undefined, match="gaps: not finite"):
        analysis.crossing(np.linspace(0, 1, 3), np.array([-0.1, np.nan, 0.1]))


# The whole of it


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit") / "quick"
    assert main(["audit", "--quick", "--out", str(folder)]) == 0
    return folder


def table(out, name):
    with (out / "tables" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_everything_is_written(out):
    for name in analysis.TABLES:
        assert table(out, name), name
    for name in ("league", "rates", "crossover", "credit", "frontier", "biases", "cost", "scaling"):
        for kind in ("png", "svg"):
            assert (out / "figures" / f"{name}.{kind}").stat().st_size > 5_000
    page = (out / "audit.html").read_text()
    # The eight figures, and the main one at the top.
    assert page.count("<figure") == 9
    # Links to the papers of the equations are all that leads outside.
    outside = re.findall(r'(\w+)="https?:', page.replace("http://www.w3.org", ""))
    assert set(outside) <= {"href"}
    for name in {row["contender"] for row in table(out, "league")}:
        assert READINGS[name].line.replace("'", "&#39;") in page
    assert json.loads((out / "pinned.json").read_text()) == []
    found = json.loads((out / "verdicts.json").read_text())
    assert [row["id"] for row in found] == list(verdicts.RULES)
    text = (out / "verdicts.md").read_text()
    assert all(f"## {name}: " in text for name in verdicts.RULES)


def test_every_setting_that_was_tried_is_reported(out):
    rows = table(out, "tuning")
    cells = {}
    for row in rows:
        where = (row["contender"], row["oracle"], row["noise"], row["knowledge"])
        cells.setdefault(where, []).append(float(row["reward"]))
    assert {len(rewards) for rewards in cells.values()} == {QUICK.settings}
    assert {row["seeds"] for row in rows} == {str(QUICK.tuning_seeds)}
    assert {row["contender"] for row in rows} == {
        *(*QUICK.feedback_only, *QUICK.reward_models, *QUICK.taught, *QUICK.solved)
    }


def test_the_league_compares_within_groups(out):
    rows = table(out, "league")
    for row in rows:
        assert row["group"] == CONTENDERS[row["contender"]].group
        assert float(row["reward_low"]) <= float(row["reward"]) <= float(row["reward_high"])
        assert -0.2 < float(row["optimality"]) <= 1.0
        assert row["seeds"] == str(QUICK.seeds)
    told_nothing = next(row for row in rows if row["contender"] == "opsd")
    assert float(told_nothing["queries"]) == 0
    baseline = next(row for row in rows if row["contender"] == "reinforce")
    assert baseline["ahead_of_reinforce"] == ""
    assert float(baseline["queries"]) == QUICK.sizes.rollouts * QUICK.sizes.steps


def test_at_the_first_policy_exact_credit_is_the_most_exact(out):
    rows = [row for row in table(out, "credit") if row["policy"] == "first policy"]
    exact = {row["contender"]: float(row["exact_credit"]) for row in rows}
    assert exact["process_reward"] > exact["reinforce"] > 0.2


def test_the_same_command_goes_on_from_what_is_saved(out, capsys):
    before = (out / "tables/league.csv").read_bytes()
    assert main(["audit", "--quick", "--out", str(out)]) == 0
    assert capsys.readouterr().err.count("saved earlier") == len(experiments.EXPERIMENTS)
    assert (out / "tables/league.csv").read_bytes() == before


def test_an_audit_that_is_stopped_or_killed_goes_on_from_its_blocks(tmp_path, monkeypatch):
    mine = replace(
        QUICK, feedback_only=("reinforce",), reward_models=(), solved=(), taught=("sdpo",),
        settings=6, noise=(0.1,), oracles=("continuous",),
    )  # fmt: skip
    monkeypatch.setattr(run, "EXPERIMENTS", {
        name: experiments.EXPERIMENTS[name] for name in ("range", "told_feedback", "crossover")
    })  # fmt: skip
    monkeypatch.setattr(run, "render", lambda out: None)
    run.audit(tmp_path / "whole", mine, "test")
    written = []
    write = blocks.write

    def counted(path, *arguments):
        write(path, *arguments)
        written.append(path)
        if len(written) == 2:
            raise InterruptedError

    out = tmp_path / "out"
    monkeypatch.setattr(blocks, "write", counted)
    # As by a kill, then by a wish to stop, then to the end.
    with pytest.raises(InterruptedError):
        run.audit(out, mine, "test")
    kept = set(written)
    assert all(path.is_file() for path in kept)
    asked = []
    with pytest.raises(interrupts.Stopped):
        run.audit(out, mine, "test", stop=lambda: asked.append(1) or len(asked) > 6)
    run.audit(out, mine, "test")
    assert len(written) == len(set(written))
    assert not (out / "data" / "blocks").exists()
    data = {path.name: path.read_bytes() for path in (out / "data").iterdir()}
    assert data == {path.name: path.read_bytes() for path in (tmp_path / "whole/data").iterdir()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": 12}, ["another audit"]),
        ({"seeds": 8}, ["--seeds: 8", "16 or more"]),
    ],
)
def test_what_does_not_fit_is_refused(out, change, words):
    with pytest.raises(ValueError) as error:
        run.audit(out, replace(QUICK, **change), "test")
    assert all(word in str(error.value) for word in words)


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["audit", "--quick", "--out", str(tmp_path)]) == 2
    assert "has no manifest.json" in capsys.readouterr().err
    assert main(["audit", "--quick", "--seeds", "99", "--out", str(tmp_path / "new")]) == 2
    assert "--seeds: 99 beside --quick" in capsys.readouterr().err
