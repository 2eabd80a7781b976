"""Engines against the stock forward pass and `generate` of transformers, on random weights."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from tests.engines.models import (
    CONFIGURATIONS,
    DECODER_KINDS,
    FREE,
    GREEDY,
    PAD,
    largest_gap,
    prompts,
    random_model,
    same,
    stock_logits,
)

from pilotage.core.errors import UsageError
from pilotage.engines import build_engine
from pilotage.engines.decoder import DecoderEngine
from pilotage.engines.decoder_model import unsupported
from pilotage.engines.hugging_face import TransformersEngine
from pilotage.types import Engine, Request, Sampling

ENGINES = [*((DecoderEngine, kind) for kind in DECODER_KINDS), *((TransformersEngine, kind) for kind in CONFIGURATIONS)]
each_engine = pytest.mark.parametrize(("engine_class", "kind"), ENGINES, ids=lambda x: getattr(x, "__name__", x))


@each_engine
def test_greedy_tokens_are_those_of_generate(engine_class, kind):
    model, asked, new = random_model(kind), prompts(7, 3, 12), 12
    completions = engine_class(model).generate([Request(ids, new) for ids in asked], GREEDY)
    compared = 0
    for ids, (completion,) in zip(asked, completions, strict=True):
        expected = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            do_sample=False,
            max_new_tokens=new,
            min_new_tokens=new,
            eos_token_id=None,
            pad_token_id=PAD,
        )[0, len(ids) :]
        best = stock_logits(model, ids, expected).topk(2, -1).values
        near_ties = torch.nonzero(best[:, 0] - best[:, 1] < 1e-4).flatten().tolist()
        end = near_ties[0] if near_ties else new
        assert completion.ids[:end].tolist() == expected[:end].tolist()
        compared += end
    assert compared >= 2 * new


@each_engine
def test_logp_is_that_of_a_stock_forward_pass(engine_class, kind):
    model, asked = random_model(kind), prompts(1, 9, 5)
    for temperature in (1.0, 0.6):
        sampling = Sampling(temperature=temperature, ignore_eos=True)
        answers = engine_class(model).generate([Request(ids, 10, n=3, seed=4) for ids in asked], sampling)
        for ids, group in zip(asked, answers, strict=True):
            assert largest_gap(model, ids, group, temperature) < 1e-5


@pytest.mark.parametrize("kind", DECODER_KINDS)
def test_decoder_and_transformers_draw_the_same_tokens_from_the_same_seeds(kind):
    model = random_model(kind)
    requests = [Request(ids, 10, n=2, seed=i) for i, ids in enumerate(prompts(4, 8, 8))]
    for sampling in (FREE, Sampling(), Sampling(temperature=0.7, top_p=0.8), Sampling(top_k=4)):
        first, second = (engine(model).generate(requests, sampling) for engine in (DecoderEngine, TransformersEngine))
        same(first, second)
        for a, b in zip(chain(*first), chain(*second), strict=True):
            np.testing.assert_allclose(a.entropy, b.entropy, atol=1e-4)


def test_entropy_is_that_of_the_distribution_sampled_from():
    model, (ids,) = random_model(), prompts(6)
    ((completion,),) = DecoderEngine(model).generate([Request(ids, 8)], Sampling(temperature=1.7, ignore_eos=True))
    logp = torch.log_softmax(stock_logits(model, ids, completion.ids) / 1.7, -1)
    np.testing.assert_allclose(completion.entropy, -(logp.exp() * logp).sum(-1), atol=1e-4)


def test_bfloat16_products_stay_near():
    model, (ids,) = random_model(), prompts(6)
    answers = DecoderEngine(model, products="bfloat16").generate([Request(ids, 10, n=4)], FREE)[0]
    assert 1e-6 < largest_gap(model, ids, answers) < 0.2


def test_auto_takes_the_decoder_where_it_runs_the_model_and_refuses_elsewhere():
    assert isinstance(build_engine("auto", random_model("qwen3"), None), DecoderEngine)
    assert isinstance(build_engine("auto", random_model("gpt2"), None), TransformersEngine)
    assert isinstance(build_engine("decoder", random_model("llama"), None), Engine)
    with pytest.raises(UsageError, match=r"gpt2.*transformers engine"):
        build_engine("decoder", random_model("gpt2"), None)
    with pytest.raises(UsageError, match="no engine 'vlm'"):
        build_engine("vlm", random_model("llama"), None)


def test_what_the_decoder_would_run_wrongly_is_unsupported():
    config = CONFIGURATIONS["mistral"]()
    config.sliding_window = 8
    assert "slides" in unsupported(config)[0]
    config = CONFIGURATIONS["llama"]()
    config.hidden_act = "gelu"
    assert "gelu" in unsupported(config)[0]
    config = CONFIGURATIONS["llama"]()
    config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    assert "rotary" in unsupported(config)[0]
    assert not any(unsupported(CONFIGURATIONS[kind]()) for kind in DECODER_KINDS)
