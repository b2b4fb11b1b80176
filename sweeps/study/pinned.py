"""Single runs of a study, saved beside its page, by which it shows whether its code has moved on.

A digest of code says that something was edited, and not whether a number changed: a module that
moves into another package, or a loop written in another way, would make every page stale. So what
is compared is numbers. ``pinned.json`` holds a few runs of a study, each as what ``run_grid`` takes
and what it gave; trained again by the code at hand they must give the same, up to rounding.

What this sees: any change of the random streams, the problem, oracles, teachers, training, metrics
and defaults that reaches one of these runs. What it does not see: a part that none of them uses. So
the studies pin runs of each of their main experiments and controls.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import sdpo_jax
from sdpo_jax import Config
from sweeps.system import writing
from sweeps.system.reading import read_json

NAME = "pinned.json"
METRICS = ("reward", "credit", "entropy")

# Final values may differ by so much from one processor to another: rounding of float32 over 300
# steps, and now and then a sampled token that falls on the other side. Of another seed they differ
# by 0.01 to 0.1.
TOLERANCE = 2e-3


@dataclass(frozen=True)
class Pin:
    """A run and what it gave.

    Attributes:
        page: what of the page it stands for, such as the name of a data set.
        algorithm, oracle, seed: of the run.
        numbers: those that are not at their defaults.
        values: final value by metric.
    """

    page: str
    algorithm: str
    oracle: str
    seed: int
    numbers: Mapping[str, float]
    values: Mapping[str, float]


def write(out_dir: str | os.PathLike[str], pins: Iterable[Pin]) -> Path:
    """Write ``OUT/pinned.json``; return the path."""
    return writing.write_json(Path(out_dir) / NAME, [asdict(pin) for pin in pins])


def read(out_dir: str | os.PathLike[str]) -> list[Pin]:
    """The pins of a folder.

    Raises:
        FileNotFoundError: it has none.
    """
    return [Pin(**entry) for entry in read_json(Path(out_dir) / NAME)]


def differences(pins: Sequence[Pin]) -> list[dict[str, float]]:
    """By metric: what each run gives now, less what is pinned."""
    shared = {name for pin in pins for name in pin.numbers}
    defaults = {name: float(value) for name, value in asdict(Config()).items() if name in shared}
    columns: dict[str, list[Any]] = {
        "algorithm": [pin.algorithm for pin in pins],
        "oracle": [pin.oracle for pin in pins],
        "seed": [pin.seed for pin in pins],
    }
    for name in sorted(shared):
        # A number of another algorithm's own may have any value: it is not read.
        columns[name] = [float(pin.numbers.get(name, defaults.get(name, 0.1))) for pin in pins]
    found = sdpo_jax.run_grid({"pinned": columns}, metrics=METRICS)
    return [
        {
            metric: float(np.abs(found[metric].values[place] - value))
            for metric, value in pin.values.items()
        }
        for place, pin in enumerate(pins)
    ]
