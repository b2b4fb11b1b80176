"""The study: fair budgets, verdicts on results whose answer is known, a page, and going on."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import sweeps
from sdpo_jax.in_context import CURVES, KINDS, METHODS
from sweeps.__main__ import main
from sweeps.in_context import experiments, page, run, verdicts
from sweeps.in_context.experiments import POLICIES, Part, league_name, network_name
from sweeps.in_context.plan import (
    COMPOSED,
    CONTENDERS,
    MAIN,
    PLAIN,
    REFERENCE,
    full,
    quick,
)
from sweeps.in_context.trials import heard, kinds_of, setting_text, settings_of
from sweeps.paper.claims import Verdict
from sweeps.store import datasets
from sweeps.study import progress
from sweeps.system.interrupts import Stopped

PLAN = replace(
    full(8),
    contenders=("rloo", "grpo", "sdpo_live_forward", "sdpo_composed_forward"),
    watched=("sdpo_composed_forward",),
    credit=("grpo", "sdpo_composed_forward"),
)


# What is fair


def test_every_contender_tries_as_many_settings():
    assert {contender.settings for contender in CONTENDERS.values()} == {6}
    for contender in CONTENDERS.values():
        assert len(set(settings_of(contender))) == 6
        assert set(contender.knobs) <= set(METHODS[contender.method].numbers)


def test_tuning_and_evaluation_share_no_seed():
    for plan in (full(), quick()):
        assert not set(plan.tuning) & set(plan.evaluation)


def test_who_is_compared_with_whom():
    assert set(PLAIN).isdisjoint(COMPOSED)
    assert MAIN in COMPOSED and REFERENCE not in (*PLAIN, *COMPOSED)
    # Marks are only for those who read.
    assert kinds_of(PLAN, "grpo") == ("binary", "continuous")
    assert heard(PLAN, "grpo", "critique") == "continuous"
    assert kinds_of(PLAN, MAIN) == PLAN.kinds
    assert kinds_of(PLAN, "opsd") == ("continuous",)


# Verdicts


def curves_of(shape, reward, entropy, rng):
    """Curves ``[*shape, steps]`` that rise to a reward and fall to an entropy in half the steps."""
    way = np.minimum(1, np.arange(PLAN.steps) / (PLAN.steps / 2))
    made = {name: np.zeros((*shape, PLAN.steps)) for name in CURVES}
    made["reward"] = 0.5 + (reward - 0.5) * way + 1e-3 * rng.normal(size=made["reward"].shape)
    made["entropy"] = 2.0 + (entropy - 2.0) * way + 1e-3 * rng.normal(size=made["reward"].shape)
    return made


def results_of(rewards, entropies, credits, by_skill=0.0):
    """Data of a study in which every method ends as is said."""
    rng = np.random.default_rng(0)
    seeds, steps = list(PLAN.evaluation), np.arange(PLAN.steps)
    found = {}
    for count in PLAN.attempts:
        points = list(PLAN.pretraining.checkpoints)
        skill = np.linspace(0, 0.4, len(points))[:, None] * np.ones(len(KINDS))
        found[network_name(count)] = xr.Dataset(
            {"skill": (("checkpoint", "kind"), skill), "without": (("checkpoint",), skill[:, 0])},
            coords={"checkpoint": points, "kind": list(KINDS)},
        )
    flat = np.zeros(len(seeds))
    found["range"] = xr.Dataset(
        {"uniform": (("seed",), flat + 0.5), "best": (("seed",), flat + 0.9)}
    )
    for name in PLAN.contenders:
        kinds, settings = kinds_of(PLAN, name), settings_of(CONTENDERS[name])
        curves = curves_of((len(kinds), len(seeds)), rewards[name], entropies[name], rng)
        data = {each: (("kind", "seed", "step"), value) for each, value in curves.items()}
        data["tuned_reward"] = (("kind",), np.full(len(kinds), rewards[name]))
        data["best_setting"] = (("kind",), np.zeros(len(kinds), np.int32))
        data["tried_reward"] = (
            ("kind", "setting", "tuning_seed"),
            np.zeros((len(kinds), len(settings), PLAN.tuning_seeds)),
        )
        found[league_name(name)] = xr.Dataset(
            data,
            coords={
                "kind": list(kinds),
                "seed": seeds,
                "step": steps,
                "setting": [setting_text(*each) for each in settings],
                "learning_rate": ("setting", [rate for rate, _ in settings]),
            },
        )
    count = len(PLAN.pretraining.checkpoints)
    for name in experiments.scaled(PLAN):
        curves = curves_of((count, len(seeds)), rewards[name], 1.0, rng)
        if name == MAIN:
            rise = np.minimum(1, np.arange(PLAN.steps) / (PLAN.steps / 2))
            lack = by_skill * np.linspace(1, 0, count)[:, None, None]
            curves["reward"] -= lack * rise
        found[f"skill_{name}"] = xr.Dataset(
            {each: (("checkpoint", "seed", "step"), value) for each, value in curves.items()}
        )
    for axis, values in (("strength", PLAN.strengths), ("attempts", PLAN.attempts)):
        curves = curves_of((len(values), len(seeds)), 0.7, 1.0, rng)
        found[axis] = xr.Dataset(
            {each: ((axis, "seed", "step"), value) for each, value in curves.items()},
            coords={axis: list(values)},
        )
    for name in PLAN.watched:
        curves = curves_of((len(seeds),), 0.7, 1.0, rng)
        found[f"watched_{name}"] = xr.Dataset(
            {each: (("seed", "step"), value) for each, value in curves.items()}
        )
    for name in PLAN.credit:
        shape = (len(POLICIES), len(PLAN.kinds), len(seeds))
        values = credits[name] + 1e-3 * rng.normal(size=shape)
        found[f"credit_{name}"] = xr.Dataset(
            {each: (("policy", "kind", "seed"), values) for each in ("credit", "alignment")},
            coords={"policy": list(POLICIES), "kind": list(PLAN.kinds)},
        )
    return found


ENDS = {"rloo": 0.70, "grpo": 0.72, "sdpo_live_forward": 0.6, "sdpo_composed_forward": 0.68}
ENTROPIES = {"rloo": 1.5, "grpo": 1.5, "sdpo_live_forward": 1.0, "sdpo_composed_forward": 0.5}
CREDITS = {"grpo": 0.3, "sdpo_composed_forward": 0.5}


def verdict_of(results):
    return {claim.id: claim.verdict for claim in verdicts.judge(PLAN, results)}


def test_verdicts_on_results_whose_answer_is_known():
    found = verdict_of(results_of(ENDS, ENTROPIES, CREDITS, by_skill=0.1))
    assert found == {
        "N1": Verdict.FAILS,
        "N2": Verdict.HOLDS,
        "N3": Verdict.HOLDS,
        "N4": Verdict.HOLDS,
        "N5": Verdict.HOLDS,
    }
    rewards = {**ENDS, "sdpo_live_forward": 0.73}
    entropies = {**ENTROPIES, "sdpo_composed_forward": 1.9}
    other = verdict_of(results_of(rewards, entropies, {**CREDITS, "grpo": 0.6}))
    assert other == {
        "N1": Verdict.HOLDS,
        "N2": Verdict.FAILS,
        "N3": Verdict.FAILS,
        "N4": Verdict.FAILS,
        "N5": Verdict.FAILS,
    }


def test_every_verdict_prints_its_rule():
    for claim in verdicts.judge(PLAN, results_of(ENDS, ENTROPIES, CREDITS)):
        assert "Holds" in claim.rule and np.isfinite(claim.estimate)
        assert claim.ci_low <= claim.estimate <= claim.ci_high


# The folder


def computed(results):
    def parts(plan):
        return {
            name: Part(lambda plan, results, check, data=data: data)
            for name, data in results.items()
        }

    return parts


def test_a_study_is_written_and_rendered_again_to_the_byte(tmp_path, monkeypatch):
    results = results_of(ENDS, ENTROPIES, CREDITS, by_skill=0.1)
    monkeypatch.setattr(run, "parts", computed(results))
    run.study(tmp_path, PLAN, "python -m sweeps in_context")
    first = {
        path: path.read_bytes() for path in tmp_path.rglob("*") if path.suffix in (".csv", ".html")
    }
    assert len(first) == 1 + len(page.analysis.TABLES)
    html = (tmp_path / page.PAGE).read_text()
    for name in page.figures.FIGURES:
        assert f'id="{name}"' in html
    rows = json.loads((tmp_path / "verdicts.json").read_text())
    assert [row["id"] for row in rows] == ["N1", "N2", "N3", "N4", "N5"]
    assert main(["render", str(tmp_path)]) == 0
    assert all(path.read_bytes() == before for path, before in first.items())


def test_an_interrupted_study_goes_on_and_computes_nothing_twice(tmp_path, monkeypatch):
    asked = []
    fails = True

    def part(name, needs=()):
        def compute(plan, results, check):
            asked.append(name)
            if name == "second" and fails:
                raise RuntimeError("power cut")
            return xr.Dataset({"value": ((), 1.0)})

        return Part(compute, needs)

    every = {"first": part("first"), "second": part("second", ("first",))}
    monkeypatch.setattr(run, "parts", lambda plan: every)
    monkeypatch.setattr(run, "render", lambda out: None)
    with pytest.raises(RuntimeError, match="power cut"):
        run.study(tmp_path, PLAN, "line")
    assert datasets.read_manifest(tmp_path)["finished"] == ["first"]
    fails = False
    run.study(tmp_path, PLAN, "line")
    assert asked == ["first", "second", "second"]
    with pytest.raises(ValueError, match=r"another study of networks \(steps 80, asked for 81\)"):
        run.study(tmp_path, replace(PLAN, steps=81), "line")


SCRIPT = """
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from sdpo_jax.in_context import Pretraining
from sweeps.execute.cluster import connected
from sweeps.in_context import run
from sweeps.in_context.plan import quick

