"""What holds for both engines: batching changes nothing, answers end for the right reason, distributions are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tests.engines.models import BOS, CONTEXT, EOS, FREE, VOCABULARY, prompts, random_model, same

from pilotage.core.errors import UsageError
from pilotage.engines.decoder import DecoderEngine
from pilotage.engines.hugging_face import TransformersEngine
from pilotage.engines.noise import draw, entropy_of, log_distribution, uniforms
from pilotage.policies.language.embedded import character_tokenizer
from pilotage.types import Request, Sampling

both = pytest.mark.parametrize("engine_class", [DecoderEngine, TransformersEngine])
CHARACTERS = "".join(chr(97 + i) for i in range(VOCABULARY - 4))


@both
def test_a_request_alone_is_the_request_in_a_batch(engine_class):
    engine = engine_class(random_model())
    requests = [Request(ids, 4 + i, n=3, seed=i) for i, ids in enumerate(prompts(2, 11, 5, 5))]
    for sampling in (Sampling(), Sampling(top_p=0.7)):
        together = engine.generate(requests, sampling)
        same(together, [engine.generate([request], sampling)[0] for request in requests])
        same(together, engine.generate(requests[::-1], sampling)[::-1])
        lengths = {len(completion.ids) for group in together for completion in group}
        assert len(lengths) > 2, "rows must leave at different steps for this test to say anything"


@both
def test_n_answers_begin_with_the_answers_of_a_smaller_n(engine_class):
    engine, (ids,) = engine_class(random_model()), prompts(6)
    eight = engine.generate([Request(ids, 8, n=8, seed=3)], FREE)[0]
    same([eight[:1], eight[:5]], [engine.generate([Request(ids, 8, n=n, seed=3)], FREE)[0] for n in (1, 5)])
    assert len({tuple(completion.ids.tolist()) for completion in eight}) > 5
    other = engine.generate([Request(ids, 8, n=8, seed=4)], FREE)[0]
    assert [c.ids.tolist() for c in other] != [c.ids.tolist() for c in eight]


@both
@pytest.mark.parametrize("max_rows", [1, 3])
def test_how_many_rows_run_at_a_time_changes_nothing(engine_class, max_rows):
    model = random_model()
    requests = [Request(ids, 6, n=3, seed=i) for i, ids in enumerate(prompts(9, 2, 4))]
    wide, narrow = (engine_class(model, max_rows=rows).generate(requests, Sampling()) for rows in (256, max_rows))
    same(wide, narrow)


@both
def test_global_generators_neither_matter_nor_move(engine_class):
    model, (ids,) = random_model(), prompts(5)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    engine = engine_class(model)
    first = engine.generate([Request(ids, 6, n=2)], Sampling())
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(3)
    np.random.rand(3)
    same(first, engine.generate([Request(ids, 6, n=2)], Sampling()), 0)


@both
def test_an_answer_ends_with_its_first_end_of_sequence(engine_class):
    engine, (ids,) = engine_class(random_model()), prompts(5)
    free = engine.generate([Request(ids, 30, n=24)], FREE)[0]
    ended = engine.generate([Request(ids, 30, n=24)], Sampling())[0]
    assert {"eos", "length"} == {completion.stop for completion in ended}
    for long, short in zip(free, ended, strict=True):
        assert long.stop == "length"
        assert len(long.ids) == 30
        whole = long.ids.tolist()
        expected = whole[: whole.index(EOS) + 1] if EOS in whole else whole
        assert short.ids.tolist() == expected
        assert short.stop == ("eos" if EOS in whole else "length")


@both
def test_an_end_of_sequence_at_the_limit_counts_as_ended(engine_class):
    engine, (ids,) = engine_class(random_model()), prompts(5)
    answers = engine.generate([Request(ids, 30, n=24)], Sampling())[0]
    index = next(i for i, completion in enumerate(answers) if completion.stop == "eos")
    limited = engine.generate([Request(ids, len(answers[index].ids), n=24)], Sampling())[0]
    same([[answers[index]]], [[limited[index]]])


@both
def test_prompt_and_answer_together_end_at_the_context(engine_class):
    engine, (ids, last) = engine_class(random_model()), prompts(CONTEXT - 5, CONTEXT - 1)
    (first,), (second,) = engine.generate([Request(ids, 100), Request(last, 100)], FREE)
    assert (len(first.ids), first.stop) == (5, "length")
    assert (len(second.ids), second.stop) == (1, "length")


@both
def test_requests_that_cannot_be_answered_are_refused(engine_class):
    engine = engine_class(random_model())
    with pytest.raises(UsageError, match=f"{CONTEXT} tokens and the model's context {CONTEXT}.*shorten"):
        engine.generate([Request(prompts(CONTEXT)[0], 4)], FREE)
    with pytest.raises(UsageError, match=r"prompt is empty.*at least one token"):
        engine.generate([Request([], 4)], FREE)
    for request in (Request([3], 0), Request([3], 4, n=0)):
        with pytest.raises(UsageError, match="n >= 1 and max_tokens >= 1"):
            engine.generate([request], FREE)
    wrong = (Sampling(temperature=-1), Sampling(temperature=float("nan")), Sampling(top_p=0), Sampling(top_k=-1))
    for sampling in wrong:
        with pytest.raises(UsageError, match="must be"):
            engine.generate([Request([3], 4)], sampling)
    assert engine.generate([], FREE) == []


@both
def test_an_empty_prompt_is_the_beginning_of_sequence(engine_class):
    tokenizer = character_tokenizer(CHARACTERS)
    engine = engine_class(random_model(), tokenizer)
    same(engine.generate([Request([], 6, n=2)], FREE), engine.generate([Request([BOS], 6, n=2)], FREE))


@both
def test_an_answer_ends_at_the_first_stop_string(engine_class):
    tokenizer = character_tokenizer(CHARACTERS)
    engine, (ids,) = engine_class(random_model(), tokenizer), prompts(5)
    free = engine.generate([Request(ids, 20, n=12)], FREE)[0]
    texts = [tokenizer.decode(completion.ids) for completion in free]
    stops = (texts[0][8:10], texts[1][3:6])
    stopped = engine.generate([Request(ids, 20, n=12)], Sampling(stop=stops, ignore_eos=True))[0]
    assert sum(completion.stop == "stop" for completion in stopped) >= 2
    for text, long, short in zip(texts, free, stopped, strict=True):
        ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
        assert tokenizer.decode(short.ids) == text[: min(ends, default=len(text))]
        assert short.stop == ("stop" if ends else "length")
        assert short.ids.tolist() == long.ids[: len(short.ids)].tolist()


@both
def test_stop_strings_need_a_tokenizer_and_letters(engine_class):
    with pytest.raises(UsageError, match="need a tokenizer"):
        engine_class(random_model()).generate([Request([3], 4)], Sampling(stop=("a",)))
    with pytest.raises(UsageError, match="stop string is empty"):
        engine_class(random_model(), character_tokenizer(CHARACTERS)).generate([Request([3], 4)], Sampling(stop=("",)))


@both
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.5), Sampling(top_p=0.6), Sampling(top_k=5)])
def test_first_tokens_are_drawn_from_the_distribution(engine_class, sampling):
    model, (ids,), count = random_model(), prompts(5), 4000
    answers = engine_class(model, max_rows=count).generate([Request(ids, 1, n=count, seed=11)], sampling)[0]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[:, -1]
    probability = log_distribution(logits, sampling)[0].exp().double().numpy()
    seen = np.bincount([int(c.ids[0]) for c in answers], minlength=VOCABULARY)
    assert seen[probability == 0].sum() == 0
    likely = probability > 5 / count
    observed, expected = (np.append(x[likely], x[~likely].sum()) for x in (seen, probability * count))
    if expected[-1] < 1:
        observed, expected = observed[:-1], expected[:-1]
    assert len(observed) > 2
    assert chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def test_cut_distributions_sum_to_one_and_keep_what_they_say():
    logits = 3 * torch.randn(50, 30, generator=torch.Generator().manual_seed(0))
    for sampling in (Sampling(top_k=4), Sampling(top_p=0.8), Sampling(0.7, 0.8, 6), Sampling(2.0)):
        logp = log_distribution(logits, sampling)
        torch.testing.assert_close(logp.exp().sum(-1), torch.ones(50))
        kept = logp > -torch.inf
        whole = torch.softmax(logits / sampling.temperature, -1)
        assert bool((whole.masked_fill(~kept, 2).amin(-1) >= whole.masked_fill(kept, -1).amax(-1)).all())
        if sampling.top_k:
            assert int(kept.sum(-1).max()) <= sampling.top_k
        elif sampling.top_p < 1:
            mass = whole.masked_fill(~kept, 0).sum(-1)
            smallest = whole.masked_fill(~kept, 2).amin(-1)
            assert bool((mass >= sampling.top_p - 1e-6).all())
            assert bool((mass - smallest < sampling.top_p + 1e-6).all()), "one token fewer must not reach top_p"
        probability = logp.exp()
        torch.testing.assert_close(entropy_of(logp), torch.special.entr(probability).sum(-1))
    greedy = log_distribution(logits, Sampling(0.0))
    assert torch.equal(greedy.argmax(-1), logits.argmax(-1))
    assert torch.equal(greedy.exp().sum(-1), torch.ones(50))


def test_noise_depends_on_seed_sample_and_position_alone():
    wide = uniforms([5, 5, -1, 2**70], [0, 1, 0, 0], 50)
    assert np.array_equal(wide[1:2], uniforms([5], [1], 50))
    assert np.array_equal(wide[:, 20:], uniforms([5, 5, -1, 2**70], [0, 1, 0, 0], 30, start=20))
    assert len(np.unique(wide)) == wide.size
    many = uniforms(range(100), [0] * 100, 1000)
    assert 0 < many.min() < many.max() < 1
    assert abs(many.mean() - 0.5) < 0.005
    for other in (np.roll(many, 1, 0), np.roll(many, 1, 1), uniforms(range(100), [1] * 100, 1000)):
        assert abs(np.corrcoef(many.ravel(), other.ravel())[0, 1]) < 0.015
    assert chisquare(np.histogram(many, 64, (0, 1))[0]).pvalue > 1e-3


def test_a_token_of_probability_zero_is_never_drawn():
    logp = torch.tensor([[-torch.inf, 0.5, -torch.inf, 0.5, -torch.inf]]).log_softmax(-1).expand(3, -1)
    noise = torch.tensor([2.0**-41, 0.5, 1 - 2.0**-41], dtype=torch.float64)
    assert draw(logp, noise).tolist() == [1, 3, 3]


@both
def test_meter_counts_tokens(engine_class):
    engine = engine_class(random_model())
    answers = engine.generate([Request(ids, 5 * (i + 1), n=4) for i, ids in enumerate(prompts(3, 6))], FREE)
    lengths = [len(completion.ids) for group in answers for completion in group]
    assert engine.meter.decoded == sum(lengths) == 60
    shared = engine_class is DecoderEngine
    assert engine.meter.prefilled == (3 + 6 if shared else 4 * (3 + 6))
    assert engine.meter.thrown_away == (0 if shared else 4 * 5)
