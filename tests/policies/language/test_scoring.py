"""Log-probabilities of roll-outs: against the stock forward pass, under padding, cutting and sharing of prompts."""

from __future__ import annotations

import pytest
import torch
from tests.engines.models import EOS, PAD, disturb, prompts, random_model, stock_logits, stock_logp

from pilotage.core.errors import UsageError
from pilotage.engines import build_engine
from pilotage.engines.decoder import DecoderEngine
from pilotage.policies.language.policy import remove_dropout
from pilotage.policies.language.scoring import SHARE_FROM, check_sampling, logprobs, microbatches, sampler_gap, score
from pilotage.rollouts.groups import sample_groups
from pilotage.types import Rollouts, Sampling

WHOLE = Sampling()
KINDS = ("llama", "qwen2", "qwen3", "gemma2", "gpt2")


def sampled(model, lengths=(3, 9, 5), *, answers=3, sampling=WHOLE, limit=12, seed=0) -> Rollouts:
    return sample_groups(
        build_engine("auto", model, None),
        prompts(*lengths, seed=seed),
        list(range(len(lengths))),
        answers=answers,
        max_tokens=[limit] * len(lengths),
        seeds=list(range(len(lengths))),
        sampling=sampling,
        pad_id=PAD,
    )


def row(rollouts: Rollouts, index: int) -> tuple[list[int], list[int]]:
    """Prompt and answer of a row."""
    prompt = rollouts.prompt_ids[index][rollouts.prompt_mask[index]].tolist()
    return prompt, rollouts.ids[index][rollouts.mask[index]].tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share_prompt", [False, True])
def test_scores_are_those_of_a_stock_forward_pass(kind, share_prompt):
    model = random_model(kind)
    rollouts = sampled(model)
    scored = score(model, rollouts, entropy=True, tokens_per_batch=40, share_prompt=share_prompt, temperature=0.8)
    assert len(set(rollouts.length.tolist())) > 2
    for index in range(len(rollouts)):
        prompt, answer = row(rollouts, index)
        mask = rollouts.mask[index]
        torch.testing.assert_close(scored.logp[index][mask], stock_logp(model, prompt, answer, 0.8), atol=1e-5, rtol=0)
        logp = torch.log_softmax(stock_logits(model, prompt, answer) / 0.8, -1)
        torch.testing.assert_close(scored.entropy[index][mask], -(logp.exp() * logp).sum(-1), atol=1e-4, rtol=0)
        assert not scored.logp[index][~mask].any()
        assert not scored.entropy[index][~mask].any()


def test_a_row_alone_scores_as_in_a_batch_on_either_side_of_padding():
    model = random_model()
    rollouts = sampled(model)
    together = score(model, rollouts).logp
    for index in range(len(rollouts)):
        alone = score(model, rollouts, [index]).logp[0]
        torch.testing.assert_close(alone, together[index], atol=1e-5, rtol=0)
    for share_prompt in (False, True):
        for left, right in ((0, 6), (6, 0), (2, 3)):
            wide = rollouts.select(torch.arange(len(rollouts)))
            prompt = rollouts.prompt_ids.shape[1]
            wide.prompt_ids = torch.full((len(rollouts), left + prompt + right), 39)
            wide.prompt_mask = torch.zeros(wide.prompt_ids.shape, dtype=torch.bool)
            wide.prompt_ids[:, left : left + prompt] = rollouts.prompt_ids
            wide.prompt_mask[:, left : left + prompt] = rollouts.prompt_mask
            shifted = score(model, wide, share_prompt=share_prompt).logp
            torch.testing.assert_close(shifted, together, atol=1e-5, rtol=0)


def test_what_stands_in_padding_cannot_matter():
    model = random_model()
    rollouts = sampled(model)
    expected = score(model, rollouts).logp
    rollouts.ids[~rollouts.mask] = 17
    rollouts.prompt_ids[~rollouts.prompt_mask] = 23
    assert torch.equal(score(model, rollouts).logp, expected)


def gradient(model, rollouts, **cutting) -> torch.Tensor:
    """Of the weighted sum of all log-probabilities, in float64 where the model is."""
    model.zero_grad()
    weights = torch.linspace(-1, 1, rollouts.mask.numel(), dtype=torch.float64).view(rollouts.mask.shape)
    for batch in microbatches(rollouts, **cutting):
        logp, _ = logprobs(model, batch, temperature=0.9)
        mask = rollouts.mask[batch.rows, : batch.width]
        torch.where(mask, logp * weights[batch.rows, : batch.width], 0.0).sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def test_gradients_do_not_depend_on_how_rows_are_cut():
    model = random_model().double()
    rollouts = sampled(random_model(), lengths=(3, 9, 5, 5))
    whole = gradient(model, rollouts, tokens_per_batch=10**6, share_prompt=False)
    assert whole.abs().max() > 0.1
    for tokens in (1, 40, 100):
        assert len(microbatches(rollouts, tokens_per_batch=tokens)) > 1
        cut = gradient(model, rollouts, tokens_per_batch=tokens, share_prompt=False)
        torch.testing.assert_close(cut, whole, atol=1e-10, rtol=0)


@pytest.mark.parametrize("tokens", [1, 60, 10**6])
def test_gradients_through_shared_prompts_are_those_of_unshared_ones(tokens):
    model = random_model("qwen2")
    rollouts = sampled(model, lengths=(20, 12, 20))
    shared = gradient(model, rollouts, tokens_per_batch=tokens, share_prompt=True)
    unshared = gradient(model, rollouts, tokens_per_batch=tokens, share_prompt=False)
    # Weights of this size give gradients of up to 10; the bound is relative to the largest.
    assert float((shared - unshared).abs().max() / unshared.abs().max()) < 1e-6


