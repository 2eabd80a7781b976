from __future__ import annotations

from pathlib import Path

import pytest

from pilotage.experiments.imports import modules_behind, source_of


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A package of its own name per test, so that nothing is remembered between them."""
    name = f"made_for_{abs(hash(request.node.name))}"
    monkeypatch.syspath_prepend(str(tmp_path))
    sources = {
        "__init__": "",
        "start": f"import {name}.plain\nfrom {name} import chosen\ndef late():\n    from .inner import leaf\n",
        "plain": "import json, torch",
        "chosen": f'TABLE = {{"a": "{name}.named:function", "b": "some words about {name}.unnamed:x"}}',
        "named": f"from {name}.lazy import anything",
        "unnamed": "",
        "unreached": f"import {name}.start",
        "shut": f"import {name}.unreached",
        "inner/__init__": "",
        "inner/leaf": f"from {name}.shut import x",
        "lazy/__init__": "def __getattr__(name): ...",
        "lazy/one": "",
        "lazy/deep/two": "",
    }
    for path, text in sources.items():
        file = tmp_path / name / f"{path}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return name


def test_imports_are_followed_wherever_they_stand(package: str) -> None:
    found = modules_behind([f"{package}.start"], [f"{package}.shut"])
    files = {"start", "plain", "chosen", "named", "inner.leaf", "lazy.one", "lazy.deep.two"}
    packages = {"__init__", "inner.__init__", "lazy.__init__"}
    assert set(found) == {f"{package}.{module}" for module in files | packages}
    assert list(found) == sorted(found)
    assert all(source_of(module) is not None for module in found)


def test_a_root_counts_even_where_its_package_is_not_followed(package: str) -> None:
    found = modules_behind([f"{package}.shut"], [f"{package}.shut", f"{package}.unreached"])
    assert set(found) == {f"{package}.__init__", f"{package}.shut"}


def test_circles_end(package: str) -> None:
    assert f"{package}.start" in modules_behind([f"{package}.unreached"])
