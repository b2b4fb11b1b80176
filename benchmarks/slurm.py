"""The job array of docs/clusters.md on a real Slurm: ``python -m benchmarks.slurm``.

Needs Debian's ``slurm-wlm`` (``apt-get install slurm-wlm``) and root. Begins a Slurm of one node on
this machine under a folder of its own: ``munged``, ``slurmctld`` and ``slurmd``, no service of the
system's, no file under ``/etc``; and ends it. Submits the script that the documentation shows; ends
one task's process with SIGKILL, sends SIGTERM to one task as Slurm does before the time limit, so
that it puts itself back; lets Slurm put back another one; and submits the one that was killed
again. The folder's bytes then equal those of a run by one process.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.kills import contents, differing

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "clusters.md"
TASKS = 4
SWEEP = """
title = "a job array"
[base]
length = 3
vocab_size = 4
rollouts = 32
steps = 2000
[axes]
algorithm = ["reinforce", "advantage_weighted"]
seed = { count = 19456 }
"""
_NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")
_CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MailProg=/bin/true
MpiDefault=none
SlurmdParameters=config_overrides
MessageTimeout=60
JobRequeue=1
KillWait=10
SchedulerParameters=sched_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Unavailable(RuntimeError):
    """Slurm can't run here; the message says why, in its own words where it has some."""


