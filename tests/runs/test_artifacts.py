"""Artifacts: made once, known by what they depend on, never taken for finished when they are not."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pilotage.core.errors import RunError, UsageError
from pilotage.runs import artifact, artifact_cost, read_artifact, verify_artifact
from pilotage.runs.artifacts import artifact_root

MADE: list[str] = []


def make(directory: Path, config: Mapping[str, Any], *inputs: Path) -> None:
    MADE.append(directory.name)
    (directory / "sub").mkdir()
    (directory / "sub" / "model").write_text(f"{config} {[path.name for path in inputs]}")


def other_maker(directory: Path, config: Mapping[str, Any]) -> None:
    make(directory, config)


def build(root: Path, config: Mapping[str, Any] | None = None, *inputs: Path, **other: Any) -> Path:
    options = {"name": "base", "code": "v1", "root": root, "progress": lambda _: None, **other}
    return artifact(options.pop("maker", make), config or {"size": 1}, inputs, **options)


def test_it_is_made_once_and_says_what_it_cost(tmp_path: Path) -> None:
    MADE.clear()
    path = build(tmp_path)
    assert build(tmp_path) == path
    assert len(MADE) == 1
    assert artifact_cost(path) >= 0
    about = read_artifact(path)
    assert about["config"] == {"size": 1}
    assert about["maker"].endswith("test_artifacts:make")
    assert "size" in (path / "sub" / "model").read_text()
    verify_artifact(path)
    (path / "sub" / "model").write_text("x")
    with pytest.raises(RunError, match="was altered"):
        verify_artifact(path)


def test_an_altered_artifact_is_neither_served_nor_taken_as_an_input(tmp_path: Path) -> None:
    path = build(tmp_path)
    (path / "sub" / "model").write_text("x")
    with pytest.raises(RunError, match=r"was altered.* remove that folder"):
        build(tmp_path)
    with pytest.raises(RunError, match="was altered"):
        build(tmp_path, {"size": 2}, path)
    shutil.rmtree(path)
    assert build(tmp_path) == path


def test_files_that_a_library_made_for_its_owner_alone_are_as_readable_as_any(tmp_path: Path) -> None:
    def private(directory: Path, _: Mapping[str, Any]) -> None:
        (directory / "model").touch(0o600)

    (tmp_path / "any").touch()
    made = build(tmp_path, maker=private) / "model"
    assert made.stat().st_mode == (tmp_path / "any").stat().st_mode


def test_it_depends_on_name_maker_code_configuration_and_contents_of_inputs(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_text("1")
    root = tmp_path / "root"
    paths = [
        build(root),
        build(root, name="other"),
        build(root, maker=other_maker),
        build(root, code="v2"),
        build(root, code=None),
        build(root, {"size": 2}),
        build(root, None, data),
        build(root, None, build(root)),
    ]
    data.write_text("2")
    paths.append(build(root, None, data))
    assert len(set(paths)) == len(paths)
    data.write_text("1")
    assert build(root, None, data) == paths[6]


def test_a_maker_that_raises_leaves_nothing_and_is_asked_again(tmp_path: Path) -> None:
    calls = []

    def fails_once(directory: Path, config: Mapping[str, Any]) -> None:
        (directory / "half").write_text("x")
        calls.append(config)
        if len(calls) == 1:
            raise RuntimeError("no power")

    with pytest.raises(RuntimeError, match="no power"):
        build(tmp_path, maker=fails_once)
    assert [path.name for path in tmp_path.iterdir()] == [".locks"]
    assert (build(tmp_path, maker=fails_once) / "half").exists()


def test_a_maker_that_is_killed_leaves_nothing_that_counts(tmp_path: Path) -> None:
    def killed(directory: Path, _: Mapping[str, Any]) -> None:
        (directory / "first").write_text("x")
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        (directory / "second").write_text("x")

    parent = os.getpid()
    child = os.fork()
    if child == 0:
        build(tmp_path, maker=killed)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
    assert (build(tmp_path, maker=killed) / "second").exists()
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == [".", "b"]


def test_two_processes_make_it_once_and_the_second_says_that_it_waits(tmp_path: Path) -> None:
    def slow(directory: Path, _: Mapping[str, Any]) -> None:
        (tmp_path / f"made by {os.getpid()}").write_text("")
        deadline = time.monotonic() + 60
        while not (tmp_path / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        (directory / "model").write_text(str(os.getpid()))

    child = os.fork()
    if child == 0:
        build(tmp_path / "root", maker=slow)
        os._exit(0)
    while not (tmp_path / f"made by {child}").exists():
        time.sleep(0.01)
    said: list[str] = []

    def tell(message: str) -> None:
        said.append(message)
        (tmp_path / "go").write_text("")

    path = build(tmp_path / "root", maker=slow, progress=tell)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (path / "model").read_text() == str(child)
    assert said == [f"waiting for process {child}, which makes {path}"]
    assert not (tmp_path / f"made by {os.getpid()}").exists()


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot name an artifact"):
        build(tmp_path, name="../x")
    with pytest.raises(UsageError, match="no name to know it by"):
        build(tmp_path, maker=lambda *_: None)
    with pytest.raises(UsageError, match="does not exist"):
        build(tmp_path, None, tmp_path / "missing")
    with pytest.raises(UsageError, match="not an artifact"):
        artifact_cost(tmp_path)


def test_the_default_place_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path))
    assert artifact_root() == tmp_path / "artifacts"
    monkeypatch.delenv("PILOTAGE_HOME")
    assert artifact_root() == Path.home() / ".cache" / "pilotage" / "artifacts"
