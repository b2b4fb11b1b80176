"""The worked examples run as they are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sdpo_jax import METHODS

ROOT = Path(__file__).parents[1]


def test_adding_a_method(capsys):
    text = (ROOT / "docs/adding_a_method.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 6
    known = dict(METHODS)
    names: dict[str, object] = {}
    try:
        for block in blocks:
            exec(block, names)
    finally:
        METHODS.clear()
        METHODS.update(known)
    assert re.fullmatch(r"[+-]0\.\d{3} \[[+-]0\.\d{3}, [+-]0\.\d{3}\]\n", capsys.readouterr().out)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_what_a_page_points_at_exists(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"`((?:sdpo_jax|sweeps|tests)/[\w/.]+)`", page.read_text()):
        assert (ROOT / name).exists(), name
