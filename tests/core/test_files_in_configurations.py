"""Options that name files: which of them exist, and paths that mean the same from every folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from pilotage.core.configuration import INPUT_FILE, OUTPUT_FILE, configure, input_files, with_absolute_paths


@dataclass(frozen=True)
class Config:
    data: Annotated[str | None, INPUT_FILE] = None
    model: Annotated[str, INPUT_FILE] = "embedded:0.4M"
    series: Annotated[Path | None, INPUT_FILE] = None
    cache: Annotated[Path | None, OUTPUT_FILE] = None
    task: str = "add"


def test_files_and_folders_that_exist_are_named_by_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.jsonl").touch()
    (tmp_path / "add").mkdir()
    config = configure(Config(), ["--data", "d.jsonl", "--series", "nyc"])
    assert input_files(config) == {"data": tmp_path / "d.jsonl"}
    assert input_files(configure(Config(), series=Path("add"))) == {"series": tmp_path / "add"}


@pytest.mark.parametrize("text", ["a\0b", "x" * 5000, "~nobody-of-this-name/x", ""])
def test_text_that_is_no_path_names_no_file(text: str) -> None:
    assert input_files(Config(data=text)) == {}


def test_paths_become_absolute_and_keep_their_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.jsonl").touch()
    config = with_absolute_paths(Config(data="d.jsonl", series=Path("nyc"), cache=Path("new.sqlite")))
    assert config == Config(str(tmp_path / "d.jsonl"), "embedded:0.4M", Path("nyc"), tmp_path / "new.sqlite")
    monkeypatch.chdir("/")
    assert with_absolute_paths(config) == config
