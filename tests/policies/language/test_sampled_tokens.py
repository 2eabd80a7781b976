"""What is trained on is what was sampled, also where decoding and encoding again would give other tokens (S21)."""

from __future__ import annotations

import pytest
import torch
from tests.engines.models import disturb
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pilotage.engines.decoder import DecoderEngine
from pilotage.policies.language.policy import LanguagePolicy
from pilotage.policies.language.scoring import logprobs, microbatches
from pilotage.rollouts.groups import sample_groups
from pilotage.types import Request, Sampling


@pytest.fixture
def policy() -> LanguagePolicy:
    """Sampling picks single letters where the tokenizer would have merged them."""
    tokens = ["<pad>", "<eos>", *"abcd", "ab", "cd", "abcd", "dc"]
    inner = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [(*"ab",), (*"cd",), ("ab", "cd")]))
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>")
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
    disturb(model, 0.02)
    return LanguagePolicy(model, tokenizer, "merges")


def test_every_sampled_token_is_in_the_loss_once_under_its_own_id(policy):
    engine, asked = DecoderEngine(policy.model, policy.tokenizer), [policy.encode("abc"), policy.encode("d")]
    settings = {"max_tokens": [12, 12], "seeds": [0, 1], "sampling": Sampling(), "pad_id": policy.pad_id}
    rollouts = sample_groups(engine, asked, [0, 1], answers=20, **settings)
    completions = engine.generate([Request(ids, 12, n=20, seed=i) for i, ids in enumerate(asked)], Sampling())
    sampled = [completion.ids.tolist() for group in completions for completion in group]
    encoded_again = [policy.encode(policy.decode(ids)) for ids in sampled]
    changed = sum(a != [token for token in b if token > 1] for a, b in zip(encoded_again, sampled, strict=True))
    assert changed / len(sampled) > 0.3, "the tokenizer must change many answers for this test to say anything"
    for share_prompt in (False, True):
        seen = torch.zeros(rollouts.ids.shape, dtype=torch.int64)
        for batch in microbatches(rollouts, tokens_per_batch=64, share_prompt=share_prompt):
            mask = rollouts.mask[batch.rows, : batch.width]
            for place, index in enumerate(batch.rows.tolist()):
                assert batch.ids[place][mask[place]].tolist() == sampled[index]
            seen[batch.rows, : batch.width] += mask
            logp, _ = logprobs(policy.model, batch)
            difference = logp - rollouts.logp_sampled[batch.rows, : batch.width]
            assert float(difference.detach()[mask].abs().max()) < 1e-5
        assert torch.equal(seen, rollouts.mask.long())
        assert seen.sum(-1).tolist() == [len(ids) for ids in sampled]
