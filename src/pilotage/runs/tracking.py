"""Trackers that send what is logged also to TensorBoard, Weights & Biases or MLflow, each imported when asked for.

The run's own files stay the truth. A resumed run repeats the steps since its checkpoint; no tracker then shows a step
twice.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pilotage.core.atomic_io import write_atomically
from pilotage.core.errors import UsageError
from pilotage.core.names import nearest


class Tracker(ABC):
    """Base class of trackers outside of the run; `step` is the step the run goes on from (0 for a new one)."""

    module: str
    """What must be importable for it."""

    @abstractmethod
    def __init__(self, directory: Path, *, system: str, config: Mapping[str, Any], step: int) -> None: ...

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send the finite numbers of a step to the tracker."""

    @abstractmethod
    def close(self) -> None:
        """Close the tracker."""
        ...


class TensorBoard(Tracker):
    """Event files in the run's `tensorboard/` (`tensorboard --logdir RUN`)."""

    module = "tensorboard"

    def __init__(self, directory: Path, *, system: str, config: Mapping[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = directory / "tensorboard"
        # Readers drop what earlier files hold from the purge step on. They read the files in the order of their names.
        resumed = place.is_dir() and any(place.iterdir())
        self._writer = SummaryWriter(str(place), purge_step=step + 1 if resumed else None)
        if not resumed:
            self._writer.add_text("system", system)
            self._writer.add_text("config", f"```\n{json.dumps(config, indent=1)}\n```")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send the finite numbers of a step to the tracker."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the tracker."""
        self._writer.close()


class WeightsAndBiases(Tracker):
    """A W&B run: online when WANDB_MODE says so or a key is in the environment, else files in `wandb/` to be synced.

    W&B keeps the first value of a step, which the repeated steps of an exact run equal.
    """

    module = "wandb"

    def __init__(self, directory: Path, *, system: str, config: Mapping[str, Any], step: int) -> None:  # noqa: ARG002
        import wandb

        # Any: wandb's types are there in some environments only.
        mode: Any = os.environ.get("WANDB_MODE", "online" if os.environ.get("WANDB_API_KEY") else "offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "pilotage"),
            dir=str(directory),
            # The same directory is the same run, also after a kill.
            id=_remembered(directory, "wandb"),
            resume="allow",
            name=f"{system}/{directory.name}",
            config=dict(config),
            mode=mode,
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send the finite numbers of a step to the tracker."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Close the tracker."""
        self._run.finish()


class MLflow(Tracker):
    """An MLflow run: at MLFLOW_TRACKING_URI, else files in the run's `mlflow/`.

    MLflow keeps every value it is sent, so steps that it has are not sent again.
    """

    module = "mlflow"

    def __init__(self, directory: Path, *, system: str, config: Mapping[str, Any], step: int) -> None:  # noqa: ARG002
        from mlflow.tracking import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI", (directory / "mlflow").absolute().as_uri())
        self._client = MlflowClient(tracking_uri=uri)
        self._last: dict[str, int] = {}
        place = directory / "mlflow.json"
        if place.exists():
            self._id = json.loads(place.read_text(encoding="utf-8"))["run_id"]
            for name in self._client.get_run(self._id).data.metrics:
                self._last[name] = max(entry.step for entry in self._client.get_metric_history(self._id, name))
            return
        experiment = self._client.get_experiment_by_name(system)
        number = experiment.experiment_id if experiment else self._client.create_experiment(system)
        self._id = self._client.create_run(number, run_name=directory.name).info.run_id
        write_atomically(place, json.dumps({"run_id": self._id}).encode())
        for name, value in config.items():
            self._client.log_param(self._id, name, str(value)[:500])

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send the finite numbers of a step to the tracker."""
        for name, value in metrics.items():
            if step > self._last.get(name, -1):
                self._client.log_metric(self._id, name, value, timestamp=int(time.time() * 1000), step=step)
                self._last[name] = step

    def close(self) -> None:
        """Close the tracker."""
        self._client.set_terminated(self._id)


def _remembered(directory: Path, kind: str) -> str:
    """Return an id for the run at another service, made once and kept in `KIND.json`."""
    place = directory / f"{kind}.json"
    if not place.exists():
        text = hashlib.sha256(f"{directory.absolute()}\0{time.time_ns()}".encode()).hexdigest()[:16]
        write_atomically(place, json.dumps({"run_id": text}).encode())
    return json.loads(place.read_text(encoding="utf-8"))["run_id"]


TRACKERS: Mapping[str, type[Tracker]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}
"""By the name on the command line, which is also the name of the extra."""


def tracker_type(name: str) -> type[Tracker]:
    """Return the tracker called `name`.

    Raises UsageError for an unknown one, and when what it needs cannot be imported.
    """
    if name not in TRACKERS:
        raise UsageError(f"there is no tracker {name!r}{nearest(name, TRACKERS)}")
    kind = TRACKERS[name]
    try:
        importlib.import_module(kind.module)
    except ModuleNotFoundError as error:
        if error.name != kind.module:
            raise
        raise UsageError(f"tracking by {name} needs an extra: pip install 'pilotage[{name}]'") from error
    except ImportError as error:
        raise UsageError(
            f"the installed {kind.module} cannot be imported ({error}); repair it: pip install -U 'pilotage[{name}]'"
        ) from error
    return kind


class Trackers:
    """The trackers of a run, opened when something is first logged: only then is it known where the run goes on."""

    def __init__(self, directory: Path, system: str, config: Mapping[str, Any]) -> None:
        self._about = (directory, system, config)
        self._types: dict[str, type[Tracker]] = {}
        self._open: dict[str, Tracker] = {}

    def add(self, names: Iterable[str]) -> None:
        """Use the trackers called `names`. Raises UsageError as `tracker_type` does."""
        self._types |= {name: tracker_type(name) for name in names}

    def log(self, step: int, metrics: Mapping[str, float], resumed_at: int) -> None:
        """Send the finite numbers of a step to every tracker; this process went on from the step `resumed_at`."""
        directory, system, config = self._about
        for name, kind in self._types.items():
            if name not in self._open:
                self._open[name] = kind(directory, system=system, config=config, step=resumed_at)
            self._open[name].log(step, metrics)

    def close(self) -> None:
        """Close every tracker that was opened."""
        for tracker in self._open.values():
            tracker.close()
        self._open = {}
