"""The library as a whole: what an import does, who may import whom, what is public."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import inspect
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import sdpo_jax
from sdpo_jax.algorithms import ALGORITHMS
from sdpo_jax.grid import AXES, TITLES
from sdpo_jax.program import algorithm_of

ROOT = Path(sdpo_jax.__file__).parent
MODULES = {
    name: Path(importlib.util.find_spec(name).origin)
    for name in (
        "sdpo_jax",
        *(info.name for info in pkgutil.walk_packages([str(ROOT)], prefix="sdpo_jax.")),
    )
}


def imported_names(path):
    """Every module that a file names in an import, wherever in the file it stands."""
    package = "sdpo_jax" if path.parent == ROOT else f"sdpo_jax.{path.parent.name}"
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            # ``from package import module`` names the module, not the package.
            submodules = {f"{base}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= submodules
            if len(submodules) < len(node.names):
                found.add(base)
    return found


def imports():
    """By module those that it makes Python run, the ``__init__`` of packages on the way too."""
    found = {}
    for name, path in MODULES.items():
        others = set()
        for other in imported_names(path) & set(MODULES):
            parts = other.split(".")
            packages = {".".join(parts[:count]) for count in range(2, len(parts) + 1)}
            others |= {each for each in packages if not f"{name}.".startswith(f"{each}.")}
        found[name] = others & set(MODULES) - {"sdpo_jax"}
    return found


def floors(graph):
    """By node the length of the longest way down; a circle is named."""
    found = {}

    def floor(node, above):
        assert node not in above, f"a circle: {' -> '.join((*above, node))}"
        if node not in found:
            found[node] = 1 + max((floor(each, (*above, node)) for each in graph[node]), default=0)
        return found[node]

    for node in graph:
        floor(node, ())
    return found


def test_no_module_imports_itself_by_way_of_another():
    floors(imports())


def test_the_packages_stand_on_few_floors_and_none_leans_on_one_above():
    def room(name):
        return ".".join(name.split(".")[:2])

    rooms = {room(name): set() for name in MODULES}
    for name, others in imports().items():
        rooms[room(name)] |= {room(other) for other in others} - {room(name)}
    assert "sdpo_jax" in rooms
    # All but what only gathers the public names, and the laboratory that stands on the engine.
    assert max(floors(rooms)[name] for name in {*rooms} - {"sdpo_jax", "sdpo_jax.in_context"}) <= 11


def test_what_knows_nothing_of_learning_imports_nothing_that_does():
    for name, others in imports().items():
        if name.startswith(("sdpo_jax.engine", "sdpo_jax.losses")):
            assert {other.split(".")[1] for other in others} <= {name.split(".")[1]}, name


@pytest.mark.parametrize("name", MODULES)
def test_the_engine_does_not_know_its_users(name):
    roots = {other.partition(".")[0] for other in imported_names(MODULES[name])}
    assert roots.isdisjoint({"sweeps", "tests", "matplotlib", "tyro", "rich", "jinja2"})


STUDIES = (
    "about", "audit", "calibration", "claims", "figures", "headline", "in_context", "landscape",
    "paper",
    "pinned", "posterior", "published", "render", "report", "reproduce", "tables",
)  # fmt: skip


def test_anybodys_sweep_imports_nothing_of_the_paper():
    script = (
        "import sys, sweeps, sweeps.exports, sweeps.from_python, sweeps.pages, sweeps.replay\n"
        "import sweeps.tell\n"
        f"print(*(name for name in sys.modules if name.split('.')[1:2] and "
        f"name.startswith('sweeps.') and name.split('.')[1] in {STUDIES!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT.parent
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


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