def test_microbatches_hold_every_row_once_within_the_limit():
    rollouts = sampled(random_model(), lengths=(3, 9, 5, 17))
    for share_prompt in (False, True):
        batches = microbatches(rollouts, tokens_per_batch=90, share_prompt=share_prompt)
        rows = torch.cat([batch.rows for batch in batches])
        assert sorted(rows.tolist()) == list(range(len(rollouts)))
        assert all(batch.tokens <= 90 for batch in batches)
        assert all((batch.owner is not None) == share_prompt for batch in batches)
    (single, *rest) = microbatches(rollouts, torch.tensor([2, 0]), tokens_per_batch=1)
    assert [single.rows.tolist(), rest[0].rows.tolist()] in ([[0], [2]], [[2], [0]])
    assert microbatches(rollouts, torch.tensor([], dtype=torch.int64)) == []


def test_long_repeated_prompts_are_shared_by_default():
    assert SHARE_FROM < 90
    short, long = (sampled(random_model(), lengths=(length,), limit=2) for length in (5, 45))
    long = Rollouts.concatenate([long])
    long.prompt_ids = torch.cat([long.prompt_ids, long.prompt_ids], 1)
    long.prompt_mask = torch.cat([long.prompt_mask, long.prompt_mask], 1)
    assert all(batch.owner is None for batch in microbatches(short))
    assert all(batch.owner is not None for batch in microbatches(long))


def test_an_empty_prompt_cannot_be_scored():
    rollouts = sampled(random_model())
    rollouts.prompt_mask[4] = False
    with pytest.raises(UsageError, match="row 4 has an empty prompt"):
        score(random_model(), rollouts)


@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.0, 1.5])
@pytest.mark.parametrize("limit", [1, 5, 30])
def test_ratios_are_one_at_unchanged_weights(temperature, limit):
    model = random_model("qwen3")
    sampling = Sampling(temperature=temperature, ignore_eos=True)
    check_sampling(sampling)
    rollouts = sampled(model, sampling=sampling, limit=limit)
    ratio = (score(model, rollouts, temperature=temperature).logp - rollouts.logp_sampled)[rollouts.mask].exp()
    assert float((ratio - 1).abs().max()) < 1e-5


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=0), Sampling(float("inf")), Sampling(top_p=0.9), Sampling(top_k=5)]
)
def test_settings_whose_ratios_would_be_wrong_are_refused(sampling):
    with pytest.raises(UsageError, match=r"training needs|train with top_p=1"):
        check_sampling(sampling)


def test_training_mode_changes_nothing_once_dropout_is_removed():
    model = random_model("gpt2")
    assert remove_dropout(model)
    rollouts = sampled(model)
    assert torch.equal(score(model.train(), rollouts).logp, score(model.eval(), rollouts).logp)


def test_the_gap_rises_without_a_sync_and_falls_with_one():
    model = random_model()
    engine = DecoderEngine(model)

    def gap():
        rollouts = sample_groups(
            engine,
            prompts(4, 7),
            [0, 1],
            answers=4,
            max_tokens=[8, 8],
            seeds=[1, 2],
            sampling=Sampling(),
            pad_id=PAD,
        )
        return sampler_gap(rollouts.logp_sampled, score(model, rollouts).logp, rollouts.mask)

    assert gap().largest < 1e-5
    for version in (1, 2):
        disturb(model, 0.1, seed=version)
        assert gap().alarming(0.05)
        engine.load(version, model.named_parameters())
        assert gap().largest < 1e-5
        assert not gap().alarming(1e-5)


def test_a_gap_that_is_no_number_raises_the_alarm():
    mask = torch.tensor([[True, True, False]])
    gap = sampler_gap(torch.tensor([[0.0, 1.0, 9.0]]), torch.tensor([[0.5, 1.0, 0.0]]), mask)
    assert (gap.mean, gap.largest) == (0.25, 0.5)
    assert sampler_gap(torch.tensor([[torch.nan, 0.0, 0.0]]), torch.zeros(1, 3), mask).alarming(1.0)
    assert not sampler_gap(torch.zeros(1, 3), torch.zeros(1, 3), mask & False).alarming(0.0)


@pytest.mark.parametrize("pad", [EOS, PAD, 17])
def test_one_end_of_sequence_is_trained_whatever_fills_the_padding(pad):
    model = random_model()
    rollouts = sample_groups(
        DecoderEngine(model),
        prompts(5),
        [0],
        answers=24,
        max_tokens=[30],
        seeds=[0],
        sampling=Sampling(),
        pad_id=pad,
    )
    ended = rollouts.stop == 0
    assert ended.any()
    assert not ended.all()
    trained = ((rollouts.ids == EOS) & rollouts.mask).sum(-1)
    assert torch.equal(trained, ended.long())
    assert torch.equal(rollouts.ids[ended, rollouts.length[ended] - 1], torch.full((int(ended.sum()),), EOS))
    assert bool((rollouts.ids[~rollouts.mask] == pad).all())
    expected = [stock_logp(model, *row(rollouts, index)).sum() for index in range(len(rollouts))]
    torch.testing.assert_close(score(model, rollouts).logp.sum(-1), torch.stack(expected), atol=1e-4, rtol=0)
