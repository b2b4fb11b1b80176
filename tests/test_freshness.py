"""The committed results are those of the code at hand, and their pages those of their files.

A page is refused that says other than its files and the present templates, rules and sentences
would (the message names the page), and a study whose pinned runs the present code trains otherwise
(the message names the runs). See ``sweeps.study.pinned`` for why numbers are compared and not code.
"""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path

import pytest

from sweeps.audit import page as audit
from sweeps.audit import verdicts
from sweeps.audit.contenders import CONTENDERS
from sweeps.audit.readers import READINGS
from sweeps.paper import page as report
from sweeps.paper.claims import RULES
from sweeps.paper.claims.registry import rule_text
from sweeps.store import datasets
from sweeps.study import page_content, pinned

ROOT = Path(__file__).parents[1]
PAGES = {"paper": ("report.html", report.write_page), "audit": ("audit.html", audit.write_page)}


@pytest.mark.parametrize("study", PAGES)
def test_a_page_is_what_its_files_and_templates_say(study, tmp_path, monkeypatch):
    # The page names its folder as a reader would type it, and looks for other studies beside it.
    monkeypatch.chdir(tmp_path)
    for each in (*PAGES, "posterior"):
        ignored = shutil.ignore_patterns("data", "settings", "*.png")
        shutil.copytree(ROOT / "results" / each, tmp_path / "results" / each, ignore=ignored)
    name, write_page = PAGES[study]
    committed = (ROOT / "results" / study / name).read_bytes()
    assert write_page(Path("results") / study).read_bytes() == committed, (
        f"results/{study}/{name} is not what its files say; "
        f"make it again with: python -m sweeps render results/{study}"
    )


@pytest.mark.parametrize("study", PAGES)
def test_the_files_beside_a_page_are_of_the_run_that_made_it(study):
    folder = ROOT / "results" / study
    content, manifest = page_content.read_page_content(folder), datasets.read_manifest(folder)
    assert content["files"] == page_content.file_digests(folder)
    for key, value in content["made"].items():
        assert manifest[key] == value, f"results/{study}/page.json: {key}"
    page = (folder / PAGES[study][0]).read_text(encoding="utf-8")
    assert manifest["source"] in page


@pytest.mark.parametrize("study", PAGES)
def test_a_page_has_the_rules_of_today(study):
    rules = {"paper": {name: rule_text(rule) for name, rule in RULES.items()}}
    rules["audit"] = {
        name: " ".join((inspect.getdoc(rule) or "").split())
        for name, (_, _, rule) in verdicts.RULES.items()
    }
    rows = {
        row["id"]: row for row in page_content.read_page_content(ROOT / "results" / study)["claims"]
    }
    assert {name: row["rule"] for name, row in rows.items()} == rules[study]


def test_every_contender_has_a_line_and_a_source():
    assert set(READINGS) == set(CONTENDERS)
    for reading in READINGS.values():
        assert reading.line.endswith(".") and reading.source


def test_the_pinned_runs_of_every_study_come_out_as_they_are_recorded():
    """One grid for all studies, so that each program is compiled once."""
    pins = [(study, pin) for study in PAGES for pin in pinned.read(ROOT / "results" / study)]
    behind: dict[str, list[str]] = {}
    for (study, pin), found in zip(pins, pinned.differences([p for _, p in pins]), strict=True):
        for metric, difference in found.items():
            if not difference <= pinned.TOLERANCE:
                text = f"{pin.page}: {pin.algorithm}, {pin.oracle}, seed {pin.seed}: {metric}"
                behind.setdefault(study, []).append(f"{text} off by {difference:.4f}")
    assert behind == {}, "the code has left behind results/" + "; ".join(
        f"{study} ({len(lines)} values, the first: {lines[0]})" for study, lines in behind.items()
    )


def test_a_run_of_other_code_is_told():
    """The check can fail: the run of another seed is far from what is pinned."""
    pins = [pin for pin in pinned.read(ROOT / "results/paper") if pin.algorithm == "reinforce"][:1]
    (pin,) = pins
    moved = pinned.Pin(**{**json.loads(json.dumps(pin.__dict__)), "seed": pin.seed + 1})
    (found,) = pinned.differences([moved])
    assert max(found.values()) > 5 * pinned.TOLERANCE
