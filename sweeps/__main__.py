"""The command line: ``python -m sweeps --help``."""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sweeps.execute import GivenUp, Lost
from sweeps.system.text import lines, plain
from sweeps.system.writing import Busy

DEFAULT_SEEDS = 1000
QUICK_SEEDS = 16
DEFAULT_OUT = Path("results/paper")
QUICK_OUT = Path("results/quick")
AUDIT_SEEDS = 256
AUDIT_OUT = Path("results/audit")
AUDIT_QUICK_OUT = Path("results/audit-quick")
IN_CONTEXT_SEEDS = 32
IN_CONTEXT_OUT = Path("results/in_context")
IN_CONTEXT_QUICK_OUT = Path("results/in_context-quick")


def _default(metavar: str, value: str) -> Any:
    """What the help says of an option that is ``None`` where it is not given."""
    hint = f"(default: {value})"
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)


_GOES_ON = "the same command goes on from what is saved"
_WRITERS = "`run`, `reproduce`, `audit` or `in_context`"

# What the help and the messages call them.
_Folder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
_Sweep = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]


@dataclass(frozen=True)
class Run:
    """Run a sweep file into a folder, or go on with it.

    A sweep file is a page of TOML, such as sweeps/examples/learning_rate.toml:

        [base]
        noise = 0.1
        [axes]
        algorithm = ["sdpo", "reinforce"]
        learning_rate = { logspace = [0.005, 5.0, 7] }
        seed = { count = 64 }

    Every mistake in it is named before anything is compiled. Results are saved as they come:
    Ctrl-C, a crash or a power cut loses no more than the block that is under way, and the same
    command goes on. A changed file adds to what is there. Look at the results with
    `sweeps.open(DIR)` in Python, `render` or `export`.
    """

    file: _Sweep
    """The sweep file."""
    out: Annotated[Path | None, _default("DIR", "results/NAME")] = None
    """Folder of the results."""
    on_change: Literal["refuse", "keep", "redo"] = "refuse"
    """Where other code, versions or device computed what is there: refuse, keep it and go on, or
    redo all."""
    set: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KEY=VALUE")
    ] = ()
    """A value other than the file's, such as base.noise=0.2 or "axes.noise=[0.0, 0.3]"."""
    on: Annotated[str | None, _default("WHERE", "threads of this process")] = None
    """Who computes: the address of a Dask scheduler, such as tcp://host:8786, or local:N for N
    processes on this machine."""


@dataclass(frozen=True)
class Plan:
    """Say what a sweep would take: runs, blocks, time, memory, disk. Nothing is saved.

    The time comes from training a block of the largest programs on this machine.
    """

    file: _Sweep
    """The sweep file, or a folder that `run` wrote: the sweep that it holds."""
    budget: float = 20.0
    """Seconds to spend on measuring."""
    set: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KEY=VALUE")
    ] = ()
    """As for `run`, of a sweep file."""


@dataclass(frozen=True)
class Status:
    """Say how far a sweep or a study is, and check every byte of it."""

    directory: _Folder
    """Folder that `run`, `reproduce`, `audit`, `in_context` or `calibrate` wrote."""


@dataclass(frozen=True)
class Resume:
    """Go on with a sweep or a study from what is saved; repair what is damaged."""

    directory: _Folder
    """Folder that `run`, `reproduce`, `audit`, `in_context` or `calibrate` wrote."""
    on_change: Literal["refuse", "keep", "redo"] = "refuse"
    """As for `run`."""
    on: Annotated[str | None, _default("WHERE", "threads of this process")] = None
    """As for `run`."""


@dataclass(frozen=True)
class Work:
    """Compute blocks of a sweep that nobody has, until none is left: one of many processes.

    For job arrays and for several machines that share a folder, which `run` or `prepare` began.
    SIGTERM and Ctrl-C end it after the block under way; what is saved is kept, and whoever comes
    next goes on. Exits with 0 where all is done, 128 and the number of the signal (143, 130) where
    it was told to stop, 1 where blocks were left alone because three processes ended on each, and
    2 for bad input.
    """

    directory: _Folder
    """Folder that `run` or `prepare` wrote."""
    shard: Annotated[str | None, _default("I/N", "all that nobody has")] = None
    """No more than every N-th block, from the I-th on."""


