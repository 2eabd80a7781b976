"""What a run directory promises: it is the same run or it is refused, and everything in it can be read again."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pilotage.core.errors import NonFinite, RunError, UsageError
from pilotage.runs import Manifest, Run, read_lines, read_result
from pilotage.runs import directory as directory_module
from pilotage.runs.artifacts import contents_hash

FUNCTION = {"source": "def length(text):\n    return len(text)\n", "name": "my.reward:length"}
CONFIG = {"lr": 1e-3, "levels": [1, 2], "clip": math.inf, "reward": FUNCTION}


def create(directory: Path, config: Mapping[str, Any] = CONFIG, **other: Any) -> Run:
    return Run.create(directory, **{"system": "toy", "config": config, "seed": 1, **other})


def create_with_a_step(directory: Path) -> None:
    with create(directory) as run:
        run.log(1, {"loss": 1.0})


def test_another_configuration_is_refused_with_the_keys_that_differ(tmp_path: Path) -> None:
    create_with_a_step(tmp_path / "r")
    other = {**CONFIG, "lr": 2e-3, "extra": True, "reward": {**FUNCTION, "source": "def length(t): return 0"}}
    del other["clip"]
    with pytest.raises(UsageError) as caught:
        create(tmp_path / "r", other, seed=2)
    text = str(caught.value)
    assert "lr was 0.001, is 0.002" in text
    assert "extra was nothing, is True" in text
    assert "seed was 1, is 2" in text
    assert "reward.source" in text
    assert "clip" in text
    assert "levels" not in text
    with pytest.raises(UsageError, match="system was 'toy', is 'other'"):
        create(tmp_path / "r", system="other")
    create(tmp_path / "r").close()


def test_a_run_that_ended_before_its_first_step_does_not_block_its_directory(tmp_path: Path) -> None:
    with create(tmp_path / "r") as run:
        run.describe_metric("loss", "mean")
        run.log_event(0, "error", "the data cannot be read")
    with create(tmp_path / "r", {"lr": 2e-3}) as run:
        assert run.config == {"lr": 2e-3}
        assert run.restore({}) == 0
    assert read_lines(tmp_path / "r" / "events.jsonl") == []
    assert not (tmp_path / "r" / "sources").exists()


@pytest.mark.parametrize("kept", ["answers.sqlite", "journals", "checkpoints", "rollouts.jsonl", "result.json"])
def test_a_run_that_left_anything_else_is_not_removed_unasked(tmp_path: Path, kept: str) -> None:
    create(tmp_path / "r").close()
    (tmp_path / "r" / kept).write_text("{}")
    with pytest.raises(UsageError, match="lr was"):
        create(tmp_path / "r", {"lr": 2e-3})
    assert (tmp_path / "r" / kept).exists()


def test_overwrite_removes_the_run_that_is_there_and_nothing_that_is_no_run(tmp_path: Path) -> None:
    with create(tmp_path / "r") as run:
        run.log(1, {"loss": 1.0})
        run.save(1, {})
        run.finish({"loss": 1.0})
    with create(tmp_path / "r", overwrite=True) as run:
        assert not run.finished
        assert run.restore({}) == 0
        with pytest.raises(UsageError, match="in use"):
            create(tmp_path / "r", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        create(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_a_run_that_is_there_is_refused_without_resume(tmp_path: Path) -> None:
    create(tmp_path / "r").close()
    with pytest.raises(UsageError, match="holds a run already"):
        create(tmp_path / "r", resume=False)


def test_a_directory_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(UsageError, match="not a run directory"):
        Run.open(tmp_path)


def test_a_second_user_is_refused_by_process_number_until_the_first_is_done(tmp_path: Path) -> None:
    with create(tmp_path / "r"):
        with pytest.raises(UsageError, match=f"in use by process {os.getpid()}"):
            create(tmp_path / "r")
        with pytest.raises(UsageError, match="in use"):
            Run.open(tmp_path / "r")
    Run.open(tmp_path / "r").close()


def test_a_refused_creation_leaves_the_directory_unlocked(tmp_path: Path) -> None:
    create_with_a_step(tmp_path / "r")
    with pytest.raises(UsageError):
        create(tmp_path / "r", {"lr": 9})
    create(tmp_path / "r").close()


@pytest.mark.parametrize(
    ("change", "named"), [({"threads": 17}, "threads was"), ({"precision": "bfloat16"}, "precision was 'float32'")]
)
def test_other_numerics_are_refused_on_resume_but_not_when_there_is_nothing_left_to_do(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    create(tmp_path / "r").close()
    with pytest.raises(UsageError, match=named):
        create(tmp_path / "r", **change)
    with create(tmp_path / "r") as run:
        run.finish({"accuracy": 1})
    with create(tmp_path / "r", **change) as run:
        assert run.finished


def test_another_processor_is_refused_on_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "r").close()
    real = directory_module.numerics
    monkeypatch.setattr(directory_module, "numerics", lambda *a: {**real(*a), "features": ["abacus"]})
    with pytest.raises(UsageError, match=r"features was .* is \['abacus'\]"):
        Run.open(tmp_path / "r")


def test_other_versions_are_noted_and_the_note_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "r").close()
    monkeypatch.setattr(directory_module, "versions", lambda: {"torch": "0.1"})
    with create(tmp_path / "r") as run:
        run.restore({})
    assert "torch was" in read_lines(tmp_path / "r" / "events.jsonl")[0]["text"]


def test_unknown_key_and_format_of_run_json_are_refused_with_the_nearest_name(tmp_path: Path) -> None:
    create(tmp_path / "r").close()
    path = tmp_path / "r" / "run.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "sede": 3}))
    with pytest.raises(UsageError, match=r"'sede' .did you mean 'seed'"):
        Run.open(tmp_path / "r")
    path.write_text(json.dumps({**stored, "format": 99}))
    with pytest.raises(UsageError, match="format 99"):
        Run.open(tmp_path / "r")
    del stored["seed"]
    path.write_text(json.dumps(stored))
    with pytest.raises(UsageError, match="lacks seed"):
        Run.open(tmp_path / "r")


def test_what_is_needed_to_make_it_again_is_there(tmp_path: Path) -> None:
    create(tmp_path / "r", command="pilotage run toy").close()
    recipe = Run.read_recipe(tmp_path / "r", tmp_path / "new")
    assert (recipe.system, recipe.seed, recipe.command) == ("toy", 1, "pilotage run toy")
    assert recipe.config == CONFIG
    source = recipe.sources["my.reward:length"]
    assert source.parent == tmp_path / "r" / "sources"
    assert source.read_text() == FUNCTION["source"]
    manifest = Manifest.read(tmp_path / "r")
    assert manifest.versions["torch"]
    assert manifest.hardware["cores"] >= 1
    create(tmp_path / "new", recipe.config, seed=recipe.seed).close()
    with pytest.raises(UsageError, match="in itself"):
        Run.read_recipe(tmp_path / "r", tmp_path / "new" / ".." / "r")
    source.write_text("def length(text): return 1")
    with pytest.raises(UsageError, match="was altered"):
        Run.read_recipe(tmp_path / "r")


@pytest.mark.parametrize("value", [object(), {1: 2}, {"$float": "x"}, np.zeros(2)])
def test_a_configuration_that_json_cannot_hold_is_refused_with_its_place(tmp_path: Path, value: Any) -> None:
    with pytest.raises(UsageError, match=r"config\.a\[1\]"):
        create(tmp_path / "r", {"a": [0, value]})


def test_metrics_are_lines_with_a_step_and_non_finite_ones_null_with_an_event(tmp_path: Path) -> None:
    with create(tmp_path / "r") as run:
        run.restore({})
        run.log(1, {"loss": torch.tensor(0.5), "count": np.int64(3), "gap": float("nan"), "norm": float("inf")})
        run.log_timing(1, {"seconds": 0.25})
        run.log_rollout(1, {"text": "né\ud800", "score": float("nan"), "ids": torch.tensor([1, 2])})
        run.log(2, {"loss": 0.1})
        assert read_lines(tmp_path / "r" / "metrics.jsonl")[1] == {"step": 2, "loss": 0.1}
        with pytest.raises(UsageError, match="one number per name"):
            run.log(3, {"loss": "high"})
    lines = (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"step": 1, "loss": 0.5, "count": 3, "gap": None, "norm": None}
    event = read_lines(tmp_path / "r" / "events.jsonl")[0]
    assert (event["step"], event["kind"]) == (1, "non-finite")
    assert "gap is nan, norm is inf" in event["text"]
    assert read_lines(tmp_path / "r" / "timing.jsonl") == [{"step": 1, "seconds": 0.25}]
    rollout = read_lines(tmp_path / "r" / "rollouts.jsonl")[0]
    assert rollout == {"step": 1, "text": "né\ufffd", "score": None, "ids": [1, 2]}


def test_every_metric_is_explained_once(tmp_path: Path) -> None:
    with create(tmp_path / "r") as run:
        run.describe_metric("loss", "mean")
        run.describe_metric("loss", "mean")
        with pytest.raises(UsageError, match="explained as 'mean'"):
            run.describe_metric("loss", "sum")
        run.log(1, {"loss": 1, "other": 2})
        assert run.undescribed == ["other"]
    assert json.loads((tmp_path / "r" / "metrics.json").read_text()) == {"loss": "mean"}
    with create(tmp_path / "r") as run, pytest.raises(UsageError):
        run.describe_metric("loss", "sum")


def test_going_on_without_restore_is_refused(tmp_path: Path) -> None:
    with create(tmp_path / "r") as run:
        run.log(1, {"loss": 1})
    with create(tmp_path / "r") as run:
        for act in (lambda: run.log(2, {"a": 1}), lambda: run.log_rollout(2, {}), lambda: run.save(2, {})):
            with pytest.raises(RunError, match="call restore"):
                act()
        assert run.restore({}) == 0
        run.log(1, {"loss": 2})
    assert read_lines(tmp_path / "r" / "metrics.jsonl") == [{"step": 1, "loss": 2}]


def test_a_non_finite_loss_stops_the_run_and_keeps_batch_and_checkpoint(tmp_path: Path) -> None:
    with create(tmp_path / "r") as run:
        run.restore({})
        checkpoint = run.save(4, {})
        batch = {"ids": torch.arange(6), "same": torch.arange(6)[1:3], "mask": torch.tensor([True])}
        batch["tied"] = batch["ids"]
        run.check_finite(5, "loss", 0.5, batch)
        run.check_finite(5, "loss", torch.ones(3), batch)
        assert not (tmp_path / "r" / "failed-batch").exists()
        for value in (torch.tensor([1.0, math.nan]), math.inf):
            with pytest.raises(NonFinite) as caught:
                run.check_finite(5, "loss", value, batch)
        assert (caught.value.step, caught.value.name, caught.value.checkpoint) == (5, "loss", checkpoint)
        assert caught.value.batch == tmp_path / "r" / "failed-batch"
        for part in ("loss", "step 5", str(checkpoint), str(caught.value.batch)):
            assert part in str(caught.value)
    kept = load_file(tmp_path / "r" / "failed-batch" / "batch.safetensors")
    assert {name: tensor.tolist() for name, tensor in kept.items()} == {k: t.tolist() for k, t in batch.items()}


def test_a_finished_run_says_so_and_finishes_once(tmp_path: Path) -> None:
    with create(tmp_path / "r") as run:
        assert not run.finished
        assert run.result is None
        run.finish({"accuracy": 0.5, "gap": math.inf})
        run.finish({"accuracy": 0.5, "gap": math.inf})
        with pytest.raises(RunError, match="another result"):
            run.finish({"accuracy": 0.6})
    with create(tmp_path / "r") as run:
        assert run.finished
    assert read_result(tmp_path / "r") == {"accuracy": 0.5, "gap": math.inf}


def make(directory: Path, config: Mapping[str, Any]) -> None:
    (directory / "model").write_text(str(config["size"]))


def test_artifacts_used_are_recorded_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    with create(tmp_path / "r") as run:
        path = run.artifact(make, {"size": 1}, name="base", root=tmp_path / "a", progress=lambda _: None)
    entry = Manifest.read(tmp_path / "r").artifacts["base"]
    about = json.loads((path / "artifact.json").read_text())
    assert (entry["contents"], entry["key"], entry["path"]) == (about["contents"], about["key"], str(path))
    (path / "model").write_text("2")
    (path / "artifact.json").write_text(json.dumps({**about, "contents": contents_hash(path)}))
    with create(tmp_path / "r") as run, pytest.raises(UsageError, match="used the artifact base"):
        run.artifact(make, {"size": 1}, name="base", root=tmp_path / "a")
