"""What is saved of a calibration: its grids, read from the blocks that they are kept in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from sdpo_jax import Plan, Sizes
from sweeps.calibration.design import NAMES, Settings, plans
from sweeps.store import kinds, places
from sweeps.store.blocks import Known
from sweeps.store.kinds import CALIBRATION
from sweeps.store.labelled import of_plan
from sweeps.store.makers import Makers
from sweeps.store.places import DATA
from sweeps.store.tasks import Blocks, tasks_of
from sweeps.study.elsewhere import computed_with


def described(settings: Settings, sizes: Sizes) -> dict[str, Any]:
    """The entry of a manifest that says what is run."""
    values = dataclasses.asdict(settings) | {"sizes": dataclasses.asdict(sizes)}
    return {CALIBRATION.entry: values}


def saved(out: Path, manifest: Mapping[str, Any]) -> tuple[dict[str, Plan], Blocks]:
    """The grids that a manifest describes, and their blocks.

    Raises:
        ValueError: it is not as a calibration writes it.
    """
    try:
        values = dict(manifest[CALIBRATION.entry])
        sizes = Sizes(**values.pop("sizes"))
        lists: dict[str, Any] = {
            name: tuple(each) if isinstance(each, list) else each for name, each in values.items()
        }
        laid = plans(Settings(**lists), sizes)
        accepted = Makers(out, [computed_with(manifest)]).accepted
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{out / places.MANIFEST}: not as a calibration writes it ({error}); allowed: "
            "`python -m sweeps calibrate --out` another folder"
        ) from None
    known = Known()
    tasks = [task for plan in laid.values() for task in tasks_of(plan, known)]
    return laid, Blocks(out / DATA, tasks, accepted)


def load(made: kinds.Made, name: str, lazy: bool | None = None) -> xr.Dataset:
    """One of the grids, finished or not; as ``sweeps.open``.

    Raises:
        ValueError: as for ``saved``.
    """
    assert name in NAMES
    laid, blocks = saved(made.folder, made.manifest)
    return of_plan(laid[name], blocks, lazy)
