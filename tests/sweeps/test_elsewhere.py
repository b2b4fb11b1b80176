"""Folders and files that are not as the commands leave them, and machines that are not as before.

The fuzz test writes files that are whole by their checksum and hold something else; every command
then works or ends with a line, and ``resume`` or ``run`` makes the folder what it was.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import json
import os
import pickle
import platform
import random
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import sdpo_jax
import sweeps
from benchmarks import kills
from sdpo_jax import ALGORITHMS, METRICS, OPTIMIZERS
from sdpo_jax.algorithms.rloo import rloo
from sdpo_jax.policies import mean_score
from sweeps.__main__ import main
from sweeps.commands import resume
from sweeps.execute import replay, running
from sweeps.paper import reproduce
from sweeps.provenance import machine, sources
from sweeps.store import blocks, datasets, fingerprints, kinds, manifest, places, tasks
from sweeps.store.folder import Folder
from sweeps.study import progress
from sweeps.system import interrupts, writing
from sweeps.system.processes import Process

# A part of the sweep of test_folder.py, so that one program serves both.
SWEEP = """
[base]
length = 3
vocab_size = 4
rollouts = 4
steps = 40
record = ["reward"]
record_every = 10
algorithm = "reinforce"
[axes]
noise = [0.0, 0.2]
seed = { count = 80 }
"""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(tasks, "_MOST_RUNS", 64)


def run(path, text=SWEEP, status=0, name="out", *options):
    file = path / "sweep.toml"
    file.write_text(text)
    out = path / name
    assert main(["run", str(file), "--out", str(out), *options]) == status
    return out


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """The files of a finished sweep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "_MOST_RUNS", 64)
        return kills.contents(run(tmp_path_factory.mktemp("clean")))


def restore(out, content):
    shutil.rmtree(out, ignore_errors=True)
    for name, data in content.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)
    return out


@pytest.fixture
def out(clean, tmp_path):
    return restore(tmp_path / "out", clean)


def block_files(out):
    return sorted((out / "data").glob("*.block"))


# The fingerprint.


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flag is of x86")
def test_another_instruction_set_is_refused_and_named(out, clean):
    block_files(out)[0].unlink()
    left = kills.contents(out)
    told = {}
    for command in ("resume", "status"):
        told[command] = subprocess.run(
            [sys.executable, "-m", "sweeps", command, str(out)],
            env={**os.environ, "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"},
            capture_output=True, text=True,
        )  # fmt: skip
    assert told["resume"].returncode == 2
    assert "XLA_FLAGS xla_cpu_max_isa (none, now SSE4_2)" in told["resume"].stderr
    assert "as this machine would now" not in told["status"].stdout
    if "avx" in machine.instructions():
        assert "instruction set (now without avx" in told["resume"].stderr
        assert "instruction set (now without avx" in told["status"].stdout.replace("\n", " ")
    assert kills.contents(out) == left
    assert main(["resume", str(out)]) == 0
    assert kills.contents(out) == clean


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("jax_enable_x64", True),
        ("jax_default_matmul_precision", "highest"),
        ("jax_threefry_partitionable", False),
        ("jax_default_prng_impl", "rbg"),
        ("jax_disable_jit", True),
        ("jax_numpy_dtype_promotion", "strict"),
        ("jax_random_seed_offset", 7),
    ],
)
def test_a_setting_that_changes_bits_is_part_of_the_fingerprint(setting, value):
    before = fingerprints.fingerprint(64)
    kept = getattr(jax.config, setting)
    jax.config.update(setting, value)
    try:
        after = fingerprints.fingerprint(64)
    finally:
        jax.config.update(setting, kept)
    assert fingerprints.digest(before) != fingerprints.digest(after)
    said = fingerprints.differences(before, after)
    assert said.startswith(f"setting {setting} (") and said.count("now") == 1
    assert fingerprints.differences(after, before).startswith(f"setting {setting} (")
    assert json.loads(json.dumps(after)) == after


