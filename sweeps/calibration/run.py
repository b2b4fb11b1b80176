"""The grid trained, the settings weighed, and what came out written."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from sdpo_jax import Sizes
from sweeps.calibration import likelihood
from sweeps.calibration.design import NAMES, QUICK, Settings
from sweeps.calibration.saved import described, saved
from sweeps.execute.executors import Executor
from sweeps.paper import about
from sweeps.provenance import sources
from sweeps.report import drawing
from sweeps.report.display import Display, duration
from sweeps.report.health import health
from sweeps.report.style import INK, RC
from sweeps.store import datasets, places
from sweeps.store.blocks import SUFFIX
from sweeps.store.kinds import CALIBRATION
from sweeps.store.labelled import of_plan
from sweeps.study import progress
from sweeps.study.trainer import Trainer
from sweeps.system import writing
from sweeps.system.interrupts import Control, Stopped
from sweeps.system.writing import check_writable, locked

# What calibrations that had no manifest wrote.
_MADE = {
    "data",
    "posterior.csv",
    "numbers.csv",
    "calibration.json",
    "calibration.md",
    "calibration.png",
    "calibration.svg",
}
TITLES = {
    "quality_scale": "q scale",
    "bigram_scale": "bigram scale",
    "pattern_weight": "pattern weight",
    "feedback_strength": "beta",
    "hint_noise": "hint noise",
    "ordinal": "ordinal reading",
}
# By which numbers the settings are weighed, and what the columns are called.
WEIGHINGS = {
    "all": "all figures",
    "tables_and_five": "tables 1 to 3 and figure 6",
    "tables": "tables 1 to 3",
    "eleven_shared": "eleven numbers, shared luck",
}
# What an earlier fit found, with 480 settings weighed by eleven numbers of the tables.
BY_HAND = {"quality_scale": {1.0: 0.98}, "feedback_strength": {1.5: 0.55, 2.0: 0.45}}


def calibrate(
    out: Path,
    problems: int | None,
    quick: bool,
    line: str,
    stop: Callable[[], bool] = lambda: False,
    sizes: Sizes | None = None,
    executor: Executor | None = None,
) -> None:
    """Calibrate into a folder.

    Raises:
        Stopped: ``stop`` was true before the end.
        ValueError: too few problems, or a folder that can't be written or holds something else.
    """
    settings = QUICK if quick else Settings()
    if problems is not None:
        settings = replace(settings, problems=problems)
    sizes = Sizes() if sizes is None else sizes
    least = len(likelihood.numbers()) + 3
    if settings.problems < least:
        raise ValueError(f"--problems: {settings.problems}; allowed: {least} or more")
    check_writable(out, "--out")
    begun = time.perf_counter()
    with locked(out) as held, Display() as display:
        _check_blocks_alone(out)
        study = progress.begin(
            *(out, CALIBRATION, described(settings, sizes), source_digest, line, NAMES),
            ignored=_MADE,
            executor=executor,
            stop=stop,
        )
        manifest = study.manifest
        laid, blocks = saved(out, manifest)
        survey = blocks.survey()
        runs = sum(len(task.keys) for task in blocks.tasks)
        done = sum(len(task.keys) for task in blocks.tasks if task.identity in survey.done)
        display.start("calibrate", done, runs)
        wanted = {task.identity for task in blocks.tasks} - survey.done
        control = Control(display.advance, stop, held.check)
        blocks.maker = study.maker
        Trainer(study, out / places.DATA, control).compute(blocks, wanted)
        if blocks.absent():
            raise Stopped
        trained = time.perf_counter() - begun
        data = {name: of_plan(plan, blocks, lazy=False) for name, plan in laid.items()}
        counts = [health(each) for each in data.values()]
        broken = sum(each.broken for each in counts)
        if broken:
            raise ValueError(f"{broken} runs are not finite; allowed: settings that train")
        outcome = weigh(likelihood.Simulation(settings, data))
        held.check()
        made = {
            "command": line,
            "commit": manifest["commit"],
            "versions": manifest["versions"],
            "processor": manifest["device"]["processor"],
            "runs": runs,
            "problems": settings.problems,
            "collapsed": sum(each.collapsed or 0 for each in counts),
            "seconds": round(trained, 1) if done == 0 else None,
        }
        write(out, settings, outcome, made)
        manifest["finished"] = list(NAMES)
        datasets.write_manifest(out, manifest)
    print(f"{runs:,} runs, {duration(time.perf_counter() - begun)}; {out / CALIBRATION.page}")


def source_digest() -> str:
    """SHA-256 of the code that decides a calibration's numbers."""
    return sources.source_digest("calibration/design")


