"""The persistent compilation cache: whose it is, where it lies, and who may switch it off."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.system import cache

COMPILE = """
import sys, jax
from sweeps.system import cache
print(cache.enable())
print(jax.jit(lambda x: 2 * x + 1)(20).item())
"""


def run(code: str, home: Path, **environment: str) -> list[str]:
    """What a process prints that has ``home`` as its cache folder and JAX's own default."""
    return process(code, home, **environment).stdout.splitlines()


def process(code: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "XDG_CACHE_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_programs_are_kept_in_a_folder_of_the_user_alone(tmp_path: Path):
    folder = tmp_path / "sdpo_jax"
    assert run(COMPILE, tmp_path) == [str(folder), "41"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    kept = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert kept
    # A second process compiles nothing: it adds nothing.
    run(COMPILE, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == kept


def test_a_half_written_program_is_replaced_without_a_warning(tmp_path: Path):
    folder = tmp_path / "sdpo_jax"
    run(COMPILE, tmp_path)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name, content in whole.items():
        (folder / name).write_bytes(content[: len(content) // 2])
    for _ in range(2):
        outcome = process(COMPILE, tmp_path)
        assert outcome.stdout.splitlines() == [str(folder), "41"]
        assert outcome.stderr == ""
        # Whole again: as long as before, but for the time of compilation in it.
        for name, content in whole.items():
            assert abs((folder / name).stat().st_size - len(content)) < 32


def test_other_warnings_are_shown(tmp_path: Path):
    code = f"{COMPILE}\nimport warnings; warnings.warn('mind the gap')"
    assert "mind the gap" in process(code, tmp_path).stderr


def test_the_library_alone_keeps_nothing(tmp_path: Path):
    code = "import jax, sdpo_jax; print(jax.jit(lambda x: 2 * x)(sdpo_jax.Config().kl_weight))"
    assert run(code, tmp_path) == ["0.02"]
    assert not any(tmp_path.iterdir())


def test_jax_own_switch_turns_it_off(tmp_path: Path):
    assert run(COMPILE, tmp_path, JAX_ENABLE_COMPILATION_CACHE="0")[0] == "None"
    assert not any(tmp_path.iterdir())


def test_a_folder_that_the_user_chose_stands(tmp_path: Path):
    mine = tmp_path / "mine"
    assert run(COMPILE, tmp_path / "other", JAX_COMPILATION_CACHE_DIR=str(mine))[0] == "None"
    assert not (tmp_path / "other").exists()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch):
    """The settings that ``enable`` makes, which are undone."""
    import jax

    made = {}
    monkeypatch.setattr(jax.config, "update", made.__setitem__)
    monkeypatch.setattr(type(jax.config), "jax_enable_compilation_cache", True)
    monkeypatch.setattr(type(jax.config), "jax_compilation_cache_dir", None)
    return made


def test_the_folder_of_an_earlier_run_is_taken(home: Path, settings: dict):
    assert cache.enable() == cache.enable() == home / "sdpo_jax"
    assert settings["jax_compilation_cache_dir"] == str(home / "sdpo_jax")


def test_a_folder_that_others_may_write_is_refused(home: Path, settings: dict, capsys):
    (home / "sdpo_jax").mkdir()
    (home / "sdpo_jax").chmod(0o777)
    assert cache.enable() is None
    assert not settings
    assert "are not kept" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["a link", "a file"])
def test_what_is_no_folder_is_refused(home: Path, settings: dict, kind: str):
    target = home / "elsewhere"
    target.mkdir()
    if kind == "a link":
        (home / "sdpo_jax").symlink_to(target)
    else:
        (home / "sdpo_jax").touch()
    assert cache.enable() is None
    assert not settings


def test_a_relative_cache_home_is_no_setting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert cache.default_folder().is_relative_to(Path.home())


def test_the_oldest_programs_go_first(tmp_path: Path):
    for age, name in enumerate(["newest", "middle", "oldest"]):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    (tmp_path / "a folder").mkdir()
    cache.prune(tmp_path, 20)
    assert {path.name for path in tmp_path.iterdir()} == {"newest", "middle", "a folder"}
    cache.prune(tmp_path, 20)
    assert len(list(tmp_path.iterdir())) == 3
