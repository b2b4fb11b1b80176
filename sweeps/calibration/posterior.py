"""Would a verdict be another with other constants? The claims over the calibration's posterior.

The paper leaves constants open; ``results/calibration/posterior.csv`` has the most probable
settings of them with their probabilities. The reproduction is run at each of them and at the
defaults, and its claims are judged by the same rules. Of each claim: the share of the posterior in
which it gets each verdict, and, where that is not one verdict throughout, the constant that it
changes with.

Each setting is a reproduction in a folder of its own, so that a study that was stopped or killed
goes on from the block at which it was.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from sweeps.calibration.run import TITLES
from sweeps.execute.executors import Executor
from sweeps.paper import about, claims
from sweeps.paper.claims import Verdict
from sweeps.paper.claims.registry import CLAIMS
from sweeps.paper.reproduce import Reporter, check_seeds, reproduce, source_digest
from sweeps.report import drawing
from sweeps.report.style import RC
from sweeps.store import datasets
from sweeps.store.kinds import INNER, POSTERIOR
from sweeps.study.progress import begin
from sweeps.study.wording import capital
from sweeps.system import writing
from sweeps.system.writing import check_writable, locked

JSON_NAME = "posterior.json"
DEFAULTS = "defaults"

# The constants that a setting may have others of; the rest of a row says how probable it is.
_CONSTANTS = (
    "quality_scale", "bigram_scale", "pattern_weight", "feedback_strength", "hint_noise",
)  # fmt: skip
# The one reading of ordinal feedback that has any weight, which is the engine's.
_ORDINAL = "level / 5"

_COLOURS = {
    Verdict.HOLDS: "#1a7f37",
    Verdict.OTHER_REASON: "#b58900",
    Verdict.UNDECIDED: "#8c959f",
    Verdict.CONTRADICTS: "#8431a8",
    Verdict.FAILS: "#b42318",
}


@dataclass(frozen=True)
class Setting:
    """Constants and their share of the posterior.

    Attributes:
        name: of its folder.
        weight: share of the posterior among the settings at hand; 0 of the defaults.
        numbers: by name.
    """

    name: str
    weight: float
    numbers: Mapping[str, float]


def settings(calibration: str | os.PathLike[str], count: int | None = None) -> list[Setting]:
    """The most probable settings of a calibration, their weights summing up to 1.

    Args:
        calibration: its folder.
        count: how many at most; all that it has kept, where it is not given.

    Raises:
        MissingResults: there is no ``posterior.csv``.
        ValueError: no setting in it that can be run.
    """
    rows = _most_probable(calibration)[:count]
    total = sum(float(row["posterior_all"]) for row in rows)
    if not total > 0:
        raise ValueError(f"{calibration}: no setting with a probability; allowed: one or more")
    return [
        Setting(
            f"{place:02}",
            float(row["posterior_all"]) / total,
            {name: float(row[name]) for name in _CONSTANTS},
        )
        for place, row in enumerate(rows)
    ]


def covered(calibration: str | os.PathLike[str], count: int) -> float:
    """The share of the whole posterior that the most probable settings hold.

    Args:
        calibration: its folder.
        count: how many.

    Raises:
        MissingResults: there is no ``posterior.csv``.
    """
    return sum(float(row["posterior_all"]) for row in _most_probable(calibration)[:count])


def _most_probable(calibration: str | os.PathLike[str]) -> list[dict[str, str]]:
    path = Path(calibration) / "posterior.csv"
    if not path.is_file():
        raise datasets.MissingResults(f"{path}: missing; `python -m sweeps calibrate` writes it")
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["ordinal"] == _ORDINAL]


def study(
    out: Path,
    calibration: str | os.PathLike[str],
    seeds: int,
    reporter: Reporter,
    command: str,
    stop: Callable[[], bool] = lambda: False,
    count: int | None = None,
    executor: Executor | None = None,
) -> dict[str, Any]:
    """Run and judge every setting, and write the table and the figure.

    Args:
        out: an empty or new folder, or an earlier study of the same settings.
        calibration: as for ``settings``; the defaults come on top.
        seeds: of each setting.
        reporter: told how far a setting is.
        command: how the caller was started.
        stop: once true, the block under way is finished and the rest left.
        count: as for ``settings``.
        executor: where blocks are computed; by threads of this process by default.

    Raises:
        Stopped: ``stop`` was true before the end.
        MissingResults: the calibration has no settings.
        ValueError: a folder that holds something else, in one line.
        OSError: the folder can't be written.
    """
    check_seeds(seeds)
    chosen = settings(calibration, count)
    every = [Setting(DEFAULTS, 0.0, {}), *chosen]
    description = {
        "seeds": seeds,
        POSTERIOR.entry: {
            "calibration": str(calibration),
            "settings": [dataclasses.asdict(each) for each in chosen],
        },
    }
    check_writable(out, "--out")
    with locked(out):
        names = [each.name for each in every]
        manifest = begin(
            *(out, POSTERIOR, description, source_digest, command, names),
            executor=executor,
            stop=stop,
        ).manifest
        for setting in every:
            folder = out / INNER / setting.name
            reproduce(
                *(folder, seeds, reporter, command, stop, setting.numbers),
                pages=False,
                executor=executor,
            )
            if setting.name not in manifest["finished"]:
                manifest["finished"].append(setting.name)
                datasets.write_manifest(out, manifest)
        return render(out)


def render(out: Path) -> dict[str, Any]:
    """Judge every setting again from what is saved, and write the table and the figure.

    Raises:
        MissingResults: some of it is not there.
    """
    manifest = datasets.read_manifest(out)
    chosen = [Setting(**each) for each in manifest[POSTERIOR.entry]["settings"]]
    verdicts = {
        name: {claim.id: claim.verdict for claim in claims.judge(out / INNER / name)}
        for name in (DEFAULTS, *(each.name for each in chosen))
    }
    share = covered(manifest[POSTERIOR.entry]["calibration"], len(chosen))
    found = outcome(chosen, verdicts, manifest["seeds"], manifest["command"], share)
    writing.write_json(out / JSON_NAME, found)
    writing.write_text(out / POSTERIOR.page, markdown(found))
    drawing.save("posterior", draw(found), out / drawing.FOLDER, "Verdicts over the posterior")
    return found


def summary_lines(out: Path) -> list[str]:
    """How many verdicts hang on the constants, for a terminal."""
    rows = load(out)["claims"]
    hang = [row["id"] for row in rows if row["constant"] is not None]
    said = f": {', '.join(hang)}" if hang else ""
    return [f"Of {len(rows)} claims {len(hang)} get more than one verdict{said}."]


def outcome(
    chosen: Sequence[Setting],
    verdicts: Mapping[str, Mapping[str, Verdict]],
    seeds: int,
    command: str,
    share: float,
) -> dict[str, Any]:
    """The shares of each claim's verdicts, and with which constant they change.

    Args:
        chosen: the settings.
        verdicts: by the name of a setting, the defaults among them, the verdict of each claim.
        seeds: of each setting.
        command: how they were run.
        share: of the whole posterior that the settings hold.
    """
    texts = {name: rule for name, rule in sorted(claims.RULES.items())}
    rows = []
    for name in texts:
        mine = np.array([str(verdicts[setting.name][name]) for setting in chosen])
        weights = np.array([setting.weight for setting in chosen])
        shares = {
            verdict.value: round(float(weights[mine == verdict.value].sum()), 4)
            for verdict in Verdict
        }
        constant = _changes_with(chosen, mine, weights)
        rows.append(
            {
                "id": name,
                "defaults": str(verdicts[DEFAULTS][name]),
                "shares": shares,
                "constant": constant,
                "changes_with": None if constant is None else TITLES[constant],
            }
        )
    return {
        "command": command,
        "seeds": seeds,
        "settings": len(chosen),
        "covered": round(share, 3),
        "claims": rows,
    }


def _changes_with(chosen: Sequence[Setting], mine: np.ndarray, weights: np.ndarray) -> str | None:
    """The constant whose values part the verdicts best; none where there is one verdict.

    Best: the largest share of the posterior that would be guessed right from the constant's value
    alone, by the most probable verdict at each of its values.
    """
    if len(set(mine.tolist())) < 2:
        return None
    right = {}
    for name in _CONSTANTS:
        values = np.array([setting.numbers[name] for setting in chosen])
        if len(set(values.tolist())) < 2:
            continue
        right[name] = sum(
            max(weights[(values == value) & (mine == each)].sum() for each in set(mine.tolist()))
            for value in set(values.tolist())
        )
    return max(right, key=lambda name: right[name]) if right else None


def markdown(found: Mapping[str, Any]) -> str:
    """The table for readers."""
    lines = [
        "# Verdicts over the posterior of the constants",
        "",
        f"The paper: *{about.TITLE}* ({about.AUTHORS}).",
        "",
        f"The {found['settings']} most probable settings of the constants that the paper does not "
        f"state (`results/calibration`), and the engine's defaults; {found['seeds']} seeds each. "
        f"They hold {100 * found['covered']:.0f}% of the posterior, and shares are of that. With "
        f"fewer seeds than the report has, more is undecided. Made by `{found['command']}`.",
        "",
        f"| id | claim | defaults, {found['seeds']} seeds | holds | another reason | undecided | "
        "contradicts | fails | changes with |",
        "|---" * 9 + "|",
    ]
    order = list(_COLOURS)
    for row in found["claims"]:
        shares = [f"{100 * row['shares'][verdict.value]:.0f}%" for verdict in order]
        constant = row["changes_with"] or ""
        lines.append(
            f"| {row['id']} | {CLAIMS[row['id']]} | {row['defaults']} | {' | '.join(shares)} | "
            f"{capital(constant)} |"
        )
    return "\n".join(lines) + "\n"


def draw(found: Mapping[str, Any]) -> Figure:
    """A bar for each claim: the shares of its verdicts; a dot for the verdict at the defaults."""
    rows = found["claims"][::-1]
    with matplotlib.style.context(["default", RC]):
        figure = Figure(figsize=(drawing.WIDTH, 1.2 + 0.24 * len(rows)))
        ax = figure.subplots()
        at = np.arange(len(rows))
        left = np.zeros(len(rows))
        for verdict, colour in _COLOURS.items():
            share = np.array([row["shares"][verdict.value] for row in rows])
            ax.barh(at, share, 0.7, left=left, color=colour, label=verdict.value)
            left += share
        for place, row in enumerate(rows):
            ax.plot(1.04, place, "o", color=_COLOURS[Verdict(row["defaults"])], clip_on=False)
        ax.set_yticks(at, [row["id"] for row in rows])
        ax.set_xlim(0, 1.08)
        ax.set_ylim(-0.6, len(rows) - 0.4)
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
        ax.set_xlabel("Share of the posterior (dot: at the defaults)")
        ax.grid(False, axis="y")
        figure.legend(
            loc="outside upper center", ncols=2, fontsize=7.5, handlelength=1.2, columnspacing=1.0
        )
    return figure


def load(out: str | os.PathLike[str]) -> dict[str, Any]:
    """What ``study`` wrote.

    Raises:
        MissingResults: there is none.
    """
    path = Path(out) / JSON_NAME
    if not path.is_file():
        raise datasets.MissingResults(f"{path}: missing; `python -m sweeps posterior` writes it")
    return json.loads(path.read_text(encoding="utf-8"))
