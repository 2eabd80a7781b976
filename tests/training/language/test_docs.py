"""Every command of the page about data and rewards runs, on the files that the page shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from tests.training.language.small_model import write_model

from pilotage.cli import main

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "your-data.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', PAGE, flags=re.M | re.S))
COMMANDS = [
    line for block in re.findall(r"^```bash\n(.*?)^```", PAGE, flags=re.M | re.S) for line in block.splitlines()
]
SHORT = (
    "--steps 1 --prompts-per-step 2 --group-size 2 --num-train-prompts 2 --max-tokens 3 --evaluation-prompts 1 "
    "--evaluation-samples 1 --evaluate-every 0"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_runs(command: str, model: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(f"{command} {SHORT}")
    assert program == "pilotage"
    code = main([str(model) if word.startswith("Qwen/") else word for word in words])
    assert code == 0, capsys.readouterr().err
    assert "--dry-run" in words or (tmp_path / words[words.index("--out") + 1] / "policy").is_dir()
