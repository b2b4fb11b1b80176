"""A sweep's folder: labels, bits, interruption, damage, growth, refusals, formats."""

from __future__ import annotations

import errno
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import sdpo_jax
import sweeps
from benchmarks import kills
from sdpo_jax import Sizes
from sweeps.__main__ import main
from sweeps.audit import plan as audit_plan
from sweeps.calibration import design
from sweeps.commands import audit, reproduce
from sweeps.execute import replay
from sweeps.file import sweepfile
from sweeps.provenance import sources
from sweeps.report import exports
from sweeps.report.health import health
from sweeps.store import blocks, tasks
from sweeps.store.folder import Folder
from sweeps.system import writing

SIZES = Sizes(length=3, vocab_size=4, rollouts=4, steps=40)
BASE = """
[base]
length = 3
vocab_size = 4
rollouts = 4
steps = 40
record = ["reward"]
record_every = 10
"""
SWEEP = (
    BASE
    + """
[zip.pair]
learning_rate = [0.02, 0.2]
bias = [0.0, 0.1]
[axes]
algorithm = ["sdpo", "reinforce"]
noise = [0.0, 0.2]
seed = { count = 50 }
"""
)
AXES = {
    "algorithm": ["sdpo", "reinforce"],
    "noise": [0.0, 0.2],
    "seed": range(50),
    "pair": {"learning_rate": [0.02, 0.2], "bias": [0.0, 0.1]},
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several block files of each program."""
    monkeypatch.setattr(tasks, "_MOST_RUNS", 64)


def write(path, text):
    file = path / "sweep.toml"
    file.write_text(text)
    return file


def run(path, text=SWEEP, status=0, name="out", *options):
    out = path / name
    assert main(["run", str(write(path, text)), "--out", str(out), *options]) == status
    return out


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder of a finished sweep, for tests that only read it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "_MOST_RUNS", 64)
        return run(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of it, and its files."""
    for name, content in kills.contents(finished).items():
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_bytes(content)
    return tmp_path / "out", kills.contents(finished)


@pytest.fixture(scope="module")
def in_memory():
    return sdpo_jax.run_grid(AXES, sizes=SIZES, record=("reward",), record_every=10)


def block_files(out):
    return sorted((out / "data").glob("*.block"))


@pytest.mark.parametrize("lazy", [False, True, None])
def test_what_is_opened_is_what_run_grid_gives_bit_for_bit(finished, in_memory, lazy):
    data = sweeps.open(finished, lazy=lazy)
    assert data.finished.all()
    # The file's product comes first, then what is zipped.
    assert dict(data.sizes) == dict(in_memory.sizes)
    xr.testing.assert_identical(data.drop_vars("finished").drop_attrs(), in_memory.drop_attrs())
    assert data.reward.attrs == in_memory.reward.attrs
    assert {k: v for k, v in data.attrs.items() if k not in ("sweep",)} == in_memory.attrs
    assert data.entropy.attrs == {"long_name": "policy entropy", "units": "nats"}
    assert data.noise.attrs["long_name"]


def test_a_lazy_data_set_reads_what_is_looked_at(finished, in_memory, monkeypatch):
    data = sweeps.open(finished, lazy=True)
    read = []
    original = blocks.read
    monkeypatch.setattr(
        blocks, "read", lambda path, *rest: read.append(path) or original(path, *rest)
    )

    place = {"algorithm": "reinforce", "seed": [3, 7], "bias": 0.1}
    one = data.reward_curve.sel(place).isel(step=[2, 0], noise=1)
    same = in_memory.reward_curve.sel(place)
    np.testing.assert_array_equal(one.values, same.isel(step=[2, 0], noise=1).values)
    assert 0 < len(read) < len(block_files(finished))
    np.testing.assert_array_equal(data.credit.mean("seed").values, in_memory.credit.mean("seed"))


def test_running_again_changes_nothing(copy, capsys):
    out, before = copy
    times = {path: path.stat().st_mtime_ns for path in block_files(out)}
    assert main(["resume", str(out)]) == 0
    assert kills.contents(out) == before
    assert {path: path.stat().st_mtime_ns for path in block_files(out)} == times
    assert "400 runs" in capsys.readouterr().out


def test_kill_dash_nine_at_random_moments():
    outcome = kills.torture(kills=4, seed=int(sys.version_info.minor))
    assert (outcome.lost, outcome.torn, outcome.different) == (0, 0, 0)
    assert outcome.kills == 4
    assert outcome.finished >= 1


def truncated(path, others):
    path.write_bytes(path.read_bytes()[:-7])


def cut_to_nothing(path, others):
    path.write_bytes(b"")


def flipped(path, others):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


def flipped_in_the_checksum(path, others):
    data = bytearray(path.read_bytes())
    data[30] ^= 0x01
    path.write_bytes(bytes(data))


def longer(path, others):
    path.write_bytes(path.read_bytes() + b"\0")


def deleted(path, others):
    path.unlink()


def dangling(path, others):
    path.unlink()
    path.symlink_to("nowhere")


def swapped(path, others):
    mine, other = path.read_bytes(), others[0].read_bytes()
    path.write_bytes(other)
    others[0].write_bytes(mine)


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        cut_to_nothing,
        flipped,
        flipped_in_the_checksum,
        longer,
        deleted,
        dangling,
        swapped,
    ],
)
def test_damage_is_found_named_and_repaired_by_that_block_alone(copy, capsys, monkeypatch, damage):
    out, before = copy
    path, *others = block_files(out)
    damage(path, others)
    hurt = [each for each in (path, others[0]) if before.get(f"data/{each.name}") != (
        each.read_bytes() if each.exists() else None)]  # fmt: skip
    if damage is not deleted:
        with pytest.raises(blocks.DamagedBlock, match=path.stem):
            sweeps.open(out)
        assert main(["status", str(out)]) == 1
        said = capsys.readouterr().out
        assert all(each.name in said for each in hurt)
    written = []
    monkeypatch.setattr(
        blocks, "write_atomically",
        lambda path, write, **options: (
            written.append(path) or writing.write_atomically(path, write, **options)
        ),
    )  # fmt: skip
    assert main(["resume", str(out)]) == 0
    said = capsys.readouterr().err
    assert damage is deleted or all(each.name in said for each in hurt)
    assert sorted(written) == sorted(hurt)
    assert kills.contents(out) == before


