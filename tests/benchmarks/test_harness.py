"""The harness measures what it says, and its pages hold what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import scaling, startup, throughput
from benchmarks.__main__ import main
from benchmarks.machine import described, fingerprint
from benchmarks.point import Point, _register, measure
from benchmarks.write import Output, bars, shown, spread, table
from sdpo_jax import ALGORITHMS

SIZES = {"length": 2, "vocab_size": 2, "rollouts": 2, "steps": 3, "final_window": 1}
AXES = {"algorithm": ["reinforce"], "oracle": ["continuous"]}


@pytest.fixture(scope="module")
def measured():
    return measure(Point({**AXES, "noise": [0.0, 0.1]}, 10, 3, SIZES, block_width=4))


def test_a_point_tells_every_part(measured):
    assert measured["runs"] == 10
    assert len(measured["seconds"]) == 3
    parts = [measured[name] for name in ("import", "trace", "lower", "compile", "first")]
    assert min(parts) > 0
    assert sum(parts[1:4]) > 0.1 * measured["first"]
    assert 50 < measured["peak_mib"] < 5_000
    assert set(measured["means"]) == {"reward", "credit", "entropy"}


def test_a_point_that_fails_says_why():
    with pytest.raises(RuntimeError, match="allowed: sdpo"):
        measure(Point({"algorithm": ["sdqo"]}, 1, 1))


@pytest.mark.parametrize("count", [2, 100])
def test_a_point_with_more_or_fewer_algorithms_registered(count):
    known = dict(ALGORITHMS)
    try:
        _register(count, ["rlhf"])
        assert len(ALGORITHMS) == count
        assert ALGORITHMS["rlhf"] is known["rlhf"]
    finally:
        ALGORITHMS.clear()
        ALGORITHMS.update(known)


def fake_measure(point: Point) -> dict:
    """As if 1,000 runs took a second, and a run 100 bytes."""
    seconds = [point.runs / 1000 * stretch for stretch in (1.0, 1.25, 0.8)]
    start = dict.fromkeys(("import", "trace", "lower", "compile", "first"), 1.0)
    means = dict.fromkeys(("reward", "credit", "entropy"), 0.5)
    peak = 500 + point.runs * 100 / 2**20
    return {"runs": point.runs, "seconds": seconds, **start, "peak_mib": peak, "means": means}


def page(folder: Path, name: str) -> tuple[dict, str]:
    whole = json.loads((folder / f"{name}.json").read_text())
    return whole, (folder / f"{name}.md").read_text()


def test_throughput_writes_data_table_and_figure(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(throughput, "measure", fake_measure)
    out = tmp_path / "new" / "throughput.json"
    arguments = ["throughput", "--algorithm", "sdpo", "--runs", "800", "--json", str(out)]
    assert main(arguments) == 0
    whole, text = page(out.parent, "throughput")
    assert [each["oracle"] for each in whole["results"]] == [
        "binary", "ordinal", "continuous", "critique",
    ]  # fmt: skip
    assert [each["runs"] for each in whole["results"]] == [800, 800, 800, 100]
    assert "| sdpo, binary | 1,000 (800-1,250) |" in text
    assert whole["command"] in text
    assert whole["machine"]["cores"] >= 1
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert text == capsys.readouterr().out.removesuffix("\n")


def test_scaling_tells_how_flat_it_is(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(scaling, "measure", fake_measure)
    monkeypatch.setattr(scaling, "platform", lambda: "cpu")
    assert main(["scaling", "--only", "runs", "steps", "--json", str(tmp_path / "s.json")]) == 0
    whole, text = page(tmp_path, "s")
    assert [each["value"] for each in whole["results"]["runs"]] == [10**k for k in range(2, 7)]
    assert set(whole["results"]) == {"runs", "steps"}
    assert "From 1,000 to 1,000,000 runs the cost of a run varies by 0.0%" in text
    # 95.4 MiB on 501.
    assert "from 10,000 to 1,000,000 the peak of memory changes by +18.8%" in text


def test_scaling_varies_one_thing_at_a_time():
    for name, chosen in scaling.points("hybrid", "critique", 10_000, 3, "cpu").items():
        assert name in scaling.AXES
        for value, point in chosen:
            assert point.axes["algorithm"][0] == "hybrid"
            varied = {
                "runs": point.runs,
                "algorithms": len(point.axes["algorithm"]),
                "registered": point.registered,
                "devices": point.devices,
                "block_width": point.block_width,
            }
            assert value == varied.get(name, point.sizes.get(name))
            assert set(point.sizes) <= {name}


def test_start_up_times_a_process():
    seconds, peak = startup.timed(["-c", "x = bytearray(64 * 2**20); x[::4096] = x[::4096]"])
    assert seconds > 0
    assert peak > 64
    with pytest.raises(RuntimeError, match="no such thing"):
        startup.timed(["-c", "raise SystemExit('no such thing')"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("throughput --algorithm sdqo", "--algorithm: 'sdqo'; allowed: sdpo"),
        ("throughput --oracle ternary", "--oracle: 'ternary'; allowed: binary"),
        ("throughput --runs 0", "--runs: 0; allowed: 1 or more"),
        ("peers --repeats 0", "--repeats: 0; allowed: 1 or more"),
        ("peers --seconds 0", "--seconds: 0.0; allowed: above 0"),
        ("scaling --only stesp", "--only: 'stesp'; allowed: runs, steps"),
        ("scaling --runs 10", "--runs: 10; allowed: 100 or more"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments: str, words: str):
    assert main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {words}")
    assert error.count("\n") == 1


def test_the_fingerprint_names_machine_and_versions():
    found = fingerprint()
    assert found["jax"]
    assert found["memory_gib"] > 0
    assert f"{found['cores']} cores" in described(found)
    gpu = {**found, "platform": "gpu", "kind": "Big GPU", "devices": 2}
    assert described(gpu).startswith("2 x Big GPU (")


def test_median_and_range():
    found = spread([3.0, 1.0, 2.0, 10.0])
    assert found == {"median": 2.5, "least": 1.0, "largest": 10.0}
    assert shown(found, 1) == "2.5 (1.0-10.0)"
    assert bars([found]) == ([2.5], [[1.5], [7.5]])


def test_a_table_has_as_many_cells_in_every_row():
    lines = table(["a", "b"], [["x", "1"], ["y", "2"]]).splitlines()
    assert {len(re.findall(r"\|", line)) for line in lines} == {3}


def test_a_page_without_a_figure_shows_none(tmp_path: Path):
    Output("mine", "Mine", "command", tmp_path / "mine.json").save("body\n", [1])
    assert "![" not in (tmp_path / "mine.md").read_text()
    assert not (tmp_path / "mine.png").exists()
