"""The interactive page of a sweep: what it draws, and the page itself in a browser."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sweeps.__main__ import main
from sweeps.report import explorer
from sweeps.report.views import STEP, View
from tests.sweeps.browser import PROGRAMS, Browser, program

ROOT = Path(__file__).parents[2]

needs_libraries = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("panel", "hvplot")),
    reason="panel or hvplot is not installed (pip install 'sdpo_jax[explore]')",
)
needs_browser = pytest.mark.skipif(
    program() is None, reason=f"no browser installed (looked for {', '.join(PROGRAMS)})"
)


@pytest.fixture
def data():
    coordinates = {
        "algorithm": ["sdpo", "rloo"], "kl_weight": [0.0, 0.01, 1.0], "oracle": ["binary", "x"],
        "seed": np.arange(8),
    }  # fmt: skip
    shape = (2, 3, 2, 8)
    curve = np.random.default_rng(0).normal(size=(*shape, 4)).astype(np.float32)
    dims = tuple(coordinates)
    return xr.Dataset(
        {
            "reward": (dims, curve[..., -1]),
            "reward_mean": (dims, curve.mean(-1)),
            "reward_curve": ((*dims, "step"), curve),
            "finite_steps": (dims, np.full(shape, 40, np.int32)),
        },
        {**coordinates, "step": np.arange(4) * 10},
        {"steps": 40},
    )


def test_points_have_a_place_a_colour_and_an_interval(data):
    found = explorer.prepared(data, View("kl_weight", "reward", "algorithm", "oracle"))
    assert len(found.frame) == len(found.rows) == 12
    # Zero has no place on a logarithmic axis: the values stand beside each other.
    assert [text for _, text in found.ticks] == ["0", "0.01", "1"]
    assert (found.log, found.joined) == (False, True)
    mine = found.frame[(found.frame.oracle == "x") & (found.frame.algorithm == "rloo")]
    values = data.reward.sel(algorithm="rloo", oracle="x").astype(float)
    np.testing.assert_allclose(mine["mean"], values.mean("seed"))
    assert (mine["low"] < mine["mean"]).all() and (mine["mean"] < mine["high"]).all()
    assert mine["at"].tolist() == [0.0, 1.0, 2.0]
    assert mine["line"].unique().tolist() == ["RLOO"]
    assert found.frame["colour"].nunique() == 2


def test_words_stand_beside_each_other_and_are_not_joined(data):
    found = explorer.prepared(data, View("oracle", "reward", "algorithm"))
    assert not found.joined
    assert [text for _, text in found.ticks] == ["Binary", "x"]
    assert found.frame["at"].nunique() == 4
    assert set(found.frame["kl_weight"]) == {0.0}


def test_the_curve_of_a_point_is_that_of_its_setting(data):
    view = View("oracle", "reward_mean", "algorithm", at={"kl_weight": 0.01})
    row = explorer.prepared(data, view).rows[-1]
    curve = explorer.curve_of(data, view, row)
    assert (curve.x, curve.y) == (STEP, "reward")
    at = {"algorithm": "rloo", "oracle": "x", "kl_weight": 0.01}
    assert curve.at == at
    values = data.reward_curve.sel(at).astype(float)
    np.testing.assert_allclose(
        explorer.prepared(data, curve).frame["mean"], values.mean("seed"), rtol=1e-6
    )
    single = explorer.single_curves(data, curve)
    assert len(single) == 32
    np.testing.assert_allclose(single[single.seed == 5]["value"], values.sel(seed=5))
    assert explorer.curve_of(data.drop_vars("reward_curve"), view, row) is None


def test_without_the_libraries_it_is_said_what_to_install(monkeypatch, capsys, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "hvplot" else found(name)
    )
    monkeypatch.setattr(explorer, "_NEEDED", ("hvplot",))
    assert main(["explore", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    told = "needs hvplot, which is not installed; allowed: `pip install 'sdpo_jax[explore]'` first"
    assert said == f"error: explore: {told}\n"


def test_a_bad_port_and_other_folders_are_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, "check_libraries", lambda: None)
    assert main(["explore", str(tmp_path), "--port", "70000"]) == 2
    assert capsys.readouterr().err == "error: --port: 70000; allowed: 0 to 65535\n"
    assert main(["explore", str(tmp_path)]) == 2
    assert "no sweep there" in capsys.readouterr().err
    assert main(["explore", str(ROOT / "results" / "paper")]) == 2
    assert "a reproduction of 1000 seeds" in capsys.readouterr().err


SWEEP = """
title = "A <b>sweep</b> to explore"
[base]
length = 2
vocab_size = 3
rollouts = 2
steps = 20
metrics = ["reward"]
record = ["reward"]
record_every = 5
[axes]
noise = [0.0, 0.2]
learning_rate = [0.01, 0.1, 1.0, 10.0]
seed = { count = 6 }
"""
# What Bokeh drew; its elements lie in shadow trees.
FIGURES = """(() => {
  const found = [];
  const look = view => {
    if (view.model && view.model.type === "Figure") found.push(view);
    for (const each of view.child_views || []) look(each);
  };
  if (typeof Bokeh !== "undefined") for (const view of Object.values(Bokeh.index)) look(view);
  return found.filter(view => view.el.getBoundingClientRect().width > 100);
})()"""
POINT = f"""(index => {{
  const view = {FIGURES}[0], box = view.el.getBoundingClientRect();
  const points = view.model.renderers.find(each => each.glyph.type === "Scatter");
  const data = points.data_source.data, glyph = points.glyph;
  return [box.x + view.frame.x_scale.compute([...data[glyph.x.field]][index]),
          box.y + view.frame.y_scale.compute([...data[glyph.y.field]][index])];
}})"""
# The mean curves, which are drawn with a thick line.
CURVES = f"""{FIGURES}[1].model.renderers.filter(
  each => each.glyph.type === "Line" &&
    (each.glyph.line_width.value ?? each.glyph.line_width) > 2).length"""
CHOOSE = """(() => {
  const all = [...Bokeh.documents[0]._all_models.values()];
  all.find(each => each.title === "x axis").value = "step";
  return true;
})()"""


@contextlib.contextmanager
def served(folder):
    """The address of a folder's page, as long as it is served."""
    command = [sys.executable, "-m", "sweeps", "explore", str(folder), "--no-show"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            said, until = "", time.monotonic() + 180
            while not (found := re.search(r"Page: (http://localhost:\d+)", said)):
                assert time.monotonic() < until and process.poll() is None, said
                if select.select([process.stdout], [], [], 1)[0]:
                    said += process.stdout.readline()
            yield found[1]
        finally:
            process.terminate()
            process.wait(30)


# What a browser without a graphics card says of itself, and Bokeh of what went well.
HARMLESS = re.compile(
    "WebGL|GL Driver|setting log level|connection [0-9]+ is now open|items were rendered "
    "successfully|document idle at"
)


@needs_libraries
@needs_browser
def test_the_page_draws_and_a_click_shows_curves(tmp_path, capsys):
    (tmp_path / "sweep.toml").write_text(SWEEP)
    out = tmp_path / "out"
    assert main(["run", str(tmp_path / "sweep.toml"), "--out", str(out)]) == 0
    with served(out) as address, Browser() as browser:
        browser.open(address, 1280, 1000, False)
        assert browser.wait(f"{FIGURES}.length") == 1
        browser.click(*browser.value(f"{POINT}(2)"))
        # Points that lie on each other are clicked together.
        one = browser.wait(f"{FIGURES}.length === 2 && {CURVES}")
        # With Shift another one comes beside it; without, in its place.
        browser.click(*browser.value(f"{POINT}(1)"), shift=True)
        more = browser.wait(f"{FIGURES}.length === 2 && {CURVES} > {one} && {CURVES}")
        browser.click(*browser.value(f"{POINT}(0)"))
        assert browser.wait(f"{FIGURES}.length === 2 && {CURVES} > 0 && {CURVES} < {more}")
        # Another choice draws anew.
        assert browser.value(CHOOSE)
        assert browser.wait(f"{FIGURES}[0].model.x_range.end > 15")
        assert browser.value("document.documentElement.scrollWidth") <= 1280
        said = [each for each in browser.said if not HARMLESS.search(each)]
        assert said == []
        browser.open(address, 390, 844, True)
        assert browser.wait(f"{FIGURES}.length") == 1
        assert browser.value("document.documentElement.scrollWidth") <= 390
        assert browser.value(f"{FIGURES}[0].el.getBoundingClientRect().right") <= 390
