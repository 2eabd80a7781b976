"""Handles of our decoder: prefixes that are continued, forked, released, and refused once they are stale."""

from __future__ import annotations

import pytest
from tests.engines.models import CONTEXT, FREE, disturb, largest_gap, prompts, random_model, same

from pilotage.core.errors import UsageError
from pilotage.engines.decoder import DecoderEngine
from pilotage.engines.hugging_face import TransformersEngine
from pilotage.types import Request, Sampling


@pytest.fixture
def model():
    return random_model("qwen2")


@pytest.fixture
def engine(model):
    return DecoderEngine(model, keep_prefixes=True)


def test_an_answer_is_continued_from_its_handle(model, engine):
    asked = prompts(4, 9)
    begun = engine.generate([Request(ids, 6, n=2, seed=i) for i, ids in enumerate(asked)], FREE)
    after = prompts(3, seed=1)[0]
    for ids, group in zip(asked, begun, strict=True):
        for completion in group:
            text = [*ids, *completion.ids.tolist()]
            assert list(completion.handle.tokens) == text
            for more in (after, []):
                prefilled = engine.meter.prefilled
                continued = engine.generate([Request(more, 5, n=2, seed=8, parent=completion.handle)], FREE)
                assert engine.meter.prefilled == prefilled + len(more) + 1, "only the last token and what is new"
                same(continued, engine.generate([Request([*text, *more], 5, n=2, seed=8)], FREE))
                assert largest_gap(model, [*text, *more], continued[0]) < 1e-5


def test_handles_and_plain_prompts_mix_in_a_batch(engine):
    first, second, third = prompts(7, 2, 5)
    handle = engine.append(None, first)
    mixed = engine.generate([Request(second, 6, seed=1, parent=handle), Request(third, 9, n=2, seed=2)], FREE)
    plain = engine.generate([Request([*first, *second], 6, seed=1), Request(third, 9, n=2, seed=2)], FREE)
    same(mixed, plain)


def test_handles_of_rows_that_left_early_and_moved_are_right(engine):
    (ids,) = prompts(5)
    answers = engine.generate([Request(ids, 25, n=16, seed=2)], Sampling())[0]
    assert len({len(completion.ids) for completion in answers}) > 3
    for completion in answers:
        continued = engine.generate([Request([5], 4, parent=completion.handle)], FREE)
        same(continued, engine.generate([Request([*ids, *completion.ids.tolist(), 5], 4)], FREE))


def test_append_and_fork_are_the_text_they_say(engine):
    first, second = prompts(8, 4)
    whole = engine.append(engine.append(None, first), second)
    assert list(whole.tokens) == [*first, *second]
    for at in (1, 6, 8, 12):
        forked = engine.fork(whole, at)
        same(
            engine.generate([Request([7], 5, n=2, seed=at, parent=forked)], FREE),
            engine.generate([Request([*[*first, *second][:at], 7], 5, n=2, seed=at)], FREE),
        )
    with pytest.raises(UsageError, match="cannot fork at token 13 of a text of 12"):
        engine.fork(whole, 13)
    with pytest.raises(UsageError, match="context holds 1 to"):
        engine.append(whole, [3] * CONTEXT)


def test_a_released_handle_is_refused_and_its_fork_goes_on(engine):
    handle = engine.append(None, prompts(6)[0])
    forked = engine.fork(handle, 4)
    engine.release(handle)
    for use in (
        lambda: engine.generate([Request([3], 2, parent=handle)], FREE),
        lambda: engine.append(handle, [3]),
        lambda: engine.fork(handle, 2),
    ):
        with pytest.raises(UsageError, match="it was released"):
            use()
    assert len(engine.generate([Request([3], 2, parent=forked)], FREE)[0][0].ids) == 2


def test_new_weights_make_every_handle_stale(model, engine):
    (completion,) = engine.generate([Request(prompts(6)[0], 3)], FREE)[0]
    forked = engine.fork(completion.handle, 4)
    disturb(model, 0.05)
    engine.load(1, model.named_parameters())
    for handle in (completion.handle, forked):
        with pytest.raises(UsageError, match="the weights have changed since"):
            engine.generate([Request([3], 2, parent=handle)], FREE)


def test_prefixes_are_kept_only_on_demand(model):
    (completion,) = DecoderEngine(model).generate([Request(prompts(6)[0], 3)], FREE)[0]
    assert completion.handle is None


def test_a_handle_counts_against_the_context(engine):
    handle = engine.append(None, prompts(CONTEXT - 3)[0])
    assert len(engine.generate([Request([4], 50, parent=handle)], FREE)[0][0].ids) == 2
    with pytest.raises(UsageError, match="leaves no room"):
        engine.generate([Request([4, 4, 4], 50, parent=handle)], FREE)


def test_the_transformers_engine_refuses_handles(model, engine):
    handle = engine.append(None, [3, 4])
    with pytest.raises(UsageError, match="keeps no prefixes"):
        TransformersEngine(model).generate([Request([3], 2, parent=handle)], FREE)
