"""`pilotage do`: verbs of a system over a finished run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest


def ask(config: Any, run: Path, times: int = 2, name: str | None = None, loud: bool = False) -> dict[str, Any]:
    """Says what it was asked.

    times: how often."""
    return {"lr": config.lr, "run": run.name, "said": [{"word": name or "hm", "time": i} for i in range(times)] * loud}


def nothing(config: Any, run: Path) -> None:
    """Says nothing."""
    del config, run


@pytest.fixture
def verbs(fake, monkeypatch: pytest.MonkeyPatch, pilotage) -> Path:
    actions = {**fake.SYSTEM.actions, "ask": ask, "nothing": nothing}
    monkeypatch.setattr(fake, "SYSTEM", replace(fake.SYSTEM, actions=actions))
    code, _, err = pilotage("run", "fake-pilot", "--out", "here", "--lr", "0.25")
    assert code == 0, err
    return Path("here")


def test_a_verb_acts_on_a_run_with_its_options(pilotage, verbs: Path) -> None:
    code, out, err = pilotage("do", "fake-pilot", "ask", "--from", str(verbs), "--times", "2", "--loud", "--name", "x")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split() == ["lr", "0.25"]
    assert lines[1].split() == ["run", "here"]
    assert lines[3:] == ["said", "word  time", "x        0", "x        1"]
    code, out, _ = pilotage("do", "fake-pilot", "nothing", "--from", str(verbs))
    assert (code, out) == (0, "")


def test_verbs_are_listed_with_the_first_line_of_what_they_do(pilotage, verbs: Path) -> None:
    del verbs
    code, out, _ = pilotage("do", "fake-pilot")
    assert code == 0
    assert "ask      Says what it was asked." in out
    assert "how often" not in out
    assert "forecast" not in out


def test_help_shows_the_options_of_a_verb(pilotage, verbs: Path) -> None:
    del verbs
    code, out, _ = pilotage("do", "fake-pilot", "ask", "--help")
    assert code == 0
    assert "times: how often." in out
    assert "--times" in out
    assert "default: 2" in out
    code, out, _ = pilotage("do", "--help")
    assert code == 0
    assert "--from" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "expected a system"),
        (("fake-pilot", "aks", "--from", "here"), "did you mean 'ask'"),
        (("fake-pilot", "forecast", "--from", "here"), "--dry-run"),
        (("fake-pilot", "ask"), "--from RUN"),
        (("fake-pilot", "ask", "--from", "nowhere"), "nowhere"),
        (("fake-pilot", "ask", "--from", "here", "--tims", "3"), "did you mean '--times'"),
        (("fake-pilot", "ask", "--from", "here", "--times", "many"), "a whole number"),
        (("grpo", "ask", "--from", "here"), "has no verbs"),
        (("rti-dp", "estimate", "--from", "here"), "is a run of fake-pilot"),
    ],
)
def test_what_cannot_be_done_is_refused(pilotage, verbs: Path, words: tuple[str, ...], said: str) -> None:
    del verbs
    code, _, err = pilotage("do", *words)
    assert code == 2, err
    assert said in err
