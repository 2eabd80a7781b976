"""The embedded default: a Llama-class model of 0.4-1.6 M random weights with a tokenizer of single characters.

Llama, not Qwen2, because `AutoTokenizer` gives every folder of model type qwen2 Qwen's own byte-level tokenizer class,
whatever the folder declares, and would open this one wrongly. The two differ only in the biases of q, k and v.
"""

from __future__ import annotations

from typing import Any

import torch

from pilotage.core.errors import UsageError
from pilotage.policies.language.policy import LanguagePolicy

PAD, BOS, EOS, UNKNOWN = "<pad>", "<bos>", "<eos>", "<unk>"

SIZES = {
    "0.4M": {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256},
    "1M": {"hidden_size": 144, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 384},
    "1.6M": {
        "hidden_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "intermediate_size": 512,
    },
}
"""Shape by name; the name is the number of weights, roughly, with a vocabulary of 64."""


def character_tokenizer(vocabulary: str) -> Any:
    """Return a fast tokenizer where each character of `vocabulary` is one token, after <pad>, <bos>, <eos> and <unk>.

    Text is neither normalised nor split, and nothing is put around it, so decode(encode(text)) is the text.
    Raises UsageError when a character occurs twice or there is none.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if not vocabulary or len(set(vocabulary)) != len(vocabulary):
        raise UsageError(f"a vocabulary is a string of different characters, at least one; {vocabulary!r} was given")
    tokens = [PAD, BOS, EOS, UNKNOWN, *vocabulary]
    inner = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token=UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def tiny_policy(size: str, vocabulary: str, seed: int, *, context: int = 512) -> LanguagePolicy:
    """Return the embedded default with random weights that depend on `seed` alone; the global generator is untouched.

    Args:
        size: "0.4M", "1M" or "1.6M".
        vocabulary: the characters that occur in prompts and answers, each once.
        seed: of the weights.
        context: most positions of prompt and answer together.

    Raises:
        UsageError: unknown size, or a character twice in the vocabulary.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    if size not in SIZES:
        raise UsageError(f"there is no size {size!r}; choose one of {', '.join(SIZES)}")
    tokenizer = character_tokenizer(vocabulary)
    shape: dict[str, Any] = {"num_key_value_heads": SIZES[size]["num_attention_heads"], **SIZES[size]}
    config = LlamaConfig(
        **shape,
        vocab_size=len(tokenizer),
        max_position_embeddings=context,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return LanguagePolicy(model.eval(), tokenizer, name=f"tiny-{size}")
