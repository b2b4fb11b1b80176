"""Parts of one's own in sweeps: named in a file, given from Python, gone when they are opened."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import sdpo_jax
import sweeps
from sdpo_jax.algorithms.rloo import rloo
from sweeps.__main__ import main
from sweeps.api import run
from sweeps.file import mistakes, parts, sweepfile
from sweeps.store import manifest

ROOT = Path(__file__).parents[2]

LAB = """
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp
import optax

import sdpo_jax
from sdpo_jax import Metric, Network, Number
from sdpo_jax.policies import mean_score


def tempered(*, policy, tokens, signal, temperature: Annotated[float, Number(above=0)] = 0.1):
    weights = jax.nn.softmax(signal / temperature, axis=0)
    return -mean_score(policy.probs, tokens, signal.shape[0] * weights)


def taught(*, policy, teacher, push: Annotated[float, Number(title="push")] = 1.0):
    return push * (policy.probs - teacher.mean)


def palindrome(tokens, *, sharpness=1.0):
    return (tokens == tokens[::-1]).mean() ** sharpness


def harsh(reward, *, power=2.0):
    return reward ** power


spiteful = sdpo_jax.oracles.binary(0.9)


def slow(rate):
    return optax.sgd(0.5 * rate)


def hits(view):
    return view.reward.max(0)


def table(key, length, vocab_size):
    return jnp.zeros((length, vocab_size))


def look_up(params, tokens, gain=1.0):
    return gain * params


def wanted(data, vocab_size):
    return jnp.eye(3, vocab_size)


taught_by = sdpo_jax.Function(lambda tokens: (tokens == 1).mean(), quality=wanted, name="taught_by")
far = Metric(lambda view: view.teacher.mean.max((0, 1)), "how far", windowed=False,
             needs_teacher=True)
recurrent = Network(table, look_up)
fixed = partial(tempered, temperature=0.5)


class Box:
    tempered = staticmethod(tempered)
"""

BASE = {"length": 3, "vocab_size": 3, "rollouts": 4, "steps": 4, "final_window": 2}
PAGE = """
[base]
length = 3
vocab_size = 3
rollouts = 4
steps = 4
final_window = 2
metrics = ["reward", "my_lab.parts:hits"]
problem = "my_lab.parts:palindrome"
optimizer = "my_lab.parts:slow"
[axes]
algorithm = ["my_lab.parts:tempered", "reinforce"]
oracle = ["continuous", "my_lab.parts:harsh"]
policy = ["factored", "my_lab.parts:recurrent"]
temperature = [0.03, 0.1]
gain = [0.5, 1.0]
seed = { count = 3 }
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A package of one's own, known by nobody after the test."""
    before = {kind: dict(registry) for kind, registry in parts.REGISTRIES.items()}
    package = tmp_path / "my_lab"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "parts.py").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    forget(before)


def forget(before):
    for kind, registry in parts.REGISTRIES.items():
        registry.clear()
        registry.update(before[kind])
    parts._BROUGHT.clear()
    parts._ORACLES.clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        del sys.modules[name]


@pytest.fixture
def here(lab):
    import my_lab.parts  # pyright: ignore[reportMissingImports]

    return my_lab.parts


def test_a_file_names_parts_and_its_folder_opens_without_them(lab, capsys):
    known = {kind: dict(registry) for kind, registry in parts.REGISTRIES.items()}
    (lab / "sweep.toml").write_text(PAGE)
    assert main(["run", "sweep.toml", "--out", "out"]) == 0
    data = sweeps.open("out")
    assert dict(data.sizes) == {
        "algorithm": 2, "oracle": 2, "policy": 2, "temperature": 2, "gain": 2, "seed": 3,
    }  # fmt: skip
    # The same as with the functions themselves.
    import my_lab.parts as lab_parts  # pyright: ignore[reportMissingImports]

    direct = sdpo_jax.run_grid(
        {
            "algorithm": [lab_parts.tempered, "reinforce"],
            "oracle": ["continuous", lab_parts.harsh],
            "policy": ["factored", lab_parts.recurrent],
            "temperature": [0.03, 0.1],
            "gain": [0.5, 1.0],
            "seed": range(3),
        },
        problem=lab_parts.palindrome,
        optimizer=lab_parts.slow,
        metrics=("reward", "hits"),
        sizes=sdpo_jax.Sizes(**BASE),
    )
    np.testing.assert_array_equal(data.reward, direct.reward)
    np.testing.assert_array_equal(data.hits, direct.hits)
    assert data.finished.all()
    forget(known)
    (lab / "my_lab").rename(lab / "gone")
    again = sweeps.open("out")
    xr.testing.assert_identical(again, data)
    assert not any(":" in name for registry in parts.REGISTRIES.values() for name in registry)
    capsys.readouterr()
    # Its numbers are there; what needs the code says so.
    assert main(["status", "out"]) == 0
    assert main(["export", "out", "--to", "csv"]) == 0
    assert main(["render", "out"]) == 0
    capsys.readouterr()
    for command in (["resume", "out"], ["replay", "out", "0"]):
        assert main(command) == 2
        told = capsys.readouterr().err
        assert "my_lab.parts" in told
        assert len(told.splitlines()) == 1


