"""What a package says of itself: version, licence, types, command, citation."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import sdpo_jax
from sweeps.paper import about

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_console_command_is_that_of_the_module():
    module, _, name = PROJECT["scripts"]["sdpo-sweeps"].partition(":")
    assert importlib.import_module(module).main is getattr(importlib.import_module(module), name)


def test_both_packages_say_that_they_are_typed():
    for package in ("sdpo_jax", "sweeps"):
        assert (ROOT / package / "py.typed").is_file()


def test_versions_agree_and_the_paper_is_cited():
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"(?m)^version: (.*)$", cited)[1] == PROJECT["version"] == sdpo_jax.__version__  # pyright: ignore
    assert about.TITLE in cited
    assert PROJECT["version"] in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for page in ("README.md", "docs/glossary.md", "docs/results.md"):
        assert about.TITLE in " ".join((ROOT / page).read_text(encoding="utf-8").split()), page
    for page in (
        "results/paper/report.html",
        "results/audit/audit.html",
        "results/paper/claims.md",
    ):
        assert about.TITLE in (ROOT / page).read_text(encoding="utf-8"), page


# Sentences that readers stumbled over; none may come back.
GONE = (
    "12 holds", "6 fails", "1 holds, but", "How much has the teacher", "heard", "hears neither",
    "-0.000 [", "who is told", "A fair fight",
)  # fmt: skip


def test_no_page_has_a_sentence_that_readers_stumbled_over():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    pages += [path for path in (ROOT / "results").rglob("*") if path.suffix in (".md", ".html")]
    pages += (ROOT / "sweeps").rglob("*.j2")
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert [words for words in GONE if words in text] == [], page