def unavailable() -> str:
    """Why Slurm can't be tried here; empty where it can."""
    missing = [name for name in _NEEDED if _program(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (apt-get install slurm-wlm)"
    return "" if os.geteuid() == 0 else "not root, which slurmd needs"


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def eventually(true: Callable[[], Any], what: str, seconds: float = 300) -> Any:
    """Wait until something is true, and return it.

    Raises:
        Unavailable: it never was.
    """
    end = time.monotonic() + seconds
    while True:
        found = true()
        if found:
            return found
        if time.monotonic() > end:
            raise Unavailable(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


@dataclass(frozen=True)
class Slurm:
    """A Slurm of one node that runs.

    Attributes:
        root: its folder.
        environment: of its commands.
    """

    root: Path
    environment: dict[str, str]

    def call(self, *arguments: Any) -> str:
        """What a command prints. Raises ``Unavailable`` with its words where it fails."""
        name, *rest = map(str, arguments)
        done = subprocess.run(
            [_program(name) or name, *rest], env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise Unavailable(f"{name}: {' '.join((done.stderr or done.stdout).split())}")
        return done.stdout

    def state(self, job: str, task: int) -> str:
        """The state of a task: PENDING, RUNNING, COMPLETED, FAILED ..."""
        text = self.call("scontrol", "show", "job", f"{job}_{task}")
        found = re.search(r"JobState=(\S+)", text)
        return "" if found is None else found[1]

    def exit_code(self, job: str, task: int) -> str:
        """``status:signal`` of a task that ended."""
        found = re.search(r"ExitCode=(\S+)", self.call("scontrol", "show", "job", f"{job}_{task}"))
        return "" if found is None else found[1]


@contextlib.contextmanager
def cluster(root: Path, cpus: int) -> Iterator[Slurm]:
    """A Slurm of one node, for as long as this holds.

    Args:
        root: an empty folder for all of its files.
        cpus: tasks of one processor that it runs at a time, whether there are so many or not.

    Raises:
        Unavailable: it can't run here.
    """
    why = unavailable()
    if why:
        raise Unavailable(why)
    host = socket.gethostname()
    for name in ("state", "spool", "munge"):
        (root / name).mkdir(mode=0o755)
    # Others must be able to look for the socket.
    root.chmod(0o755)
    key = root / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    conf = root / "slurm.conf"
    text = _CONFIGURATION.format(host=host, root=root, ports=_free_ports(2), cpus=cpus)
    conf.write_text(text, encoding="utf-8")
    (root / "cgroup.conf").write_text("", encoding="utf-8")
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    slurm = Slurm(root, environment)
    with contextlib.ExitStack() as stack:
        for name, options in (
            ("munged", ["--foreground", "--force", f"--socket={root}/munge.socket",
                        f"--key-file={key}", f"--pid-file={root}/munge/pid",
                        f"--log-file={root}/munge/log", f"--seed-file={root}/munge/seed"]),
            ("slurmctld", ["-D", "-f", str(conf)]),
            # Hardware is as the file says, not as it is found.
            ("slurmd", ["-D", "-f", str(conf), "-N", host]),
        ):  # fmt: skip
            log = stack.enter_context(open(root / f"{name}.out", "wb"))
            child = subprocess.Popen(
                [_program(name) or name, *options], stdout=log, stderr=log, env=environment
            )
            stack.callback(_end, child)
            if name == "munged":
                eventually((root / "munge.socket").exists, "the socket of munged", 20)
        try:
            eventually(lambda: "idle" in _quietly(slurm, "sinfo", "-h", "-o", "%T"), "a node", 60)
        except Unavailable:
            said = [
                (root / f"{name}.out").read_text(errors="replace")
                for name in ("munged", "slurmctld", "slurmd")
            ]
            last = [
                line
                for text in said
                for line in text.splitlines()
                if "error" in line.lower() and "pmi" not in line.lower()
            ]
            raise Unavailable("; ".join(last[-3:]) or "no node became idle") from None
        yield slurm


def _quietly(slurm: Slurm, *arguments: str) -> str:
    try:
        return slurm.call(*arguments)
    except Unavailable:
        return ""


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def documented() -> str:
    """The script of the documentation."""
    found = re.search(r"```sh\n(#!/bin/bash\n#SBATCH.*?)```", DOCUMENT.read_text("utf-8"), re.S)
    assert found is not None
    return found[1]


def script(out: Path) -> str:
    """The same for a folder, so many tasks, and a node of this machine."""
    text = documented()
    for old, new in (
        ("--array=1-64", f"--array=1-{TASKS}"),
        ("PARTS=64", f"PARTS={TASKS}"),
        ("--cpus-per-task=4", "--cpus-per-task=1"),
        ("results/sweep", str(out)),
        ("python -m", f"{sys.executable} -m"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    return text


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        version: of Slurm.
        killed: state and exit code of the task whose process was ended with SIGKILL.
        told: exit codes of the task that was told to stop, before and after.
        requeued: how often Slurm began the task that it put back.
        states: of all tasks at the end.
        blocks: files of the whole sweep.
        different: files that differ from one process's, are missing or too many.
        seconds: in all.
    """

    version: str = ""
    killed: str = ""
    told: int = 0
    requeued: int = 0
    states: tuple[str, ...] = ()
    blocks: int = 0
    different: int = 0
    seconds: int = 0


def array(sweep: str = SWEEP) -> Outcome:
    """Run the array, disturb it, and compare.

    Raises:
        Unavailable: Slurm can't run here, or did not do what it was asked for.
        RuntimeError: a command of ours failed.
    """
    begun = time.perf_counter()
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        file, out = root / "sweep.toml", root / "out"
        file.write_text(sweep, encoding="utf-8")
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(root / "cache")}
        for arguments in (("run", file, "--out", root / "alone"), ("prepare", file, "--out", out)):
            line = [sys.executable, "-m", "sweeps", *map(str, arguments)]
            done = subprocess.run(line, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr)
        expected = contents(root / "alone")
        (root / "slurm").mkdir()
        (root / "array.sbatch").write_text(script(out), encoding="utf-8")
        with cluster(root / "slurm", TASKS) as slurm:
            outcome.version = slurm.call("sinfo", "--version").strip()
            _disturbed(slurm, root, outcome)
        found = contents(out)
        outcome.blocks = sum(name.endswith(".block") for name in found)
        outcome.different = differing(expected, found)
    outcome.seconds = round(time.perf_counter() - begun)
    return outcome


def _disturbed(slurm: Slurm, root: Path, outcome: Outcome) -> None:
    """The array with one task killed, one told to stop and one put back, to its end."""
    options = ("--parsable", "--chdir", Path.cwd(), "--output", root / "%A_%a_%j.log")
    job = slurm.call("sbatch", *options, "--open-mode=append", root / "array.sbatch").strip()
    tasks = range(1, TASKS + 1)
    for task in tasks:
        eventually(lambda task=task: slurm.state(job, task) == "RUNNING", f"task {task} running")
    for task in tasks:
        eventually(lambda task=task: _worker(job, task), f"the process of task {task}")
    worker = _worker(job, 1)
    if worker is None:
        raise Unavailable("task 1 was done before it was killed")
    os.kill(worker, signal.SIGKILL)
    # As Slurm does a minute before the time limit.
    slurm.call("scancel", "--batch", "--signal=TERM", f"{job}_2")
    slurm.call("scontrol", "requeue", f"{job}_3")
    eventually(lambda: slurm.state(job, 1) == "FAILED", "the end of the killed task")
    outcome.killed = f"FAILED {slurm.exit_code(job, 1)}"
    again = slurm.call("sbatch", *options, "--array=1", root / "array.sbatch").strip()
    jobs = {1: again, 2: job, 3: job, 4: job}
    ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
    eventually(
        lambda: all(slurm.state(jobs[task], task) in ended for task in tasks),
        "the end of all tasks",
        900,
    )
    outcome.states = tuple(slurm.state(jobs[task], task) for task in tasks)
    outcome.told, outcome.requeued = (_restarts(slurm, job, task) for task in (2, 3))


def _restarts(slurm: Slurm, job: str, task: int) -> int:
    found = re.search(r"Restarts=(\d+)", slurm.call("scontrol", "show", "job", f"{job}_{task}"))
    return 0 if found is None else int(found[1])


def _worker(job: str, task: int) -> int | None:
    """The number of the process of ours that a task runs."""
    wanted = {f"SLURM_ARRAY_JOB_ID={job}", f"SLURM_ARRAY_TASK_ID={task}"}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
            given = (path / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "sweeps" in words and "work" in words and wanted <= set(given):
            return int(path.name)
    return None


@dataclass(frozen=True)
class Options:
    """The documented job array on a real Slurm of one node: kill, stop and put back tasks."""

    json: Path | None = None
    """File of the result (default: results/benchmarks/slurm.json)."""


def run(options: Options, line: str) -> None:
    """Run, print and save."""
    from benchmarks.write import Output, table

    output = Output("slurm", "A job array on Slurm", line, options.json)
    found = array()
    rows = [
        ["the task whose process was killed", found.killed],
        ["times that the task told to stop was begun again", str(found.told)],
        ["times that the task put back was begun again", str(found.requeued)],
        ["tasks at the end", ", ".join(found.states)],
        ["blocks", str(found.blocks)],
        ["files that differ from one process's, are missing or too many", str(found.different)],
        ["seconds", str(found.seconds)],
    ]
    text = (
        f"The script of docs/clusters.md with {TASKS} tasks on one node of {found.version}: one "
        "task's process was ended with SIGKILL and the task submitted again, one was told to stop "
        "and put itself back, one was put back by Slurm.\n\n"
    )
    output.save(text + table(["", "outcome"], rows), asdict(found))


if __name__ == "__main__":
    try:
        run(tyro.cli(Options, prog="python -m benchmarks.slurm"), "python -m benchmarks.slurm")
    except Unavailable as error:
        print(f"Slurm can't run here: {error}", file=sys.stderr)
        sys.exit(1)
