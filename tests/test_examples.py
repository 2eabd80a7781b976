"""The examples, and the README's first Python example, each run in a small form."""

from __future__ import annotations

import json
import linecache
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
TINY = {"pretrain_to_accuracy": 0.0, "num_train_prompts": 8, "prompts_per_step": 2, "group_size": 2, "max_tokens": 4}
TINY |= {"steps": 1, "evaluate_every": 0, "evaluation_prompts": 2, "evaluation_samples": 1, "difficulties": [1]}


def environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "PILOTAGE_HOME": str(folder / "home"),
        "OMP_NUM_THREADS": "2",
    }


def run_example(name: str, folder: Path, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_grpo_from_scratch_trains(tmp_path):
    assert len((EXAMPLES / "grpo_from_scratch.py").read_text().splitlines()) <= 200
    output = run_example("grpo_from_scratch.py", tmp_path, "--steps", "2", "--kl", "0.1", "--prompts", "2")
    assert len(re.findall(r"^step +\d+  reward \d\.\d{3}", output, flags=re.MULTILINE)) == 2


@pytest.mark.parametrize("name", ["own_head.py", "own_environment.py"])
def test_a_robot_example_trains(name, tmp_path):
    pytest.importorskip("gymnasium")
    assert "of the episodes reach the goal" in run_example(name, tmp_path, "2")


def make_tiny(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have pilotage.run and pilotage.compare do as little as they can, in `folder`."""
    import pilotage

    run, compare = pilotage.run, pilotage.compare
    monkeypatch.setattr(pilotage, "run", lambda name, **options: run(name, **{**options, **TINY}))
    monkeypatch.setattr(pilotage, "compare", lambda arms, **given: compare(arms, **{**given, **TINY, "seeds": 1}))
    monkeypatch.setenv("PILOTAGE_HOME", str(folder / "home"))
    monkeypatch.chdir(folder)


class Notebook:
    """Executes cells as IPython does: one module `__main__` without a file, each cell in linecache."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.module = types.ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", self.module)
        self.count = 0

    def cell(self, text: str) -> None:
        self.count += 1
        name = f"<ipython-input-{self.count}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), vars(self.module))


def first_example() -> str:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)[0]


def test_the_readmes_first_example_runs_in_a_cell(monkeypatch, tmp_path, capsys):
    make_tiny(monkeypatch, tmp_path)
    Notebook(monkeypatch).cell(first_example())
    assert "held_out/accuracy" in capsys.readouterr().out
    record = json.loads((tmp_path / "runs" / "grpo-add-0-1" / "run.json").read_text())
    assert record["config"]["functions"][0]["$source"].startswith("sources/session_signed_")


@pytest.mark.parametrize("way", ["script", "-c"])
def test_the_readmes_first_example_runs_as_a_script_and_as_a_command(way, tmp_path):
    options = ", ".join(f"{name}={value!r}" for name, value in TINY.items())
    text = first_example().replace("steps=50", options)
    (tmp_path / "mine.py").write_text(text)
    arguments = ["mine.py"] if way == "script" else ["-c", text]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "held_out/accuracy" in done.stdout


def test_the_notebook_runs_cell_by_cell(monkeypatch, tmp_path):
    make_tiny(monkeypatch, tmp_path)
    notebook = Notebook(monkeypatch)
    for cell in json.loads((EXAMPLES / "own_advantage.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            notebook.cell("".join(cell["source"]))
    assert list(vars(notebook.module)["comparison"].metrics) == ["grpo", "signed", "nearly"]


def test_the_notebook_runs_in_a_kernel(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(EXAMPLES / "own_advantage.ipynb", as_version=4)
    options = ", ".join(f"{name}={value!r}" for name, value in TINY.items())
    for cell in notebook.cells:
        cell.source = cell.source.replace("steps=STEPS, difficulties=[1, 2]", options)
        cell.source = cell.source.replace("    steps=STEPS,\n    difficulties=[1, 2],\n", f"    {options},\n")
    for name, value in environment(tmp_path).items():
        os.environ.setdefault(name, value)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