@dataclass(frozen=True)
class Prepare:
    """Make the folder of a sweep file and compute nothing: for `work`."""

    file: _Sweep
    """The sweep file."""
    out: Annotated[Path | None, _default("DIR", "results/NAME")] = None
    """Folder of the results."""
    on_change: Literal["refuse", "keep", "redo"] = "refuse"
    """As for `run`."""
    set: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KEY=VALUE")
    ] = ()
    """As for `run`."""


@dataclass(frozen=True)
class Render:
    """Make tables, figures and report again from saved results, without running."""

    directory: _Folder
    """Folder that `run`, `reproduce`, `audit` or `in_context` wrote."""


@dataclass(frozen=True)
class Export:
    """Write a sweep's grids in the format of other tools, into DIR/export."""

    directory: _Folder
    """Folder that `run` wrote."""
    to: Literal["netcdf", "zarr", "parquet", "csv"]
    """netcdf and zarr keep axes and attributes; parquet and csv have a row for each run."""
    out: Annotated[Path | None, _default("DIR", "DIR/export")] = None
    """Folder of the files."""


@dataclass(frozen=True)
class Replay:
    """Train one run of a sweep again, alone; compare every bit; save its full curves."""

    directory: _Folder
    """Folder that `run` wrote."""
    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The run's number, or its labels: algorithm=sdpo,noise=0.1,seed=3."""
    grid: Annotated[str | None, _default("NAME", "the only one")] = None
    """Which grid, where there are several."""


@dataclass(frozen=True)
class Reproduce:
    """Run the whole paper over many seeds; write tables, figures, verdicts and a report.

    What an interrupted run had finished is kept: the same command goes on from there.
    """

    seeds: Annotated[int | None, _default("N", "1000; 16 with --quick")] = None
    """Number of seeds."""
    out: Annotated[Path | None, _default("DIR", "results/paper; results/quick with --quick")] = None
    """Folder of the results."""
    quick: bool = False
    """A first look: 16 seeds."""