def test_a_damaged_manifest_is_named_and_made_again(copy, capsys, tmp_path):
    out, before = copy
    manifest = out / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"current": 0', '"current": 1'))
    assert main(["status", str(out)]) == 1
    assert "manifest.json: damaged" in capsys.readouterr().out
    times = {path: path.stat().st_mtime_ns for path in block_files(out)}
    assert main(["resume", str(out)]) == 0
    assert "manifest.json: damaged" in capsys.readouterr().err
    assert kills.contents(out) == before
    # Without either the file itself is needed.
    for path in (manifest, out / "data" / "manifest.json"):
        path.write_bytes(b"{")
    for command in ("resume", "status"):
        assert main([command, str(out)]) == 2
        assert "manifest.json: damaged" in capsys.readouterr().err
    run(tmp_path)
    assert kills.contents(out) == before
    assert {path: path.stat().st_mtime_ns for path in block_files(out)} == times


def test_a_sweep_that_grows_keeps_its_blocks_and_its_runs(copy, tmp_path):
    out, before = copy
    old = sweeps.open(out)
    grown = SWEEP.replace("count = 50", "count = 80").replace("[0.0, 0.2]", "[0.0, 0.1, 0.2]")
    times = {path: path.stat().st_mtime_ns for path in block_files(out)}
    run(tmp_path, grown)
    new = sweeps.open(out)
    assert new.finished.all()
    assert dict(new.sizes)["seed"] == 80
    xr.testing.assert_identical(
        new.sel(noise=old.noise, seed=old.seed).drop_attrs(), old.drop_attrs()
    )
    assert {path: path.stat().st_mtime_ns for path in times} == times
    runs = sum(len(task.keys) for task in Folder.open(out).blocks.tasks)
    assert runs == new.reward.size
    # And back: nothing is computed, nothing lost.
    run(tmp_path, SWEEP)
    xr.testing.assert_identical(sweeps.open(out), old)
    now = kills.contents(out)
    changed = {name for name in before if now.get(name) != before[name]}
    assert changed == {"manifest.json", "data/manifest.json"}


