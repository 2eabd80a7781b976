"""Tiny models with random weights, requests to them, and what transformers' own forward pass says of an answer."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from pilotage.types import Completion, Sampling

VOCABULARY, CONTEXT, PAD, BOS, EOS = 41, 48, 0, 1, 2
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "tie_word_embeddings": False,
}
CONFIGURATIONS = {
    "llama": lambda: LlamaConfig(**SHAPE),
    "qwen2": lambda: Qwen2Config(**SHAPE | {"num_key_value_heads": 2}),
    "qwen3": lambda: Qwen3Config(**SHAPE | {"num_key_value_heads": 1, "head_dim": 12}),
    "mistral": lambda: MistralConfig(**SHAPE, sliding_window=None, head_dim=8),
    "llama-tied-grouped": lambda: LlamaConfig(
        **SHAPE | {"num_key_value_heads": 2, "tie_word_embeddings": True},
        attention_bias=True,
        rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
    ),
    # vLLM's attention on the CPU takes heads of 32 and more.
    "vllm": lambda: Qwen2Config(**SHAPE | {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}),
    "gemma2": lambda: Gemma2Config(**SHAPE, head_dim=8, sliding_window=64),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=CONTEXT,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    ),
}
DECODER_KINDS = ("llama", "qwen2", "qwen3", "mistral", "llama-tied-grouped")


def random_model(kind: str = "llama", seed: int = 0) -> Any:
    """A model in evaluation mode; norms and biases are random, too, and its distributions are far from uniform."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(CONFIGURATIONS[kind]()).eval()
        disturb(model, 0.15)
    return model


def disturb(model: Any, scale: float, seed: int = 7) -> None:
    """Adds noise to every weight that is trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += scale * torch.randn(parameter.shape, generator=generator)


def prompts(*lengths: int, seed: int = 0) -> list[list[int]]:
    """Random prompts without special tokens."""
    generator = np.random.default_rng(seed)
    return [generator.integers(3, VOCABULARY, length).tolist() for length in lengths]


@torch.no_grad()
def stock_logits(model: Any, prompt: list[int], answer: Any) -> torch.Tensor:
    """[T, vocabulary] float32: transformers' logits before each token of the answer, without cache or padding."""
    whole = torch.tensor([[*prompt, *(int(token) for token in answer)]])
    return model(whole, use_cache=False).logits[0, len(prompt) - 1 : -1].float()


def stock_logp(model: Any, prompt: list[int], answer: Any, temperature: float = 1.0) -> torch.Tensor:
    """[T] log-probability of each token of the answer at a temperature."""
    logits = stock_logits(model, prompt, answer) / temperature
    return torch.log_softmax(logits, -1).gather(1, torch.as_tensor(answer)[:, None])[:, 0]


def largest_gap(model: Any, prompt: list[int], completions: list[Completion], temperature: float = 1.0) -> float:
    """Largest difference between an engine's log-probabilities and the stock forward pass."""
    return max(
        float((torch.from_numpy(c.logp) - stock_logp(model, prompt, c.ids, temperature)).abs().max())
        for c in completions
    )


def same(first: list[list[Completion]], second: list[list[Completion]], tolerance: float = 1e-5) -> None:
    """Asserts equal tokens and reasons, and log-probabilities up to `tolerance`."""
    assert [len(group) for group in first] == [len(group) for group in second]
    for a, b in zip(chain(*first), chain(*second), strict=True):
        assert a.ids.tolist() == b.ids.tolist()
        assert a.stop == b.stop
        np.testing.assert_allclose(a.logp, b.logp, atol=tolerance)


FREE = Sampling(ignore_eos=True)
GREEDY = Sampling(temperature=0.0, ignore_eos=True)
