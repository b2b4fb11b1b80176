"""The page is whole, stands alone, and shows the numbers of the claims file."""

from __future__ import annotations

import json
import re
from collections import Counter
from xml.etree import ElementTree

import pytest

from sweeps.calibration import posterior
from sweeps.calibration.posterior import Setting
from sweeps.paper import about, claims
from sweeps.paper.claims import Verdict
from sweeps.paper.page import write_report
from sweeps.paper.render import render, summary_lines
from sweeps.report import drawing
from sweeps.report.web import inline_svg
from sweeps.store import datasets
from sweeps.study import wording
from sweeps.study.wording import capital, interval_text, tally
from sweeps.system import writing
from tests.sweeps import synthetic

SVG = """<?xml version="1.0"?>
<!DOCTYPE svg>
<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="10pt" height="10pt" viewBox="0 0 10 10"
 xmlns="http://www.w3.org/2000/svg"><metadata>x</metadata><defs><style>*{}</style></defs>
<defs><clipPath id="a"><path d="M 0 0"/></clipPath><path id="b"/></defs>
<g clip-path="url(#a)"><use xlink:href="#b"/></g></svg>
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = synthetic.write(tmp_path_factory.mktemp("results"), seeds=16)
    render(out)
    return out


@pytest.fixture(scope="module")
def page(folder) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tree(page) -> ElementTree.Element:
    # The template closes every element, so the page can be read as XML.
    return ElementTree.fromstring(page)


def text_of(element: ElementTree.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def test_render_writes_everything(folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    wanted = {"claims.json", "claims.md", "report.html", "manifest.json"}
    wanted |= {f"figures/figure{n}.{kind}" for n in range(1, 7) for kind in ("png", "svg")}
    wanted |= {
        f"tables/{name}.csv"
        for name in ("table1", "table2", "table3", "noise", "hybrid", "multiseed")
    }
    assert wanted <= names


def test_the_page_needs_nothing_from_outside(page):
    assert "://" not in page
    assert "<script" not in page
    assert "@import" not in page
    assert not re.search(r"\bsrc=", page)
    assert not re.search(r"url\((?!#)", page)
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', page))


def test_ids_are_unique_and_references_resolve(tree, page):
    ids = Counter(node.get("id") for node in tree.iter() if node.get("id"))
    assert max(ids.values()) == 1
    targets = re.findall(r'href="#([^"]*)"', page) + re.findall(r"url\(#([^)]*)\)", page)
    assert len(targets) > 50
    assert set(targets) <= set(ids)


def test_the_page_shows_the_numbers_of_the_claims_file(folder, tree):
    rows = {node.get("id"): node for node in tree.iter("tr") if node.get("id")}
    saved = claims.load_claims(folder)
    assert len(saved) == 22
    for claim in saved:
        cells = [text_of(cell) for cell in rows[f"row-{claim['id']}"].iter("td")]
        assert cells == [
            claim["id"],
            f"{capital(claim['claim'])} ({claim['where']})",
            claim["verdict"],
            interval_text(claim, "published"),
            interval_text(claim, "estimate"),
            interval_text(claim, "interval"),
            f"{capital(claim['reason'])}.",
        ]


def test_the_answer_comes_first_and_all_parts_are_there(page, folder):
    places = [page.index(f'id="{part}"') for part in (
        "findings", "first-figure", "sdpo", "verdicts", "shown", "figures", "tables", "details",
        "manifest",
    )]  # fmt: skip
    assert places == sorted(places)
    said = tally(row["verdict"] for row in claims.load_claims(folder))
    assert said.replace("'", "&#39;") in page[: places[0]]
    # The paper's six figures, the first of them again at the top, and the drawing.
    assert page.count("<svg") == 8
    top = page[places[0] : places[1]]
    for finding in claims.find(datasets.Results(folder)):
        assert finding.title.replace("'", "&#39;") in top
        assert finding.brief.replace("'", "&#39;") in top
    assert about.TITLE in page
    assert "python -m sweeps render" in page
    assert datasets.read_manifest(folder)["command"] in page


def test_a_table_on_the_page_is_its_file(folder, tree):
    header, *rows = (folder / "tables/table1.csv").read_text(encoding="utf-8").splitlines()
    body = list(tree.find("body"))
    title = next(place for place, node in enumerate(body) if node.get("id") == "table1")
    lines = list(body[title + 1].iter("tr"))
    columns = header.split(",")
    assert [text_of(cell) for cell in lines[0]][:3] == ["algorithm", "feedback", "published"]
    for line, row in zip(lines[1:], rows, strict=True):
        for cell, column, value in zip(line, columns, row.split(","), strict=True):
            if column == "algorithm":
                assert text_of(cell) == wording.name(value)
            elif column == "oracle":
                assert text_of(cell) == value
            else:
                assert (
                    abs(float(text_of(cell)) - float(value))
                    <= 0.5 * (1 if column == "published_percentile" else 0.001) + 1e-12
                )


def test_wide_tables_scroll_in_their_own_box(tree):
    boxed = [box.find("table") for box in tree.iter("div") if box.get("class") == "scroll"]
    assert len(boxed) == len(list(tree.iter("table")))


def test_manifest_values_are_escaped(folder, tmp_path):
    for name in ("data", "tables", "figures"):
        (tmp_path / name).symlink_to(folder / name)
    manifest = {**datasets.read_manifest(folder), "note": "<b>&"}
    datasets.write_manifest(tmp_path, manifest)
    page = write_report(tmp_path, claims.judge(folder)).read_text(encoding="utf-8")
    assert "&lt;b&gt;&amp;" in page


def test_inline_svg_prefixes_ids():
    text = inline_svg(SVG, "p")
    drawing = ElementTree.fromstring(text)
    assert drawing.tag == "svg"
    assert {node.get("id") for node in drawing.iter() if node.get("id")} == {"p-a", "p-b"}
    assert 'clip-path="url(#p-a)"' in text
    assert 'href="#p-b"' in text
    assert "metadata" not in text
    assert "style" not in text
    assert drawing.get("width") is None
    assert drawing.get("viewBox") == "0 0 10 10"
    with pytest.raises(ValueError, match="no <svg>"):
        inline_svg("<p/>", "p")


def test_missing_parts_are_named(folder, tmp_path):
    with pytest.raises(datasets.MissingResults, match=r"algorithms\.nc: missing; .*reproduce"):
        render(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data").symlink_to(folder / "data")
    with pytest.raises(datasets.MissingResults, match=r"manifest\.json: missing"):
        render(tmp_path)
    datasets.write_manifest(tmp_path, datasets.read_manifest(folder))
    with pytest.raises(datasets.MissingResults, match=r"\.csv: missing; .*render"):
        write_report(tmp_path)


def test_the_audit_beside_is_told(folder, page, tmp_path):
    assert "A fair comparison" not in page
    paper, audit = tmp_path / "paper", tmp_path / "audit"
    paper.symlink_to(folder)
    audit.mkdir()
    (audit / "verdicts.json").write_text(
        json.dumps([claim.row() for claim in claims.judge(folder)[:2]])
    )
    try:
        write_report(paper)
        assert "A fair comparison" not in (paper / "report.html").read_text(encoding="utf-8")
        (audit / "audit.html").write_text("<html></html>")
        tree = ElementTree.fromstring(write_report(paper).read_text(encoding="utf-8"))
    finally:
        write_report(folder)
    links = [link.get("href") or "" for link in tree.iter("a")]
    assert [link for link in links if not link.startswith("#")] == ["../audit/audit.html"]
    (part,) = [heading for heading in tree.iter("h2") if heading.get("id") == "audit"]
    assert "A fair comparison" in text_of(part)


def test_the_posterior_beside_is_told(folder, page, tmp_path):
    assert "other constants" not in page
    paper, beside = tmp_path / "paper", tmp_path / "posterior"
    paper.symlink_to(folder)
    constants = dict.fromkeys(posterior._CONSTANTS, 1.0)
    chosen = [
        Setting("00", 0.75, constants | {"feedback_strength": 2.0}),
        Setting("01", 0.25, constants | {"feedback_strength": 1.5}),
    ]
    verdicts = {
        name: dict.fromkeys(claims.RULES, Verdict.HOLDS) for name in ("00", "01", "defaults")
    }
    verdicts["01"]["C06"] = Verdict.FAILS
    found = posterior.outcome(chosen, verdicts, 64, "python -m sweeps posterior", 0.9)
    writing.write_json(beside / posterior.JSON_NAME, found)
    drawing.save("posterior", posterior.draw(found), beside / drawing.FOLDER, "Shares")
    try:
        tree = ElementTree.fromstring(write_report(paper).read_text(encoding="utf-8"))
    finally:
        write_report(folder)
    nodes = {node.get("id"): node for node in tree.iter() if node.get("id")}
    assert "holds 75%, fails 25%; changes with beta" in text_of(nodes["C06"])
    assert "holds 100% (shares of the posterior, 64 seeds)" in text_of(nodes["C01"])
    # The figure's texts are drawn as paths; of its own identifiers none is one of the page's.
    assert nodes["posterior-figure"].find("svg") is not None
    whole = text_of(tree)
    assert "2 settings of them, which hold 90% of the posterior probability" in whole
    judged = {claim.id: claim.verdict for claim in claims.judge(folder)}
    other = next(name for name, verdict in judged.items() if verdict is Verdict.FAILS)
    assert f"{other}, which fails at the constants of this page, holds in 100% of" in whole
    assert "Of 22 claims 21 get the same verdict at every setting" in whole
    links = {link.get("href") or "" for link in tree.iter("a")}
    assert "../posterior/posterior.md" in links
    assert {link[1:] for link in links if link.startswith("#")} <= set(nodes)


def test_summary(folder):
    *headline, verdicts = summary_lines(folder)
    assert len(headline) == 3
    assert headline[0].startswith("Over 16 seeds")
    assert verdicts.startswith("Of 22 claims ")
    assert sum(map(int, re.findall(r"\d+(?= [a-z])", verdicts.partition("claims")[2]))) == 22


def test_a_page_is_made_again_without_the_results(folder, tmp_path):
    """As in a clone of the repository; byte for byte, and of it nothing else is touched."""
    for entry in folder.iterdir():
        if entry.name != "data":
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "report.html").unlink()
    (written,) = render(tmp_path)
    commands = re.compile(r"python -m sweeps render [^<]*")
    again, before = (
        commands.sub("", (place / "report.html").read_text()) for place in (tmp_path, folder)
    )
    assert written == tmp_path / "report.html"
    assert again == before


def test_verbs_agree_with_their_counts():
    values = ["holds", "fails", "fails", "contradicts the paper's own data", "undecided"]
    assert tally(values) == (
        "1 holds, 2 fail, 1 contradicts the paper's own data and 1 is undecided"
    )
    assert tally(["holds"]) == "1 holds"
