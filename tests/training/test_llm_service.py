"""The language model of a run: whose budget it is, and who is told that a stand-in answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.llm.playing import Playing

from pilotage.llm import BudgetReached, ChatRequest, Scripted, say
from pilotage.llm.options import ServiceOptions
from pilotage.runs import Run
from pilotage.runs.progress import Progress
from pilotage.training.llm_service import log_service, name_scripted_components, open_service


def requests(first: int, count: int) -> list[ChatRequest]:
    return [ChatRequest(say("x"), draw=draw) for draw in range(first, first + count)]


@pytest.mark.parametrize("shared", [False, True])
def test_a_budget_goes_on_where_the_folder_of_the_run_is_renamed(tmp_path: Path, shared: bool) -> None:
    options = ServiceOptions(budget_calls=3, reply_cache=tmp_path / "kept.sqlite" if shared else None)
    run, renamed = tmp_path / "run", tmp_path / "renamed"
    run.mkdir()
    with open_service(options, Playing, run) as service:
        service.ask(requests(0, 2))
    run.rename(renamed)
    with open_service(options, Playing, renamed) as service:
        assert service.counters().spent_calls == 2
        with pytest.raises(BudgetReached):
            service.ask(requests(2, 2))
    # Another run has its own.
    run.mkdir()
    with open_service(options, Playing, run) as service:
        service.ask(requests(10, 3))
        assert service.counters().spent_calls == 3


def test_a_stand_in_is_named_on_the_terminal_and_in_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(tmp_path / "run", system="toy", config={}, seed=0)
    with open_service(ServiceOptions(), lambda: Scripted(lambda *_: "Yes", "citizen"), run.directory) as service:
        name_scripted_components(run, service.scripted_components())
        assert "Scripted stand-in: the language model is the scripted stand-in 'citizen'" in capsys.readouterr().err
        monkeypatch.setattr(Progress, "shown", False)
        name_scripted_components(run, service.scripted_components())
        assert capsys.readouterr().err == ""
    assert "citizen" in json.loads((run.directory / "run.json").read_text())["scripted_components"][0]


def test_answers_without_use_are_events_of_the_run(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", system="toy", config={}, seed=0)
    thinker = Scripted(lambda *_: "<think>Hm", "thinker")
    with open_service(ServiceOptions(), lambda: thinker, run.directory) as service:
        service.ask(requests(0, 4))
        log_service(run, service)
    events = (run.directory / "events.jsonl").read_text()
    assert "4 of 4 requests got no answer that can be used: 4 unfinished_reasoning" in events