def test_flags_are_the_same_however_they_are_written(tmp_path):
    flags = machine.xla_flags
    same = {"xla_a": "true", "xla_b": "2"}
    file = tmp_path / "flags"
    file.write_text("--xla_b=2\n--xla_a")
    for text in ("--xla_a --xla_b=2", "--xla_b=1 --xla_a=true --xla_b=2", " --xla_b='2' --xla_a=1",
                 str(file)):  # fmt: skip
        assert flags(text) == same
    assert flags("--xla_dump_to=/tmp/x --xla_force_host_platform_device_count=8") == {}
    assert flags("") == {}
    assert flags("/no/such/file") == {"file": "/no/such/file"}


def test_what_an_old_manifest_does_not_say_is_named(out, clean, capsys):
    found = manifest.Manifest.read(out)
    new = {"runtime", "instructions", "flags", "settings"}
    old = {name: value for name, value in found.fingerprints[0].items() if name not in new}
    manifest.Manifest(found.name, (old,), found.texts).write(out)
    for path in block_files(out):
        arrays = blocks.read(path, path.stem).arrays
        blocks.write(path, path.stem, fingerprints.digest(old), "x", arrays)
    assert main(["resume", str(out)]) == 2
    said = capsys.readouterr().err
    assert "instruction set (not recorded, now" in said and "XLA_FLAGS (not recorded" in said
    assert main(["status", str(out)]) == 0
    assert "not recorded" in capsys.readouterr().out
    xr.testing.assert_identical(sweeps.open(out), sweeps.open(restore(out, clean)))


