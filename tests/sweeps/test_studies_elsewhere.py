"""Studies whose blocks are computed by a Dask cluster, or go on on another processor."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import sdpo_jax
from benchmarks import kills
from sdpo_jax import Sizes
from sweeps.__main__ import main
from sweeps.execute.cluster import connected
from sweeps.paper import experiments as paper
from sweeps.paper.reproduce import reproduce, source_digest
from sweeps.provenance import machine
from sweeps.store import blocks, datasets, kinds, tasks
from sweeps.store.fingerprints import OtherFingerprint, digest
from sweeps.study import elsewhere, progress
from sweeps.study.trainer import Trainer, Wanted
from sweeps.system.interrupts import Control, Stopped

# One program of each algorithm, so small that the processes are most of the time.
SIZES = Sizes(length=2, vocab_size=3, rollouts=4, steps=6, final_window=3)


class Silent:
    def __getattr__(self, name):
        return lambda *_: None


class Here:
    """An executor of this very process, which does one call after the other."""

    def __init__(self, before=lambda call: None):
        self.calls = []
        self.before = before

    def ask(self, stop, function, *arguments):
        return function(*arguments)

    def compute(self, calls, runs, control, place="blocks"):
        for call in calls:
            if control.stop():
                return
            self.before(call)
            assert call.function(*call.arguments) >= 0
            self.calls.append(call.identity)
            control.progress(sdpo_jax.Progress("block", call.label, 0, runs, 0.0))


def plan_of(seeds=200):
    return sdpo_jax.plan_grid(
        {"algorithm": ["reinforce", "sdpo"], "seed": range(seeds)}, sizes=SIZES
    )


def begun(out, executor=None):
    out.mkdir(exist_ok=True)
    described = {"seeds": 16, "constants": {}}
    return progress.begin(
        out, kinds.REPRODUCTION, described, source_digest, "line", ["one"], {"run": 0.0},
        executor=executor,
    )  # fmt: skip


def trainer_of(out, executor=None, **options):
    return Trainer(begun(out, executor), progress.blocks_folder(out), **options)


def block_files(out):
    place = progress.blocks_folder(out)
    return {path.name: path.read_bytes() for path in place.glob("[!.]*.block")}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch, request):
    # A process of its own does not have them.
    if "local" not in request.node.name:
        monkeypatch.setattr(tasks, "_MOST_RUNS", 64)


def squares(count, offset):
    return {"value": np.arange(count, dtype="<f4") ** 2 + np.float32(offset)}


LAYOUT = {"value": ((), "<f4")}
WANTED = [Wanted({"offset": offset}, (4, offset)) for offset in (0, 1, 0)]


@pytest.mark.parametrize("place", ["here", "local:2"])
def test_a_study_s_blocks_are_the_same_wherever_they_are_computed(tmp_path, place):
    plain = trainer_of(tmp_path / "plain")
    expected = plain.train(plan_of())
    kept = plain.kept(WANTED, "squares", LAYOUT, 4, squares)
    out = tmp_path / "out"

    def check(executor):
        told, done = [], []
        trainer = trainer_of(out, executor, control=Control(told.append), done=done.append)
        assert trainer.train(plan_of()).identical(expected)
        assert told[-1].total == 400
        for one, other in zip(
            trainer.kept(WANTED, "squares", LAYOUT, 4, squares), kept, strict=True
        ):
            np.testing.assert_array_equal(one["value"], other["value"])
        # Two of the three are the same block.
        assert done == [4, 4]
        assert block_files(out) == block_files(tmp_path / "plain")

    if place == "here":
        check(Here())
    else:
        # A function of this file is no worker's to import, so it travels.
        import cloudpickle

        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        with connected(place) as executor:
            check(executor)


def test_a_run_that_two_plans_ask_for_is_in_the_blocks_of_the_first(tmp_path):
    """As the grids of a calibration share some."""
    out, executor = tmp_path / "out", Here()
    study = begun(out, executor)
    known = blocks.Known()
    plans = [plan_of(100), plan_of(200)]
    every = [task for plan in plans for task in tasks.tasks_of(plan, known)]
    mine = tasks.Blocks(out / "data", every, study.accepted)
    Trainer(study, out / "data").compute(mine, set(mine.by_id))
    assert sorted(executor.calls) == sorted(mine.by_id)
    assert sum(len(task.keys) for task in every) == 400
    assert mine.survey().done == mine.by_id.keys()


def test_what_is_damaged_is_computed_again_and_the_rest_is_not(tmp_path):
    out = tmp_path / "out"
    expected = trainer_of(out).train(plan_of())
    whole = block_files(out)
    path = progress.blocks_folder(out) / sorted(whole)[1]
    # Its first bytes still say that it is there, and whose it is.
    path.write_bytes(whole[path.name][:-1] + b"\0")
    executor = Here()
    there = []
    trainer = trainer_of(out, executor, there=there.append)
    assert trainer.train(plan_of()).identical(expected)
    assert executor.calls == [path.stem]
    lost = next(t for t in tasks.tasks_of(plan_of()) if t.identity == path.stem)
    assert there == [400 - len(lost.keys)]
    assert block_files(out) == whole


def test_a_wish_to_stop_keeps_what_is_done(tmp_path):
    out = tmp_path / "out"
    executor = Here()
    with pytest.raises(Stopped):
        trainer_of(out, executor, control=Control(stop=lambda: len(executor.calls) == 2)).train(
            plan_of()
        )
    assert len(block_files(out)) == 2
    stopped = Control(stop=lambda: True)
    with pytest.raises(Stopped):
        trainer_of(out, executor, control=stopped).kept(WANTED, "squares", LAYOUT, 4, squares)
    with pytest.raises(Stopped):
        trainer_of(out, control=stopped).kept(WANTED, "squares", LAYOUT, 4, squares)
    trainer_of(out, executor).train(plan_of())
    assert len(executor.calls) == len({*executor.calls}) == len(block_files(out))


def test_a_process_with_other_code_or_without_the_folder_computes_nothing(tmp_path, monkeypatch):
    study = begun(tmp_path / "out")
    plan = elsewhere.packed([plan_of()])
    name = next(tasks.tasks_of(plan_of())).identity
    elsewhere._admitted.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(sdpo_jax.grid, "default_block_width", lambda: 16)
        patch.setattr(elsewhere, "default_block_width", lambda: 16)
        with pytest.raises(OtherFingerprint, match=r"computed with other block width \(64, now 16"):
            elsewhere.train(study.place(progress.blocks_folder(study.out)), plan, name)
    monkeypatch.setattr("sweeps.execute.worker._PATIENCE", 0.0)
    gone = progress.Begun(
        tmp_path / "gone", study.manifest, study.makers, study.maker, source_digest, None
    )
    with pytest.raises(ValueError, match="gone: not reached by a process of the cluster"):
        elsewhere.train(gone.place(tmp_path / "gone" / "data"), plan, name)
    datasets.write_manifest(study.out, {**study.manifest, "source": "other"})
    with pytest.raises(ValueError, match=r"another study there"):
        elsewhere.train(study.place(progress.blocks_folder(study.out)), plan, name)
    assert block_files(study.out) == {}


def another_processor(monkeypatch):
    device = machine.device()
    monkeypatch.setattr(machine, "device", lambda: {**device, "processor": "Another Processor"})


def test_another_processor_of_the_same_instruction_set_goes_on(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    mine = machine.device()["processor"]
    executor = Here()
    with pytest.raises(Stopped):
        trainer_of(out, executor, control=Control(stop=lambda: len(executor.calls) == 2)).train(
            plan_of()
        )
    first = block_files(out)
    elsewhere._admitted.cache_clear()
    with monkeypatch.context() as patch:
        another_processor(patch)
        there = []
        trainer = trainer_of(out, there=there.append)
        said = capsys.readouterr().err
        assert f"begun on {mine}, goes on on Another Processor" in said
        trainer.train(plan_of())
        assert there[0] == sum(
            len(task.keys)
            for task in tasks.tasks_of(plan_of())
            if f"{task.identity}.block" in first
        )
        # Its blocks say that they are its own; the manifest says who began.
        assert trainer.begun.maker != digest(elsewhere.computed_with(trainer.begun.manifest))
        assert main(["status", str(out)]) == 0
        assert "Another Processor" in " ".join(capsys.readouterr().out.split())
    assert first.items() < block_files(out).items()
    makers = {blocks.maker(progress.blocks_folder(out) / name) for name in block_files(out)}
    assert len(makers) == 2
    # Back on the first one all of it counts.
    trainer_of(out, there=there.append).train(plan_of())
    assert there[-1] == 400
    # Not so with other code.
    elsewhere._admitted.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr("sweeps.provenance.sources.source_digest", lambda *files: "other")
        trainer_of(out, there=there.append).train(plan_of())
    assert there[-1] == 0


def test_a_finished_part_counts_on_another_processor(tmp_path, monkeypatch):
    out = tmp_path / "out"
    study = begun(out)
    (out / "data").mkdir()
    datasets.write_manifest(out, {**study.manifest, "finished": ["one"]})
    another_processor(monkeypatch)
    assert begun(out).manifest["finished"] == ["one"]
    monkeypatch.setattr("sweeps.provenance.sources.source_digest", lambda *files: "other")
    assert begun(out).manifest["finished"] == []


def test_a_reproduction_on_a_local_cluster_has_the_same_bytes(tmp_path, monkeypatch):
    every = paper.experiments()
    # The one of the fewest runs.
    name = min(every, key=lambda each: every[each].runs(10))
    monkeypatch.setattr(paper, "experiments", lambda base=None: {name: every[name]})
    reproduce(tmp_path / "plain", 10, Silent(), pages=False)
    with connected("local:1") as executor:
        reproduce(tmp_path / "out", 10, Silent(), pages=False, executor=executor)
    (path,) = (tmp_path / "plain" / "data").glob("*.nc")
    assert (tmp_path / "out" / "data" / path.name).read_bytes() == path.read_bytes()
    assert not progress.blocks_folder(tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["reproduce", "audit", "in_context", "posterior", "calibrate"])
def test_every_study_takes_a_cluster_and_refuses_what_is_none(tmp_path, capsys, command):
    out = tmp_path / "out"
    assert main([command, "--quick", "--out", str(out), "--on", "host:8786"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --on: 'host:8786'; allowed: ") and said.count("\n") == 1
    assert not Path(out).exists()
    assert kills.contents(tmp_path) == {}
