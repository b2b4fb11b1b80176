"""``export --to tensorboard|wandb|mlflow``, read back by the readers of each."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import select
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sweeps
from sweeps.__main__ import main
from sweeps.report import exports, trackers
from sweeps.report.trackers import TRACKERS

ROOT = Path(sweeps.__file__).parents[1]
SWEEP = """
[base]
length = 3
vocab_size = 4
rollouts = 4
steps = 20
record = ["reward"]
record_every = 5
[zip.pair]
learning_rate = [0.02, 0.2]
bias = [0.0, 0.1]
[axes]
algorithm = ["sdpo", "reinforce"]
seed = { count = 2 }
"""
# Of W&B's files.
_BLOCK = 2**15


def needs(tracker):
    """Skip where a tracker's libraries are not installed."""
    for library in TRACKERS[tracker][0]:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed: pip install 'sdpo_jax[{tracker}]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sweep whose runs of REINFORCE are missing."""
    path = tmp_path_factory.mktemp("trackers")
    (path / "sweep.toml").write_text(SWEEP)
    assert main(["run", str(path / "sweep.toml"), "--out", str(path / "out")]) == 0
    names = sweeps.open(path / "out")
    for block in sorted((path / "out/data").glob("*.block")):
        block.rename(block.with_suffix(".aside"))
        if sweeps.open(path / "out").finished.sel(algorithm="sdpo").all():
            return path / "out"
        block.with_suffix(".aside").rename(block)
    raise AssertionError(f"no block has the runs of one algorithm alone: {names}")


def exported(folder, to, out):
    """Export in a process of its own, and see that it connects to nothing."""
    needs(to)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        asked = {each: address for name in names for each in (name, name.lower())}
        command = ["-m", "sweeps", "export", str(folder), "--to", to, "--out", str(out)]
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT, env={**os.environ, **asked, "HOME": str(out.parent)}, capture_output=True,
            text=True,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, f"{out / f'main.{to}'}\n"), done.stderr
        assert select.select([proxy], [], [], 0)[0] == []
    whole = out / f"main.{to}"
    assert json.loads((whole / "export.json").read_text()) == {
        "sweep": "sweep",
        "to": to,
        "runs": 4,
    }
    assert [path.name for path in out.iterdir()] == [whole.name]
    return whole


def expected(folder):
    """By number what is in the runs that are done: labels, finals and the curve."""
    data = sweeps.open(folder).sel(algorithm="sdpo")
    found = {}
    for seed in range(2):
        for place in range(2):
            one = data.isel(seed=seed, pair=place)
            found[2 * seed + place] = (
                {
                    "algorithm": "sdpo",
                    "seed": seed,
                    "learning_rate": one.learning_rate.item(),
                    "bias": one.bias.item(),
                    "run": 2 * seed + place,
                    "kl_weight": 0.01,
                    "steps": 20,
                },
                {
                    name: one[name].item()
                    for name in ("reward", "reward_mean", "entropy", "credit", "finite_steps")
                },
                dict(zip([0, 5, 10, 15], one.reward_curve.values.tolist(), strict=True)),
            )
    return found


def check(found, folder):
    """Compare ``{number: (config, finals, curve)}``: values are those of ``sweeps.open``."""
    wanted = expected(folder)
    assert found.keys() == wanted.keys()
    for number, (config, finals, curve) in wanted.items():
        told, numbers, points = found[number]
        assert {name: told[name] for name in config} == config
        assert {name: numbers[name] for name in finals} == finals
        assert points == curve


def test_tensorboard(folder, tmp_path):
    out = exported(folder, "tensorboard", tmp_path / "out")
    events = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    plugin = importlib.import_module("tensorboard.plugins.hparams.plugin_data_pb2")
    found = {}
    for path in filter(Path.is_dir, out.iterdir()):
        read = events.EventAccumulator(str(path), size_guidance={"scalars": 0})
        read.Reload()
        start = plugin.HParamsPluginData.FromString(
            read.summary_metadata["_hparams_/session_start_info"].plugin_data.content
        ).session_start_info
        config = {
            name: getattr(value, str(value.WhichOneof("kind")))
            for name, value in start.hparams.items()
        }
        assert start.group_name == path.name
        tags = read.Tags()["scalars"]
        finals = {name: read.Scalars(name)[0].value for name in tags if name != "reward_curve"}
        curve = {point.step: point.value for point in read.Scalars("reward_curve")}
        found[int(config["run"])] = (config, finals, curve)
    check(found, folder)


def records_of(content):
    """The records of a file of W&B's: LevelDB's log format, behind a header of seven bytes."""
    assert content[:4] == b":W&B"
    place, record = 7, b""
    while place < len(content):
        left = _BLOCK - place % _BLOCK
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        # Whole, or the last part of one.
        if kind in (1, 4):
            yield record
            record = b""


