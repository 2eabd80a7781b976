from __future__ import annotations

from pathlib import Path

import pytest

from pilotage.core.errors import UsageError
from pilotage.core.registry import all_pieces
from pilotage.experiments.code import code_hash, computing_modules, inputs_hash


@pytest.fixture(autouse=True)
def fresh_cache() -> None:
    code_hash.cache_clear()


def test_code_hash_changes_with_any_source_below_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    inner = tmp_path / "some_package" / "inner"
    inner.mkdir(parents=True)
    (inner.parent / "__init__.py").write_text("")
    (inner / "piece.py").write_text("a = 1")
    before = code_hash(("some_package",))
    code_hash.cache_clear()
    assert code_hash(("some_package",)) == before
    (inner / "piece.py").write_text("a = 2")
    code_hash.cache_clear()
    assert code_hash(("some_package",)) != before


def test_code_hash_does_not_depend_on_order() -> None:
    assert code_hash(("pilotage.core.system", "pilotage.types")) == code_hash(
        ("pilotage.types", "pilotage.core.system")
    )


def test_unknown_module_is_refused() -> None:
    with pytest.raises(UsageError, match="no_such_module"):
        code_hash(("no_such_module",))


def test_a_system_computes_with_what_it_reaches_and_with_no_more() -> None:
    modules = computing_modules("pilotage.systems.reasoning.vade", "pilotage.systems.reasoning.vade.measures")
    rooms = {module.split(".")[1] for module in modules}
    assert not {"runs", "report", "experiment", "cli"} & rooms
    assert {
        "pilotage.training.language.trainer",
        "pilotage.systems.reasoning.vade.measures",
        "pilotage.networks.products",
    } <= {*modules}
    assert not {"pilotage.systems.reasoning.gtpo", "pilotage.systems.reasoning.vade.claims"} & set(modules)
    # Reached only by a name in a table of pieces.
    assert {"pilotage.objectives.filters", "pilotage.training.language.kl_controller"} <= set(modules)
    assert "pilotage.objectives.preference" not in modules


def test_every_piece_by_name_counts() -> None:
    modules = computing_modules("pilotage.systems.reasoning.vade")
    named = {place.partition(":")[0] for slot in all_pieces().values() for place in slot.values()}
    assert named <= set(modules)


def test_inputs_hash_follows_the_files_that_a_configuration_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    function, data = tmp_path / "mine.py", tmp_path / "rows.jsonl"
    function.write_text("def advantage(reward): return reward")
    data.write_text("{}\n")
    config = {"advantage": "0.5*grpo+0.5*mine.py:advantage", "data": str(data), "task": "add", "lr": 0.1}
    first = inputs_hash(config)
    assert first
    function.write_text("def advantage(reward): return -reward")
    second = inputs_hash(config)
    data.write_text("{}\n{}\n")
    assert len({first, second, inputs_hash(config)}) == 3


def test_a_plain_name_is_no_file_even_when_a_folder_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "add").mkdir()
    (tmp_path / "add" / "file").write_text("x")
    assert inputs_hash({"task": "add", "advantage": "mvar:alpha=0.1"}) == ""
