"""The library as a whole: what an import does, who may import whom, what is public."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sdpo_jax
from sdpo_jax.algorithms import ALGORITHMS
from sdpo_jax.grid import AXES, TITLES
from sdpo_jax.program import algorithm_of
from tests.imports import floors, imported_names, imports, modules, rooms

ROOT = Path(sdpo_jax.__file__).parent
MODULES = modules("sdpo_jax")


def test_no_module_imports_itself_by_way_of_another():
    floors(imports("sdpo_jax"))


def test_the_packages_stand_on_few_floors_and_none_leans_on_one_above():
    graph = rooms("sdpo_jax")
    assert "sdpo_jax" in graph
    # All but what only gathers the public names, and the laboratory that stands on the engine.
    assert max(floors(graph)[name] for name in {*graph} - {"sdpo_jax", "sdpo_jax.in_context"}) <= 11


def test_what_knows_nothing_of_learning_imports_nothing_that_does():
    for name, others in imports("sdpo_jax").items():
        if name.startswith(("sdpo_jax.engine", "sdpo_jax.losses")):
            assert {other.split(".")[1] for other in others} <= {name.split(".")[1]}, name


@pytest.mark.parametrize("name", MODULES)
def test_the_engine_does_not_know_its_users(name):
    roots = {other.partition(".")[0] for other in imported_names("sdpo_jax", name)}
    assert roots.isdisjoint({"sweeps", "tests", "matplotlib", "tyro", "rich", "jinja2"})


def test_every_file_of_algorithms_is_the_home_of_one():
    homes = {
        inspect.unwrap(getattr(each.update, "func", each.update)).__module__
        for each in map(algorithm_of, ALGORITHMS)
    }
    files = {name for name in MODULES if name.startswith("sdpo_jax.algorithms.")}
    # ``dr_grpo`` is another name for an algorithm; ``numbers`` are those that several have.
    assert files - homes == {"sdpo_jax.algorithms.numbers", "sdpo_jax.algorithms.dr_grpo"}


def test_every_axis_of_a_grid_has_a_title():
    assert set(AXES) <= set(TITLES)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_knows_its_name(name):
    assert algorithm_of(name).name == name


def test_an_import_leaves_no_trace(tmp_path):
    script = """
import sys, jax
before = dict(jax.config.values)
import sdpo_jax
assert dict(jax.config.values) == before
heavy = {"matplotlib", "xarray", "pandas", "sweeps"} & set(sys.modules)
assert not heavy, heavy
"""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path)}
    environment["PYTHONPATH"] = str(ROOT.parent)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_every_public_name_resolves_and_they_are_sorted():
    names = sdpo_jax.__all__
    assert all(hasattr(sdpo_jax, name) for name in names)
    # Constants, then classes, then functions, as the linter sorts them.
    assert names == sorted(names, key=lambda name: (not name.isupper(), name.islower(), name))
    assert len(set(names)) == len(names)


def test_the_example_runs():
    outcome = doctest.testmod(sdpo_jax)
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_is_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for label, member in vars(module).items():
        named = inspect.isclass(member) or inspect.isfunction(member)
        if label.startswith("_") or not named or member.__module__ != name:
            continue
        assert documented(member), f"{name}.{label}"
        if inspect.isclass(member):
            for algorithm, function in vars(member).items():
                if inspect.isfunction(function) and not algorithm.startswith("_"):
                    assert documented(function), f"{name}.{label}.{algorithm}"


def documented(member):
    # A dataclass and a named tuple write their own signature there where nothing else stands.
    text = member.__doc__ or ""
    return text and not text.startswith((f"{member.__name__}(", "Alias for field"))
