"""What holds the project together: the direction of imports, pins, and files that must agree."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_imports_run_one_way():
    lint = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if lint is None:
        pytest.skip("lint-imports is not installed here (extra test)")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, env={"PYTHONPATH": "src"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_package_stands_in_the_contract_of_imports():
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    named = set(re.findall(r"\w+", " ".join(layer for contract in contracts for layer in contract.get("layers", ()))))
    packages = {path.stem for path in (ROOT / "src/pilotage").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert packages - {"__init__", "__main__", "__pycache__", "py"} <= named


@pytest.mark.parametrize("extra", ["main", *PROJECT["project"]["optional-dependencies"]])
def test_every_extra_has_a_file_that_pins_what_it_names(extra):
    lines = (ROOT / "constraints" / f"{extra}.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.!]+", pin) for pin in pins)
    names = {pin.partition("==")[0] for pin in pins}
    requirements = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"].get(extra, [])
    wanted = {re.match(r"[\w-]+", requirement)[0].lower() for requirement in requirements} - {"pilotage"}
    assert wanted <= names
    if extra != "vllm":  # it pins a torch of its own
        assert "torch==2.13.0" in pins


def test_the_version_is_said_once_and_the_same():
    import pilotage

    assert pilotage.__version__ == PROJECT["project"]["version"]


def test_the_licence_is_apache_2():
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["project"]["license"] == "Apache-2.0"


def test_no_module_name_says_nothing():
    empty = {"utils", "helpers", "common", "base", "misc"}
    found = [path for path in (ROOT / "src").rglob("*.py") if path.stem in empty]
    assert found == []


def _make_pages():
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("make_pages", ROOT / "docs/make_pages.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_the_guide_are_those_of_the_code():
    pages = _make_pages()
    marked = pages.pages_with_tables()
    assert {"README.md", "metrics.md", "adding-a-piece.md"} <= {page.name for page in marked}
    for page in marked:
        text = page.read_text(encoding="utf-8")
        assert pages.with_tables(text) == text, f"{page.name}: run `python docs/make_pages.py`"
        assert text.count("made by docs/make_pages.py -->") == len(pages.TABLE.findall(text)), page.name


def test_the_page_of_a_system_says_what_when_how_and_every_option():
    from pilotage.core.configuration import field_types, option
    from pilotage.core.registry import all_systems

    pages = _make_pages()
    for system in all_systems():
        text = pages.page(system)
        assert text.startswith(f"# {system.name}\n")
        assert system.card.summary in text
        assert f"pilotage run {system.name}" in text
        for field in field_types(type(system.config)):
            assert f"| `{option(field)}` |" in text


def test_the_page_of_robot_policies_names_every_part():
    from pilotage.core.registry import find_pieces

    text = (ROOT / "docs/robot-policies.md").read_text(encoding="utf-8")
    table = {row.split("`")[1]: row for row in text.splitlines() if row.startswith("| ") and "`--" in row}
    for option, parts in {
        "--encoder": find_pieces("encoder"),
        "--network": find_pieces("network"),
        "--head": find_pieces("head"),
        "--noise-schedule": find_pieces("noise_schedule"),
        "--sampler": find_pieces("denoising_sampler"),
        "--executor": find_pieces("executor"),
    }.items():
        assert [name for name in parts if f"`{name}`" not in table[option]] == [], option


def test_the_readmes_python_example_runs_its_advantage():
    import torch

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code, *_ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {"__name__": "example"}
    exec(compile(code, "README.md", "exec"), names)
    assert names["signed"](torch.tensor([1.0, 0.0, 0.0])).tolist() == [1.0, -1.0, -1.0]