few = Pretraining(checkpoints=(0, 2), batch=8, examples=16)
plan = replace(
    quick(), steps=3, every=1, window=2, rollouts=4, block=4, width=4, contenders=("grpo",),
    kinds=("binary",), watched=(), credit=(), pretraining=few, small_pretraining=few,
    length=2, vocab_size=2,
)
wanted = ("network_1", "league_grpo")
every = run.parts
run.parts = lambda plan: {name: every(plan)[name] for name in wanted}
run.render = lambda out: None
with connected(sys.argv[2]) if sys.argv[2:] else nullcontext() as executor:
    run.study(Path(sys.argv[1]), plan, "line", print, executor=executor)
"""


def test_a_study_that_is_killed_goes_on_on_a_cluster_to_the_same_bytes(tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": os.getcwd(),
        "JAX_ENABLE_COMPILATION_CACHE": "1",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }

    def begun(out, *where):
        line = [sys.executable, "-c", SCRIPT, str(out), *where]
        return subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL)

    whole, out = tmp_path / "whole", tmp_path / "out"
    assert begun(whole).wait(300) == 0
    blocks = out / "data" / "blocks" / "league_grpo"
    kept = set()
    for least in (3,):
        child = begun(out)
        while child.poll() is None and len(list(blocks.glob("[!.]*.block"))) < least:
            time.sleep(0.01)
        child.kill()
        child.wait()
        there = {path: path.stat().st_mtime_ns for path in blocks.glob("[!.]*.block")}
        if (out / "data" / "league_grpo.nc").exists():
            break
        # Nothing that was kept is computed again.
        assert kept <= set(there.items())
        kept = set(there.items())
    assert kept
    assert main(["status", str(out)]) == 0
    assert begun(out, "local:1").wait(300) == 0
    assert not (out / "data" / "blocks").exists()
    for name in ("network_1", "league_grpo"):
        path = f"data/{name}.nc"
        assert (out / path).read_bytes() == (whole / path).read_bytes()
    xr.testing.assert_equal(sweeps.open(out, "league_grpo"), datasets.load(whole, "league_grpo"))


def test_a_wish_to_stop_ends_every_part(tmp_path, monkeypatch, capsys):
    asked = []

    def waits(plan, results, trainer):
        asked.append("first")
        while not trainer.control.stop():
            time.sleep(0.01)
        raise Stopped

    every = {"first": Part(waits), "second": Part(waits, ("first",))}
    monkeypatch.setattr(run, "parts", lambda plan: every)
    with pytest.raises(Stopped):
        run.study(tmp_path, PLAN, "line", stop=lambda: bool(asked))
    assert asked == ["first"]
    assert datasets.read_manifest(tmp_path)["finished"] == []
    assert main(["status", str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "a study of networks of 8 seeds" in said and "0 of 2 finished" in said
    assert f"go on with: python -m sweeps resume {tmp_path}" in said


def test_too_few_seeds_are_refused(tmp_path, capsys):
    assert main(["in_context", "--seeds", "3", "--out", str(tmp_path / "new")]) == 2
    assert "--seeds: 3; allowed: 8 or more" in capsys.readouterr().err
    assert main(["in_context", "--seeds", "9", "--quick"]) == 2


def test_a_plan_comes_back_from_its_manifest():
    for plan in (full(), quick()):
        text = json.dumps(progress.plain(dataclasses.asdict(plan)))
        assert page.analysis.plan_of(json.loads(text)) == plan
