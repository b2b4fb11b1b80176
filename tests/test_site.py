"""The site of the documentation: it builds without a warning, is whole, and loads nothing."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import sdpo_jax
from tests.sweeps import browser

ROOT = Path(__file__).parents[1]
# What the README and the pages present as public.
PUBLIC = (
    "sdpo_jax", "sdpo_jax.losses", "sdpo_jax.policies", "sdpo_jax.problems", "sdpo_jax.oracles",
    "sdpo_jax.teachers", "sdpo_jax.grid", "sdpo_jax.in_context", "sweeps", "sweeps.statistics",
)  # fmt: skip
GENERATOR = ("sphinx", "myst_nb", "furo", "jupytext")
# What a browser loads by itself, and from which attribute.
LOADED = {
    "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src",
    "audio": "src", "embed": "src", "object": "data", "use": "href",
}  # fmt: skip


class Page(HTMLParser):
    """What a page leads to, what it loads, and the places in it that can be led to."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = set()
        self.styles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = {name: value or "" for name, value in attrs}
        self.places.update(found[name] for name in ("id", "name") if name in found)
        self.styles.append(found.get("style", ""))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in ("index", "search", "next", "prev"):
            self.loads.append(found["href"])
        elif LOADED.get(tag) in found:
            self.loads.append(found[LOADED[tag]])


def build(out, *options):
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-b", "html", "-c",
         "docs", "-d", str(out.parent / "work"), *options, ".", str(out)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip


# One test: each process of the suite would build a site of its own.
def test_the_site(tmp_path):
    for name in GENERATOR:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install 'sdpo_jax[docs]'")
    out = tmp_path / "site"
    # The notebooks have a test of their own.
    done = build(out, "-D", "nb_execution_mode=off")
    assert (done.returncode, done.stderr) == (0, "")
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in out.rglob("*.html")}
    every_public_name_is_there(out, pages)
    every_page_of_the_docs_is_there(out)
    nothing_is_loaded_from_elsewhere(out, pages)
    links_lead_somewhere(out, pages)
    pages_fit(out)


def every_public_name_is_there(out, pages):
    places = {
        place for path in (out / "docs/reference").glob("*.html") for place in pages[path].places
    }
    missing = []
    for module in map(importlib.import_module, PUBLIC):
        for name in module.__all__:
            thing = getattr(module, name)
            ours = getattr(sdpo_jax, name, None) is thing and name in sdpo_jax.__all__
            known = {f"{module.__name__}.{name}", f"module-{module.__name__}.{name}"}
            if known.isdisjoint(places) and not (ours and f"sdpo_jax.{name}" in places):
                missing.append(f"{module.__name__}.{name}")
    assert missing == [], missing


def every_page_of_the_docs_is_there(out):
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        assert (out / path.relative_to(ROOT).with_suffix(".html")).is_file(), path
    for path in (ROOT / "docs/notebooks").glob("*.py"):
        text = (out / path.relative_to(ROOT).with_suffix(".html")).read_text(encoding="utf-8")
        assert "run_grid" in text and "%% [markdown]" not in text


def nothing_is_loaded_from_elsewhere(out, pages):
    for path, page in pages.items():
        assert [each for each in page.loads if elsewhere(each)] == [], path
        assert not re.search(r"url\(", "".join(page.styles)), path
    for path in out.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert "@import" not in text, path
        for target in re.findall(r"url\(\s*['\"]?([^'\")]+)", text):
            assert not elsewhere(target), (path, target)


def elsewhere(target):
    parts = urlsplit(target)
    return parts.scheme not in ("", "data") or parts.netloc != ""


def links_lead_somewhere(out, pages):
    broken = []
    for path, page in pages.items():
        # Pages of results are made elsewhere, and tested there.
        if path.relative_to(out).parts[0] == "results" and "furo" not in path.read_text("utf-8"):
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                broken.append(f"{path.relative_to(out)}: {link}")
                continue
            # From the code, Sphinx leads to a name where it is defined, not where it is described.
            is_code = path.relative_to(out).parts[0] == "_modules"
            places = pages[target].places if target in pages and not is_code else ()
            if parts.fragment and places and unquote(parts.fragment) not in places:
                broken.append(f"{path.relative_to(out)}: {link}")
    assert broken == [], broken


def pages_fit(out):
    if browser.program() is None:
        # As the tests of pages say, which are skipped then.
        return
    with browser.Browser() as window:
        for width, phone in ((1280, False), (390, True)):
            for name in ("README", "docs/index", "docs/sweeps", "docs/losses",
                         "docs/reference/sdpo_jax", "docs/reference/parts"):  # fmt: skip
                window.open(out / f"{name}.html", width, 1000, phone)
                wide = window.value("document.documentElement.scrollWidth")
                assert (name, window.said) == (name, []) and wide <= width, (name, wide)
                missing = "[...document.images].filter(each => !each.naturalWidth).length"
                assert window.value(missing) == 0


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs/notebooks").glob("*.py")), ids=lambda path: path.stem
)
def test_a_notebook_runs_from_top_to_bottom(path, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path, env={**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    # It says what came out, with an interval or a verdict.
    assert re.search(r"\[[+-]\d\.\d{3},\s+[+-]\d\.\d{3}\]", done.stdout)


def test_how_long_is_what_the_results_say():
    page = (ROOT / "docs/how_long.md").read_text(encoding="utf-8")

    def read(name):
        return json.loads((ROOT / "results" / name).read_text(encoding="utf-8"))

    def middle(values):
        return sorted(values)[len(values) // 2]

    start = read("benchmarks/startup.json")["results"]
    overhead = read("benchmarks/overhead.json")["results"]
    seconds = {name: middle(values) for name, values in start["seconds"].items()}
    for words in (
        f"{middle(start['reproduce']['warm']['seconds']):.0f} s",
        f"{middle(start['reproduce']['cold']['seconds']):.0f} s",
        f"{sum(read('audit/manifest.json')['wall_time'].values()) / 60:.0f} min",
        f"{sum(read('in_context/manifest.json')['wall_time'].values()) / 2 / 60:.0f} min",
        f"{read('calibration/calibration.json')['made']['seconds'] / 60:.0f} min",
        f"{min(wall for wall, _ in overhead['folder']):.1f} s",
        f"{min(overhead['resume']):.1f} s",
        f"{seconds['python -m sweeps --help']:.1f} s",
        f"{seconds['import sdpo_jax']:.1f} s",
    ):
        assert f"| {words} |" in page, words
    settings = read("posterior/manifest.json")["posterior"]["settings"]
    assert (
        f"{len(settings) + 1} reproductions of {read('posterior/manifest.json')['seeds']}" in page
    )
    rows = (ROOT / "results/benchmarks/scaling.md").read_text(encoding="utf-8")
    rate = re.search(r"runs 1,000,000 \| 1,000,000 \| ([\d,]+)", rows)
    assert rate is not None
    assert f"{1e6 / float(rate[1].replace(',', '')):.0f} seconds" in page
