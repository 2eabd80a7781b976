from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pilotage.core import registry
from pilotage.core.errors import UsageError
from pilotage.core.registry import all_systems, find_claims, find_pieces, find_reproduction, find_system
from pilotage.core.system import System

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def offer(monkeypatch):
    """Makes entry points visible as if installed packages had declared them."""
    monkeypatch.syspath_prepend(str(TESTS / "cli"))

    def visible(**groups: list[tuple[str, str]]) -> None:
        points = {
            f"pilotage.{group}": [EntryPoint(name, value, f"pilotage.{group}") for name, value in pairs]
            for group, pairs in groups.items()
        }
        monkeypatch.setattr(registry, "entry_points", lambda group: points.get(group, []))
        registry.all_pieces.cache_clear()

    yield visible
    registry.all_pieces.cache_clear()


def test_our_systems_are_found_and_have_the_name_of_their_card():
    names = [system.name for system in all_systems()]
    assert {"grpo", "gtpo", "bnpo", "riskpo", "vade"} <= set(names)
    assert len(names) == len(set(names))
    assert all(find_system(name).name == name for name in names)


def test_every_field_of_every_configuration_is_documented():
    from pilotage.core.configuration import field_types
    from pilotage.core.docstrings import field_docs

    for system in all_systems():
        documented = field_docs(type(system.config))
        assert set(field_types(type(system.config))) <= set(documented), system.name


def test_every_card_says_for_whom_when_and_when_not():
    for system in all_systems():
        card = system.card
        for text in (card.summary, card.audience, card.use_when, card.avoid_when):
            assert len(text) > 20, (system.name, text)


def test_a_system_of_another_package_is_found_by_its_entry_point(offer):
    offer(systems=[("fake", "fake_systems:SYSTEM")], claims=[("fake-pilot", "fake_systems:CLAIMS")])
    system = find_system("fake-pilot")
    assert isinstance(system, System)
    assert system in all_systems()
    assert [claim.name for claim in find_claims("fake-pilot")] == ["faster"]


def test_a_list_of_systems_may_be_offered(offer, monkeypatch):
    import fake_systems  # noqa: F401 - the entry point below adds to it

    offer(systems=[("fake", "fake_systems:LIST")])
    monkeypatch.setattr("fake_systems.LIST", [find_fake()], raising=False)
    assert find_system("fake-pilot").name == "fake-pilot"


def find_fake() -> System:
    import fake_systems

    return fake_systems.SYSTEM


@pytest.mark.parametrize(
    ("wrong", "right"), [("grop", "grpo"), ("GRPO", "grpo"), ("dr_grpo", "dr-grpo"), ("risk", "riskpo")]
)
def test_an_unknown_name_is_answered_with_the_nearest(wrong, right):
    with pytest.raises(UsageError, match=f"did you mean .*{right!r}"):
        find_system(wrong)


def test_a_name_like_no_other_is_answered_without_a_guess():
    with pytest.raises(UsageError) as error:
        find_system("zzzzzzzz")
    assert "did you mean" not in str(error.value)
    assert "pilotage list" in str(error.value)


def test_a_broken_package_is_named_and_does_not_hide_our_own(offer):
    offer(systems=[("broken", "no_such_package:SYSTEM")])
    assert find_system("grpo").name == "grpo"
    with pytest.raises(UsageError, match="no_such_package:SYSTEM"):
        all_systems()


def test_an_entry_point_that_gives_no_system_is_named(offer):
    offer(systems=[("odd", "fake_systems:CLAIMS")])
    with pytest.raises(UsageError, match="fake_systems:CLAIMS"):
        all_systems()


def test_two_systems_of_one_name_are_refused(offer):
    offer(systems=[("a", "fake_systems:SYSTEM"), ("b", "fake_systems:SYSTEM")])
    with pytest.raises(UsageError, match="two systems are called 'fake-pilot'"):
        all_systems()


def test_a_system_without_claims_has_none():
    assert find_claims("reinforce") == []


def test_claims_of_an_unknown_system_are_refused():
    with pytest.raises(UsageError, match="no system"):
        find_claims("nothing-like-it")


def test_pieces_of_other_packages_are_found_by_slot(offer):
    offer(pieces=[("advantage.mine", "fake_systems:mine"), ("weights.mine", "fake_systems:run")])
    assert find_pieces("advantage")["mine"] == "fake_systems:mine"
    assert "mine" not in find_pieces("surrogate")


def test_two_pieces_of_one_name_in_a_slot_are_refused(offer):
    offer(pieces=[("advantage.zscore", "fake_systems:mine")])
    with pytest.raises(UsageError, match="two pieces of the slot advantage are called 'zscore'"):
        find_pieces("advantage")


def test_without_a_file_nothing_was_measured(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert find_reproduction("no-such-system") is None


def test_importing_the_library_and_finding_a_system_loads_no_torch():
    script = (
        "import sys, pilotage, pilotage.core.registry as c\nfrom pilotage.core.configuration import configure\n"
        "system = c.find_system('grpo'); configure(system, ['--lr', '1e-4']); c.find_claims('grpo')\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=TESTS.parent, env={"PYTHONPATH": "src"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
