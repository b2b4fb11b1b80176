"""Runs as those of experiment trackers: TensorBoard, W&B and MLflow, through their own libraries.

Each run is one of theirs: what it was trained with is its configuration, its curves are scalars
by step, and its final numbers are its summary, all under the names that ``sweeps.open`` has.
Nothing is sent anywhere: W&B writes its offline format, MLflow a database in the folder, and what
the libraries would report of their own use is switched off.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# Both would tell their makers of their use, and W&B would ask for an account.
_OFFLINE = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "DO_NOT_TRACK": "true",
    "WANDB_MODE": "offline",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
}
# What a name may be made of in all three, and in a file's name.
_NOT_IN_NAMES = re.compile(r"[^\w.,=+-]+", re.ASCII)
_MOST_LETTERS = 120
# MLflow takes that many numbers at a time.
_MOST_NUMBERS = 1000


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Attributes:
        number: its place in the grid, from 0; ``replay`` knows it by that.
        labels: its place on each axis, by name.
        held: what no axis varies.
        finals: by name one number.
        curves: by name a number at each of ``steps``.
        steps: at which curves were recorded.
    """

    number: int
    labels: dict[str, Any]
    held: dict[str, Any]
    finals: dict[str, float]
    curves: dict[str, np.ndarray] = field(default_factory=dict)
    steps: np.ndarray = field(default_factory=lambda: np.zeros(0, int))

    @property
    def name(self) -> str:
        """Number and labels, as a file may be called."""
        labels = ",".join(f"{name}={value}" for name, value in self.labels.items())
        return _NOT_IN_NAMES.sub("-", f"{self.number:06d},{labels}").strip(",")[:_MOST_LETTERS]

    @property
    def config(self) -> dict[str, Any]:
        """All that it was trained with, and its number as ``run``."""
        return {"run": self.number, **self.held, **self.labels}


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """See that no library sends anything: to be entered before it is imported."""
    before = {name: os.environ.get(name) for name in _OFFLINE}
    os.environ.update(_OFFLINE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def tensorboard(title: str, runs: Iterable[Run], folder: Path, home: Path) -> None:
    """A folder of TensorBoard's for each run, in its event format.

    Args:
        title: of the grid.
        runs: which.
        folder: where they are written.
        home: where they will be, once all are there.
    """
    events = importlib.import_module("tensorboard.compat.proto.event_pb2")
    summaries = importlib.import_module("tensorboard.compat.proto.summary_pb2")
    files = importlib.import_module("tensorboard.summary.writer.event_file_writer")
    for run in runs:
        now = time.time()
        writer = files.EventFileWriter(str(folder / run.name))

        def add(step: int, writer: Any = writer, now: float = now, **value: Any) -> None:
            summary = summaries.Summary(value=[summaries.Summary.Value(**value)])
            writer.add_event(events.Event(wall_time=now, step=step, summary=summary))

        try:
            for tag, content in _hyperparameters(run).items():
                plugin = {"plugin_name": "hparams", "content": content}
                add(0, tag=tag, metadata={"plugin_data": plugin})
            for name, curve in run.curves.items():
                for step, number in zip(run.steps, curve, strict=True):
                    add(int(step), tag=name, simple_value=float(number))
            for name, number in run.finals.items():
                add(0, tag=name, simple_value=number)
        finally:
            writer.close()


def _hyperparameters(run: Run) -> dict[str, bytes]:
    """What TensorBoard's table of hyperparameters reads of a run, by tag."""
    api = importlib.import_module("tensorboard.plugins.hparams.api_pb2")
    data = importlib.import_module("tensorboard.plugins.hparams.plugin_data_pb2")
    kinds = {
        bool: ("bool_value", api.DATA_TYPE_BOOL),
        int: ("number_value", api.DATA_TYPE_FLOAT64),
        float: ("number_value", api.DATA_TYPE_FLOAT64),
        str: ("string_value", api.DATA_TYPE_STRING),
    }
    names, session = [], data.SessionStartInfo(group_name=run.name)
    for name, value in _items(run):
        place, kind = kinds[type(value)]
        names.append(api.HParamInfo(name=name, type=kind))
        setattr(session.hparams[name], place, value)
    metrics = [api.MetricInfo(name=api.MetricName(tag=name)) for name in run.finals]
    parts = {
        "experiment": api.Experiment(hparam_infos=names, metric_infos=metrics),
        "session_start_info": session,
        "session_end_info": data.SessionEndInfo(status=api.Status.Value("STATUS_SUCCESS")),
    }
    return {
        f"_hparams_/{name}": data.HParamsPluginData(version=0, **{name: part}).SerializeToString()
        for name, part in parts.items()
    }


def wandb(title: str, runs: Iterable[Run], folder: Path, home: Path) -> None:
    """W&B's offline runs, for ``wandb sync``. Arguments as for ``tensorboard``."""
    library: Any = importlib.import_module("wandb")
    settings = library.Settings(
        mode="offline",
        silent=True,
        console="off",
        save_code=False,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    project = _NOT_IN_NAMES.sub("-", title)[:_MOST_LETTERS]
    try:
        for run in runs:
            # The same run has the same name when it is exported again, and is not there twice.
            identity = json.dumps([title, run.config], sort_keys=True, default=str)
            there = library.init(
                project=project,
                dir=str(folder),
                id=hashlib.sha256(identity.encode()).hexdigest()[:16],
                name=run.name,
                config=dict(_items(run)),
                reinit="create_new",
                settings=settings,
            )
            for place, step in enumerate(run.steps):
                told = {name: float(curve[place]) for name, curve in run.curves.items()}
                there.log(told, step=int(step))
            there.summary.update(run.finals)
            there.finish()
    finally:
        # Its service ends, and writes no more.
        library.teardown()
    # Links and notes that hold this folder's path, which changes.
    for path in (folder / "wandb").glob("*"):
        if path.is_symlink() or path.is_file():
            path.unlink()


def mlflow(title: str, runs: Iterable[Run], folder: Path, home: Path) -> None:
    """MLflow's runs in a database, ``mlflow.db``. Arguments as for ``tensorboard``."""
    library: Any = importlib.import_module("mlflow")
    entities: Any = importlib.import_module("mlflow.entities")
    client = library.MlflowClient(tracking_uri=f"sqlite:///{(folder / 'mlflow.db').absolute()}")
    experiment = client.create_experiment(
        title, artifact_location=(home / "artifacts").absolute().as_uri()
    )
    for run in runs:
        now = int(time.time() * 1000)
        made = client.create_run(experiment, run_name=run.name)
        identity = made.info.run_id
        client.log_batch(identity, params=[entities.Param(name, str(v)) for name, v in _items(run)])
        numbers = [entities.Metric(name, number, now, 0) for name, number in run.finals.items()]
        for name, curve in run.curves.items():
            steps = zip(run.steps, curve, strict=True)
            numbers += [
                entities.Metric(name, float(number), now, int(step)) for step, number in steps
            ]
        for start in range(0, len(numbers), _MOST_NUMBERS):
            client.log_batch(identity, metrics=numbers[start : start + _MOST_NUMBERS])
        client.set_terminated(identity)


def _items(run: Run) -> Iterator[tuple[str, bool | int | float | str]]:
    """Its configuration as numbers, truth values and text."""
    for name, value in run.config.items():
        plain = value.item() if hasattr(value, "item") and np.size(value) == 1 else value
        yield name, plain if type(plain) in (bool, int, float, str) else str(plain)


# By name the libraries, and what writes with them. MLflow's database needs two more than MLflow.
TRACKERS: dict[str, tuple[tuple[str, ...], Callable[[str, Iterable[Run], Path, Path], None]]] = {
    "tensorboard": (("tensorboard",), tensorboard),
    "wandb": (("wandb",), wandb),
    "mlflow": (("mlflow", "sqlalchemy", "alembic"), mlflow),
}
