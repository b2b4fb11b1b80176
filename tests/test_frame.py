"""The frame: the lock, the wheel, and the environment that the Makefile builds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCK = "requirements.lock"
LOCKS = (LOCK, "requirements-bench.lock", "requirements-torch.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# A stand-in for an interpreter: `-m venv DIR` makes DIR with a stand-in of its own, every other
# call is written to a log. Asked to install from the lock, it fails while a file `broken` exists.
INTERPRETER = r"""#!/bin/sh
here={here}
case "$*" in
  *"-m venv"*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; echo venv >> $here/log ;;
  *--require-hashes*) echo locked >> $here/log; touch $here/.venv/half; test ! -e $here/broken ;;
  *"-e ."*) echo editable >> $here/log ;;
esac
"""

# This interpreter under another version number, for `-c CODE`; `without` can't be imported.
OTHER_VERSION = """#!/bin/sh
exec {python} -c 'import sys; sys.version_info = {version}; sys.modules.update({without}); \
exec(sys.argv[1])' "$2"
"""


def locked(name: str = LOCK) -> dict[str, tuple[Requirement, str]]:
    """Each requirement of a lock with the text of its entry, by its normalised name."""
    entries = re.split(r"\n(?=\S)", (ROOT / name).read_text().strip())
    parsed = [(Requirement(entry.split("\\")[0].strip()), entry) for entry in entries]
    return {requirement.name: (requirement, entry) for requirement, entry in parsed}


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in a folder, free of what a surrounding make was called with."""
    inherited = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"}
    ours = {"SEEDS", "OUT", "QUICK", "PYTHON", "TORCH"}
    environment = {k: v for k, v in os.environ.items() if k not in inherited | ours}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the files that the set-up reads, and the stand-in interpreter `python`."""
    for name in ("Makefile", *LOCKS, "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    write_program(tmp_path / "python", INTERPRETER.format(here=tmp_path))
    return tmp_path


def set_up(checkout: Path) -> tuple[int, list[str]]:
    """The exit status of a set-up, and what it did."""
    log = checkout / "log"
    log.unlink(missing_ok=True)
    outcome = make(checkout, ".venv/.ready", f"PYTHON={checkout / 'python'}")
    return outcome.returncode, log.read_text().split() if log.exists() else []


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def write_version(path: Path, version: tuple[int, int], without: str = "") -> None:
    modules = f'{{"{without}": None}}' if without else "{}"
    write_program(
        path, OTHER_VERSION.format(python=sys.executable, version=version, without=modules)
    )


def make_newer(path: Path, than: Path) -> None:
    later = than.stat().st_mtime + 10
    os.utime(path, (later, later))


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_and_hashes_every_entry(lock: str):
    for name, (requirement, entry) in locked(lock).items():
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), name
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), name


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_host_and_no_path(lock: str):
    for line in (ROOT / lock).read_text().splitlines():
        assert re.match(r"[a-z0-9][a-z0-9.-]*==\S+ |    --hash=sha256:[0-9a-f]{64}", line), line
        assert "/" not in line, line


def test_lock_satisfies_every_requirement():
    pins = locked()
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    wants = project["dependencies"] + extras["dev"] + extras["export"]
    for text in wants + PROJECT["build-system"]["requires"]:
        wanted = Requirement(text)
        pin, _ = pins[wanted.name]
        assert wanted.specifier.contains(str(pin.specifier).removeprefix("==")), text
        assert pin.marker is None, f"{pin}: left out on some platforms"


@pytest.mark.parametrize("extra", ["bench", "torch"])
def test_lock_of_an_extra_satisfies_it_and_agrees_with_the_first(extra: str):
    pins, first = locked(f"requirements-{extra}.lock"), locked()
    for text in PROJECT["project"]["optional-dependencies"][extra]:
        wanted = Requirement(text)
        pin, _ = pins[wanted.name]
        assert wanted.specifier.contains(str(pin.specifier).removeprefix("==")), text
    for name in pins.keys() & first.keys():
        assert pins[name][0].specifier == first[name][0].specifier, name


def test_lock_needs_no_other_version_on_a_newer_python():
    # One version of each package, whatever the Python; a backport may be left out on a newer one.
    entries = re.split(r"\n(?=\S)", (ROOT / LOCK).read_text().strip())
    assert len(entries) == len(locked())
    for name, (requirement, _) in locked().items():
        marker = requirement.marker or Marker("python_version >= '3.11'")
        needed = [
            marker.evaluate({"python_full_version": f"{v}.0", "python_version": v})
            for v in ("3.11", "3.12", "3.13")
        ]
        assert needed == sorted(needed, reverse=True), name


def test_wheel_holds_every_file_of_both_packages(tmp_path: Path):
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {
        path.relative_to(ROOT).as_posix()
        for package in ("sdpo_jax", "sweeps")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == sources
    assert {"sweeps/paper/published.json", "sweeps/paper/report.html.j2"} <= packed


def test_set_up_runs_once(checkout: Path):
    assert set_up(checkout) == (0, ["venv", "locked", "editable"])
    assert set_up(checkout) == (0, [])


def test_set_up_that_failed_half_way_is_begun_anew(checkout: Path):
    (checkout / "broken").touch()
    assert set_up(checkout) == (2, ["venv", "locked"])
    (checkout / ".venv/left-over").touch()
    (checkout / "broken").unlink()
    assert set_up(checkout) == (0, ["venv", "locked", "editable"])
    assert not (checkout / ".venv/left-over").exists()


def test_a_new_lock_builds_the_environment_anew(checkout: Path):
    set_up(checkout)
    (checkout / ".venv/left-over").touch()
    make_newer(checkout / "requirements.lock", than=checkout / ".venv/.ready")
    assert set_up(checkout) == (0, ["venv", "locked", "editable"])
    assert not (checkout / ".venv/left-over").exists()


def test_a_new_pyproject_only_installs_the_project_again(checkout: Path):
    set_up(checkout)
    make_newer(checkout / "pyproject.toml", than=checkout / ".venv/.ready")
    assert set_up(checkout) == (0, ["editable"])


@pytest.mark.parametrize(
    ("version", "without", "problem"),
    [
        ((3, 10), "", "is missing or too old; allowed: Python 3.11 or newer"),
        ((3, 11), "ensurepip", "has no venv module"),
    ],
)
def test_an_interpreter_that_cannot_serve_is_named_in_one_line(
    checkout: Path, version: tuple[int, int], without: str, problem: str
):
    python = checkout / "python"
    write_version(python, version, without)
    outcome = make(checkout, "lint", f"PYTHON={python}")
    ours = [line for line in outcome.stderr.splitlines() if not line.startswith("make")]
    assert outcome.returncode == 2
    assert len(ours) == 1
    assert ours[0].startswith(f"PYTHON: {python} ")
    assert problem in ours[0]
    assert not (checkout / ".venv").exists()


def test_the_first_interpreter_that_can_serve_is_taken(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
):
    programs = checkout / "programs"
    programs.mkdir()
    write_version(programs / "python3", (3, 10))
    write_version(programs / "python3.13", (3, 13), without="ensurepip")
    write_version(programs / "python3.12", (3, 12))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    outcome = make(checkout, "-n", "lint")
    assert "python='python3.12'" in outcome.stdout


@pytest.mark.parametrize(
    ("variables", "arguments"),
    [
        ([], "reproduce"),
        (["SEEDS=64", "OUT=some where"], "reproduce --seeds 64 --out some where"),
        (["QUICK=1"], "reproduce --quick"),
        (["QUICK=0"], "reproduce"),
    ],
)
def test_reproduce_passes_its_variables_on(checkout: Path, variables: list[str], arguments: str):
    set_up(checkout)
    (checkout / ".venv/bin/python").write_text('#!/bin/sh\necho "$*"\n')
    outcome = make(checkout, "reproduce", *variables)
    assert outcome.returncode == 0
    assert outcome.stdout.split() == ["-m", "sweeps", *arguments.split()]


BENCHMARKS = ["throughput", "peers", "scaling", "breakdown", "startup"]


def bench(checkout: Path, *variables: str, torch: bool) -> list[list[str]]:
    """What ``make bench`` runs in an environment with or without PyTorch, argument by argument."""
    set_up(checkout)
    write_program(
        checkout / ".venv/bin/python",
        f'#!/bin/sh\ntest "$2" != "import torch" || exit {0 if torch else 1}\necho "$*"\n',
    )
    outcome = make(checkout, "bench", *variables)
    assert outcome.returncode == 0
    return [line.split() for line in outcome.stdout.splitlines()]


def installed(lines: list[list[str]]) -> list[str]:
    return [line[-1] for line in lines if "install" in line]


def test_bench_installs_what_it_compares_with_and_runs_all(checkout: Path):
    lines = bench(checkout, torch=False)
    assert installed(lines) == ["requirements-bench.lock", "requirements-torch.lock"]
    assert [line[1:] for line in lines[2:]] == [["benchmarks", name] for name in BENCHMARKS]
    assert not installed([line.split() for line in make(checkout, "bench").stdout.splitlines()])


def test_bench_takes_the_pytorch_that_is_there(checkout: Path):
    assert installed(bench(checkout, torch=True)) == ["requirements-bench.lock"]


def test_bench_can_do_without_pytorch(checkout: Path):
    assert installed(bench(checkout, "TORCH=0", torch=False)) == ["requirements-bench.lock"]


def test_a_quick_bench_leaves_the_results_alone(checkout: Path):
    lines = bench(checkout, "QUICK=1", "TORCH=0", torch=False)[1:]
    assert [line[-1] for line in lines] == [f"build/benchmarks/{name}.json" for name in BENCHMARKS]


def test_help_lists_every_command():
    named = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert named is not None
    outcome = make(ROOT, "help")
    for command in set(named[1].split()) - {"help"}:
        assert f"make {command}" in outcome.stdout
