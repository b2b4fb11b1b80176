"""The worked examples run as they are written."""

from __future__ import annotations

import ast
import contextlib
import inspect
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import xarray as xr

from sdpo_jax import ALGORITHMS
from sdpo_jax.grid import AXES

ROOT = Path(__file__).parents[1]


def test_adding_an_algorithm(capsys):
    text = (ROOT / "docs/adding_an_algorithm.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 6
    known = dict(ALGORITHMS)
    names: dict[str, object] = {}
    try:
        for block in blocks:
            exec(block, names)
    finally:
        ALGORITHMS.clear()
        ALGORITHMS.update(known)
    assert re.fullmatch(r"[+-]0\.\d{3} \[[+-]0\.\d{3}, [+-]0\.\d{3}\]\n", capsys.readouterr().out)


# What the page says of what it has computed.
CHECKS = """
import sys, sdpo_jax, sweeps
assert all(each.__file__.startswith(sys.argv[1]) for each in (sdpo_jax, sweeps))
assert half.finite_steps == whole.finite_steps == 15
run = train(3, program)
for name, value in run.final.items():
    assert abs(value - final[name]) < 1e-6
assert abs(run.params - whole.params).max() < 1e-6
"""


def test_parts_of_your_own_run_from_another_folder_with_an_installed_wheel(tmp_path):
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    site, folder = tmp_path / "site", tmp_path / "elsewhere"
    folder.mkdir()
    # A wheel of Python alone is installed by unpacking it.
    zipfile.ZipFile(wheel).extractall(site)
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/parts_of_your_own.md").read_text(), re.DOTALL
    )
    (folder / "page.py").write_text("\n".join([*blocks, CHECKS]))
    said = subprocess.run(
        [sys.executable, "-W", "error", "page.py", str(site)],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_what_a_page_points_at_exists(page):
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"`((?:sdpo_jax|sweeps|tests)/[\w/.]+)`", page.read_text()):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("select", ["sel", "isel", "reindex", "interp"])
def test_no_axis_is_called_like_an_argument_of_xarrays_own(select):
    for kind in (xr.Dataset, xr.DataArray):
        own = set(inspect.signature(getattr(kind, select)).parameters)
        assert "method" in own or select == "isel"
        assert own.isdisjoint(AXES)


def selections_by_keyword(code: str) -> list[str]:
    """Calls like ``data.sel(method="sdpo")``, which xarray reads as its own argument."""
    xarrays_own = {None, "nearest", "pad", "ffill", "backfill", "bfill"}
    found = []
    for call in ast.walk(ast.parse(code)):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            continue
        if call.func.attr not in {"sel", "isel", "reindex"}:
            continue
        for keyword in call.keywords:
            if keyword.arg == "method" and not (
                isinstance(keyword.value, ast.Constant) and keyword.value.value in xarrays_own
            ):
                found.append(ast.unparse(call))
    return found


def python_of(path: Path) -> list[str]:
    """The Python of a module, or the blocks of a page and the code in its lines."""
    text = path.read_text()
    if path.suffix == ".py":
        docstring_code = re.findall(r"^ *(?:>>>|\.\.\.) (.*)$", text, re.MULTILINE)
        return [text, *docstring_code]
    lines = re.findall(r"`([^`\n]+\(.*?\))`", text)
    return [*re.findall(r"```python\n(.*?)```", text, re.DOTALL), *lines]


TRACKED = [
    path
    for folder in ("sdpo_jax", "sweeps", "benchmarks", "tests", "docs", "results")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".md"}
]


def test_nothing_selects_by_xarrays_own_argument():
    for path in [ROOT / "README.md", *TRACKED]:
        for code in python_of(path):
            # A part of an expression, from a page or a docstring, need not parse.
            with contextlib.suppress(SyntaxError):
                assert selections_by_keyword(code) == [], path


def test_a_selection_by_keyword_would_be_found():
    assert selections_by_keyword('x = data.reward.sel(method="sdpo", seed=0)')
    assert selections_by_keyword("data.sel(method=name)")
    assert not selections_by_keyword('data.sel({"algorithm": "sdpo"})')
    assert not selections_by_keyword('data.sel(noise=0.1, method="nearest")')


@pytest.mark.parametrize(
    "folder", ["audit", "benchmarks", "calibration", "in_context", "paper", "posterior"]
)
def test_no_result_names_a_place_on_the_machine_that_made_it(folder):
    names = re.compile(r"(?<![\w.:/-])/(?:tmp|home|root|work|Users|var)/")
    for path in (ROOT / "results" / folder).rglob("*"):
        if path.suffix in (".md", ".json", ".html", ".csv"):
            found = names.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{path}: {found and found[0]}"
