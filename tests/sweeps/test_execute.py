"""Several processes on one sweep: claims, job arrays, a Dask cluster, other processors."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

import sweeps
from benchmarks import kills, many
from sweeps.__main__ import main
from sweeps.execute import Lost, cluster, worker
from sweeps.execute import claims as claiming
from sweeps.execute.claims import Claims
from sweeps.execute.work import part_of, work
from sweeps.provenance import machine, sources
from sweeps.store import ownership, tasks
from sweeps.store.folder import Folder
from sweeps.system.interrupts import Control
from sweeps.system.processes import Process
from sweeps.system.writing import locked

BASE = """
[base]
length = 3
vocab_size = 4
rollouts = 4
steps = 40
"""
# In blocks of as many runs as a process of its own makes them.
SWEEP = (
    BASE
    + """
[axes]
algorithm = ["reinforce", "advantage_weighted"]
seed = { count = 12000 }
"""
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "sweep.toml"
    path.write_text(SWEEP)
    return path


@pytest.fixture(scope="module")
def expected(file, tmp_path_factory):
    """The files of a run by one process."""
    out = tmp_path_factory.mktemp("local") / "out"
    assert main(["run", str(file), "--out", str(out)]) == 0
    return kills.contents(out)


@pytest.fixture
def out(file, tmp_path, capsys):
    """A folder that is ready to be worked on."""
    assert main(["prepare", str(file), "--out", str(tmp_path / "out")]) == 0
    assert "24,000 runs in 6 blocks" in capsys.readouterr().out
    return tmp_path / "out"


def sweeps_process(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "sweeps", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def eventually(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def block_files(out):
    return sorted((out / "data").glob("[!.]*.block"))


# Claims.


def claim(path, process, deaths=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"process": str(process), "deaths": deaths}))


def gone():
    """A process of this machine that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    return Process(Process.here().machine, child.pid, 1)


def test_a_block_is_taken_once(tmp_path):
    with Claims(tmp_path / "claims") as one, Claims(tmp_path / "claims") as other:
        assert one.take("a")
        assert not other.take("a")
        assert other.take("b")
        one.release("a")
        assert other.take("a")
    assert not (tmp_path / "claims").exists()


def test_a_claim_of_who_is_gone_is_taken_over_but_not_for_ever(tmp_path):
    left = gone()
    for deaths in range(claiming.MOST_DEATHS - 1):
        claim(tmp_path / "claims" / "a", left, deaths)
        with Claims(tmp_path / "claims") as mine:
            assert not mine.take("a")
            assert mine.suspects == {"a"}
            assert mine.take("a", suspect=True)
            assert json.loads((tmp_path / "claims" / "a").read_text())["deaths"] == deaths + 1
    claim(tmp_path / "claims" / "a", left, claiming.MOST_DEATHS - 1)
    with Claims(tmp_path / "claims") as mine:
        assert not mine.take("a")
        assert mine.given_up == {"a": claiming.MOST_DEATHS}


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"process": 3}', '{"process": "x"}'])
def test_a_claim_of_another_machine_holds_until_nothing_is_heard_of_it(tmp_path, text):
    path = tmp_path / "claims" / "a"
    claim(path, Process("0" * 8, 1, 1))
    if text is not None:
        path.write_text(text)
    with Claims(tmp_path / "claims") as mine:
        assert not mine.take("a")
        before = time.time() - claiming._ABANDONED - 1
        os.utime(path, (before, before))
        assert mine.take("a", suspect=True)


def test_a_claim_is_kept_alive(tmp_path, monkeypatch):
    monkeypatch.setattr(claiming, "_BEAT", 0.01)
    with Claims(tmp_path / "claims") as mine:
        assert mine.take("a")
        path = tmp_path / "claims" / "a"
        os.utime(path, (0, 0))
        eventually(lambda: path.stat().st_mtime > 0, 10)


def test_many_threads_take_each_block_once(tmp_path):
    names = [f"{number:03}" for number in range(50)]
    found = []

    def take():
        with Claims(tmp_path / "claims") as mine:
            taken = [name for name in names if mine.take(name)]
            found.append(taken)
            barrier.wait(60)

    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for taken in found for name in taken) == names


# Work.


