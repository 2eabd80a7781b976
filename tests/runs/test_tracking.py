"""Tracking: what we write, the tracker's own reader reads, and a resumed run shows no step twice."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from pilotage.core.errors import UsageError
from pilotage.runs import Run, tracking


def train(directory: Path, name: str, last: int) -> int:
    """Log up to the step `last`, a checkpoint at every third; what follows it is lost."""
    with Run.create(directory, system="toy", config={"lr": 0.1}, seed=1) as run:
        run.track([name])
        begin = run.restore({})
        for step in range(begin + 1, last + 1):
            run.log(step, {"loss": 1 / step, "reward": float(step), "gap": float("nan")})
            if step % 3 == 0:
                run.save(step, {})
        return begin


def test_tensorboard_reads_every_step_once_after_a_resume(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert train(tmp_path / "r", "tensorboard", 5) == 0
    assert train(tmp_path / "r", "tensorboard", 8) == 3
    assert train(tmp_path / "r", "tensorboard", 9) == 6
    reader = accumulator.EventAccumulator(str(tmp_path / "r" / "tensorboard"))
    reader.Reload()
    assert set(reader.Tags()["scalars"]) == {"loss", "reward"}
    events = reader.Scalars("reward")
    assert [event.step for event in events] == list(range(1, 10))
    assert [event.value for event in events] == [float(step) for step in range(1, 10)]


def test_tensorboard_killed_before_the_first_checkpoint_begins_anew(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert train(tmp_path / "r", "tensorboard", 2) == 0
    assert train(tmp_path / "r", "tensorboard", 2) == 0
    reader = accumulator.EventAccumulator(str(tmp_path / "r" / "tensorboard"))
    reader.Reload()
    assert [event.step for event in reader.Scalars("loss")] == [1, 2]


def test_mlflow_has_every_step_once_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        pytest.skip(f"mlflow cannot be imported: {error}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    train(tmp_path / "r", "mlflow", 5)
    assert train(tmp_path / "r", "mlflow", 8) == 3
    client = MlflowClient(tracking_uri=tracking.mlflow_place(tmp_path / "r"))
    (experiment,) = client.search_experiments(filter_string="name = 'toy'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params == {"lr": "0.1"}
    assert [entry.step for entry in client.get_metric_history(run.info.run_id, "loss")] == list(range(1, 9))


def test_wandb_writes_files_of_one_run_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(tmp_path / "r", "wandb", 5)
    assert train(tmp_path / "r", "wandb", 6) == 3
    names = [path.stem for path in (tmp_path / "r" / "wandb").rglob("*.wandb")]
    assert len(names) >= 1
    assert len(set(names)) == 1


def test_a_missing_extra_names_the_line_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with Run.create(tmp_path / "r", system="toy", config={}, seed=1) as run:
        for name in tracking.TRACKERS:
            with pytest.raises(UsageError, match=rf"pip install 'pilotage\[{name}\]'"):
                run.track([name])
        with pytest.raises(UsageError, match="did you mean 'tensorboard'"):
            run.track(["tensorbord"])