def test_blocks_that_are_being_replaced_are_not_mixed_with_new_ones(out, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(sources, "library_digest", lambda: "other")
        stop = iter([False, False, True, True, True, True, True, True, True])
        running.run(out, manifest.saved_sweep(out), on_change="redo", stop=lambda: next(stop))
        survey = Folder.open(out).blocks.survey()
        assert survey.other
        data = sweeps.open(out)
        assert int(data.finished.sum()) < data.finished.size
        assert data.reward.isnull().equals(~data.finished)
        assert main(["status", str(out)]) == 0
        assert f"{len(survey.other)} of another fingerprint" in capsys.readouterr().out


# Algorithms that are somebody's own.


def own_algorithm(*, policy, tokens, signal):
    return sdpo_jax.Update(-mean_score(policy.probs, tokens, signal))


def own_update(*, policy, tokens, signal, memory):
    return sdpo_jax.Update(-mean_score(policy.probs, tokens, signal), memory=memory + 1)


own_stateful = sdpo_jax.Algorithm(
    "own", lambda policy: jnp.zeros_like(policy.probs[0, 0]), own_update
)


@pytest.mark.parametrize(
    "own_algorithm",
    [own_algorithm, own_stateful, partial(rloo)],
    ids=["function", "stateful", "partial"],
)
def test_numbers_can_be_opened_without_the_algorithm_that_made_them(
    tmp_path, capsys, monkeypatch, own_algorithm
):
    monkeypatch.setitem(sdpo_jax.ALGORITHMS, "own", own_algorithm)
    out = run(tmp_path, SWEEP.replace('"reinforce"', '"own"').replace("count = 80", "count = 2"))
    found = sweeps.open(out)
    before = kills.contents(out)
    monkeypatch.delitem(sdpo_jax.ALGORITHMS, "own")
    xr.testing.assert_identical(sweeps.open(out), found)
    assert main(["status", str(out)]) == 0
    assert "algorithm own" in capsys.readouterr().out
    assert main(["export", str(out), "--to", "csv", "--out", str(tmp_path / "csv")]) == 0
    capsys.readouterr()
    for command in (["resume", str(out)], ["replay", str(out), "0"]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "own" in said and said.count("\n") == 1
    assert "own" not in sdpo_jax.ALGORITHMS
    monkeypatch.setitem(sdpo_jax.ALGORITHMS, "own", own_algorithm)
    assert main(["resume", str(out)]) == 0
    assert kills.contents(out) == before
    # Other code of the same name is not taken for it.
    monkeypatch.setattr(sources, "source_of", lambda function: "changed")
    assert main(["resume", str(out)]) == 2
    assert "algorithm own (" in capsys.readouterr().err


class Scale:
    def __init__(self, by):
        self.by = by

    def __call__(self, **told):
        return sdpo_jax.Update(own_algorithm(**told).surrogate * self.by)


class Slotted:
    __slots__ = ("by",)

    def __init__(self, by):
        self.by = by


def scaled(by, inner=own_algorithm):
    @functools.wraps(inner)
    def algorithm(**told):
        return sdpo_jax.Update(inner(**told).surrogate * by)

    return algorithm


def of_default(by):
    def algorithm(*, policy, by=by):
        return by

    return algorithm


# Makers of objects that do something else for another number.
MAKERS = {
    "partial": lambda by: partial(own_algorithm, by=by),
    "partial of the library's": lambda by: partial(rloo, by),
    "object": Scale,
    "slots": Slotted,
    "bound method": lambda by: Scale(by).__call__,
    "closure": lambda by: scaled(by),
    "compiled": lambda by: jax.jit(scaled(by)),
    "default": of_default,
    "stateful": lambda by: sdpo_jax.Algorithm("own", partial(own_algorithm, by), own_update),
    "update": lambda by: sdpo_jax.Algorithm("own", own_algorithm, scaled(by)),
    "metric": lambda by: sdpo_jax.Metric(Scale(by), "own"),
    "array": lambda by: Scale(jnp.full(3, by)),
    "key": lambda by: Scale(jax.random.key(int(by))),
    "generator": lambda by: Scale(np.random.default_rng(int(by))),
    "nested": lambda by: Scale({"a": [1, (by, None)], "b": {by, "x", "y"}}),
    "optimiser": lambda by: lambda rate: scaled(by)(rate),
    "typed in": lambda by: eval(f"lambda policy: [each * {by} for each in policy]"),
}


def own_digests():
    return [sources.source_of(make(by)) for make in MAKERS.values() for by in (1.0, 9.0)]


@pytest.fixture(scope="module")
def digests():
    return own_digests()


def test_what_is_registered_is_told_apart_by_all_that_it_does(digests):
    assert len(set(digests)) == len(digests)
    assert not any("unknown" in each for each in digests)
    # A name of the library's that holds something else of it, and something of its own.
    for name, each in (("grpo", rloo), ("mine", rloo), ("mine", own_algorithm), ("mine", None)):
        assert not sources.is_own("algorithm", name, each)
    assert sources.is_own("algorithm", "rloo", rloo)
    for kind, registry in (
        ("algorithm", ALGORITHMS),
        ("metric", METRICS),
        ("optimizer", OPTIMIZERS),
    ):
        assert all(sources.is_own(kind, name, each) for name, each in registry.items())


def test_digests_are_the_same_in_another_process(digests):
    # By the same name, which is a part of what its functions are.
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
    code += f"import {__name__} as here; print(here.own_digests())"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert told.strip() == str(digests)


def test_what_cannot_be_told_is_never_taken_for_the_same():
    endless = Scale(1.0)
    endless.by = (each for each in ())
    for value in (Scale(threading.Lock()), endless, Scale(list(range(30_000)))):
        first, second = sources.source_of(value), sources.source_of(value)
        assert first.startswith("unknown (") and first != second
    # A part of itself is no hindrance.
    endless.by = endless
    assert sources.source_of(endless) == sources.source_of(endless)


# What is in a folder.


def test_nothing_of_anybodys_is_touched(tmp_path, capsys):
    place = tmp_path / "out"
    place.mkdir()
    names = [".precious.partial.txt", "thesis.doc", ".a.0123456789abcdef.partial.svg"]
    for name in names:
        (place / name).write_text(name)
    for command in ("run", "reproduce", "audit", "calibrate"):
        given = [str(tmp_path / "sweep.toml")] if command == "run" else ["--quick"]
        (tmp_path / "sweep.toml").write_text(SWEEP)
        assert main([command, *given, "--out", str(place)]) == 2
        assert "not empty" in capsys.readouterr().err
        assert {path.name: path.read_text() for path in place.iterdir()} == {n: n for n in names}
    # Nor is another study's folder, whichever of its files is there.
    for name in ("manifest.json", "report.html", "data/manifest.json", "data/noise.nc", "data"):
        other = tmp_path / "other" / name
        other.parent.mkdir(parents=True)
        other.write_text("{}")
        assert main(["calibrate", "--quick", "--out", str(tmp_path / "other")]) == 2
        what = "holds something else" if name == "manifest.json" else f"not empty ({name})"
        assert what in capsys.readouterr().err
        assert kills.contents(tmp_path / "other") == {name: b"{}"}
        shutil.rmtree(tmp_path / "other")
    # A folder whose other files are hidden may be used; they stay.
    (place / "thesis.doc").unlink()
    run(tmp_path)
    assert {path.name for path in place.iterdir()} >= {names[0], names[2]}


def ended_process():
    """A process of this machine that is gone."""
    code = "from sweeps.system.processes import Process; print(Process.here())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return Process.named(said.stdout.strip())


def test_what_a_process_that_lives_is_writing_is_left(tmp_path):
    code = (
        "import sys; from sweeps.system.processes import Process; print(Process.here(), flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}; sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        writer = Process.named(other.stdout.readline().strip())
        assert writer.gone is False
        mine, others = (writing.partial_name(tmp_path / "x.block", w) for w in (None, writer))
        elsewhere = writing.partial_name(tmp_path / "x.block", replace(writer, machine="0" * 8))
        reused = writing.partial_name(tmp_path / "x.block", replace(writer, begun=1))
        for path in (mine, others, elsewhere, reused):
            path.write_text("half")
        writing.remove_partial_files(tmp_path)
        assert [path.exists() for path in (mine, others, elsewhere, reused)] == [1, 1, 1, 0]
        # An hour old, and of a machine that nobody can ask.
        os.utime(elsewhere, (time.time() - 3700,) * 2)
        os.utime(mine, (time.time() - 3700,) * 2)
        other.stdin.close()
    assert writer.gone
    writing.remove_partial_files(tmp_path)
    assert [path.exists() for path in (mine, others, elsewhere)] == [True, False, False]


def test_what_killed_commands_left_is_removed_and_a_hidden_folder_is_no_hindrance(out, clean):
    left = []
    for name in ("report.html", "data/x.block", "figures/figure1.svg", "tables/main.csv",
                 "export/main.zarr", "main.zarr"):  # fmt: skip
        partial = writing.partial_name(out / name, ended_process())
        partial.parent.mkdir(exist_ok=True)
        left.append(partial)
        if partial.suffix == ".zarr":
            (partial / "reward").mkdir(parents=True)
            (partial / "reward" / "0.0").write_bytes(b"x")
        else:
            partial.write_text("half")
    (out / ".git").mkdir()
    assert main(["resume", str(out)]) == 0
    assert not any(os.path.lexists(path) for path in left)
    assert (out / ".git").is_dir()
    assert kills.contents(out) == clean


def test_a_folder_that_is_renamed_meanwhile_is_not_made_again(tmp_path, clean, capsys, monkeypatch):
    write = blocks.write

    def then_rename(path, *arguments):
        write(path, *arguments)
        (tmp_path / "out").rename(tmp_path / "renamed")

    with monkeypatch.context() as patch:
        patch.setattr(blocks, "write", then_rename)
        run(tmp_path, status=2)
    assert "moved or removed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert len(block_files(tmp_path / "renamed")) == 1
    assert main(["resume", str(tmp_path / "renamed")]) == 0
    assert kills.contents(tmp_path / "renamed") == clean


def test_a_grown_sweep_keeps_its_blocks_when_its_manifest_is_lost(out, tmp_path, capsys):
    run(tmp_path, SWEEP.replace("count = 80", "count = 100"))
    grown = kills.contents(out)
    times = {path: path.stat().st_mtime_ns for path in block_files(out)}
    for damage in (Path.unlink, lambda path: path.write_bytes(b"null")):
        for place in ("manifest.json", "data/manifest.json"):
            damage(out / place)
            sweeps.open(out)
            assert main(["resume", str(out)]) == 0
            assert kills.contents(out) == grown
    assert {path: path.stat().st_mtime_ns for path in block_files(out)} == times


def test_new_files_have_the_rights_of_the_users_mask(tmp_path):
    for mask in (0o022, 0o077, 0o002):
        before = os.umask(mask)
        try:
            writing.write_atomically(tmp_path / "file.txt", lambda path: path.write_text("x"))
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o666 & ~mask


def test_a_full_disk_names_the_file(tmp_path, capsys, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    run(tmp_path, status=2)
    said = capsys.readouterr().err
    assert f"{tmp_path / 'out' / 'manifest.json'}: No space left on device" in said
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_write_whose_temporary_file_is_cleared_away_is_done_again(tmp_path):
    calls = []

    def write(path):
        calls.append(path)
        path.write_text("whole")
        if len(calls) == 1:
            path.unlink()

    writing.write_atomically(tmp_path / "file.txt", write)
    assert (tmp_path / "file.txt").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_an_export_replaces_nothing_but_its_own(out, tmp_path, capsys):
    target = tmp_path / "target"
    letter = target / "main.zarr" / "letter.txt"
    letter.parent.mkdir(parents=True)
    letter.write_text("dear")
    assert main(["export", str(out), "--to", "zarr", "--out", str(target)]) == 2
    assert "holds no zarr" in capsys.readouterr().err
    assert [path.name for path in target.rglob("*")] == ["main.zarr", "letter.txt"]
    assert main(["export", str(out), "--to", "csv", "--out", str(letter)]) == 2
    assert "is not a folder; allowed" in capsys.readouterr().err
    letter.unlink()
    letter.parent.rmdir()
    for _ in range(2):
        assert main(["export", str(out), "--to", "zarr", "--out", str(target)]) == 0
    assert [path.name for path in target.iterdir()] == ["main.zarr"]


# Machines.


@pytest.mark.parametrize("name", ["EBADF", "ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_worked_on_with_a_line(
    out, clean, capsys, monkeypatch, name
):
    def unsupported(*_):
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    block_files(out)[0].unlink()
    assert main(["resume", str(out)]) == 0
    assert capsys.readouterr().err.count("can't be locked") == 1
    assert kills.contents(out) == clean


def test_a_lock_that_fails_for_another_reason_is_an_error(out, capsys, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    assert main(["resume", str(out)]) == 2
    assert os.strerror(errno.EIO) in capsys.readouterr().err


def test_commands_run_off_the_main_thread(out, clean):
    block_files(out)[0].unlink()
    status = []
    thread = threading.Thread(target=lambda: status.append(main(["resume", str(out)])))
    thread.start()
    thread.join()
    assert status == [0]
    assert kills.contents(out) == clean
    with interrupts.stoppable() as stop:
        assert not stop()


def test_a_lazy_data_set_can_be_pickled(out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = sweeps.open("out", lazy=True)
    first = float(data.reward[0, 0])
    sent = pickle.dumps(data)
    assert len(sent) < 200_000
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    back = pickle.loads(sent)
    assert float(back.reward[0, 0]) == first
    xr.testing.assert_identical(back.load(), sweeps.open(out))


# Folders of other commands.


@pytest.mark.parametrize("name", ["paper", "audit"])
def test_a_reproduction_or_an_audit_is_said_to_be_one(tmp_path, capsys, name):
    saved = Path(__file__).resolve().parents[2] / "results" / name
    place = tmp_path / name
    shutil.copytree(saved, place, ignore=shutil.ignore_patterns("data", "figures", "*.html"))
    sets = {"one": xr.Dataset({"reward": ("seed", np.arange(3.0))}), "two": xr.Dataset({"x": 1.0})}
    what = {"paper": "a reproduction of 1000 seeds", "audit": "an audit of 256 seeds"}[name]
    command = {"paper": "reproduce", "audit": "audit"}[name]
    again = f"`python -m sweeps {command} --seeds {what.split()[-2]} --out {place}`"
    (tmp_path / "sweep.toml").write_text(SWEEP)
    commands = (
        ["export", str(place), "--to", "csv"],
        ["replay", str(place), "0"],
        ["run", str(tmp_path / "sweep.toml"), "--out", str(place)],
    )
    for there in (False, True):
        for each, data in sets.items() if there else ():
            datasets.save(place, each, data)
        before = kills.contents(place)
        for arguments in commands:
            assert main(arguments) == 2
            said = capsys.readouterr().err
            assert said.count("\n") == 1
            assert f"{place}: {what}" in said and again in said
            assert ("sweeps.open" in said) == ("one, two" in said) == there
            assert "damaged" not in said
        assert kills.contents(place) == before
        if not there:
            with pytest.raises(manifest.NoSweep, match="without its data"):
                sweeps.open(place)
    xr.testing.assert_equal(sweeps.open(place, "one"), sets["one"])
    with pytest.raises(ValueError, match="allowed: one, two"):
        sweeps.open(place)
    # What is missing for a page is named with the command that makes it.
    assert main(["render", str(place)]) == 2
    assert f"{again} writes it" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["paper", "audit", "calibration"])
def test_a_healthy_study_without_its_data_says_so(tmp_path, capsys, name):
    saved = Path(__file__).resolve().parents[2] / "results" / name
    place = tmp_path / name
    shutil.copytree(saved, place, ignore=shutil.ignore_patterns("data", "figures", "tables"))
    before = kills.contents(place)
    assert main(["status", str(place)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    what = {
        "paper": "a reproduction of 1000 seeds",
        "audit": "an audit of 256 seeds",
        "calibration": "a calibration of 160 problems",
    }[name]
    assert what in said and "none here: tables and pages only" in said
    assert "damaged" not in said and "go on with" not in said
    assert main(["resume", str(place), "--on-change", "redo"]) == 2
    assert f"for {what}; allowed: with a sweep of `run`'s" in capsys.readouterr().err
    assert kills.contents(place) == before


@pytest.mark.parametrize(
    ("made", "arguments"),
    [
        ({"constants": {}, "seeds": 64}, ["reproduce", "--seeds", "64"]),
        ({"plan": {"seeds": 32}, "command": "python -m sweeps audit"}, ["audit", "--seeds", "32"]),
        ({"plan": {"seeds": 16}, "command": "x audit --quick"}, ["audit", "--quick"]),
        ({"in_context": {"seeds": 8}}, ["in_context", "--seeds", "8"]),
        ({"calibration": {"problems": 70}}, ["calibrate", "--problems", "70"]),
    ],
)
def test_every_study_is_gone_on_with_by_its_own_command(tmp_path, monkeypatch, made, arguments):
    datasets.write_manifest(tmp_path, {"finished": [], **made})
    found = kinds.find(tmp_path)
    assert found is not None and found.arguments == [*arguments, "--out", str(tmp_path)]
    with pytest.raises(datasets.MissingResults, match=re.escape(f"{found.again} writes it")):
        datasets.load(tmp_path, "noise")
    asked = []
    kind, _ = resume._STUDIES[arguments[0]]
    asking = (kind, lambda command, line: asked.append(line) or 0)
    monkeypatch.setitem(resume._STUDIES, arguments[0], asking)
    assert main(["resume", str(tmp_path)]) == 0
    assert asked == [found.again.strip("`")]


@pytest.mark.parametrize("there", [None, "file", "empty"])
def test_rendering_nothing_is_refused_in_a_line(tmp_path, capsys, there):
    place = tmp_path / "out"
    if there == "file":
        place.write_text("mine")
    elif there == "empty":
        place.mkdir()
    assert main(["render", str(place)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    what = {None: "no such folder", "file": "not a folder", "empty": "an empty folder"}[there]
    assert said.startswith(f"error: {place}: {what}; allowed: a folder that `run`, `reproduce`")


def test_help_and_messages_call_a_folder_the_same(capsys):
    for command in ("status", "resume", "work", "render", "export", "replay"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        said = capsys.readouterr().out
        assert " DIR" in said and "PATH" not in said


@pytest.mark.parametrize("command", ["reproduce", "audit"])
@pytest.mark.parametrize(
    "content", [b"null", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"finished": 5, "seeds": 16}']
)
def test_a_manifest_of_anything_is_refused_by_a_reproduction_in_a_line(
    tmp_path, capsys, command, content
):
    (tmp_path / "manifest.json").write_bytes(content)
    assert main([command, "--quick", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "allowed: " in said
    assert kills.contents(tmp_path) == {"manifest.json": content}
    assert main(["render", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_reproduction_believes_only_progress_as_it_writes_it(tmp_path):
    configuration, fingerprint = {"seeds": 16, "constants": {}}, {"source": "x"}

    def claim():
        return progress.claim(
            tmp_path, kinds.REPRODUCTION, configuration, fingerprint, reproduce._SPENT
        )

    fresh = claim()
    datasets.write_manifest(tmp_path, {**fresh, "finished": ["noise"]})
    assert claim() == fresh  # a page alone: there is nothing to go on from
    (tmp_path / places.DATA).mkdir()
    assert claim()["finished"] == ["noise"]
    for key, value in (("finished", 5), ("finished", [5]), ("wall_time", None), ("wall_time", {})):
        datasets.write_manifest(tmp_path, {**fresh, "finished": ["noise"], key: value})
        assert claim() == fresh


def test_a_damaged_data_set_is_not_taken_for_a_saved_one(tmp_path):
    path = datasets.save(tmp_path, "noise", xr.Dataset({"reward": ("seed", np.arange(9.0))}))
    whole = path.read_bytes()
    assert datasets.is_saved(tmp_path, "noise")
    rng = random.Random(0)
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        assert not datasets.is_saved(tmp_path, "noise")
        data = bytearray(whole)
        data[rng.randrange(60)] ^= 0xFF
        path.write_bytes(bytes(data))
        datasets.is_saved(tmp_path, "noise")


def test_a_killed_rendering_leaves_nothing_for_the_next_one(tmp_path):
    datasets.write_manifest(tmp_path, {"finished": [], "constants": {}, "seeds": 16})
    partial = writing.partial_name(tmp_path / "figures" / "figure1.svg", ended_process())
    partial.parent.mkdir()
    partial.write_text("<svg")
    assert main(["render", str(tmp_path)]) == 2
    assert not partial.exists()


# Files that are whole and hold something else.

JUNK = [None, 5000, -1, 1e300, "[", "x", "\x1b[31m", [], {}, [[]], [None], {"a": {}}, True, 10**60]
DEEP = b"[" * 100_000


def sealed(body):
    digest = hashlib.sha256(body).hexdigest().encode()
    return b"sdpo_jax block 1 " + digest + b"\n" + body


def junk_in_the_manifest(rng, path):
    content = json.loads(path.read_bytes())
    del content["checksum"]
    key = rng.choice(sorted(content))
    if rng.random() < 0.2:
        del content[key]
    elif isinstance(content[key], list) and rng.random() < 0.5:
        content[key][0] = rng.choice(JUNK)
    else:
        # Any line of text is a name.
        junk = [
            each
            for each in JUNK
            if key != "name" or not (isinstance(each, str) and each.isprintable())
        ]
        content[key] = rng.choice(junk)
    content["checksum"] = manifest._checksum(content)
    path.write_text(json.dumps(content))


def other_json(rng, path):
    path.write_bytes(
        rng.choice([b"null", b"5", b"[]", b'"x"', b"\xff\xfe", b"", DEEP, b'{"a":' * 100_000,
                    b"9" * 5000, b"NaN", b'{"checksum": null}', b'{"sweeps": []}'])
    )  # fmt: skip


def something_else(rng, path):
    path.unlink()
    kind = rng.choice(["folder", "full folder", "sparse", "pipe", "loop"])
    if kind == "folder":
        path.mkdir()
    elif kind == "full folder":
        path.mkdir()
        (path / "letter.txt").write_text("dear")
    elif kind == "sparse":
        with open(path, "wb") as file:
            file.truncate(2**42)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path)


def other_block(rng, path):
    block = blocks.read(path, path.stem)
    arrays = dict(block.arrays)
    name = rng.choice(sorted(arrays))
    change = rng.randrange(6)
    if change == 0:
        arrays[name] = arrays[name].astype(rng.choice(["f8", "i8", "f2", "u1", "?"]))
    elif change == 1:
        arrays = {key: value[: rng.choice([0, 1])] for key, value in arrays.items()}
    elif change == 2:
        arrays[rng.choice(["banana", "", "../x"])] = arrays.pop(name)
    elif change == 3:
        del arrays[name]
    elif change == 4:
        arrays[name] = arrays[name][..., None]
    else:
        arrays["more"] = arrays[name]
    path.write_bytes(sealed(blocks._body(path.stem, block.fingerprint, "x", arrays)))


def other_description(rng, path):
    _, _, body = path.read_bytes().partition(b"\n")
    line, _, data = body.partition(b"\n")
    header = json.loads(line)
    key = rng.choice(["id", "fingerprint", "arrays", "row", "whole", "none"])
    if key == "row":
        header["arrays"][0][rng.randrange(3)] = rng.choice([*JUNK, [-1], [2**62, 2**62], ["x"]])
        line = json.dumps(header).encode()
    elif key == "whole":
        line = rng.choice([b"null", b"5", b"{", DEEP, b"\xff", b""])
    elif key == "none":
        line, data = b"no line end", b""
    else:
        header[key] = rng.choice(JUNK)
        line = json.dumps(header).encode()
    path.write_bytes(sealed(line + (b"\n" + data if data else b"")))


def more_bytes(rng, path):
    _, _, body = path.read_bytes().partition(b"\n")
    path.write_bytes(sealed(body + b"more" if rng.random() < 0.5 else body[:-4]))


CHANGES = [
    ("manifest", junk_in_the_manifest),
    ("manifest", other_json),
    ("manifest", something_else),
    ("block", other_block),
    ("block", other_description),
    ("block", more_bytes),
    ("block", something_else),
]


class Reached(ValueError):
    """A replay got as far as computing."""


@pytest.mark.parametrize("seed", range(6))
def test_fuzzed_folders_end_in_a_line_or_work_and_are_repaired(
    seed, clean, tmp_path, capsys, monkeypatch
):
    rng = random.Random(seed)

    def computing(*_, **__):
        raise Reached("run: reached")

    for number in range(len(CHANGES)):
        # Every change in every case once; the other ones that go with it are drawn.
        chosen = [CHANGES[number], *rng.sample(CHANGES, rng.choice([0, 0, 1]))]
        out = restore(tmp_path / f"out{number}", clean)
        done = []
        for place, change in chosen:
            names = ["manifest.json", "data/manifest.json"] if place == "manifest" else [
                f"data/{path.name}" for path in block_files(out)]  # fmt: skip
            name = rng.choice(names)
            if name not in done:
                done.append(name)
                change(rng, out / name)
        case = f"{[change.__name__ for _, change in chosen]} of {done}"
        block_hurt = any(name.endswith(".block") for name in done)
        try:
            # A block that names another maker is not done yet.
            assert bool(sweeps.open(out).finished.all()) != block_hurt, case
        except (blocks.DamagedBlock, manifest.NoSweep) as error:
            assert len(str(error).splitlines()) == 1
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(replay.sdpo_jax, "compute", computing)
            for arguments in (
                ["status", str(out)],
                ["export", str(out), "--to", "csv", "--out", str(tmp_path / "csv")],
                ["replay", str(out), str(rng.randrange(160))],
            ):
                status = main(arguments)
                said = capsys.readouterr()
                assert status in (0, 1, 2), case
                if status == 2:
                    assert said.err.startswith("error: ") and said.err.count("\n") == 1, case
                if arguments[0] == "status":
                    assert "go on with" in said.out or status == 2, case
                    assert status != 0 or ", 0 damaged, 1 of another" in said.out, case
        if main(["resume", str(out)]) != 0:
            # Both manifests were hurt: the sweep file itself is needed.
            assert {"manifest.json", "data/manifest.json"} <= set(done), case
            said = capsys.readouterr().err
            assert said.startswith("error: ") and said.count("\n") == 1, case
            run(tmp_path, name=out.name)
        for aside in out.rglob("*.aside"):
            assert (aside / "letter.txt").read_text() == "dear"
            shutil.rmtree(aside)
        assert kills.contents(out) == clean, case
        assert main(["status", str(out)]) == 0
        assert len(Folder.open(out).blocks.survey().done) == len(block_files(out))