def _check_blocks_alone(out: Path) -> None:
    """Refuse a folder without a manifest whose ``data`` holds something else than blocks."""
    data = out / places.DATA
    if (out / places.MANIFEST).exists() or not data.exists():
        return
    # What stood in a block's place is kept beside it.
    strangers = [data.name] if not data.is_dir() else [
        f"{data.name}/{path.name}"
        for path in data.iterdir()
        if not path.name.startswith(".") and path.suffix not in (SUFFIX, ".aside")
    ]  # fmt: skip
    if strangers:
        raise ValueError(
            f"--out: {out} is not empty ({min(strangers)}) and has no manifest.json; allowed: an "
            "empty or new folder, or an earlier calibration"
        )


def weigh(simulation: likelihood.Simulation) -> dict[str, Any]:
    """Posteriors from all numbers and from those of the fit by hand, and the best settings."""
    settings = simulation.settings
    axes = settings.axes()
    shape = tuple(len(values) for values in axes.values())
    found = likelihood.numbers()
    everything = likelihood.fitted(found)
    subset = likelihood.of_tables(found)
    scores = {name: np.empty(shape) for name in WEIGHINGS}
    for place in np.ndindex(*shape):
        simulated, shared = simulation.of(place), simulation.shared(place)
        for name, (which, sample, groups) in {
            "all": (everything, simulated, True),
            "tables_and_five": (subset, simulated, True),
            "tables": (subset, simulated, False),
            "eleven_shared": (likelihood.eleven(found), shared, False),
        }.items():
            scores[name][place] = likelihood.log_likelihood(sample, found, which, groups)
    weights = {name: likelihood.posterior(score) for name, score in scores.items()}
    place = _place(weights["all"])
    simulated = simulation.of(place)
    return {
        "axes": axes,
        "numbers": found,
        "weights": weights,
        "log_likelihood": scores["all"],
        "best": place,
        "fit": likelihood.fit(simulated, found, everything),
        "tables_fit": likelihood.fit(simulation.of(_place(weights["tables"])), found, subset),
        "eleven_fit": likelihood.fit(
            simulation.shared(_place(weights["eleven_shared"])), found, likelihood.eleven(found)
        ),
        "weight": simulated.single[:, ~everything].mean(),
        "used": everything,
        "groups": (simulated.groups.mean(0), simulated.groups.std(0)),
    }


def _used(outcome: dict[str, Any]) -> list[likelihood.Number]:
    """The numbers that the settings were weighed by."""
    return [each for each, used in zip(outcome["numbers"], outcome["used"], strict=True) if used]


def _place(weights: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(weights.argmax()), weights.shape))


def write(
    out: Path, settings: Settings, outcome: dict[str, Any], made: dict[str, Any]
) -> list[Path]:
    """``posterior.csv``, ``numbers.csv``, ``calibration.json``, ``.md`` and the figure."""
    paths = [
        writing.write_text(out / "posterior.csv", _posterior_csv(outcome)),
        writing.write_text(out / "numbers.csv", _numbers_csv(outcome)),
        writing.write_json(out / "calibration.json", _json(outcome, made)),
        writing.write_text(out / "calibration.md", _markdown(settings, outcome, made)),
    ]
    figure = draw(outcome)
    return [*paths, *drawing.save("calibration", figure, out, "Posterior of the constants")]


