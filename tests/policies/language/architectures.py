"""Tiny models of the architectures that transformers has, and what is checked of each; run as a script it prints the
table of docs/language-trainer.md.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from tests.engines.models import disturb
from transformers import AutoModelForCausalLM

from pilotage.engines import build_engine
from pilotage.policies.language.adapters import named_weights
from pilotage.policies.language.scoring import can_share_prompts, logprobs, microbatches, score
from pilotage.rollouts.groups import sample_groups
from pilotage.training.language.hand_over import check_hand_over
from pilotage.types import Rollouts, Sampling

COMMON: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ATTENTION: dict[str, Any] = COMMON | {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LINEAR: dict[str, Any] = {
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
SLIDING: dict[str, Any] = {"head_dim": 8, "sliding_window": 8}
MAMBA: dict[str, Any] = {"mamba_d_state": 8, "mamba_d_conv": 4, "mamba_expand": 2}
LATENT: dict[str, Any] = {
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
}

SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("LlamaConfig", ATTENTION),
    "Mistral": ("MistralConfig", ATTENTION | SLIDING),
    "Ministral": ("MinistralConfig", ATTENTION | SLIDING),
    "Qwen2": ("Qwen2Config", ATTENTION),
    "Qwen3": ("Qwen3Config", ATTENTION | {"head_dim": 8}),
    "Qwen2-MoE": ("Qwen2MoeConfig", ATTENTION | EXPERTS | {"shared_expert_intermediate_size": 16}),
    "Qwen3-MoE": ("Qwen3MoeConfig", ATTENTION | EXPERTS | {"head_dim": 8}),
    "Qwen3-Next": ("Qwen3NextConfig", ATTENTION | EXPERTS | LINEAR | {"shared_expert_intermediate_size": 16}),
    "Qwen3.5": ("Qwen3_5TextConfig", ATTENTION | LINEAR),
    "Qwen3.5-MoE": ("Qwen3_5MoeTextConfig", ATTENTION | EXPERTS | LINEAR | {"shared_expert_intermediate_size": 16}),
    "Gemma": ("GemmaConfig", ATTENTION | {"head_dim": 8}),
    "Gemma 2": ("Gemma2Config", ATTENTION | SLIDING),
    "Gemma 3 (text)": ("Gemma3TextConfig", ATTENTION | SLIDING),
    "Gemma 3": (
        "Gemma3Config",
        {
            "text_config": ATTENTION | SLIDING,
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
            },
        },
    ),
    "Gemma 4 (text)": (
        "Gemma4TextConfig",
        ATTENTION
        | SLIDING
        | {
            "num_global_key_value_heads": 2,
            "global_head_dim": 8,
            "vocab_size_per_layer_input": 64,
            "hidden_size_per_layer_input": 8,
        },
    ),
    "Phi": ("PhiConfig", ATTENTION),
    "Phi-3": ("Phi3Config", ATTENTION),
    "Phi-MoE": ("PhimoeConfig", ATTENTION | {"num_local_experts": 4}),
    "GPT-2": ("GPT2Config", {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "GPT-Neo": (
        "GPTNeoConfig",
        {
            "vocab_size": 64,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "max_position_embeddings": 64,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 8,
        },
    ),
    "GPT-J": (
        "GPTJConfig",
        {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 8},
    ),
    "GPT-NeoX": ("GPTNeoXConfig", ATTENTION),
    "GPT-BigCode": ("GPTBigCodeConfig", {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "gpt-oss": ("GptOssConfig", ATTENTION | SLIDING | {"num_local_experts": 2, "num_experts_per_tok": 1}),
    "BLOOM": ("BloomConfig", {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "OPT": ("OPTConfig", COMMON | {"num_attention_heads": 4, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "MPT": ("MptConfig", {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}),
    "Falcon": (
        "FalconConfig",
        COMMON | {"num_attention_heads": 4, "new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    "StableLM": ("StableLmConfig", ATTENTION),
    "StarCoder2": ("Starcoder2Config", ATTENTION | {"sliding_window": 8}),
    "OLMo": ("OlmoConfig", ATTENTION),
    "OLMo 2": ("Olmo2Config", ATTENTION),
    "OLMo 3": ("Olmo3Config", ATTENTION | {"sliding_window": 8}),
    "OLMoE": ("OlmoeConfig", ATTENTION | {"num_experts": 4, "num_experts_per_tok": 2}),
    "SmolLM3": ("SmolLM3Config", ATTENTION),
    "Granite": ("GraniteConfig", ATTENTION),
    "Granite-MoE": ("GraniteMoeConfig", ATTENTION | {"num_local_experts": 4}),
    "Granite-MoE hybrid": (
        "GraniteMoeHybridConfig",
        ATTENTION
        | MAMBA
        | {
            "layer_types": ["mamba", "attention"],
            "mamba_n_heads": 8,
            "mamba_d_head": 8,
            "num_local_experts": 4,
            "shared_intermediate_size": 16,
        },
    ),
    "Cohere": ("CohereConfig", ATTENTION),
    "Cohere 2": ("Cohere2Config", ATTENTION | {"sliding_window": 8}),
    "GLM": ("GlmConfig", ATTENTION | {"head_dim": 8}),
    "GLM-4": ("Glm4Config", ATTENTION | {"head_dim": 8}),
    "EXAONE 4": ("Exaone4Config", ATTENTION | {"sliding_window": 8}),
    "Nemotron": ("NemotronConfig", ATTENTION),
    "Mixtral": ("MixtralConfig", ATTENTION | {"num_local_experts": 4}),
    "DeepSeek-V2": (
        "DeepseekV2Config",
        ATTENTION
        | LATENT
        | {"num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
        | {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "n_shared_experts": 1},
    ),
    "DeepSeek-V3": (
        "DeepseekV3Config",
        ATTENTION
        | LATENT
        | {"num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
        | {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "n_shared_experts": 1},
    ),
    "MiniMax": ("MiniMaxConfig", ATTENTION | {"head_dim": 8, "num_local_experts": 2, "block_size": 8}),
    "Mamba": ("MambaConfig", COMMON | {"state_size": 4}),
    "Mamba-2": (
        "Mamba2Config",
        COMMON | {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8},
    ),
    "Falcon-Mamba": ("FalconMambaConfig", COMMON | {"state_size": 4}),
    "Falcon-H1": (
        "FalconH1Config",
        ATTENTION | MAMBA | {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_chunk_size": 8},
    ),
    "Jamba": (
        "JambaConfig",
        ATTENTION
        | {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 2,
            "num_experts_per_tok": 1,
            "mamba_d_state": 4,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    "Bamba": (
        "BambaConfig",
        ATTENTION | MAMBA | {"mamba_n_heads": 8, "mamba_d_head": 8, "attn_layer_indices": [1], "mamba_chunk_size": 8},
    ),
    "LFM2": ("Lfm2Config", ATTENTION | {"layer_types": ["conv", "full_attention"], "conv_L_cache": 3}),
    "RecurrentGemma": (
        "RecurrentGemmaConfig",
        COMMON
        | {"num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": 48, "lru_width": 32}
        | {"attention_window_size": 16, "block_types": ("recurrent", "attention")},
    ),
    "RWKV-4": (
        "RwkvConfig",
        {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "context_length": 64}
        | {"bos_token_id": 1, "eos_token_id": 2},
    ),
    "xLSTM": (
        "xLSTMConfig",
        {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 2, "mode": "inference"}
        | {"chunkwise_kernel": "chunkwise--native_autograd", "sequence_kernel": "native_sequence__native"}
        | {"step_kernel": "native", "chunk_size": 16},
    ),
}
"""Class of the configuration and its values, by the name of the architecture."""
QUICK = ("Gemma 2", "gpt-oss", "Mamba", "Qwen3-Next", "RWKV-4")
"""One of each kind: sliding windows, experts, states alone, states beside keys and values, states that cannot be given
back for several rows."""
LENGTHS = (20, 13)
"""Of prompts: beyond the sliding windows, and unequal."""


@dataclass(frozen=True)
class Outcome:
    """What was found of an architecture."""

    sampler: str
    shared: bool
    gap: float
    """Largest difference between the sampler's log-probabilities and those of a text alone, before and after an update,
    in nats."""
    gradient: float
    """Largest difference of the gradient with shared prompts from that without, as a part of the largest gradient."""


def small_model(name: str) -> Any:
    kind, values = SMALL[name]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(getattr(transformers, kind)(**values)).eval()
        disturb(model, 0.1)
    return model


@torch.no_grad()
def alone(model: Any, rollouts: Rollouts) -> torch.Tensor:
    """Log-probabilities of each answer from the plain forward pass over its text, [N, T]."""
    found = torch.zeros(rollouts.ids.shape)
    for row in range(len(rollouts)):
        prompt, answer = rollouts.prompt_ids[row][rollouts.prompt_mask[row]], rollouts.ids[row][rollouts.mask[row]]
        logits = model(torch.cat([prompt, answer])[None], use_cache=False).logits[0, len(prompt) - 1 : -1].float()
        found[row, : len(answer)] = torch.log_softmax(logits, -1).gather(1, answer[:, None])[:, 0]
    return found


def gradient(model: Any, rollouts: Rollouts, share: bool) -> torch.Tensor:
    model.zero_grad(set_to_none=True)
    weights = torch.linspace(-1, 1, rollouts.mask.numel()).view(rollouts.mask.shape)
    for batch in microbatches(rollouts, share_prompt=share):
        logp, _ = logprobs(model, batch)
        (logp * weights[batch.rows, : batch.width]).sum().backward()
    parameters = (p for p in model.parameters() if p.requires_grad)
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])


def examine(name: str) -> Outcome:
    """Sample, score with and without shared prompts, take one step, hand the weights over, sample again."""
    model = small_model(name)
    engine = build_engine("auto", model, None)
    check_hand_over(model, engine)
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(3, 64, (length,), generator=generator).tolist() for length in LENGTHS]

    def sampled() -> tuple[Rollouts, float]:
        rollouts = sample_groups(
            engine,
            prompts,
            [0, 1],
            answers=2,
            max_tokens=[9, 9],
            seeds=[1, 2],
            sampling=Sampling(ignore_eos=True),
            pad_id=0,
        )
        truth = alone(model, rollouts)
        gaps = [rollouts.logp_sampled - truth, score(model, rollouts).logp - truth]
        return rollouts, max(float(gap.abs().max()) for gap in gaps)

    rollouts, first = sampled()
    shares = can_share_prompts(model)
    whole = gradient(model, rollouts, False)
    difference = float((gradient(model, rollouts, shares) - whole).abs().max() / whole.abs().max())
    torch.optim.SGD(model.parameters(), lr=1e-2 / float(whole.abs().max())).step()
    engine.load(1, named_weights(model))
    again, second = sampled()
    assert not torch.equal(again.logp_sampled, rollouts.logp_sampled), "the update must change something"
    memory = getattr(engine, "memory", "decoder")
    return Outcome(memory, shares, max(first, second), difference)


WORDS: dict[str, str] = {
    "decoder": "our decoder",
    "padded": "transformers",
    "aligned": "transformers, prompts of one length at a time",
    "whole": "transformers, the whole text again for each token",
}


def table() -> str:
    """The table of docs/language-trainer.md."""
    found: dict[tuple[str, bool], list[str]] = {}
    for name in SMALL:
        outcome = examine(name)
        found.setdefault((outcome.sampler, outcome.shared), []).append(name)
    lines = ["| sampled by | prompts shared | architectures |", "|---|---|---|"]
    for sampler, shared in sorted(found, key=lambda kind: (list(WORDS).index(kind[0]), not kind[1])):
        names = ", ".join(found[sampler, shared])
        lines.append(f"| {WORDS[sampler]} | {'yes' if shared else 'no'} | {names} |")
    versions = f"transformers {transformers.__version__} and torch {torch.__version__.partition('+')[0]}"
    return "\n".join([*lines, "", f"Run with {versions}: {len(SMALL)} architectures."])


if __name__ == "__main__":
    print(table())