def test_the_parts_of_a_sweep_are_apart_and_make_the_whole(out, expected):
    seen = set()
    for part in ("1/3", "3/3", "2/3"):
        before = set(block_files(out))
        assert main(["work", str(out), "--shard", part]) == 0
        new = set(block_files(out)) - before
        assert len(new) == 2
        assert not seen & new
        seen |= new
    assert kills.contents(out) == expected
    assert main(["work", str(out)]) == 0
    assert kills.contents(out) == expected


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "a/b", "1/2/3", "-1/3", "", "1 / 3"])
def test_a_part_that_is_none_is_refused(out, text, capsys):
    with pytest.raises(ValueError, match=r"^--shard: .*; allowed: I/N, from 1/N to N/N$"):
        part_of(text)
    assert main(["work", str(out), f"--shard={text}"]) == 2
    assert capsys.readouterr().err.startswith("error: --shard: ")


def test_work_needs_a_folder_that_was_begun(tmp_path, capsys):
    assert main(["work", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "empty").mkdir()
    assert main(["work", str(tmp_path / "empty")]) == 2
    assert "no sweep there" in capsys.readouterr().err


def test_a_damaged_block_of_ones_part_is_computed_again(out, expected):
    assert main(["work", str(out)]) == 0
    block = block_files(out)[0]
    block.write_bytes(block.read_bytes()[:-1] + b"x")
    for part in ("1/2", "2/2"):
        assert main(["work", str(out), "--shard", part]) == 0
    assert kills.contents(out) == expected


def test_a_damaged_block_is_computed_again_by_a_worker_of_a_cluster(out, expected):
    assert main(["work", str(out)]) == 0
    block = block_files(out)[0]
    block.write_bytes(block.read_bytes()[:-1] + b"x")
    (call,) = worker.calls(Folder.open(out), {block.stem})
    assert call.function(*call.arguments) > 0
    assert kills.contents(out) == expected


@pytest.mark.parametrize("name", ["EBADF", "ENOSYS", "ENOLCK"])
def test_without_locks_two_work_on_one_folder_and_lose_nothing(
    out, expected, capsys, monkeypatch, name
):
    def unsupported(*_):
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    other = threading.Thread(target=lambda: work(out))
    other.start()
    assert main(["resume", str(out)]) == 0
    other.join()
    assert capsys.readouterr().err.count("can't be locked") == 2
    found = kills.contents(out)
    assert {name: found[name] for name in expected} == expected
    assert not [path for path in found if "partial" in path]


def test_what_is_only_prepared_is_computed_by_any_code(out, file, capsys, monkeypatch):
    monkeypatch.setattr(sources, "library_digest", lambda: "other")
    # By whoever comes first, of several commands.
    assert main(["prepare", str(file), "--out", str(out)]) == 0
    assert Folder.open(out).manifest.fingerprints[0]["source"] == "other"
    monkeypatch.setattr(sources, "library_digest", lambda: "a third")
    assert main(["work", str(out), "--shard", "1/6"]) == 0
    (found,) = Folder.open(out).manifest.fingerprints
    assert found["source"] == "a third"
    assert len(Folder.open(out).blocks.survey().done) == 1
    # Now something is computed.
    monkeypatch.setattr(sources, "library_digest", lambda: "a fourth")
    for command in (["work", str(out)], ["resume", str(out)]):
        assert main(command) == 2
        assert "computed with other code of sdpo_jax" in capsys.readouterr().err


def test_another_machine_at_work_keeps_its_fingerprint(out, monkeypatch):
    monkeypatch.setattr(sources, "library_digest", lambda: "other")
    before = Folder.open(out).manifest
    with locked(out, shared=True):
        ownership.adopt(out)
    assert Folder.open(out).manifest == before
    ownership.adopt(out)
    assert Folder.open(out).manifest.fingerprints[0]["source"] == "other"


@pytest.mark.parametrize("command", ["prepare", "run"])
def test_another_sweep_s_folder_is_refused(out, tmp_path, capsys, command):
    before = kills.contents(out)
    other = tmp_path / "other.toml"
    other.write_text(SWEEP.replace("steps = 40", "steps = 41"))
    assert main([command, str(other), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"--out: {out} holds the sweep 'sweep', which shares no run with 'other'" in said
    assert kills.contents(out) == before
    # One that has grown is the same, whatever it is called.
    other.write_text(SWEEP.replace("12000", "12001"))
    assert main(["prepare", str(other), "--out", str(out)]) == 0


def test_status_says_who_is_at_work_and_nothing_else_to_do(out, capsys):
    assert main(["status", str(out)]) == 0
    assert "go on with" in capsys.readouterr().out
    with locked(out, shared=True):
        assert main(["status", str(out)]) == 0
        said = capsys.readouterr().out
    assert "at work" in said and "go on with" not in said
    # Where there are no locks, by its claims.
    claim(out / "data" / "claims" / "a", Process.here())
    assert main(["status", str(out)]) == 0
    said = capsys.readouterr().out
    assert "at work" in said and "go on with" not in said
    claim(out / "data" / "claims" / "a", gone())
    assert main(["status", str(out)]) == 0
    assert "go on with" in capsys.readouterr().out


def test_status_looks_once(out, capsys, monkeypatch):
    """Blocks that are written between two looks would make it say two things."""
    assert main(["work", str(out), "--shard", "1/3"]) == 0
    capsys.readouterr()
    survey = Folder.open(out).blocks.survey()
    survey_of = tasks.Blocks.survey

    def surveyed(self):
        found = survey_of(self)
        # Another process goes on.
        assert main(["work", str(out), "--shard", "2/3"]) == 0
        capsys.readouterr()
        return found

    monkeypatch.setattr(tasks.Blocks, "survey", surveyed)
    assert main(["status", str(out)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    done = sum(len(t.keys) for t in Folder.open(out).blocks.tasks if t.identity in survey.done)
    assert f"{done:,} of 24,000 done" in said
    assert f"{24000 - done:,} unfinished" in said


def test_run_and_work_do_not_meet(out, capsys):
    with locked(out, shared=True):
        assert main(["resume", str(out)]) == 2
        assert "another process is at work there" in capsys.readouterr().err
    with locked(out):
        assert main(["work", str(out)]) == 2
        assert "another process is at work there" in capsys.readouterr().err


def test_processes_that_are_killed_or_told_to_stop_lose_nothing(out, expected):
    children = [sweeps_process("work", out) for _ in range(2)]
    eventually(lambda: block_files(out) or any(child.poll() is not None for child in children))
    children[0].kill()
    children[1].send_signal(signal.SIGTERM)
    _, said = children[1].communicate()
    done = len(block_files(out)) == 6
    assert children[1].returncode == (0 if done else 128 + signal.SIGTERM), said
    children[0].communicate()
    # Its claims are taken over or removed, and so is what it was writing.
    assert main(["work", str(out)]) == 0
    assert kills.contents(out) == expected


def test_a_block_that_ended_three_processes_is_left_alone_and_named(out, expected, capsys):
    left = gone()
    names = sorted(name for name in expected if name.endswith(".block"))
    deadly, suspect = (name.removeprefix("data/").removesuffix(".block") for name in names[:2])
    claim(out / "data" / "claims" / deadly, left, claiming.MOST_DEATHS - 1)
    claim(out / "data" / "claims" / suspect, left)
    assert main(["work", str(out)]) == 1
    told = capsys.readouterr()
    assert f"1 blocks were left alone, for each ended several processes: {deadly};" in told.err
    assert len(block_files(out)) == 5
    # Whoever has the folder alone tries again.
    assert main(["resume", str(out)]) == 0
    assert kills.contents(out) == expected


# Other processors.


def another_processor(monkeypatch, name="Another Processor"):
    device = machine.device()
    monkeypatch.setattr(machine, "device", lambda: {**device, "processor": name})


def test_another_processor_of_the_same_instruction_set_goes_on(out, expected, capsys, monkeypatch):
    mine = machine.device()["processor"]
    assert main(["work", str(out), "--shard", "1/3"]) == 0
    with monkeypatch.context() as patch:
        another_processor(patch)
        assert main(["work", str(out), "--shard", "2/3"]) == 0
    assert main(["work", str(out)]) == 0
    assert len(list((out / "data" / "fingerprints").iterdir())) == 1
    capsys.readouterr()
    assert main(["status", str(out)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    # Every third block, of six: one whole one and the last of its algorithm.
    counts = dict(zip(("here", "there"), re.findall(r"([\d,]+) runs by", said), strict=True))
    assert sum(int(count.replace(",", "")) for count in counts.values()) == 24000
    assert "Another Processor" in said
    assert mine in said
    # The numbers are the same but for who is named in the blocks.
    assert sweeps.open(out).finished.all()
    assert {path.name for path in block_files(out)} == {
        name.removeprefix("data/") for name in expected if name.endswith(".block")
    }
    with monkeypatch.context() as patch:
        another_processor(patch)
        block_files(out)[0].unlink()
        assert main(["resume", str(out)]) == 0
        assert "goes on on Another Processor" in capsys.readouterr().err
    assert sweeps.open(out).finished.all()


@pytest.mark.parametrize("damage", ["{", "[]", "{}", "null"])
def test_a_fingerprint_that_is_none_lets_nothing_count(out, monkeypatch, damage):
    with monkeypatch.context() as patch:
        another_processor(patch)
        assert main(["work", str(out), "--shard", "1/6"]) == 0
    (path,) = (out / "data" / "fingerprints").iterdir()
    path.write_text(damage)
    survey = Folder.open(out).blocks.survey()
    assert (len(survey.done), len(survey.other)) == (0, 1)
    assert main(["work", str(out)]) == 0
    assert sweeps.open(out).finished.all()


def test_other_code_or_settings_may_not_work_beside(out, capsys, monkeypatch):
    assert main(["work", str(out), "--shard", "1/6"]) == 0
    before = kills.contents(out)
    with monkeypatch.context() as patch:
        patch.setattr(sources, "library_digest", lambda: "other")
        assert main(["work", str(out)]) == 2
    assert "computed with other code of sdpo_jax; allowed: the same" in capsys.readouterr().err
    with sweeps_process(
        "work", out, env={**os.environ, "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"}
    ) as child:
        _, said = child.communicate()
    assert child.returncode == 2
    assert "XLA_FLAGS xla_cpu_max_isa (none, now SSE4_2)" in said
    assert kills.contents(out) == before


CODE = '''
"""What it is for."""
# Why.
def double(x, /, factor=2.0):
    """Twice."""
    return factor * x  # or another multiple


class Doubling:
    """A class."""

    def __call__(self, x):
        """Twice."""
        assert x is not None
        return double(x)
'''


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("# Why.\n", "", False),
        ("Twice", "Two times", False),
        ("What it is for", "What for", False),
        ('    """Twice."""\n    return factor', "    return factor", False),
        ("        assert x is not None\n", "", False),
        ("\n\nclass", "\n\n\n\nclass", False),
        ("factor=2.0", "factor=3.0", True),
        ("factor", "weight", True),
        ("factor * x", "factor + x", True),
        ("x, /,", "x,", True),
        ("return double(x)", "return -double(x)", True),
    ],
)
def test_comments_and_docstrings_are_not_part_of_the_code(tmp_path, old, new, counts):
    assert old in CODE
    path = tmp_path / "code.py"
    digests = []
    for text in (CODE, CODE.replace(old, new)):
        path.write_text(text)
        digests.append(sources.digest_of_file(path))
    assert (digests[0] != digests[1]) == counts


def test_the_library_s_digest_is_of_its_code(monkeypatch):
    assert sources.library_digest.__wrapped__() == sources.library_digest()
    files = sources._library()
    monkeypatch.setattr(sources, "_library", lambda: files[1:])
    assert sources.library_digest.__wrapped__() != sources.library_digest()


# A cluster.


@contextlib.contextmanager
def dask_cluster(path, workers=2, environment=None):
    """A scheduler and workers, begun with Dask's own commands: its address, they, and one more."""
    with contextlib.ExitStack() as stack:

        def start(*arguments):
            child = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=path,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip
            stack.callback(child.wait)
            stack.callback(child.kill)
            return child

        place = path / "scheduler.json"
        scheduler = start("scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1",
                          "--scheduler-file", str(place))  # fmt: skip
        eventually(lambda: many.address_in(place) is not None)

        def another():
            return start("worker", "--scheduler-file", str(place), "--nthreads", "1",
                         "--no-dashboard", "--no-nanny")  # fmt: skip

        children = [scheduler, *(another() for _ in range(workers))]
        yield many.address_in(place), children, another


def test_a_cluster_makes_the_same_bytes_and_loses_a_worker_without_harm(file, tmp_path, expected):
    with dask_cluster(tmp_path) as (address, workers, another):
        out = tmp_path / "out"
        # Told to stop after some blocks, it goes on from there.
        with sweeps_process("run", file, "--out", out, "--on", address) as child:
            eventually(lambda: block_files(out) or child.poll() is not None)
            child.send_signal(signal.SIGINT)
            told, said = child.communicate()
        if child.returncode:
            assert child.returncode == 128 + signal.SIGINT, said
            assert "go on with: python -m sweeps resume" in told
        # A worker is lost under way, and another one comes.
        for block in block_files(out)[:-1]:
            block.unlink()
        with sweeps_process("resume", out, "--on", address) as child:
            eventually(lambda: len(block_files(out)) > 1 or child.poll() is not None)
            workers[1].kill()
            another()
            told, said = child.communicate()
        assert child.returncode == 0, said
        assert "24,000 runs" in told
        assert kills.contents(out) == expected


def test_ctrl_c_in_a_terminal_leaves_the_processes_of_local_alone(file, tmp_path, expected):
    """It goes to all of them; those that compute finish what they have, and say nothing."""
    out = tmp_path / "out"
    line = ("run", file, "--out", out, "--on", "local:2")
    with sweeps_process(*line, start_new_session=True) as child:
        eventually(lambda: block_files(out) or child.poll() is not None)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGINT)
        told, said = child.communicate(timeout=120)
    assert child.returncode in (0, 128 + signal.SIGINT), said
    assert "Traceback" not in told + said
    assert main(["resume", str(out)]) == 0
    assert kills.contents(out) == expected


def test_a_worker_with_other_settings_is_refused(file, tmp_path):
    other = {"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"}
    out = tmp_path / "out"
    assert main(["prepare", str(file), "--out", str(out)]) == 0
    assert main(["work", str(out), "--shard", "1/6"]) == 0
    with (
        dask_cluster(tmp_path, 1, other) as (address, _, _),
        sweeps_process("resume", out, "--on", address) as child,
    ):
        _, said = child.communicate()
    assert child.returncode == 2
    assert "XLA_FLAGS xla_cpu_max_isa (none, now SSE4_2)" in said
    assert len(block_files(out)) == 1


LOCAL = """
import sys
import sweeps
from distributed import Client, LocalCluster

if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            axes = {"algorithm": ["reinforce", "advantage_weighted"], "seed": range(12000)}
            base = {"length": 3, "vocab_size": 4, "rollouts": 4, "steps": 40}
            data = sweeps.run(axes, sys.argv[1], base=base, client=client)
            print(bool(data.finished.all()))
"""


def test_a_client_of_ones_own(tmp_path, expected):
    (tmp_path / "script.py").write_text(LOCAL)
    said = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "out")],
        capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert said.stdout == "True\n", said.stderr
    found = kills.contents(tmp_path / "out" / "data")
    assert {n: b for n, b in found.items() if n.endswith(".block")} == {
        name.removeprefix("data/"): data
        for name, data in expected.items()
        if name.endswith(".block")
    }


DEADLY = """
import os
from sdpo_jax.algorithms import ALGORITHMS

def deadly(*, policy, tokens, signal):
    if os.environ.get("DEADLY"):
        os._exit(9)
    return ALGORITHMS["reinforce"](policy=policy, tokens=tokens, signal=signal)
"""


def deadly_sweep(tmp_path):
    (tmp_path / "deadly.py").write_text(DEADLY)
    file = tmp_path / "deadly.toml"
    axes = '[axes]\nalgorithm = ["reinforce", "deadly:deadly"]\nseed = { count = 64 }\n'
    file.write_text(BASE + axes)
    return file, {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])}


