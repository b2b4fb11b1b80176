"""The command line: ``python -m sweeps --help``."""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sweeps.text import lines, plain
from sweeps.writing import Busy

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

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
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

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """The sweep file, or a folder that `run` wrote: the sweep that it holds."""
    budget: float = 20.0
    """Seconds to spend on measuring."""
    set: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KEY=VALUE")
    ] = ()
    """As for `run`, of a sweep file."""


@dataclass(frozen=True)
class Status:
    """Say how far a sweep is, and check every byte of it."""

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder that `run` wrote."""


@dataclass(frozen=True)
class Resume:
    """Go on with a sweep from what is saved; repair what is damaged."""

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder that `run` wrote."""
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

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder that `run` or `prepare` wrote."""
    shard: Annotated[str | None, _default("I/N", "all that nobody has")] = None
    """No more than every N-th block, from the I-th on."""


@dataclass(frozen=True)
class Prepare:
    """Make the folder of a sweep file and compute nothing: for `work`."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
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

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder that `run`, `reproduce`, `audit` or `in_context` wrote."""


@dataclass(frozen=True)
class Export:
    """Write a sweep's grids in the format of other tools, into DIR/export."""

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder that `run` wrote."""
    to: Literal["netcdf", "zarr", "parquet", "csv"]
    """netcdf and zarr keep axes and attributes; parquet and csv have a row for each run."""
    out: Annotated[Path | None, _default("DIR", "DIR/export")] = None
    """Folder of the files."""


@dataclass(frozen=True)
class Replay:
    """Train one run of a sweep again, alone; compare every bit; save its full curves."""

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
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

    out: Path = Path("results/calibration")
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
        0; 1 where something on the disk is wrong (`status`, `replay`); 2 for bad input; 130 when
        interrupted.
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
    except (ValueError, Busy, FileNotFoundError) as error:
        print(f"error: {lines(error)}", file=sys.stderr)
        return 2
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
        print("interrupted; the same command goes on from what is saved", file=sys.stderr)
        return 130


def _dispatch(command: object, line: str) -> int:
    # Each command imports what it needs, and no more: looking at a sweep takes no plotting.
    if isinstance(command, Run):
        from sweeps import sweepfile
        from sweeps.from_python import SWEEPS_OUT

        sweep = sweepfile.read(command.file, command.set)
        return _run(command.out or SWEEPS_OUT / sweep.name, sweep, command.on_change, command.on)
    if isinstance(command, Resume):
        from sweeps.folder import saved_sweep

        sweep = saved_sweep(command.directory)
        return _run(command.directory, sweep, command.on_change, command.on)
    if isinstance(command, Prepare):
        return _prepare(command)
    if isinstance(command, Work):
        return _work(command)
    if isinstance(command, Plan):
        from sweeps import tell

        tell.plan(command.file, command.budget, command.set)
        return 0
    if isinstance(command, Status):
        from sweeps import tell

        return tell.status(command.directory)
    if isinstance(command, Export):
        from sweeps.display import working
        from sweeps.exports import export

        with working(f"writing {command.to}"):
            paths = list(export(command.directory, command.to, command.out))
        for path in paths:
            print(path)
        return 0
    if isinstance(command, Replay):
        from sweeps import cache, tell

        cache.enable()
        return tell.replayed(command.directory, command.run, command.grid)
    if isinstance(command, Render):
        return _render(command.directory)
    if isinstance(command, Calibrate):
        from sweeps import cache
        from sweeps.calibration import command as calibration

        cache.enable()
        return calibration.run(command.out, command.problems, command.quick, line)
    if isinstance(command, Posterior):
        return _posterior(command, line)
    if isinstance(command, Audit):
        return _audit(command, line)
    if isinstance(command, InContext):
        return _in_context(command, line)
    assert isinstance(command, Reproduce)
    return _reproduce(command, line)


def _run(out: Path, sweep: object, on_change: str, on: str | None) -> int:
    from sweeps import cache
    from sweeps import folder as folders
    from sweeps.display import Display, duration
    from sweeps.interrupts import stoppable
    from sweeps.sweepfile import Sweep

    assert isinstance(sweep, Sweep)
    cache.enable()
    begun = time.perf_counter()
    with contextlib.ExitStack() as stack:
        executor = None
        if on is not None:
            from sweeps.execute.cluster import connected

            executor = stack.enter_context(connected(on))
        display, stop = stack.enter_context(Display()), stack.enter_context(stoppable())

        def surveyed(folder: folders.Folder, survey: folders.Survey) -> None:
            for message in survey.damaged.values():
                display.say(f"{message}; runs again")
            if survey.other:
                display.say(f"{len(survey.other)} blocks of another fingerprint; run again")
            done = sum(len(t.keys) for t in folder.blocks.tasks if t.identity in survey.done)
            display.start(sweep.name, done, folder.runs)

        folder = folders.run(
            out,
            sweep,
            on_change=on_change,
            progress=display.advance,
            surveyed=surveyed,
            stop=stop,
            executor=executor,
        )
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
    from sweeps import folder as folders
    from sweeps import sweepfile
    from sweeps.from_python import SWEEPS_OUT

    sweep = sweepfile.read(command.file, command.set)
    out = command.out or SWEEPS_OUT / sweep.name
    folder = folders.prepare(out, sweep, command.on_change)
    blocks = len(folder.blocks.tasks)
    print(f"{plain(sweep.name)}: {folder.runs:,} runs in {blocks:,} blocks, in {out}")
    print(f"go on with: python -m sweeps work {shlex.quote(str(out))} [--shard I/N]")
    return 0


def _work(command: Work) -> int:
    from sweeps import cache
    from sweeps.display import Display
    from sweeps.execute.work import Outcome, part_of, work
    from sweeps.interrupts import stoppable

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
    from sweeps import store
    from sweeps.display import working
    from sweeps.folder import MANIFEST, clear_partial_files, is_sweep
    from sweeps.writing import Busy, locked

    if not directory.is_dir() or not any(directory.iterdir()):
        what = "not a folder" if directory.is_file() else "no such folder"
        what = "an empty folder" if directory.is_dir() else what
        raise ValueError(
            f"{plain(str(directory))}: {what}; allowed: a folder that `run`, `reproduce`, `audit` "
            "or `in_context` wrote"
        )
    if (directory / MANIFEST).is_file():
        # Of a command that was killed; while another one is at work there, it is left.
        with contextlib.suppress(Busy, PermissionError), locked(directory):
            clear_partial_files(directory)
    if is_sweep(directory):
        from sweeps.pages import render_sweep

        with working("reading runs, making tables, figures and report"):
            path = render_sweep(directory)[-1]
        print(f"Report: {path}")
        return 0
    if (directory / MANIFEST).is_file() and "in_context" in store.read_manifest(directory):
        from sweeps.in_context import page as in_context

        with working("making tables, figures and page"):
            in_context.render(directory)
        print(f"Page: {directory / in_context.PAGE}")
        return 0
    if (directory / MANIFEST).is_file() and "plan" in store.read_manifest(directory):
        from sweeps.audit import page

        with working("making tables, figures and page"):
            page.render(directory)
        print(f"Page: {directory / page.PAGE}")
        return 0
    from sweeps.render import render

    with working("judging claims, making tables, figures and report"):
        render(directory)
    _print_outcome(directory)
    return 0


def _reproduce(command: Reproduce, line: str) -> int:
    from sweeps import cache
    from sweeps.display import PaperDisplay
    from sweeps.interrupts import Stopped, stoppable
    from sweeps.reproduce import reproduce

    if command.quick and command.seeds is not None:
        raise ValueError(f"--seeds: {command.seeds} beside --quick; allowed: one of the two")
    seeds = QUICK_SEEDS if command.quick else command.seeds
    out = command.out or (QUICK_OUT if command.quick else DEFAULT_OUT)
    cache.enable()
    with PaperDisplay() as display, stoppable() as stop:
        try:
            reproduce(out, DEFAULT_SEEDS if seeds is None else seeds, display, line, stop)
        except Stopped:
            print("stopped; the same command goes on from what is saved", file=sys.stderr)
            return stop.status
    _print_outcome(out)
    return 0


def _posterior(command: Posterior, line: str) -> int:
    from sweeps import cache, posterior
    from sweeps.display import PaperDisplay
    from sweeps.interrupts import Stopped, stoppable

    if command.quick and command.seeds is not None:
        raise ValueError(f"--seeds: {command.seeds} beside --quick; allowed: one of the two")
    seeds = 16 if command.quick else 64 if command.seeds is None else command.seeds
    chosen = posterior.settings(command.calibration, 3 if command.quick else None)
    out = command.out or Path("results/posterior-quick" if command.quick else "results/posterior")
    cache.enable()
    with PaperDisplay() as display, stoppable() as stop:
        try:
            posterior.study(out, chosen, seeds, display, line, stop)
        except Stopped:
            print("stopped; the same command goes on from what is saved", file=sys.stderr)
            return stop.status
    print(f"Table: {out / posterior.MARKDOWN_NAME}")
    return 0


def _audit(command: Audit, line: str) -> int:
    from sweeps.audit import page, plan
    from sweeps.audit.run import audit
    from sweeps.display import console
    from sweeps.interrupts import Stopped, stoppable

    if command.quick and command.seeds is not None:
        raise ValueError(f"--seeds: {command.seeds} beside --quick; allowed: one of the two")
    seeds = AUDIT_SEEDS if command.seeds is None else command.seeds
    chosen = plan.quick() if command.quick else plan.full(seeds)
    out = command.out or (AUDIT_QUICK_OUT if command.quick else AUDIT_OUT)
    shown = console(stderr=True)
    with stoppable() as stop:
        try:
            audit(out, chosen, line, shown.print, stop)
        except Stopped:
            print("stopped; the same command goes on from what is saved", file=sys.stderr)
            return stop.status
    for text in page.summary_lines(out):
        print(text)
    print(f"Page: {out / page.PAGE}")
    return 0


def _in_context(command: InContext, line: str) -> int:
    from sweeps import cache
    from sweeps.display import console
    from sweeps.in_context import page, plan
    from sweeps.in_context.run import study

    if command.quick and command.seeds is not None:
        raise ValueError(f"--seeds: {command.seeds} beside --quick; allowed: one of the two")
    seeds = IN_CONTEXT_SEEDS if command.seeds is None else command.seeds
    chosen = plan.quick() if command.quick else plan.full(seeds)
    out = command.out or (IN_CONTEXT_QUICK_OUT if command.quick else IN_CONTEXT_OUT)
    cache.enable()
    shown = console(stderr=True)
    study(out, chosen, line, shown.print)
    for text in page.summary_lines(out):
        print(text)
    print(f"Page: {out / page.PAGE}")
    return 0


def _print_outcome(directory: Path) -> None:
    from sweeps.render import summary_lines

    for line in summary_lines(directory):
        print(line)
    print(f"Report: {directory / 'report.html'}")


if __name__ == "__main__":
    sys.exit(main())
