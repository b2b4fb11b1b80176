"""The report pages in a browser, as wide as a desktop's window and as a phone."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.__main__ import main
from sweeps.paper.render import render
from tests.sweeps import synthetic
from tests.sweeps.browser import PROGRAMS, Browser, program

pytestmark = pytest.mark.skipif(
    program() is None, reason=f"no browser installed (looked for {', '.join(PROGRAMS)})"
)

SWEEP = """
title = "A sweep to look at"
[base]
length = 3
vocab_size = 4
rollouts = 4
steps = 40
record = ["reward"]
record_every = 4
[grid.rates.axes]
algorithm = ["sdpo", "reinforce"]
learning_rate = [0.02, 0.2, 2.0]
noise = [0.0, 0.2]
seed = { count = 12 }
[grid.words.axes]
oracle = ["binary", "ordinal"]
seed = { count = 12 }
"""

# What sticks out of the window, but for what lies in a box that scrolls by itself.
OVERFLOW = """
[...document.body.querySelectorAll("*")].filter(each => {
  const box = each.getBoundingClientRect();
  return box.width && (box.right > document.documentElement.clientWidth + 0.5 || box.left < -0.5)
    && !each.closest(".scroll") && !each.closest("svg *");
}).map(each => each.tagName + "." + each.className)
"""
FIGURES = """
[...document.querySelectorAll("figure")].map(figure => {
  const drawing = figure.querySelector("svg"), box = drawing.getBoundingClientRect();
  const frame = (drawing.closest(".scroll") || drawing).getBoundingClientRect();
  const {visibility, display, opacity} = getComputedStyle(drawing);
  return {width: box.width, height: box.height, left: frame.left, right: frame.right,
          marks: drawing.querySelectorAll("path").length,
          shown: visibility === "visible" && display !== "none" && opacity !== "0"};
})
"""


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages made here and those in the repository, with the number of figures on each."""
    paper = synthetic.write(tmp_path_factory.mktemp("paper"), seeds=16)
    render(paper)
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "sweep.toml").write_text(SWEEP)
    out = folder / "out"
    assert main(["run", str(folder / "sweep.toml"), "--out", str(out)]) == 0
    assert main(["render", str(out)]) == 0
    results = Path(__file__).parents[2] / "results"
    return {
        "paper": (paper / "report.html", 7),
        "sweep": (out / "report.html", 10),
        "committed paper": (results / "paper" / "report.html", 8),
        "committed audit": (results / "audit" / "audit.html", 9),
        "committed networks": (results / "in_context" / "in_context.html", 7),
    }


# Tables that don't fit; on a phone none, since there each row is a card.
SIDEWAYS = """[...document.querySelectorAll(".scroll:has(table)")]
  .filter(each => each.scrollWidth > each.clientWidth).length"""
# Cells of a table with heads that don't say what they are of.
UNNAMED = """[...document.querySelectorAll("table:has(th) td")]
  .filter(each => each.textContent.trim() && !each.dataset.label).map(each => each.textContent)"""


@pytest.mark.parametrize(
    ("width", "height", "phone"),
    [(1440, 900, False), (1280, 800, False), (800, 1200, False), (390, 844, True)],
)
@pytest.mark.parametrize(
    "name", ["paper", "sweep", "committed paper", "committed audit", "committed networks"]
)
def test_no_errors_no_overflow_every_figure_visible(browser, pages, name, width, height, phone):
    page, figures = pages[name]
    browser.open(page, width, height, phone)
    assert browser.said == []
    assert browser.value("window.innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(OVERFLOW) == []
    assert browser.value(SIDEWAYS) == 0 or not phone
    assert browser.value(UNNAMED) == []
    found = browser.value(FIGURES)
    assert len(found) == figures
    for figure in found:
        assert figure["shown"]
        assert figure["marks"] > 10
        assert figure["width"] > min(width, 420) * 0.8
        assert figure["height"] > 150
        assert figure["left"] >= 0
        assert figure["right"] <= width


def test_the_check_itself_sees_what_is_wrong(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        "<!DOCTYPE html><html><body><div style='width: 3000px'>wide</div>"
        "<script>console.error('no'); undefined.x</script></body></html>"
    )
    browser.open(page, 1440, 900, False)
    assert len(browser.said) >= 2
    assert browser.value(OVERFLOW) == ["DIV."]