def test_a_block_that_no_worker_survives_is_named_and_the_others_are_done(tmp_path):
    file, environment = deadly_sweep(tmp_path)
    out = tmp_path / "out"
    with sweeps_process(
        "run", file, "--out", out, "--on", "local:2", env={**environment, "DEADLY": "1"}
    ) as child:
        _, said = child.communicate()
    assert child.returncode == 1
    assert "1 blocks ended every process that computed them" in said
    assert len(block_files(out)) == 1
    with sweeps_process("resume", out, env=environment) as child:
        _, said = child.communicate()
    assert child.returncode == 0, said


@pytest.mark.parametrize(
    "text", ["", "local", "local:", "local:0", "local:x", "host:8786", "tcp://", "local:9999"]
)
def test_a_cluster_that_is_none_is_refused(file, tmp_path, text, capsys):
    assert main(["run", str(file), "--out", str(tmp_path / "out"), f"--on={text}"]) == 2
    assert capsys.readouterr().err.startswith("error: --on: ")
    assert not (tmp_path / "out").exists()


def test_a_client_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^client: 3; allowed: a distributed\.Client$"):
        sweeps.run({"seed": range(2)}, tmp_path / "out", client=3)


class Ended:
    """A client that was closed, or loses its scheduler."""

    asynchronous = False

    def __init__(self, status, error):
        self.status, self.error = status, error

    def nthreads(self):
        return {"one": 1}

    def submit(self, *_, **__):
        raise self.error