def draw(outcome: dict[str, Any]) -> Figure:
    """The posterior of each constant, and the published numbers beside the best setting's."""
    axes = outcome["axes"]
    with matplotlib.style.context(["default", RC]):
        figure = Figure(figsize=(drawing.WIDTH, 11.0))
        grid = figure.add_gridspec(4, 2, height_ratios=(1, 1, 1, 3.6))
        for index, (name, values) in enumerate(axes.items()):
            ax = figure.add_subplot(grid[index // 2, index % 2])
            at = np.arange(len(values))
            for shift, key, colour, label in (
                (-0.2, "all", "#0072B2", "all figures"),
                (0.2, "tables", "#E69F00", "tables 1 to 3 only"),
            ):
                height = likelihood.marginal(outcome["weights"][key], index)
                ax.bar(at + shift, height, 0.38, color=colour, label=label)
            long = any(len(str(value)) > 8 for value in values)
            ax.set_xticks(at, [str(value) for value in values], fontsize=7 if long else 9)
            ax.set_ylim(0, 1)
            ax.set_xlabel(TITLES[name])
            ax.set_ylabel("posterior" if index % 2 == 0 else "")
        handles = figure.axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=2)
        ax = figure.add_subplot(grid[3, :])
        fit, found = outcome["fit"], _used(outcome)
        at = np.arange(len(found))[::-1]
        ax.axvspan(-2, 2, color="#e8f1f8", zorder=0)
        ax.axvline(0, color=INK, linewidth=0.8)
        ax.plot(fit.z, at, "o", color="#0072B2", markersize=4)
        ax.set_yticks(at, [each.name for each in found], fontsize=7)
        reach = max(3.0, float(np.abs(fit.z).max()) + 0.3)
        ax.set_xlim(-reach, reach)
        ax.set_xlabel("published, less best setting (sd over problems)")
    return figure


def _posterior_csv(outcome: dict[str, Any]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    axes = outcome["axes"]
    writer.writerow([*axes, *(f"posterior_{name}" for name in WEIGHINGS), "log_likelihood"])
    weights = outcome["weights"]["all"]
    order = np.argsort(-weights, axis=None)
    for flat in order[:60]:
        place = np.unravel_index(int(flat), weights.shape)
        labels = [values[i] for values, i in zip(axes.values(), place, strict=True)]
        numbers = [outcome["weights"][name][place] for name in WEIGHINGS]
        numbers.append(outcome["log_likelihood"][place])
        writer.writerow([*labels, *(f"{number:.4g}" for number in numbers)])
    return file.getvalue()


def _numbers_csv(outcome: dict[str, Any]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["number", "where", "published", "best_setting", "z"])
    fit = outcome["fit"]
    for each, mean, z in zip(_used(outcome), fit.mean, fit.z, strict=True):
        writer.writerow([each.name, each.where, f"{each.value:.4f}", f"{mean:.4f}", f"{z:.2f}"])
    centre, spread = outcome["groups"]
    names = [
        f"five seeds {part} {algorithm}"
        for part in ("mean", "sd")
        for algorithm in ("sdpo", "reinforce", "advantage_weighted")
    ]
    for name, value, mean, sd in zip(names, likelihood.five_seeds(), centre, spread, strict=True):
        z = (value - mean) / sd
        writer.writerow([name, "F6", f"{value:.4f}", f"{mean:.4f}", f"{z:.2f}"])
    return file.getvalue()


def _marginals(outcome: dict[str, Any], key: str) -> dict[str, dict[str, float]]:
    return {
        name: {
            str(value): round(float(weight), 4)
            for value, weight in zip(
                values, likelihood.marginal(outcome["weights"][key], index), strict=True
            )
        }
        for index, (name, values) in enumerate(outcome["axes"].items())
    }


def _best(outcome: dict[str, Any]) -> dict[str, Any]:
    return {
        name: values[i]
        for (name, values), i in zip(outcome["axes"].items(), outcome["best"], strict=True)
    }


def _json(outcome: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    fits = {
        name: {
            "chi_square": round(outcome[key].chi_square, 2),
            "numbers": outcome[key].count,
            "p_value": float(f"{outcome[key].p_value:.3g}"),
        }
        for name, key in (("all", "fit"), ("tables", "tables_fit"), ("eleven_shared", "eleven_fit"))
    }
    return {
        "best": _best(outcome),
        "posterior": {name: _marginals(outcome, name) for name in WEIGHINGS},
        "fit": fits,
        "made": made,
    }


def _against_the_earlier_fit(outcome: dict[str, Any]) -> list[str]:
    """What became of the earlier fit, with the numbers that show it."""
    names = list(outcome["axes"])
    q, beta = names.index("quality_scale"), names.index("feedback_strength")
    rest = tuple(i for i in range(len(names)) if i not in (q, beta))
    scales, betas = (outcome["axes"][names[i]] for i in (q, beta))
    lines = ["## Against the earlier fit", ""]
    if 1.0 in scales:
        header = " | ".join(f"beta {value}" for value in betas)
        lines += [
            "An earlier fit left beta open between 1.5 and 2 (0.55 to 0.45). It weighed eleven "
            "numbers of the tables by runs that share their luck between cells, as the runs of one "
            "seed do. So weighed, and with luck of its own in every cell, the posterior of beta "
            "given q scale 1 is here",
            "",
            f"| | {header} |",
            "|---" * (len(betas) + 1) + "|",
        ]
        for name in ("tables", "eleven_shared"):
            given = outcome["weights"][name].sum(axis=rest)[scales.index(1.0)]
            cells = " | ".join(f"{each:.3f}" for each in given / given.sum())
            lines.append(f"| {WEIGHINGS[name]} | {cells} |")
        lines += [
            "",
            "The paper has ten different rewards for REINFORCE, which neither feedback nor "
            "noise reaches, so its cells had luck of their own, and the first row is the one to go "
            "by. The tables alone see little more than the product of q scale and beta; figure 6 "
            "adds the spread over five seeds, which goes with the scale.",
            "",
        ]
    fit = outcome["eleven_fit"]
    lines.append(
        f"The eleven numbers, with shared luck, at their own best: chi-square {fit.chi_square:.1f} "
        "(about 10 in the earlier fit)."
    )
    return lines


def _markdown(settings: Settings, outcome: dict[str, Any], made: dict[str, Any]) -> str:
    fit, tables_fit = outcome["fit"], outcome["tables_fit"]
    best = ", ".join(f"{TITLES[name]} {value}" for name, value in _best(outcome).items())
    count = int(np.prod([len(values) for values in outcome["axes"].values()]))
    lines = [
        "# The paper's unstated constants",
        "",
        f"The paper: *{about.TITLE}* ({about.AUTHORS}).",
        "",
        f"{count:,} settings, {settings.problems} problems each, {made['runs']:,} training runs"
        + (f" in {made['seconds']:.0f} s" if made["seconds"] else "")
        + f"; none unfinished or not finite, {made['collapsed']} collapsed. "
        f"Made by `{made['command']}`.",
        "",
        "![posterior](calibration.png)",
        "",
        f"Best setting: {best}.",
        "",
        f"Goodness of fit of the best setting: chi-square {fit.chi_square:.1f} on {fit.count} "
        f"numbers (p = {fit.p_value:.2g}); tables 1 to 3 of SDPO and REINFORCE alone, at their own "
        f"best: {tables_fit.chi_square:.1f} on {tables_fit.count} (p = {tables_fit.p_value:.2g}).",
        "",
        "Posterior, by the numbers that the settings are weighed by:",
        "",
        f"| constant | value | {' | '.join(WEIGHINGS.values())} | earlier fit |",
        "|---" * (len(WEIGHINGS) + 3) + "|",
    ]
    columns = {name: _marginals(outcome, name) for name in WEIGHINGS}
    for name, values in outcome["axes"].items():
        for value in values:
            hand = BY_HAND.get(name, {}).get(value)
            shown = [f"{column[name][str(value)]:.3f}" for column in columns.values()]
            shown.append("" if hand is None else f"{hand:.2f}")
            lines.append(f"| {TITLES[name]} | {value} | {' | '.join(shown)} |")
    far = sorted(zip(_used(outcome), fit.z, strict=True), key=lambda pair: -abs(float(pair[1])))[:5]
    worst = "; ".join(f"{each.name} ({each.where}) {z:+.1f}" for each, z in far)
    edges = []
    for index, (name, values) in enumerate(outcome["axes"].items()):
        ends = {0, len(values) - 1}
        likely = int(likelihood.marginal(outcome["weights"]["all"], index).argmax())
        if name != "ordinal" and len(values) > 1 and ends & {outcome["best"][index], likely}:
            edges.append(f"{TITLES[name]} {values[likely]}")
    if edges:
        text = f"At the edge of what was tried, so that values beyond are open: {', '.join(edges)}."
        lines += ["", text]
    lines += [
        "",
        f"Numbers farthest from the best setting, in standard deviations over problems: {worst}.",
        "",
        f"Not weighed: the hybrid's mean weight, {outcome['weight']:.2f} at the best setting and "
        "tau 0.15, 0.86 as read off figure 5. It sets tau, which is no axis here.",
        "",
        "All of them are in `numbers.csv`, the settings in `posterior.csv`.",
        "",
        *_against_the_earlier_fit(outcome),
    ]
    return "\n".join(lines) + "\n"
