"""Two versions are timed in turns, each in a process of its own."""

from __future__ import annotations

import json
import subprocess

import pytest

from benchmarks import versus
from benchmarks.__main__ import main

TINY = versus.Case("reinforce", "binary", 20, {"length": 2, "vocab_size": 3, "steps": 20})


def test_a_version_against_itself(monkeypatch, tmp_path, capsys):
    if subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True).returncode:
        pytest.skip("not a git repository")
    monkeypatch.setattr(versus, "CASES", {"tiny": (TINY,)})
    monkeypatch.setattr(versus, "_STARTS", 1)
    out = tmp_path / "versus.json"
    assert main(["versus", "HEAD", "--repeats", "2", "--json", str(out)]) == 0
    [result] = json.loads(out.read_text())["results"]
    assert result["reward"]["then"] == pytest.approx(result["reward"]["here"], abs=1e-3)
    for name in ("then", "here"):
        assert len(result["seconds"][name]) == 2
        assert 0 < result["compile"][name][0] < result["first"][name][0]
    page = out.with_suffix(".md").read_text()
    assert "reinforce, binary (length 2, vocab_size 3, steps 20)" in page
    assert page in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "papers"], ["--only: 'papers'", "paper, divergences, large"]),
        (["no-such-commit"], ["COMMIT: 'no-such-commit'", "a commit of this repository"]),
    ],
)
def test_what_there_is_not_is_told_before_anything_is_timed(arguments, words, capsys):
    assert main(["versus", *arguments]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words)