def test_a_client_that_is_closed_is_refused(tmp_path):
    client = Ended("closed", RuntimeError("never asked"))
    with pytest.raises(ValueError, match=r"^client: closed; allowed: a distributed\.Client"):
        sweeps.run({"seed": range(2)}, tmp_path / "out", client=client)
    assert not (tmp_path / "out").exists()


def test_what_a_client_raises_that_ends_meanwhile_is_one_line(tmp_path):
    from distributed import CancelledError
    from distributed.comm.core import CommClosedError

    for error, what in (
        (RuntimeError("cannot schedule new futures after client was closed"), "the client was"),
        (CancelledError("Futures cancelled: many lines of them"), "the cluster's scheduler"),
        (CommClosedError("in <TCP>: Stream is closed"), "the cluster's scheduler"),
        (TimeoutError(), "the cluster's scheduler"),
    ):
        with pytest.raises(Lost, match=f"^{what} .*; what is saved is kept; allowed: ") as told:
            sweeps.run({"seed": range(2)}, tmp_path / "out", client=Ended("running", error))
        assert "\n" not in str(told.value)
    # A mistake of ours is not taken for it.
    with pytest.raises(RuntimeError, match="ours"):
        sweeps.run(
            {"seed": range(2)}, tmp_path / "out", client=Ended("running", RuntimeError("ours"))
        )


