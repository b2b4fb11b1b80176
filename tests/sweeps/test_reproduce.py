"""The reproduction as a user runs it: the whole flow, interruption, refusals."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sdpo_jax import Sizes
from sweeps.__main__ import main
from sweeps.audit import plan
from sweeps.paper import claims, experiments
from sweeps.paper.reproduce import reproduce
from sweeps.report.display import PaperDisplay
from sweeps.store import blocks, datasets, kinds
from sweeps.study import progress
from sweeps.system.interrupts import Stopped

FILES = {
    "claims.json",
    "claims.md",
    "page.json",
    "pinned.json",
    "manifest.json",
    "report.html",
    *(f"tables/{name}.csv" for name in ("table1", "table2", "table3")),
    *(f"tables/{name}.csv" for name in ("noise", "hybrid", "multiseed")),
    *(f"figures/figure{i}.{kind}" for i in range(1, 7) for kind in ("png", "svg")),
}


@pytest.fixture(scope="module")
def tiny():
    """Problems so small that the whole reproduction takes seconds, but for compilation."""
    patch = pytest.MonkeyPatch()
    patch.setattr(experiments, "SIZES", Sizes(length=3, vocab_size=4, rollouts=4))
    yield patch
    patch.undo()


@pytest.fixture(scope="module")
def interrupted(tiny, tmp_path_factory):
    """A folder whose reproduction was stopped half way, then begun again; and what was said."""
    out = tmp_path_factory.mktemp("out") / "new" / "folder"
    arguments = ["reproduce", "--seeds", "10", "--out", str(out)]
    save = datasets.save
    saved = []

    def stop_at_the_fourth(folder, name, data):
        if len(saved) == 3:
            raise KeyboardInterrupt
        saved.append(name)
        return save(folder, name, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "save", stop_at_the_fourth)
        assert main(arguments) == 130
    before = {path.name: path.stat().st_mtime_ns for path in (out / "data").glob("*.nc")}
    # What the fourth had computed is kept, and not computed again.
    kept = {path.name for path in (out / "data" / "blocks").glob("*.block")}
    written = []
    write = blocks.write

    def noted(path, *arguments):
        written.append(path.name)
        write(path, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "write", noted)
        assert main(arguments) == 0
    assert kept and written and not kept & set(written)
    return out, saved, before


def test_every_file_is_written(interrupted):
    out, _, _ = interrupted
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    data = {f"data/{name}.nc" for name in experiments.experiments()}
    assert written == FILES | data


def test_a_wish_to_stop_leaves_a_folder_to_go_on_from(tiny, tmp_path):
    with pytest.raises(Stopped):
        reproduce(tmp_path, 10, PaperDisplay(), stop=lambda: True)
    assert datasets.read_manifest(tmp_path)["finished"] == []
    assert not list(tmp_path.rglob("*.nc"))


def test_what_was_finished_before_the_interruption_is_kept(interrupted):
    out, saved, before = interrupted
    assert set(before) == {f"{name}.nc" for name in saved}
    for name, time in before.items():
        assert (out / "data" / name).stat().st_mtime_ns == time
    assert datasets.read_manifest(out)["finished"] == list(experiments.experiments())


def test_the_manifest_tells_how_to_make_it_again(interrupted):
    out, _, _ = interrupted
    manifest = datasets.read_manifest(out)
    assert manifest["seeds"] == 10
    assert manifest["command"].startswith("python -m sweeps reproduce --seeds 10")
    assert manifest["constants"]["config"]["feedback_strength"] == 1.5
    assert manifest["versions"]["jax"]
    assert manifest["block_width"] >= 1
    assert manifest["device"]["platform"]
    assert set(manifest["wall_time"]) == {"compile", "run", "render"}
    assert all(seconds > 0 for seconds in manifest["wall_time"].values())


def test_the_claims_are_all_there(interrupted):
    out, _, _ = interrupted
    rows = json.loads((out / "claims.json").read_text())
    assert [row["id"] for row in rows] == [f"C{i:02}" for i in range(1, 23)]


def test_the_runs_of_one_seed_are_paired(interrupted):
    out, _, _ = interrupted
    noise, algorithms = datasets.load(out, "noise"), datasets.load(out, "algorithms")
    quiet = noise.sel({"algorithm": "sdpo", "noise": 0.0})
    same = algorithms.sel({"algorithm": "sdpo", "oracle": "continuous"})
    np.testing.assert_array_equal(quiet.reward, same.reward)


def test_position_hints_cancel(interrupted):
    out, _, _ = interrupted
    difference = datasets.load(out, "reading").max_logit_difference
    assert float(difference.sel({"reading": "position"}).max()) < 1e-5
    assert float(difference.sel({"reading": "token"}).min()) > 1e-2


def test_render_alone_gives_the_same_bytes(interrupted):
    out, _, _ = interrupted
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert main(["render", str(out)]) == 0
    for path, content in before.items():
        assert path.read_bytes() == content, path


def test_another_configuration_is_refused_and_nothing_touched(interrupted, capsys):
    out, _, _ = interrupted
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert main(["reproduce", "--seeds", "11", "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert "--out" in message
    assert "seeds 10, asked for 11" in message
    assert "allowed" in message
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def refused(capsys, *arguments):
    assert main(list(arguments)) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "allowed" in message
    return message


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "diary.txt").write_text("dear diary")
    message = refused(capsys, "reproduce", "--quick", "--out", str(tmp_path))
    assert "not empty" in message
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path, capsys):
    path = tmp_path / "file"
    path.write_text("")
    assert "not a folder" in refused(capsys, "reproduce", "--quick", "--out", str(path))
    assert "can't be written" in refused(
        capsys, "reproduce", "--quick", "--out", str(path / "below")
    )


def test_an_unwritable_folder_is_refused(tmp_path, capsys, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", denied)
    message = refused(capsys, "reproduce", "--quick", "--out", str(tmp_path))
    assert "can't be written (Permission denied)" in message


@pytest.mark.parametrize("seeds", ["0", "-3", str(claims.MIN_SEEDS - 1)])
def test_too_few_seeds_are_refused(tmp_path, capsys, seeds):
    message = refused(capsys, "reproduce", "--seeds", seeds, "--out", str(tmp_path / "new"))
    assert f"--seeds: {seeds}" in message
    assert not (tmp_path / "new").exists()


def test_quick_and_seeds_are_refused_together(capsys):
    assert "--quick" in refused(capsys, "reproduce", "--quick", "--seeds", "20")


def test_render_without_results_names_what_is_missing(tmp_path, capsys):
    assert main(["render", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "an empty folder" in message
    assert "`reproduce`" in message
    assert list(tmp_path.iterdir()) == []


def test_unknown_words_exit_with_status_2():
    for arguments in (["reproduce", "--sedes", "4"], ["reprodouce"], ["reproduce", "--seeds", "x"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2


@pytest.mark.parametrize("study", ["paper", "audit"])
def test_a_study_begins_in_a_clone_whose_page_is_of_other_constants(study, tmp_path):
    """What the README's first command does: the committed pages may be older than the code."""
    out = tmp_path / study
    ignored = shutil.ignore_patterns("data")
    shutil.copytree(Path(__file__).parents[2] / "results" / study, out, ignore=ignored)
    kind, seeds = {"paper": (kinds.REPRODUCTION, 1000), "audit": (kinds.AUDIT, 256)}[study]

    def claim(seeds):
        described = {
            "paper": lambda: {"seeds": seeds, kind.entry: experiments.constants()},
            "audit": lambda: {kind.entry: dataclasses.asdict(plan.full(seeds))},
        }[study]()
        return progress.claim(out, kind, described | {"changed": 1}, {"source": "other"})

    assert claim(seeds)["finished"] == []
    with pytest.raises(ValueError, match=f"holds another {kind.noun}.*an empty or new folder"):
        claim(64)
    (out / "data").mkdir()
    with pytest.raises(ValueError, match=f"holds another {kind.noun}"):
        claim(seeds)
