"""The README's code runs, and its numbers are those of the committed results."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

from benchmarks.compare import TITLES
from sdpo_jax import Program, plan_grid
from sdpo_jax.config import CONFIG_FIELDS
from sdpo_jax.program import numbers_of_program
from sweeps.paper import about
from sweeps.study.wording import tally

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "results/paper"

ALGORITHMS = {
    "sdpo": "SDPO",
    "reinforce": "REINFORCE",
    "advantage_weighted": "advantage-weighted",
}
FEEDBACK = ("binary", "ordinal", "continuous", "critique")
TABLES = {"reward": "table1", "credit": "table2", "entropy": "table3"}


def headline_rows() -> list[str]:
    rows = []
    for metric, table in TABLES.items():
        with (RESULTS / f"tables/{table}.csv").open() as file:
            cells = {(row["algorithm"], row["oracle"]): row for row in csv.DictReader(file)}
        for algorithm, name in ALGORITHMS.items():
            values = [cells[algorithm, oracle] for oracle in FEEDBACK]
            shown = [f"{float(v['mean']):.3f} ({float(v['published']):.3f})" for v in values]
            rows.append("| " + " | ".join([f"{metric}, {name}", *shown]) + " |")
    return rows


def claims() -> list[dict[str, str]]:
    return json.loads((RESULTS / "claims.json").read_text())


def test_the_headline_table_is_that_of_the_results():
    table = README.split("<!-- headline: results/paper -->")[1]
    rows = [line for line in table.split("\n\n")[1].splitlines()[2:]]
    assert rows == headline_rows()


def test_the_outcome_is_that_of_the_results():
    content = json.loads((RESULTS / "page.json").read_text())
    count = tally(row["verdict"] for row in claims())
    said = f"Of the paper's {len(claims())} claims {count}. {' '.join(content['headline'])}"
    assert said in " ".join(marked("outcome: results/paper").split())


def test_the_paper_is_cited_and_sdpo_explained_in_the_words_of_the_pages():
    text = " ".join(README.split())
    assert about.TITLE in text
    for sentence in about.SENTENCES:
        assert sentence in text


def marked(name: str) -> str:
    """What follows a marker, up to the next heading."""
    return README.split(f"<!-- {name} -->")[1].split("\n## ")[0]


def test_the_audits_verdicts_are_those_of_its_results():
    verdicts = json.loads((ROOT / "results/audit/verdicts.json").read_text())
    rows = [f"| {v['id']} | {v['claim']} | {v['verdict']} |" for v in verdicts]
    assert [row for row in rows if row not in marked("audit: results/audit")] == []


def test_the_networks_verdicts_and_rewards_are_those_of_their_results():
    text = marked("in_context: results/in_context")
    verdicts = json.loads((ROOT / "results/in_context/verdicts.json").read_text())
    for each in verdicts:
        assert f"| {each['id']} | {each['claim']} | {each['verdict']} |" in text
    with (ROOT / "results/in_context/tables/league.csv").open() as file:
        league = {(row["label"], row["feedback"]): row for row in csv.DictReader(file)}
    rows = [line.strip("| ").split(" | ") for line in text.strip().splitlines()[2:10]]
    for told, label, *rewards in rows:
        for kind, shown in zip(("binary", "continuous", "critique"), rewards, strict=True):
            row = league[label, kind]
            assert (told, shown) == (row["told"], f"{float(row['reward']):.2f}"), label


def test_the_audits_league_is_that_of_its_results():
    with (ROOT / "results/audit/tables/league.csv").open() as file:
        league = list(csv.DictReader(file))
    # Of several noise levels 0.2; those told the reward of any sequence meet none.
    here = [
        row
        for row in league
        if row["oracle"] == "continuous"
        and (float(row["noise"]) == 0.2 or row["group"] == "reward of any sequence")
    ]
    rows = []
    for group in dict.fromkeys(row["group"] for row in league):
        best = max(
            (row for row in here if row["group"] == group),
            key=lambda row: float(row["tuned_reward"]),
        )
        rows.append(f"| {group} | {best['label']} | {float(best['optimality']):.2f} |")
    table = marked("audit: results/audit").strip().splitlines()
    assert table[2 : 2 + len(rows)] == rows


def test_the_speeds_are_those_of_the_benchmark():
    with (ROOT / "results/benchmarks/peers.json").open() as file:
        cases = json.load(file)["results"]
    names = list(cases[0]["runs_per_second"])
    rows = []
    for name in names:
        speeds = [f"{case['runs_per_second'][name]['median']:,.0f}" for case in cases]
        # The results are those of a machine with a C++ compiler; this one may have none.
        title = TITLES[name].replace("eager", "compiled")
        rows.append("| " + " | ".join([title, *speeds]) + " |")
    table = marked("speed: results/benchmarks/peers.json").strip().splitlines()
    assert table[2 : 2 + len(rows)] == rows


def test_files_that_the_readme_points_at_exist():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_code_runs_from_top_to_bottom():
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        # Fewer seeds: what a user waits seconds for is compiled all the same.
        small = re.sub(r"range\(\d+\)", "range(2)", block)
        exec(small, names)
    assert names["rewards"].shape == (3, 2)  # pyright: ignore
    assert names["data"].sizes == {"algorithm": 3, "oracle": 4, "noise": 3, "seed": 2}  # pyright: ignore
    assert names["mine"].reward.shape == (1, 2, 2)  # pyright: ignore
    assert names["gradient"].shape == (4, 16, 100)  # pyright: ignore


def test_which_numbers_choose_a_program():
    choosing = set()
    for name in (*CONFIG_FIELDS, *numbers_of_program(Program())):
        # Both ends of what every field allows.
        plan = plan_grid({name: [0.001, 1.0]}, width=16)
        if len({group.program for group in plan.groups}) > 1:
            choosing.add(name)
    assert choosing == {"feedback_strength", "quality_scale"}
    assert "but for beta and the scale of q" in README
