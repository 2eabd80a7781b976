"""What is computed on both sides: a Qwen2 of random weights, prompts, answer lengths and a reward.

Full length: no answer ends early. Natural lengths: answer i ends at its own length, uniform in 8..64 and drawn once.
A random model's own ends would be geometric and differ between the sides; ends that are given make both sides do the
same work. Ours takes them as token limits; transformers as a stopping criterion per row, which stops computing when
the last row has ended, as it does with end-of-sequence tokens."""

from __future__ import annotations

import string
from typing import Any

import torch
from torch import Tensor

ALPHABET = (string.ascii_letters + string.digits)[:60]
"""With <pad>, <bos>, <eos> and <unk>, a vocabulary of 64."""
ROWS = {"prompts": 32, "answers": 8, "length": 64}
QUICK_ROWS = {"prompts": 4, "answers": 4, "length": 12}
SHORTEST = 8
SIZES = {
    "0.4M": {"hidden_size": 96, "num_attention_heads": 3, "num_key_value_heads": 1, "intermediate_size": 256},
    "1.6M": {"hidden_size": 192, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 512},
    "6.3M": {"hidden_size": 384, "num_attention_heads": 12, "num_key_value_heads": 4, "intermediate_size": 1024},
}
"""Four layers each, heads of 32."""


def tokenizer() -> Any:
    """One token per character."""
    from pilotage.policies.language.embedded import character_tokenizer

    return character_tokenizer(ALPHABET)


def qwen2(size: str = "1.6M") -> Any:
    """The model, the same on both sides."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    ids = tokenizer()
    config = Qwen2Config(
        **SIZES[size],
        num_hidden_layers=4,
        vocab_size=len(ids),
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=ids.pad_token_id,
        bos_token_id=ids.bos_token_id,
        eos_token_id=ids.eos_token_id,
    )
    torch.manual_seed(0)
    return Qwen2ForCausalLM(config).eval()


def prompts(count: int, width: int) -> list[str]:
    """`count` different texts of `width` characters."""
    places = torch.randint(len(ALPHABET), (count, width), generator=torch.Generator().manual_seed(1))
    return ["".join(ALPHABET[place] for place in row) for row in places.tolist()]


def lengths(rows: int, longest: int, natural: bool) -> Tensor:
    """[rows] int64 tokens of each answer; with natural lengths the first row is the longest, as in any real batch."""
    if not natural:
        return torch.full((rows,), longest)
    drawn = torch.randint(min(SHORTEST, longest), longest + 1, (rows,), generator=torch.Generator().manual_seed(2))
    drawn[0] = longest
    return drawn


def reward(text: str) -> float:
    """Something cheap that tells the answers of a group apart: 1 for an even number of "a"."""
    return float(text.count("a") % 2 == 0)


def ends_at(limits: Tensor, prompt_width: int) -> Any:
    """transformers' stopping criterion: row i has ended once it has `limits[i]` tokens after its prompt."""
    from transformers import StoppingCriteria, StoppingCriteriaList

    class EndsAt(StoppingCriteria):
        def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ARG002
            return limits <= input_ids.shape[1] - prompt_width

    return StoppingCriteriaList([EndsAt()])