def test_a_full_disk_is_named_and_what_was_saved_goes_on(tmp_path, capsys, finished):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(path.stat().st_size for path in block_files(finished))
    taken = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # Enough for the manifest and for the blocks of fewer runs, not for all.
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, limit[1]))
        out = run(tmp_path, status=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, taken)
    said = capsys.readouterr().err
    assert os.strerror(errno.EFBIG) in said
    assert "goes on" in said
    assert not list(out.rglob(".*partial*"))
    assert main(["resume", str(out)]) == 0
    assert kills.contents(out) == kills.contents(finished)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, capsys, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", denied)
    run(tmp_path, status=2)
    assert "can't be written (Permission denied); allowed" in capsys.readouterr().err


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("dear diary")
    run(tmp_path, status=2)
    assert "diary.txt" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["diary.txt"]


def test_two_processes_do_not_share_a_folder(copy, capsys):
    out, before = copy
    with writing.locked(out):
        assert main(["resume", str(out)]) == 2
    assert "another process" in capsys.readouterr().err
    assert kills.contents(out) == before
    assert main(["resume", str(out)]) == 0


def test_another_fingerprint_is_refused_unless_asked_for(copy, capsys, monkeypatch, tmp_path):
    out, before = copy
    path = block_files(out)[0]
    path.unlink()
    monkeypatch.setattr(sources, "library_digest", lambda: "other")
    assert main(["resume", str(out)]) == 2
    said = capsys.readouterr().err
    assert "code of sdpo_jax" in said and "--on-change keep" in said
    assert not path.exists()
    assert main(["resume", str(out), "--on-change", "keep"]) == 0
    kept = kills.contents(out)
    changed = {name for name in before if kept[name] != before[name]}
    assert changed == {f"data/{path.name}", "manifest.json", "data/manifest.json"}
    assert main(["resume", str(out), "--on-change", "redo"]) == 0
    again = Folder.open(out)
    assert len(again.manifest.fingerprints) == 1
    assert len(again.blocks.survey().done) == len(block_files(out))