TAUGHT = """
[base]
length = 3
vocab_size = 3
rollouts = 4
steps = 4
final_window = 2
problem = "my_lab.parts:taught_by"
[grid.one.axes]
algorithm = ["my_lab.parts:taught", "reinforce"]
push = [0.5, 1.0]
oracle = ["critique", "continuous"]
seed = { count = 2 }
[grid.two.base]
metrics = ["reward", "my_lab.parts:far", "credit"]
[grid.two.axes]
oracle = ["my_lab.parts:spiteful", "my_lab.parts:harsh", "binary"]
"""


def test_what_an_absent_part_asked_for_is_known(lab):
    """Its programs, and so the names of its blocks, hang on that."""
    known = {kind: dict(registry) for kind, registry in parts.REGISTRIES.items()}
    (lab / "sweep.toml").write_text(TAUGHT)
    first = sweeps.run("sweep.toml", "out")
    assert isinstance(first, dict)
    assert first["one"].push.attrs["long_name"] == "push"
    assert first["two"].far.attrs["long_name"] == "how far"
    forget(known)
    (lab / "my_lab").rename(lab / "gone")
    for name, data in first.items():
        assert data.finished.all()
        xr.testing.assert_identical(sweeps.open("out", name), data)


def test_a_file_finds_modules_beside_itself(tmp_path, lab, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", str(lab))])
    monkeypatch.chdir(elsewhere)
    (lab / "sweep.toml").write_text(PAGE)
    assert sweepfile.read(lab / "sweep.toml").plans["main"].trained
    assert str(lab) not in sys.path


def test_other_code_of_a_part_is_another_sweep(lab, capsys):
    known = {kind: dict(registry) for kind, registry in parts.REGISTRIES.items()}
    (lab / "sweep.toml").write_text(PAGE)
    assert main(["run", "sweep.toml", "--out", "out"]) == 0
    forget(known)
    file = lab / "my_lab" / "parts.py"
    file.write_text(LAB.replace("-mean_score(", "-2 * mean_score("))
    capsys.readouterr()
    assert main(["run", "sweep.toml", "--out", "out"]) == 2
    told = capsys.readouterr().err
    assert "my_lab.parts:tempered" in told and "--on-change" in told


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('algorithm = ["my_lab.parts:nothing"]', ["algorithm", "nothing", "module:name"]),
        ('algorithm = ["my_lab.absent:tempered"]', ["my_lab.absent", "module:name"]),
        ('algorithm = ["my_lab.parts:"]', ["my_lab.parts:", "module:name"]),
        ('algorithm = [":tempered"]', [":tempered", "module:name"]),
        ('algorithm = ["os:system(1)"]', ["os:system(1)", "module:name"]),
        ('algorithm = ["my_lab.parts:LAB.real"]', ["module:name"]),
        ('oracle = ["my_lab.parts:table"]', ["oracle", "table", "key", "allowed"]),
        ('policy = ["my_lab.parts:tempered"]', ["policy", "Network"]),
        ('problem = ["my_lab.parts:recurrent"]', ["problem", "allowed"]),
        ('optimizer = ["my_lab.parts:hits"]', ["optimizer", "allowed"]),
        ('temperature = [0.1]\nalgorithm = ["sdpo"]', ["temperature"]),
        ('temperature = [0.0]\nalgorithm = ["my_lab.parts:tempered"]', ["temperature", "above 0"]),
    ],
)
def test_what_is_no_part_is_named(lab, entry, words):
    (lab / "sweep.toml").write_text(f"[axes]\n{entry}\n")
    with pytest.raises(mistakes.SweepError) as error:
        sweepfile.read(lab / "sweep.toml")
    told = str(error.value)
    assert all(word in told for word in words), told


def test_two_metrics_of_one_name_are_refused(lab):
    (lab / "my_lab" / "more.py").write_text("def hits(view):\n    return view.reward.min(0)\n")
    metrics = '["my_lab.parts:hits", "my_lab.more:hits"]'
    (lab / "sweep.toml").write_text(f"[base]\nmetrics = {metrics}\n")
    with pytest.raises(mistakes.SweepError, match=r"my_lab\.more:hits is called as"):
        sweepfile.read(lab / "sweep.toml")


# From Python.


