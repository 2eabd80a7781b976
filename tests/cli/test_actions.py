"""`pilotage do`: actions of a system on a finished run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilotage.runs.manifest import Manifest


def ask(config: Any, run: Path, times: int = 2, name: str | None = None, loud: bool = False) -> dict[str, Any]:
    """Return what was asked.

    Args:
        config: of the run.
        run: its directory.
        times: how often it is said.
        name: the word.
        loud: whether anything is said.
    """
    return {"lr": config.lr, "run": run.name, "said": [{"word": name or "hm", "time": i} for i in range(times)] * loud}


def nothing(config: Any, run: Path) -> None:
    """Return nothing."""
    del config, run


@pytest.fixture
def finished(fake, monkeypatch: pytest.MonkeyPatch, pilotage) -> Path:
    actions = {**fake.SYSTEM.actions, "ask": ask, "nothing": nothing}
    monkeypatch.setattr(fake, "SYSTEM", replace(fake.SYSTEM, actions=actions))
    code, _, err = pilotage("run", "fake-pilot", "--out", "here", "--lr", "0.25")
    assert code == 0, err
    return Path("here")


def test_an_action_acts_on_a_run_with_its_options(pilotage, finished: Path) -> None:
    code, out, err = pilotage(
        "do", "fake-pilot", "ask", "--from", str(finished), "--times", "2", "--loud", "--name", "x"
    )
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split() == ["lr", "0.25"]
    assert lines[1].split() == ["run", "here"]
    assert lines[3:] == ["said", "word  time", "x        0", "x        1"]
    code, out, _ = pilotage("do", "fake-pilot", "nothing", "--from", str(finished))
    assert (code, out) == (0, "")


def test_a_result_is_kept_in_the_run_and_shown_in_its_report(pilotage, finished: Path) -> None:
    pilotage("do", "fake-pilot", "ask", "--from", "here", "--loud", "--name", "<b>word</b>")
    kept = json.loads((finished / "actions/ask.json").read_text())
    assert kept["options"] == {"name": "<b>word</b>", "loud": True}
    assert kept["result"]["said"][1] == {"word": "<b>word</b>", "time": 1}
    code, out, err = pilotage("report", "here")
    assert code == 0, err
    html = Path(out.strip()).read_text()
    assert 'id="action-ask"' in html
    assert "&lt;b&gt;word&lt;/b&gt;" in html
    assert "<b>word" not in html


def test_a_result_of_a_run_with_a_scripted_stand_in_is_called_that(pilotage, finished: Path) -> None:
    Manifest.read(finished).name_scripted_components(finished, ["the language model is the stand-in 'worker'"])
    _, out, _ = pilotage("do", "fake-pilot", "ask", "--from", "here")
    assert out.startswith("Scripted stand-in: the language model is the stand-in 'worker'")
    _, out, _ = pilotage("do", "fake-pilot", "ask", "--from", "here", "--json")
    assert "worker" in json.loads(out)["scripted_components"][0]
    assert "worker" in json.loads((finished / "actions/ask.json").read_text())["scripted_components"][0]


def test_json_prints_one_object(pilotage, finished: Path) -> None:
    del finished
    _, out, _ = pilotage("do", "fake-pilot", "ask", "--from", "here", "--json")
    assert json.loads(out)["result"] == {"lr": 0.25, "run": "here", "said": []}


def test_actions_are_listed_with_the_first_line_of_what_they_do(pilotage, finished: Path) -> None:
    del finished
    code, out, _ = pilotage("do", "fake-pilot")
    assert code == 0
    assert "ask      Return what was asked." in out
    assert "how often" not in out
    assert "estimate_cost" not in out


def test_help_shows_the_options_of_an_action(pilotage, finished: Path) -> None:
    del finished
    code, out, _ = pilotage("do", "fake-pilot", "ask", "--help")
    assert code == 0
    assert "how often it is said [a whole number] (default: 2)" in out
    assert "Args" not in out
    code, out, _ = pilotage("do", "--help")
    assert code == 0
    assert "--from" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "NAME is missing"),
        (("fake-pilot", "aks", "--from", "here"), "did you mean 'ask'"),
        (("fake-pilot", "estimate_cost", "--from", "here"), "--dry-run"),
        (("fake-pilot", "ask"), "--from RUN"),
        (("fake-pilot", "ask", "--from", "nowhere"), "nowhere"),
        (("fake-pilot", "ask", "--from", "here", "--tims", "3"), "did you mean '--times'"),
        (("fake-pilot", "ask", "--from", "here", "--times", "many"), "a whole number"),
        (("grpo", "ask", "--from", "here"), "has no actions"),
        (("rti-dp", "estimate", "--from", "here"), "is a run of fake-pilot"),
    ],
)
def test_what_cannot_be_done_is_refused(pilotage, finished: Path, words: tuple[str, ...], said: str) -> None:
    del finished
    code, _, err = pilotage("do", *words)
    assert code == 2, err
    assert said in err
