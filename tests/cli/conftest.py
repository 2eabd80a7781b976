"""The fake system, as if a package had brought it, and a folder of its own for every test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pilotage.cli import main
from pilotage.core import registry

HERE = Path(__file__).resolve().parent
POINTS = {
    "pilotage.systems": [EntryPoint("fake", "fake_systems:SYSTEM", "pilotage.systems")],
    "pilotage.claims": [EntryPoint("fake-pilot", "fake_systems:CLAIMS", "pilotage.claims")],
    "pilotage.pieces": [EntryPoint("advantage.mine", "fake_systems:mine", "pilotage.pieces")],
}

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _fake_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setattr(registry, "entry_points", lambda group: POINTS.get(group, []))
    registry.all_pieces.cache_clear()
    monkeypatch.chdir(tmp_path)
    yield
    registry.all_pieces.cache_clear()


@pytest.fixture
def pilotage(capsys: pytest.CaptureFixture[str]) -> Command:
    """`pilotage("run", "x")` gives exit code, standard output and standard error."""

    def command(*words: str) -> tuple[int, str, str]:
        code = main(words)
        output = capsys.readouterr()
        return code, output.out, output.err

    return command


@pytest.fixture
def fake() -> object:
    return sys.modules.get("fake_systems") or __import__("fake_systems")
