"""What the command line says: help, overrides, progress, and what is wrong with a folder."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sdpo_jax import Progress
from sweeps.__main__ import main
from sweeps.file import mistakes, sweepfile
from sweeps.file.overrides import overridden
from sweeps.report.display import Display, PaperDisplay, console

COMMANDS = (
    "run", "plan", "status", "resume", "prepare", "work", "render", "explore", "export", "replay",
    "reproduce", "calibrate", "posterior", "audit", "in_context",
)  # fmt: skip

FILE = """
# A comment.
[base]
noise = 0.1
[axes]
algorithm = ["sdpo"]
seed = { count = 2 }
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_each_option_has_one_default_in_its_help(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert "None" not in text
    # An option begins a line with its name; what is said of it ends where the next one begins.
    options = re.split(r"(?m)^\W*?(?=--?[a-z])", text)[1:]
    assert len(options) >= 1
    for option in options:
        assert " ".join(option.split()).count("default:") <= 1, option


@pytest.mark.parametrize("arguments", [["--help"], ["status", "results/paper"]])
def test_who_stops_reading_gets_no_traceback(arguments):
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeps", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate()
    assert (process.returncode, said) == (128 + signal.SIGPIPE, b"")


def test_values_of_a_file_are_set_by_their_keys():
    text = overridden(FILE, ["base.noise=0.2", "axes.noise = [0.0, 0.3]", "base.optimizer=adam"])
    tables = tomllib.loads(text)
    assert tables["base"] == {"noise": 0.2, "optimizer": "adam"}
    assert tables["axes"] == {
        "algorithm": ["sdpo"], "seed": {"count": 2}, "noise": [0.0, 0.3],
    }  # fmt: skip
    assert overridden(FILE, []) == FILE


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("base.noise", "'base.noise'; allowed: KEY=VALUE"),
        ("=3", "'=3'; allowed: KEY=VALUE"),
        ("base..noise=3", "allowed: KEY=VALUE"),
        ("base.noise=[1", "allowed: a value as in TOML"),
        ("base.noise.more=1", "noise is a value in the file; allowed: the key of a value"),
    ],
)
def test_what_cannot_be_set_is_said_in_a_line(setting, message):
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        overridden(FILE, [setting])
    assert str(raised.value).startswith("--set: ") and "\n" not in str(raised.value)


def test_a_changed_value_is_checked_like_the_files_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FILE)
    (grid,) = sweepfile.read(path, ["base.noise=0.2"]).grids.values()
    assert grid.options["config"].noise == 0.2
    with pytest.raises(mistakes.SweepError, match=r"base\.nois: unknown field"):
        sweepfile.read(path, ["base.nois=0.2"])
    with pytest.raises(mistakes.SweepError, match=r"base\.noise: -1"):
        sweepfile.read(path, ["base.noise=-1"])


@pytest.mark.parametrize("made", ["missing", "file", "empty"])
def test_what_is_no_folder_of_results_is_named_for_what_it_is(made, tmp_path, capsys):
    path = tmp_path / "here"
    if made == "file":
        path.write_text("x")
    elif made == "empty":
        path.mkdir()
    assert main(["render", str(path)]) == 2
    said = capsys.readouterr().err
    what = {"missing": "no such folder", "file": "not a folder", "empty": "an empty folder"}[made]
    assert f"here: {what}; allowed: a folder that `run`" in said
    assert said.count("\n") == 1


def frames(shown: io.StringIO) -> list[str]:
    """The lines that a terminal was shown, without colours and movements."""
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.getvalue())
    return [line for text in re.split(r"[\r\n]", plain) if (line := text.rstrip())]


def test_the_bar_fits_80_columns_and_says_that_programs_are_compiled():
    shown = io.StringIO()
    display = Display(console(file=shown, force_terminal=True, width=80))
    with display:
        display.start("a sweep with a name that is too long for a bar", 0, 1_000_000)
        display._bar.refresh()
        assert any("compiling" in line for line in frames(shown))
        display._shown = -1.0
        display.advance(Progress("block", "advantage_weighted, continuous", 512, 1_000_000, 1.0))
        display._bar.refresh()
    lines = frames(shown)
    assert all(len(line) <= 80 for line in lines)
    bars = [line for line in lines if "1,000,000" in line]
    assert any("512/1,000,000" in line for line in bars)
    assert any("…" in line for line in bars)


def test_one_bar_counts_the_runs_of_all_experiments():
    shown = io.StringIO()
    display = PaperDisplay(console(file=shown, force_terminal=True, width=80))
    with display:
        display.whole("reproduce", 300)
        for title in ("first", "second"):
            display.begin(title, 100)
            display._shown = -1.0
            display.advance(Progress("block", "sdpo", 100, 100, 1.0))
            display._bar.refresh()
            display.finish(1.0, False)
    lines = frames(shown)
    assert any("100/300" in line for line in lines)
    assert any("200/300" in line for line in lines)
    assert not any("/100" in line for line in lines)
    assert sum(line.startswith("first: 100 runs, 1.0 s") for line in lines) == 1