def test_wandb(folder, tmp_path):
    out = exported(folder, "wandb", tmp_path / "out")
    records = importlib.import_module("wandb.proto.wandb_internal_pb2")
    found = {}
    for path in out.glob("wandb/offline-run-*/*.wandb"):
        config, summary, curve = {}, {}, {}
        for content in records_of(path.read_bytes()):
            record = records.Record.FromString(content)
            for item in [*record.run.config.update, *record.config.update]:
                config[item.key or item.nested_key[0]] = json.loads(item.value_json)
            for item in record.summary.update:
                summary[item.key or item.nested_key[0]] = json.loads(item.value_json)
            if record.history.item:
                row = {
                    item.key or item.nested_key[0]: json.loads(item.value_json)
                    for item in record.history.item
                }
                curve[row["_step"]] = row["reward_curve"]
        found[config["run"]] = (config, summary, curve)
    check(found, folder)


@pytest.mark.filterwarnings("ignore")
def test_mlflow(folder, tmp_path):
    out = exported(folder, "mlflow", tmp_path / "out")
    with trackers.offline():
        library = importlib.import_module("mlflow")
        client = library.MlflowClient(tracking_uri=f"sqlite:///{out / 'mlflow.db'}")
        (experiment,) = client.search_experiments(filter_string="name = 'sweep main'")
        found = {}
        for run in client.search_runs([experiment.experiment_id]):
            assert run.info.status == "FINISHED"
            history = client.get_metric_history(run.info.run_id, "reward_curve")
            number = int(run.data.params["run"])
            # All that a tracker keeps of MLflow's is text.
            config = {name: str(value) for name, value in expected(folder)[number][0].items()}
            assert {name: run.data.params[name] for name in config} == config
            config = expected(folder)[number][0]
            found[number] = (config, run.data.metrics, {each.step: each.value for each in history})
    check(found, folder)


@pytest.mark.parametrize("to", TRACKERS)
def test_a_missing_library_is_said_in_one_line(folder, to, capsys, monkeypatch):
    library = TRACKERS[to][0][-1]
    for name in TRACKERS[to][0]:
        monkeypatch.setitem(sys.modules, name, type(sys)(name))
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["export", str(folder), "--to", to]) == 2
    assert capsys.readouterr().err == (
        f"error: --to: {to} needs {library}, which is not installed; "
        f"allowed: `pip install 'sdpo_jax[{to}]'` first\n"
    )


def test_very_many_runs_are_refused_before_anything_is_written(folder, tmp_path, capsys):
    needs("tensorboard")
    command = ["export", str(folder), "--to", "tensorboard", "--out", str(tmp_path / "out")]
    assert main([*command, "--most", "7"]) == 2
    assert capsys.readouterr().err == (
        "error: --to: tensorboard has a run of its own for each of 8 runs; allowed: 7, or as many "
        "as `--most 8` says\n"
    )
    assert not (tmp_path / "out").exists()
    assert main([*command, "--most", "0"]) == 2
    assert "--most: 0; allowed: 1 or more" in capsys.readouterr().err
    assert main([*command, "--most", "8"]) == 0


def test_an_export_to_a_tracker_replaces_nothing_but_its_own(folder, tmp_path, capsys):
    needs("tensorboard")
    command = ["export", str(folder), "--to", "tensorboard", "--out", str(tmp_path)]
    letter = tmp_path / "main.tensorboard" / "letter.txt"
    letter.parent.mkdir()
    letter.write_text("dear")
    assert main(command) == 2
    assert "holds no export to tensorboard; allowed: another folder" in capsys.readouterr().err
    letter.unlink()
    letter.parent.rmdir()
    for _ in range(2):
        assert main(command) == 0
        assert len(list((tmp_path / "main.tensorboard").iterdir())) == 5


def test_names_of_runs_are_those_of_files():
    labels = {"oracle": "a/b: é\n", "noise": 0.1}
    run = trackers.Run(12, labels, {}, {})
    assert run.name == "000012,oracle=a-b-,noise=0.1"
    assert len(trackers.Run(0, {"x": "y" * 1000}, {}, {}).name) <= 120
    assert trackers.Run(0, {}, {}, {}).name == "000000"


def test_the_environment_is_as_before(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    with trackers.offline():
        assert os.environ["WANDB_MODE"] == "offline" and os.environ["DO_NOT_TRACK"] == "true"
    assert os.environ["WANDB_MODE"] == "online" and "DO_NOT_TRACK" not in os.environ


@pytest.mark.parametrize("rows", [1, 3, 4096])
def test_runs_are_those_of_the_grid_part_by_part(folder, monkeypatch, rows):
    monkeypatch.setattr(exports, "_ROWS", rows)
    found = list(exports.runs_of(exports.plain(sweeps.open(folder))))
    assert [run.number for run in found] == [0, 1, 2, 3]
    for run in found:
        _, finals, curve = expected(folder)[run.number]
        assert {name: run.finals[name] for name in finals} == finals
        np.testing.assert_array_equal(run.curves["reward_curve"], list(curve.values()))
