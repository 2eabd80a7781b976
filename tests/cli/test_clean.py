"""`pilotage clean` lists what can be made again, and removes it when asked to, unless it is in use."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests.cli.conftest import Command

from pilotage.core.atomic_io import Lock

DAY = 86400


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three jobs and two artifacts of 1 to 40 days, data of the user beside them, and a link out of the home."""
    home = tmp_path / "home"
    monkeypatch.setenv("PILOTAGE_HOME", str(home))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("x")
    for name, days, size in (
        ("jobs/young", 1, 10_000),
        ("jobs/old", 40, 3_000_000),
        ("jobs/older", 50, 10_000),
        ("artifacts/base-1", 1, 10_000),
        ("artifacts/base-2", 40, 10_000),
        ("nyc-covid", 90, 10_000),
    ):
        (home / name / "run").mkdir(parents=True)
        for path in (home / name / "run" / "file", home / name / "lock", home / name / "run" / "lock"):
            path.write_bytes(os.urandom(size if path.name == "file" else 0))
        (home / name / "run" / "link").symlink_to(tmp_path / "thesis")
        for path in [*(home / name).rglob("*"), home / name]:
            os.utime(path, (time.time() - days * DAY,) * 2, follow_symlinks=False)
    (home / "jobs" / "link").symlink_to(tmp_path / "thesis")
    return home


def left(home: Path) -> set[str]:
    names = {f"{kind}/{path.name}" for kind in ("jobs", "artifacts") for path in (home / kind).iterdir()}
    return {name for name in names if "/." not in name} - {"jobs/link"}


def test_it_lists_and_removes_nothing_unasked(pilotage: Command, home: Path) -> None:
    before = left(home)
    code, output, _ = pilotage("clean", "--older-than", "30d")
    assert code == 0
    assert "3.0 MB" in output
    listed = [line.split("/")[-1] for line in output.splitlines() if str(home) in line]
    assert listed[0] == "older"
    assert sorted(listed) == ["base-2", "old", "older"]
    assert left(home) == before


@pytest.mark.parametrize(
    ("options", "removed"),
    [
        (("--older-than", "30d"), {"jobs/old", "jobs/older", "artifacts/base-2"}),
        (("--larger-than", "1M"), {"jobs/old"}),
        (("--older-than", "45d", "--larger-than", "1M"), set()),
        (("--keep", "1"), {"jobs/old", "jobs/older", "artifacts/base-2"}),
        (("--older-than", "0d"), {"jobs/young", "jobs/old", "jobs/older", "artifacts/base-1", "artifacts/base-2"}),
    ],
)
def test_it_removes_by_age_size_and_number(
    pilotage: Command, home: Path, tmp_path: Path, options: tuple[str, ...], removed: set[str]
) -> None:
    before = left(home)
    assert pilotage("clean", *options, "--yes")[0] == 0
    assert before - left(home) == removed
    assert (home / "nyc-covid" / "run" / "file").exists()
    assert (tmp_path / "thesis" / "thesis.tex").exists()
    assert (home / "jobs" / "link").is_symlink()


@pytest.mark.parametrize("place", ["jobs/old/lock", "jobs/old/run/lock", "artifacts/.locks/base-2"])
def test_what_a_process_uses_stays(pilotage: Command, home: Path, place: str) -> None:
    (home / place).parent.mkdir(exist_ok=True)
    lock = Lock(home / place)
    assert lock.take()
    try:
        code, output, _ = pilotage("clean", "--older-than", "0d", "--yes")
    finally:
        lock.release()
    assert (code, "kept, in use" in output) == (0, True)
    assert left(home) == {"jobs/old"} if place.startswith("jobs") else {"artifacts/base-2"}


@pytest.mark.parametrize("words", [("--older-than", "soon"), ("--larger-than", "5x"), ("--keep", "-1"), ("--yes",)])
def test_amounts_that_mean_nothing_are_refused(pilotage: Command, home: Path, words: tuple[str, ...]) -> None:
    before = left(home)
    code, _, error = pilotage("clean", *words)
    assert (code, words[0] in error) == (2, True)
    assert left(home) == before


def test_an_empty_home_has_nothing_to_remove(
    pilotage: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path / "none"))
    code, output, _ = pilotage("clean")
    assert (code, "nothing to remove" in output) == (0, True)