@dataclass(frozen=True)
class Calibrate:
    """Infer the constants that the paper does not state, from all that it publishes.

    Trains a grid of settings over many problems, and asks how likely each setting makes the
    published numbers: posterior, best settings, goodness of fit, figure.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("results/calibration")
    """Folder of the results."""
    problems: Annotated[int | None, _default("N", "160; 64 with --quick")] = None
    """Problems for each setting."""
    quick: bool = False
    """A first look: few settings, few problems."""


@dataclass(frozen=True)
class Posterior:
    """Judge the paper's claims over the posterior of the constants that it does not state.

    The reproduction is run at each of the most probable settings of `calibrate`. What an
    interrupted run had finished is kept: the same command goes on from there.
    """

    seeds: Annotated[int | None, _default("N", "64; 16 with --quick")] = None
    """Seeds of each setting."""
    out: Annotated[
        Path | None, _default("DIR", "results/posterior; results/posterior-quick with --quick")
    ] = None
    """Folder of the results."""
    calibration: Path = Path("results/calibration")
    """Folder that `calibrate` wrote."""
    quick: bool = False
    """A first look: 3 settings, 16 seeds."""


@dataclass(frozen=True)
class Audit:
    """Every algorithm at its own best, among those that are told the same: league, crossover,
    biases.

    What an interrupted run had finished is kept: the same command goes on from there.
    """

    seeds: Annotated[int | None, _default("N", "256; 16 with --quick")] = None
    """Number of evaluation seeds."""
    out: Annotated[
        Path | None, _default("DIR", "results/audit; results/audit-quick with --quick")
    ] = None
    """Folder of the results."""
    quick: bool = False
    """A first look: small problems, few contenders, 16 seeds."""


@dataclass(frozen=True)
class InContext:
    """A self-teacher that reads its feedback: small networks, methods each at their own best.

    What an interrupted run had finished is kept: the same command goes on from there.
    """

    seeds: Annotated[int | None, _default("N", "32; 8 with --quick")] = None
    """Number of evaluation seeds."""
    out: Annotated[
        Path | None, _default("DIR", "results/in_context; results/in_context-quick with --quick")
    ] = None
    """Folder of the results."""
    quick: bool = False
    """A first look: a tiny network and world, few contenders, 8 seeds."""


Command = (
    Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Plan, tyro.conf.subcommand("plan")]
    | Annotated[Status, tyro.conf.subcommand("status")]
    | Annotated[Resume, tyro.conf.subcommand("resume")]
    | Annotated[Prepare, tyro.conf.subcommand("prepare")]
    | Annotated[Work, tyro.conf.subcommand("work")]
    | Annotated[Render, tyro.conf.subcommand("render")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Replay, tyro.conf.subcommand("replay")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[Calibrate, tyro.conf.subcommand("calibrate")]
    | Annotated[Posterior, tyro.conf.subcommand("posterior")]
    | Annotated[Audit, tyro.conf.subcommand("audit")]
    | Annotated[InContext, tyro.conf.subcommand("in_context")]
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Returns:
        0; 1 where something on the disk is wrong (`status`, `replay`) or blocks were left alone
        because processes ended on them (`run`, `resume`, `work`); 2 for bad input; 3 where a
        cluster can't be reached, or not any more; 128 and the number of the signal (143, 130) when
        told to stop.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a letter of a title shows its number.
        sys.stdout.reconfigure(errors="backslashreplace")
    command = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="python -m sweeps",
        description="Sweeps of SDPO training runs: any grid, interruptible, labelled.",
        args=given,
    )
    line = shlex.join(["python", "-m", "sweeps", *given])
    try:
        return _dispatch(command, line)
    except Lost as error:
        print(f"error: {lines(error)}", file=sys.stderr)
        return 3
    except (ValueError, Busy, FileNotFoundError) as error:
        print(f"error: {lines(error)}", file=sys.stderr)
        return 1 if isinstance(error, GivenUp) else 2
    except OSError as error:
        name = error.filename or error.filename2
        where = f"{name}: " if name else ""
        print(
            f"error: {lines(f'{where}{error.strerror or error}')}; what was saved before is kept, "
            "and the same command goes on",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; {_GOES_ON}", file=sys.stderr)
        return 130


def _dispatch(command: object, line: str) -> int:
    # Each command imports what it needs, and no more: looking at a sweep takes no plotting.
    if isinstance(command, Run):
        from sweeps.file import sweepfile
        from sweeps.store.places import SWEEPS_OUT

        sweep = sweepfile.read(command.file, command.set)
        return _run(command.out or SWEEPS_OUT / sweep.name, sweep, command.on_change, command.on)
    if isinstance(command, Resume):
        return _resume(command)
    if isinstance(command, Prepare):
        return _prepare(command)
    if isinstance(command, Work):
        return _work(command)
    if isinstance(command, Plan):
        from sweeps.commands import tell

        tell.plan(command.file, command.budget, command.set)
        return 0
    if isinstance(command, Status):
        from sweeps.commands import tell

        return tell.status(command.directory)
    if isinstance(command, Export):
        from sweeps.report.display import working
        from sweeps.report.exports import export

        with working(f"writing {command.to}"):
            paths = list(export(command.directory, command.to, command.out))
        for path in paths:
            print(path)
        return 0
    if isinstance(command, Replay):
        from sweeps.commands import tell
        from sweeps.system import cache

        cache.enable()
        return tell.replayed(command.directory, command.run, command.grid)
    if isinstance(command, Render):
        return _render(command.directory)
    if isinstance(command, Calibrate):
        return _calibrate(command, line)
    if isinstance(command, Posterior):
        return _posterior(command, line)
    assert isinstance(command, Reproduce | Audit | InContext)
    return _study(command, line)


def _resume(command: Resume) -> int:
    from sweeps.store import kinds
    from sweeps.store.manifest import saved_sweep

    made = kinds.find(command.directory)
    if made is None:
        sweep = saved_sweep(command.directory)
        return _run(command.directory, sweep, command.on_change, command.on)
    for flag, given in (("--on", command.on), ("--on-change", command.on_change)):
        if given not in (None, "refuse"):
            raise ValueError(f"{flag}: {given} for {made}; allowed: with a sweep of `run`'s")
    return main(made.arguments)


def _run(out: Path, sweep: object, on_change: str, on: str | None) -> int:
    from sweeps.execute import running
    from sweeps.file.sweepfile import Sweep
    from sweeps.report.display import Display, duration
    from sweeps.store import folder, tasks
    from sweeps.system import cache
    from sweeps.system.interrupts import Stopped, stoppable

    assert isinstance(sweep, Sweep)
    cache.enable()
    begun = time.perf_counter()
    with contextlib.ExitStack() as stack:
        executor = None
        if on is not None:
            from sweeps.execute.cluster import connected

            executor = stack.enter_context(connected(on))
        display, stop = stack.enter_context(Display()), stack.enter_context(stoppable())

        def surveyed(folder: folder.Folder, survey: tasks.Survey) -> None:
            for message in survey.damaged.values():
                display.say(f"{message}; runs again")
            if survey.other:
                display.say(f"{len(survey.other)} blocks of another fingerprint; run again")
            done = sum(len(t.keys) for t in folder.blocks.tasks if t.identity in survey.done)
            display.start(sweep.name, done, folder.runs)

        try:
            folder = running.run(
                out,
                sweep,
                on_change=on_change,
                progress=display.advance,
                surveyed=surveyed,
                stop=stop,
                executor=executor,
            )
        except Stopped:
            print(f"stopped before anything was begun; {_GOES_ON}", file=sys.stderr)
            return stop.status
    again = f"python -m sweeps resume {shlex.quote(str(out))}"
    left = folder.blocks.absent()
    if left:
        print(f"stopped: {folder.runs - left:,} of {folder.runs:,} runs saved; go on with: {again}")
        return stop.status
    took = duration(time.perf_counter() - begun)
    print(f"{plain(sweep.name)}: {folder.runs:,} runs, {took}, in {out}")
    print(f"look: python -m sweeps render {shlex.quote(str(out))}, or sweeps.open({str(out)!r})")
    return 0


def _prepare(command: Prepare) -> int:
    from sweeps.execute import running
    from sweeps.file import sweepfile
    from sweeps.store.places import SWEEPS_OUT

    sweep = sweepfile.read(command.file, command.set)
    out = command.out or SWEEPS_OUT / sweep.name
    folder = running.prepare(out, sweep, command.on_change)
    blocks = len(folder.blocks.tasks)
    print(f"{plain(sweep.name)}: {folder.runs:,} runs in {blocks:,} blocks, in {out}")
    print(f"go on with: python -m sweeps work {shlex.quote(str(out))} [--shard I/N]")
    return 0


def _work(command: Work) -> int:
    from sweeps.execute.work import Outcome, part_of, work
    from sweeps.report.display import Display
    from sweeps.system import cache
    from sweeps.system.interrupts import stoppable

    shard = None if command.shard is None else part_of(command.shard)
    cache.enable()
    with Display() as display, stoppable() as stop:

        def begun(outcome: Outcome) -> None:
            display.start(outcome.folder.sweep.name, 0, outcome.runs)

        found = work(command.directory, shard, progress=display.advance, begun=begun, stop=stop)
    what = plain(found.folder.sweep.name) + (f", part {command.shard}" if command.shard else "")
    print(f"{what}: {found.done:,} of {found.runs:,} runs saved")
    if found.given_up:
        again = shlex.quote(str(command.directory))
        print(
            f"{len(found.given_up)} blocks were left alone, for each ended several processes: "
            f"{', '.join(sorted(found.given_up)[:3])}; allowed: python -m sweeps resume {again}, "
            "which tries them again",
            file=sys.stderr,
        )
        return 1
    return stop.status if found.done < found.runs else 0


def _render(directory: Path) -> int:
    from sweeps.report.display import working
    from sweeps.store import kinds, places
    from sweeps.store.manifest import is_sweep
    from sweeps.store.places import clear_partial_files
    from sweeps.system.writing import Busy, locked

    if not directory.is_dir() or not any(directory.iterdir()):
        what = "not a folder" if directory.is_file() else "no such folder"
        what = "an empty folder" if directory.is_dir() else what
        raise ValueError(
            f"{plain(str(directory))}: {what}; allowed: a folder that {_WRITERS} wrote"
        )
    if (directory / places.MANIFEST).is_file():
        # Of a command that was killed; while another one is at work there, it is left.
        with contextlib.suppress(Busy, PermissionError), locked(directory):
            clear_partial_files(directory)
    if is_sweep(directory):
        from sweeps.report.pages import render_sweep

        with working("reading runs, making tables, figures and report"):
            path = render_sweep(directory)[-1]
        print(f"Report: {path}")
        return 0
    made = kinds.find(directory)
    if made is None:
        raise ValueError(f"{directory}: no results there; allowed: a folder that {_WRITERS} wrote")
    if made.kind is kinds.CALIBRATION:
        raise ValueError(
            f"{directory}: {made}; allowed: {made.again}, which makes its page from what is saved"
        )
    with working("making tables, figures and page"):
        _page_of(made.kind).render(directory)
    _print_outcome(made.kind, directory)
    return 0


def _page_of(kind: Any) -> Any:
    """The module that makes the page of a study, and its lines for a terminal."""
    from sweeps.store import kinds

    if kind is kinds.AUDIT:
        from sweeps.audit import page
    elif kind is kinds.IN_CONTEXT:
        from sweeps.in_context import page
    elif kind is kinds.POSTERIOR:
        from sweeps.calibration import posterior as page
    else:
        from sweeps.paper import render as page
    return page


def _study(command: Reproduce | Audit | InContext, line: str) -> int:
    from sweeps.report.display import PaperDisplay, console
    from sweeps.store import kinds

    if command.quick and command.seeds is not None:
        raise ValueError(f"--seeds: {command.seeds} beside --quick; allowed: one of the two")
    kind, full, quick, places = {
        Reproduce: (kinds.REPRODUCTION, DEFAULT_SEEDS, QUICK_SEEDS, (DEFAULT_OUT, QUICK_OUT)),
        Audit: (kinds.AUDIT, AUDIT_SEEDS, None, (AUDIT_OUT, AUDIT_QUICK_OUT)),
        InContext: (
            kinds.IN_CONTEXT, IN_CONTEXT_SEEDS, None, (IN_CONTEXT_OUT, IN_CONTEXT_QUICK_OUT)
        ),
    }[type(command)]  # fmt: skip
    seeds = quick if command.quick else full if command.seeds is None else command.seeds
    out = command.out or places[command.quick]

    def work(stop: Callable[[], bool]) -> None:
        if seeds is not None and kind is kinds.REPRODUCTION:
            from sweeps.paper.reproduce import reproduce

            with PaperDisplay() as display:
                reproduce(out, seeds, display, line, stop)
            return
        study: Any
        plans: Any
        if kind is kinds.AUDIT:
            from sweeps.audit import plan as plans
            from sweeps.audit.run import audit as study
        else:
            from sweeps.in_context import plan as plans
            from sweeps.in_context.run import study
        chosen = plans.quick() if seeds is None else plans.full(seeds)
        study(out, chosen, line, console(stderr=True).print, stop)

    status = _until_stopped(work)
    if status == 0:
        _print_outcome(kind, out)
    return status


def _posterior(command: Posterior, line: str) -> int:
    from sweeps.calibration import posterior
    from sweeps.report.display import PaperDisplay
    from sweeps.store import kinds

    if command.quick and command.seeds is not None:
        raise ValueError(f"--seeds: {command.seeds} beside --quick; allowed: one of the two")
    seeds = 16 if command.quick else 64 if command.seeds is None else command.seeds
    count = 3 if command.quick else None
    out = command.out or Path("results/posterior-quick" if command.quick else "results/posterior")

    def work(stop: Callable[[], bool]) -> None:
        with PaperDisplay() as display:
            posterior.study(out, command.calibration, seeds, display, line, stop, count)

    status = _until_stopped(work)
    if status == 0:
        _print_outcome(kinds.POSTERIOR, out)
    return status


def _calibrate(command: Calibrate, line: str) -> int:
    from sweeps.calibration.command import run

    return _until_stopped(
        lambda stop: run(command.out, command.problems, command.quick, line, stop)
    )


def _until_stopped(work: Callable[[Callable[[], bool]], None]) -> int:
    """Do the work of a study; 0, or the status of the signal that ended it."""
    from sweeps.system import cache
    from sweeps.system.interrupts import Stopped, stoppable

    cache.enable()
    with stoppable() as stop:
        try:
            work(stop)
        except Stopped:
            print(f"stopped; {_GOES_ON}", file=sys.stderr)
            return stop.status
    return 0


def _print_outcome(kind: Any, directory: Path) -> None:
    for line in _page_of(kind).summary_lines(directory):
        print(line)
    print(f"Page: {directory / kind.page}")


if __name__ == "__main__":
    sys.exit(main())
