"""The rooms of ``sweeps``: who may lean on whom, and what a command imports to begin with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import sweeps
from tests.imports import floors, imports, modules, rooms

ROOT = Path(sweeps.__file__).parent
# Anybody's sweep; and, on these, the studies.
GENERAL = ("system", "provenance", "statistics", "file", "store", "execute", "report")
STUDIES = ("study", "paper", "audit", "calibration", "in_context")
DOORS = ("api", "commands", "__main__")


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent
    )


def test_every_module_stands_in_a_room():
    beside = {path.name for path in ROOT.glob("*.py")}
    assert beside == {"__init__.py", "__main__.py"}
    known = {f"sweeps.{name}" for name in (*GENERAL, *STUDIES, *DOORS)}
    assert {*rooms("sweeps")} == {"sweeps", *known}


def test_no_module_imports_itself_by_way_of_another():
    floors(imports("sweeps"))


def test_the_rooms_stand_on_few_floors_and_none_leans_on_one_above():
    assert max(floors(rooms("sweeps")).values()) <= 9


@pytest.mark.parametrize("name", GENERAL)
def test_what_serves_anybodys_sweep_knows_no_study(name):
    below = {f"sweeps.{each}" for each in GENERAL}
    assert rooms("sweeps")[f"sweeps.{name}"] <= below


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_does_not_know_how_it_is_asked_for(name):
    assert rooms("sweeps")[f"sweeps.{name}"].isdisjoint(f"sweeps.{each}" for each in DOORS)


@pytest.mark.parametrize("name", ["system", "statistics", "provenance"])
def test_the_ground_floor_leans_on_nothing(name):
    assert rooms("sweeps")[f"sweeps.{name}"] == set()


def test_what_all_studies_share_knows_none_of_them():
    known = {f"sweeps.{each}" for each in STUDIES if each != "study"}
    assert rooms("sweeps")["sweeps.study"].isdisjoint(known)
    # The study of networks is not of the paper.
    assert rooms("sweeps")["sweeps.in_context"].isdisjoint(known)


def test_anybodys_sweep_imports_nothing_of_the_paper():
    names = [
        name for name in modules("sweeps") if name.split(".")[1:2] and name.split(".")[1] in GENERAL
    ]
    names += ["sweeps.api.run", "sweeps.api.open", "sweeps.api.join"]
    done = python(
        f"import sys, {', '.join(names)}\n"
        f"print(*(name for name in sys.modules if name.startswith('sweeps.') "
        f"and name.split('.')[1] in {STUDIES!r}))"
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_the_command_line_begins_without_what_a_command_may_need():
    heavy = ("jax", "sdpo_jax", "scipy", "tomli_w", "pandas", "xarray", "matplotlib", "pydantic")
    done = python(
        f"import sys, sweeps.__main__\nprint(*(name for name in {heavy!r} if name in sys.modules))"
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize("name", modules("sweeps"))
def test_every_module_says_what_it_is(name):
    path = modules("sweeps")[name]
    assert path.read_text(encoding="utf-8").startswith('"""'), path