def test_ctrl_c_finishes_the_block_says_how_to_resume_and_exits_130(tmp_path, finished):
    # So many runs that it can't be done before the signal.
    text = SWEEP.replace("count = 50", "count = 30000")
    child = subprocess.Popen(
        [sys.executable, "-m", "sweeps", "run", str(write(tmp_path, text)), "--out",
         str(tmp_path / "out")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out" / "data").glob("[!.]*.block")):
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    out, error = child.communicate(timeout=120)
    assert child.returncode == 130
    assert "stopping once what is under way is saved" in error
    told = re.search(r"stopped: ([\d,]+) of 240,000 runs saved; go on with: (.*)", out)
    assert told is not None
    assert told[2] == f"python -m sweeps resume {tmp_path / 'out'}"
    data = [blocks.read(path, path.stem) for path in block_files(tmp_path / "out")]
    saved = sum(len(each.arrays["reward"]) for each in data)
    assert 0 < saved == int(told[1].replace(",", "")) < 240_000
    assert not list((tmp_path / "out").rglob(".*partial*"))


def test_an_unfinished_sweep_can_be_opened_and_is_counted(copy, capsys):
    out, _ = copy
    gone = block_files(out)[0]
    lost = len(blocks.read(gone, gone.stem).arrays["reward"])
    gone.unlink()
    data = sweeps.open(out)
    assert int((~data.finished).sum()) == lost
    assert np.isnan(data.reward.values[~data.finished.values]).all()
    assert health(data).unfinished == lost
    assert main(["status", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"{400 - lost} of 400 done" in said
    assert f"{lost} unfinished" in said
    assert "python -m sweeps resume" in said


def test_broken_and_collapsed_runs_are_counted(tmp_path, capsys):
    text = BASE.replace("steps = 40", "steps = 40\nkl_weight = 0.0") + (
        "[axes]\nquality_scale = [1.0, 3e38]\nlearning_rate = [0.02, 30.0]\nseed = { count = 10 }\n"
    )
    out = run(tmp_path, text)
    data = sweeps.open(out)
    broken = ~np.isfinite(data.entropy.values)
    found = health(data)
    count = int(broken.sum())
    assert 0 < count < 40
    assert found.broken == count
    assert found.first_step == data.finite_steps.values[broken].min()
    assert found.collapsed == (data.entropy.values[~broken] < 0.01).sum() > 0
    main(["status", str(out)])
    told = f"{count} not finite, the first at step {found.first_step}"
    assert told in capsys.readouterr().out
    assert main(["render", str(out)]) == 0
    table = pd.read_csv(out / "tables" / "main.csv")
    assert table.groupby("metric").not_finite.sum().eq(count).all()
    assert told in (out / "report.html").read_text()


def test_replay_gives_the_same_bits_and_full_curves(copy, in_memory):
    place = {"algorithm": "sdpo", "noise": 0.2, "seed": 41, "learning_rate": 0.2}
    found = replay.replay(copy[0], "algorithm=sdpo,noise=0.2,seed=41,bias=0.1")
    assert found.same
    assert found.coordinates == {**place, "bias": 0.1}
    saved = in_memory.sel(place)
    assert found.curves["reward"].shape == (40,)
    np.testing.assert_allclose(found.curves["reward"][::10], saved.reward_curve, rtol=1e-5)
    table = pd.read_csv(found.path)
    np.testing.assert_allclose(table.entropy.iloc[-1], saved.entropy, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("400", "0 to 399"),
        ("seed=3", "8 runs"),
        ("sead=3", "'sead'"),
        ("seed=50", "seed=50"),
        ("noise=loud", "noise=loud"),
        ("seed=3,sead=4", "'sead'"),
    ],
)
def test_replay_of_no_run_is_refused(finished, name, message):
    with pytest.raises(ValueError, match=message):
        replay.replay(finished, name)


def test_replay_finds_labels_that_hold_commas_and_names():
    labels = ["a", "a,b=c", "a, seed=1", "a,seed=1,seed=2", ",", "=", "a=b"]
    algorithms = {label: sdpo_jax.ALGORITHMS["rloo"] for label in labels}
    plan = sdpo_jax.plan_grid({"algorithm": algorithms, "seed": range(3)}, width=1)
    for run in range(plan.total):
        found = plan.coordinates(run)
        for names in (["algorithm", "seed"], ["seed", "algorithm"]):
            text = ",".join(f"{name}={found[name]}" for name in names)
            assert replay.find(plan, text) == run


@pytest.mark.parametrize("rows", [7, 30, 4096])
def test_round_trips_through_each_format(finished, in_memory, tmp_path, monkeypatch, rows):
    monkeypatch.setattr(exports, "_ROWS", rows)
    for kind in ("netcdf", "zarr", "parquet", "csv"):
        assert main(["export", str(finished), "--to", kind, "--out", str(tmp_path)]) == 0
    data = sweeps.open(finished)
    same = data.drop_indexes(["learning_rate", "bias"])
    for back in (
        xr.load_dataset(tmp_path / "main.nc", engine="h5netcdf"),
        xr.open_zarr(tmp_path / "main.zarr", chunks=None).load(),
    ):
        xr.testing.assert_identical(back, same)
    rows = (pd.read_parquet(tmp_path / "main.parquet"), pd.read_csv(tmp_path / "main.csv"))
    for table in rows:
        assert len(table) == 400
        for row in (0, 137, 399):
            place = {
                name: table[name].iloc[row]
                for name in ("algorithm", "noise", "seed", "learning_rate")
            }
            one = data.sel(place)
            assert np.float32(table.reward.iloc[row]) == one.reward
            assert np.float32(table.reward_curve_30.iloc[row]) == one.reward_curve.sel(step=30)
            assert table.finite_steps.iloc[row] == one.finite_steps


@pytest.mark.parametrize("sizes", [(), (1,), (7,), (3, 5), (2, 1, 9), (4, 3, 2, 5)])
@pytest.mark.parametrize("rows", [1, 2, 6, 10, 1000])
def test_what_is_written_part_by_part_is_all_of_it_in_order(monkeypatch, sizes, rows):
    monkeypatch.setattr(exports, "_ROWS", rows)
    dims = [f"axis{number}" for number in range(len(sizes))]
    data = xr.Dataset({"finite_steps": (dims, np.arange(np.prod(sizes, dtype=int)).reshape(sizes))})
    parts = [data.isel(part).finite_steps.values.reshape(-1) for part in exports._parts(data)]
    assert max(map(len, parts)) <= rows
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(np.prod(sizes, dtype=int)))


def test_results_that_are_larger_than_memory_are_dasks(finished):
    data = sweeps.open(finished, lazy=True).chunk(seed=20)
    assert data.chunks["seed"] == (20, 20, 10)
    again = pickle.loads(pickle.dumps(data))
    whole = sweeps.open(finished, lazy=False)
    xr.testing.assert_equal(again.compute(), whole)
    xr.testing.assert_allclose(again.reward.mean("seed").compute(), whole.reward.mean("seed"))


@pytest.mark.parametrize("budget", ["nan", "-1", "-inf"])
def test_a_budget_that_is_no_time_is_refused(tmp_path, capsys, budget):
    assert main(["plan", str(write(tmp_path, SWEEP)), "--budget", budget]) == 2
    assert capsys.readouterr().err.startswith("error: --budget: ")


@pytest.mark.parametrize("path", [None, 3, b"out", ["out"]])
def test_what_is_no_path_is_no_folder(path):
    with pytest.raises(ValueError, match=r"directory: .*; allowed: the path of a folder"):
        sweeps.open(path)


def test_plan_says_what_there_is(tmp_path, capsys):
    assert main(["plan", str(write(tmp_path, SWEEP)), "--budget", "0"]) == 0
    said = capsys.readouterr().out
    assert "400 different ones, in 8 blocks" in said
    assert "1 of 2 programs timed" in said
    run(tmp_path)
    used = sum(path.stat().st_size for path in block_files(tmp_path / "out"))
    told = re.search(r"disk +([\d.]+) KiB", said)
    assert told is not None
    assert float(told[1]) == pytest.approx(used / 1024, rel=0.1)


def test_several_grids_share_runs_and_are_opened_by_name(tmp_path):
    text = BASE + (
        "[grid.a.axes]\nseed = { count = 70 }\n[grid.b.axes]\nnoise = [0.0, 0.1]\n"
        "seed = { count = 70 }\n"
    )
    out = run(tmp_path, text)
    assert sum(len(task.keys) for task in Folder.open(out).blocks.tasks) == 140
    a, b = (sweeps.open(out, grid) for grid in ("a", "b"))
    np.testing.assert_array_equal(a.reward, b.reward.sel(noise=0.0))
    with pytest.raises(ValueError, match="allowed: a, b"):
        sweeps.open(out)


def test_bad_input_exits_with_2_and_one_message(tmp_path, capsys):
    for arguments, word in (
        (["run", str(tmp_path / "none.toml")], "none.toml': no such file; allowed"),
        (["plan", str(tmp_path / "none")], "none': no such file or folder; allowed"),
        (["replay", str(tmp_path / "none"), "0"], "none: no such folder"),
        (["status", str(tmp_path / "sweep.toml")], "sweep.toml: not a folder"),
        (["audit", "--seeds", "0", "--out", str(tmp_path / "a")], "--seeds: 0; allowed"),
        (["run", str(write(tmp_path, "[base]\nnois = 1"))], "did you mean 'noise'"),
        (["resume", str(tmp_path)], "no sweep"),
        (["status", str(tmp_path / "none")], "no sweep"),
        (["render", str(tmp_path / "none")], "none: no such folder"),
    ):
        assert main(arguments) == 2
        assert word in capsys.readouterr().err


def test_help_teaches(capsys):
    for command in ("run", "plan", "status", "resume", "render", "export", "replay", "calibrate"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        assert len(capsys.readouterr().out.split()) > 20


def test_help_tells_the_defaults_as_they_are(capsys):
    told = {
        "calibrate": (design.Settings().problems, design.QUICK.problems),
        "reproduce": (reproduce.DEFAULT_SEEDS, reproduce.QUICK_SEEDS),
        "audit": (audit.DEFAULT_SEEDS, audit_plan.quick().seeds),
    }
    for command, (full, quick) in told.items():
        with pytest.raises(SystemExit):
            main([command, "--help"])
        said = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
        assert f"(default: {full}; {quick} with --quick)" in said


def test_keys_tell_runs_apart_by_all_that_they_are_given():
    def keys(text):
        plan = sweepfile.parse(BASE + text, "x").plans["main"]
        return {bytes(key) for group in plan.groups for key in blocks.run_keys(plan, group)}

    base = keys("[axes]\nseed = [1, 2, 3]")
    assert len(base) == 3
    assert keys("[axes]\nseed = [3, 2]\nnoise = [0.0]") < base
    for other in (
        "noise = [0.1]", "kl_weight = [0.02]", "algorithm = ['hybrid']", "optimizer = ['adam']",
        "oracle = ['binary']", "rollouts = [5]", "steps = [41]", "problem_seed = [9]",
    ):  # fmt: skip
        text = f"[axes]\nseed = [1, 2, 3]\n{other}"
        if "steps" in other:
            text = text.replace("steps = [41]", "final_window = [19]")
        assert not keys(text) & base, other


def keys_of(rng, count, first=50):
    """Keys of which many begin alike, all different."""
    keys = np.stack([rng.integers(first, size=count), rng.integers(1000, size=count)], 1)
    return np.unique(keys.astype(np.uint64), axis=0)


@pytest.mark.parametrize("seed", range(4))
def test_keys_are_found_as_in_a_dict(seed):
    rng = np.random.default_rng(seed)
    keys = rng.permutation(keys_of(rng, 500))
    asked = np.concatenate([rng.permutation(keys)[:300], keys_of(rng, 300, 60)])
    places = {tuple(key): place for place, key in enumerate(keys.tolist())}
    expected = [places.get(tuple(key), -1) for key in asked.tolist()]
    np.testing.assert_array_equal(blocks.Keys(keys).find(asked), expected)
    empty = np.empty((0, 2), np.uint64)
    assert (blocks.Keys(empty).find(asked) == -1).all()
    assert blocks.Keys(keys).find(empty).shape == (0,)


@pytest.mark.parametrize("seed", range(4))
def test_new_keys_are_those_that_a_set_has_not(seed):
    rng = np.random.default_rng(seed)
    known, seen = blocks.Known(), set()
    for _ in range(4):
        # Some twice in one call, and some of an earlier one.
        keys = rng.choice(keys_of(rng, 200, 10), 150)
        expected = []
        for place, key in enumerate(map(tuple, keys.tolist())):
            if key not in seen:
                seen.add(key)
                expected.append(place)
        np.testing.assert_array_equal(known.add(keys), expected)