def test_python_begins_the_sweep_that_its_file_says(here):
    axes = {
        "algorithm": [here.tempered, "rloo"],
        "temperature": np.array([0.25, 0.5]),
        "setting": {"noise": (0.0, np.float64(0.3)), "kl_weight": [0.0, 0.01]},
        "seed": range(2, 8, 3),
    }
    base = {**BASE, "problem": here.palindrome, "metrics": ["reward", here.hits]}
    first = sweeps.run(axes, "out", base=base, title="Mine")
    assert isinstance(first, xr.Dataset)
    assert first.attrs["title"] == "Mine"
    assert list(first.seed.values) == [2, 5]
    xr.testing.assert_identical(first, sweeps.open("out"))
    text = manifest.Manifest.read(Path("out")).text
    Path("out.toml").write_text(text)
    blocks = {path: path.stat().st_mtime_ns for path in Path("out/data").glob("*.block")}
    assert main(["run", "out.toml", "--out", "out"]) == 0
    again = sweeps.run(axes, "out", base=base, title="Mine")
    xr.testing.assert_identical(first, again)  # pyright: ignore[reportArgumentType]
    # Nothing was trained twice, and nothing is in another place.
    assert blocks == {path: path.stat().st_mtime_ns for path in Path("out/data").glob("*.block")}
    more = sweeps.run(axes | {"seed": range(2, 11, 3)}, "out", base=base, title="Mine")
    np.testing.assert_array_equal(more.sel(seed=[2, 5]).reward, first.reward)  # pyright: ignore


def test_each_kind_of_part_can_be_given_from_python(here):
    data = sweeps.run(
        {
            "algorithm": [here.fixed, here.Box.tempered, rloo],
            "oracle": [here.harsh, here.spiteful, {"kind": "ordinal", "levels": 3}, "binary"],
            "policy": [here.recurrent, "bigram"],
            "seed": [0],
        },
        "out",
        base={**BASE, "optimizer": here.slow, "problem": here.palindrome},
    )
    assert data.reward.notnull().all()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_file_of_several_grids_comes_back_by_name(here):
    sizes = "\n".join(f"{name} = {value}" for name, value in BASE.items())
    Path("two.toml").write_text(
        f"[base]\n{sizes}\n[grid.one.axes]\nseed = [0]\n[grid.two.axes]\nseed = [1]\n"
    )
    found = sweeps.run("two.toml")
    assert list(found) == ["one", "two"]
    xr.testing.assert_identical(found["two"], sweeps.open("results/two", "two"))  # pyright: ignore


def inner():
    def tempered(*, policy, tokens):
        return 0 * policy.logits

    return tempered


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (({"algorithm": [lambda *, policy, tokens: 0]}, "out"), ["algorithm", "imported"]),
        (({"algorithm": [inner()]}, "out"), ["algorithm", "imported"]),
        (({"algorithm": [partial(rloo)]}, "out"), ["algorithm", "imported"]),
        (({"algorithm": "sdpo"}, "out"), ["axes.algorithm", "list"]),
        (({"seed": 3}, "out"), ["axes.seed", "list"]),
        (({"noise": [object()]}, "out"), ["noise", "allowed"]),
        (({3: [1]}, "out"), ["axes", "names"]),
        (({"seed": [1]},), ["out", "folder"]),
        ((["seed"], "out"), ["sweep", "mapping"]),
        (({"noise": [-1.0]}, "out"), ["axes.noise[0]", "0 or more"]),
    ],
)
def test_what_python_gives_wrongly_is_named(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        sweeps.run(*arguments)
    assert all(word in str(error.value) for word in words), error.value
    assert not Path("out").exists()


def test_options_of_python_that_are_wrong_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="on_change: 'yes'; allowed: refuse, keep, redo"):
        sweeps.run({"seed": [1]}, "out", on_change="yes")
    with pytest.raises(ValueError, match="base, title: beside a file"):
        sweeps.run("some.toml", base={})


def test_a_script_that_is_running_is_no_module(tmp_path):
    """Another process could not import it without running it again."""
    (tmp_path / "script.py").write_text(
        "import sweeps\n"
        "def mine(*, policy, tokens):\n"
        "    return 0 * policy.logits[:, :, 0]\n"
        "sweeps.run({'algorithm': [mine]}, 'out')\n"
    )
    told = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT)},
    ).stderr  # fmt: skip
    assert "ValueError: algorithm: <function mine" in told and "imported" in told


@pytest.mark.parametrize("value", [0.1, 1e-7, 3, True, "rloo", [1, 2], {"kind": "binary"}])
def test_values_read_back_as_they_were(value):
    import tomllib

    assert tomllib.loads(run.text_of({}, {"x": value}))["base"]["x"] == value


def test_the_page_about_ones_own_parts_runs(lab):
    page = (ROOT / "docs/parts_of_your_own.md").read_text()
    (file,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (python,) = re.findall(r"```python no-run\n(.*?)```", page, re.DOTALL)
    for name in ("algorithms", "problems", "policies"):
        (lab / "my_lab" / f"{name}.py").write_text(LAB)
    Path("page.toml").write_text(file)
    assert sweepfile.read("page.toml").plans["main"].trained
    names: dict[str, object] = {}
    exec(python.replace("range(64)", "range(2)"), names)
    assert dict(names["data"].sizes) == {"algorithm": 2, "temperature": 2, "seed": 2}  # pyright: ignore
