"""A local model answers as its engine does, alone or beside others, with its own log-probabilities."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.llm.models import chatting

from pilotage.core.errors import UsageError
from pilotage.engines import build_engine
from pilotage.llm import Budget, BudgetReached, ChatRequest, LocalModel, Service, Store, say
from pilotage.types import Request, Sampling


def local(engine: str = "auto", seed: int = 0) -> LocalModel:
    policy = chatting(seed)
    return LocalModel(policy, build_engine(engine, policy.model, policy.tokenizer))


def asked(count: int, **options: Any) -> list[ChatRequest]:
    return [ChatRequest(say(f"number {number}"), **{"max_tokens": 12, "seed": 1, **options}) for number in range(count)]


def texts(provider: LocalModel, requests: list[ChatRequest], **options: Any) -> list[str]:
    with Service(provider, **options) as service:
        return [answer.text for answer in service.ask(requests)]  # type: ignore[union-attr]


def test_answers_do_not_depend_on_what_is_asked_beside_them_nor_on_the_engine() -> None:
    requests = asked(4) + asked(2, temperature=0.0) + asked(2, temperature=0.7, top_p=0.9)
    together = texts(local(), requests, concurrency=8)
    assert texts(local(), requests, concurrency=1) == together
    assert texts(local("transformers"), requests, concurrency=5) == together
    assert len(set(together)) >= 7


def test_a_greedy_answer_is_the_engines_for_the_rendered_conversation() -> None:
    policy = chatting()
    engine = build_engine("auto", policy.model, policy.tokenizer)
    prompt = policy.encode("system: be brief\nuser: hello\nassistant: ")
    ((completion,),) = engine.generate([Request(prompt, 12)], Sampling(temperature=0.0))
    with Service(LocalModel(policy, engine)) as service:
        (answer,) = service.ask([ChatRequest(say("hello", system="be brief"), temperature=0.0, max_tokens=12)])
    assert answer.text == policy.decode(completion.ids)
    assert (answer.usage.prompt, answer.usage.completion) == (len(prompt), len(completion.ids))
    assert (answer.source, answer.name, answer.stop) == ("local", policy.name, "length")


def test_draws_and_seeds_differ_and_repeat() -> None:
    draws = [ChatRequest(say("hello"), max_tokens=12, draw=draw) for draw in range(5)]
    first = texts(local(), draws)
    assert len(set(first)) == 5
    assert texts(local(), draws) == first
    assert texts(local(), [ChatRequest(say("hello"), max_tokens=12, seed=7)]) != first[:1]


def test_log_probabilities_are_the_models_own_whatever_the_temperature() -> None:
    policy = chatting()
    with Service(local()) as service:
        (answer,) = service.ask([ChatRequest(say("hello"), temperature=0.0, max_tokens=5, alternatives=3)])
    tokens = answer.tokens
    assert "".join(token.text for token in tokens) == answer.text
    ids = policy.encode("user: hello\nassistant: ")
    with torch.no_grad():
        for token in tokens:
            logp = torch.log_softmax(policy.model(torch.tensor([ids])).logits[0, -1].float(), -1)
            best = torch.topk(logp, 3)
            assert token.logp == pytest.approx(float(best.values[0]), abs=1e-4)
            assert sorted(token.alternatives.values(), reverse=True) == pytest.approx(best.values.tolist(), abs=1e-4)
            assert sum(map(math.exp, token.alternatives.values())) < 1
            ids.append(int(best.indices[0]))


def test_other_weights_of_the_same_name_do_not_get_the_kept_answers(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    first = texts(local(seed=0), asked(2), store=Store(path))
    with Service(local(seed=0), store=Store(path)) as service:
        assert service.missing(asked(2)) == []
    with Service(local(seed=1), store=Store(path)) as service:
        assert len(service.missing(asked(2))) == 2
        assert [answer.text for answer in service.ask(asked(2))] != first


def test_weights_loaded_later_are_not_answered_under_the_old_ones() -> None:
    provider = local()
    provider.engine.load(1, provider.policy.model.named_parameters())
    with Service(provider) as service, pytest.raises(UsageError, match="make a new LocalModel"):
        service.ask(asked(1))


def test_a_budget_of_tokens_holds_for_local_models_as_well() -> None:
    with Service(local(), budget=Budget(tokens=100), concurrency=4) as service:
        with pytest.raises(BudgetReached):
            service.ask(asked(10))
        assert 0 < service.counters().spent_prompt_tokens + service.counters().spent_completion_tokens <= 100
        assert service.counters().underestimated == 0


@pytest.mark.parametrize("wrong", [{"extra": {"min_p": 0.1}}, {"messages": say("x" * 300)}])
def test_what_a_local_model_cannot_do_is_refused_and_the_next_request_works(wrong: dict[str, Any]) -> None:
    with Service(local(), concurrency=1) as service:
        with pytest.raises(UsageError):
            service.ask([ChatRequest(**{"messages": say("hello"), "max_tokens": 4, **wrong})])
        assert len(service.ask(asked(1))) == 1