def test_a_scheduler_that_is_lost_is_told_in_one_line(file, tmp_path):
    out = tmp_path / "out"
    with dask_cluster(tmp_path, 0) as (address, (scheduler,), another):
        # Nobody comes: a wish to stop is heard at once.
        with sweeps_process("run", file, "--out", out, "--on", address) as child:
            assert child.stderr.readline() == "waiting for a worker of the cluster\n"
            child.send_signal(signal.SIGTERM)
            _, said = child.communicate(60)
        assert child.returncode == 128 + signal.SIGTERM
        assert "stopped before anything was begun; the same command goes on" in said
        another()
        with sweeps_process("run", file, "--out", out, "--on", address) as child:
            eventually(lambda: block_files(out) or child.poll() is not None)
            scheduler.kill()
            _, said = child.communicate(120)
    if child.returncode:  # it may have been done before
        assert child.returncode == 3
        (line,) = [each for each in said.splitlines() if "runs/s" not in each]
        assert line.startswith("error: the cluster's scheduler can't be reached any more; what is")


def test_a_folder_that_the_cluster_does_not_reach_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "_PATIENCE", 0.0)
    with pytest.raises(worker.Unreachable, match="on storage that all of its machines share"):
        worker.compute(str(tmp_path / "nowhere"), "0" * 16, ["a"])


class Standing:
    """A client whose cluster does every task at once and never ends."""

    status = "running"
    asynchronous = False
    most = 0
    under_way = 0

    def nthreads(self):
        return {"one": 4}

    def submit(self, function, *arguments, **options):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        return Done(self)


class Done:
    status = "finished"

    def __init__(self, client):
        self.client = client

    def done(self):
        return True

    def result(self):
        self.client.under_way -= 1
        return 0.0

    def cancel(self):
        pass


def test_no_more_is_handed_out_than_keeps_the_cluster_busy(out, monkeypatch):
    import distributed

    monkeypatch.setattr(distributed, "wait", lambda *_, **__: None)
    client = Standing()
    found = Folder.open(out)
    told = []
    names = {task.identity for task in found.blocks.tasks}
    calls = worker.calls(found, names)
    cluster.of_client(client).compute(calls, found.runs, Control(told.append))
    assert client.most <= 8
    assert told[-1].done == told[-1].total == 24000
