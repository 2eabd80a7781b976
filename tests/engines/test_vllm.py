"""The vLLM engine; `make test-vllm` runs these in an environment of their own."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from tests.engines.models import CONTEXT, EOS, FREE, GREEDY, VOCABULARY, disturb, largest_gap, prompts, random_model

from pilotage.core.errors import UsageError
from pilotage.engines import build_engine
from pilotage.engines.noise import sample_seed
from pilotage.policies.language.adapters import named_weights
from pilotage.policies.language.embedded import character_tokenizer
from pilotage.types import Request, Sampling

CHARACTERS = "".join(chr(97 + i) for i in range(VOCABULARY - 4))


def test_seeds_of_answers_never_meet():
    seeds = {sample_seed(seed, sample) for seed in range(-20, 20) for sample in range(20)}
    assert len(seeds) == 800
    assert 0 <= min(seeds) < max(seeds) < 2**63


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_error_names_the_extra():
    with pytest.raises(UsageError, match=r"pip install 'pilotage\[vllm\]'"):
        build_engine("vllm", random_model(), None)


@pytest.fixture(scope="module")
def model():
    return random_model("vllm")


@pytest.fixture(scope="module")
def tokenizer():
    return character_tokenizer(CHARACTERS)


@pytest.fixture(scope="module")
def engine(model, tokenizer):
    return build_engine("vllm", model, tokenizer, weights=named_weights(model), enforce_eager=True)


@pytest.mark.vllm
def test_logp_is_that_of_the_distribution_sampled_from(engine, model):
    asked = prompts(3, 9)
    for temperature in (0.7, 1.0):
        sampling = Sampling(temperature=temperature, ignore_eos=True)
        answers = engine.generate([Request(ids, 12, n=3, seed=i) for i, ids in enumerate(asked)], sampling)
        for ids, group in zip(asked, answers, strict=True):
            assert [(len(c.ids), c.ids.dtype, c.logp.dtype) for c in group] == [(12, np.int64, np.float32)] * 3
            assert largest_gap(model, ids, group, temperature) < 1e-4


@pytest.mark.vllm
def test_greedy_tokens_are_those_of_the_decoder(engine, model):
    requests = [Request(ids, 12) for ids in prompts(5, 8)]
    ours = build_engine("decoder", model, None).generate(requests, GREEDY)
    theirs = engine.generate(requests, GREEDY)
    assert [c.ids.tolist() for (c,) in ours] == [c.ids.tolist() for (c,) in theirs]
    assert not theirs[0][0].logp.any()


@pytest.mark.vllm
def test_answers_depend_on_seed_and_index_alone(engine):
    first, second = prompts(6, 4)
    together = engine.generate([Request(first, 8, n=4, seed=5), Request(second, 8, n=2, seed=6)], FREE)
    alone = engine.generate([Request(first, 8, n=2, seed=5)], FREE)[0]
    assert [c.ids.tolist() for c in together[0][:2]] == [c.ids.tolist() for c in alone]
    assert len({tuple(c.ids.tolist()) for c in together[0]}) == 4
    neighbour = engine.generate([Request(first, 8, n=4, seed=6)], FREE)[0]
    assert not {tuple(c.ids.tolist()) for c in neighbour} & {tuple(c.ids.tolist()) for c in together[0]}


@pytest.mark.vllm
def test_answers_end_at_end_of_sequence_limit_or_stop_string(engine, tokenizer):
    (ids,) = prompts(5)
    free = engine.generate([Request(ids, 30, n=12)], FREE)[0]
    ended = engine.generate([Request(ids, 30, n=12)], Sampling())[0]
    assert {"eos", "length"} == {completion.stop for completion in ended}
    for long, short in zip(free, ended, strict=True):
        whole = long.ids.tolist()
        assert short.ids.tolist() == (whole[: whole.index(EOS) + 1] if EOS in whole else whole)
        assert (short.stop == "eos") == (EOS in whole)
    stop = tokenizer.decode(free[0].ids)[6:8]
    stopped = engine.generate([Request(ids, 30, n=12)], Sampling(stop=(stop,), ignore_eos=True))[0]
    assert stopped[0].stop == "stop"
    assert stop in tokenizer.decode(stopped[0].ids)
    assert stop not in tokenizer.decode(stopped[0].ids[:-1])
    assert stopped[0].ids.tolist() == free[0].ids[: len(stopped[0].ids)].tolist()
    (last,) = engine.generate([Request(prompts(CONTEXT - 3)[0], 30)], FREE)[0]
    assert (len(last.ids), last.stop) == (3, "length")


@pytest.mark.vllm
def test_requests_that_cannot_be_answered_are_refused(engine):
    with pytest.raises(UsageError, match="shorten the prompt"):
        engine.generate([Request(prompts(CONTEXT)[0], 4)], FREE)
    with pytest.raises(UsageError, match="keeps no handles"):
        engine.generate([Request([3], 4, parent=object())], FREE)
    with pytest.raises(UsageError, match="temperature must be"):
        engine.generate([Request([3], 4)], Sampling(temperature=-1))


@pytest.mark.vllm
def test_new_weights_reach_the_sampler_and_drop_its_prefixes(engine, model):
    (ids,) = prompts(33)
    requests, sampling = [Request(ids, 10, n=3)], Sampling(temperature=0.7, ignore_eos=True)
    engine.generate(requests, sampling)
    for version in (1, 2):
        disturb(model, 0.05, seed=version)
        assert largest_gap(model, ids, engine.generate(requests, sampling)[0], 0.7) > 0.05
        engine.load(version, named_weights(model))
        answers = engine.generate(requests, sampling)[0]
        assert largest_gap(model, ids, answers, 0.7) < 1e-4
        assert {completion.version for completion in answers} == {version}
    with pytest.raises(UsageError, match="weights are missing or unknown"):
        engine.load(3, list(named_weights(model))[:-1])
