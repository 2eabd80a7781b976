"""Adapters: what is sampled from and exported has all of their effect, or they are refused."""

from __future__ import annotations

import hashlib
import json
import warnings
from typing import Any

import pytest
import torch
from tests.engines.models import SHAPE, disturb, largest_gap, prompts, random_model
from tests.policies.language.policies import small_policy
from transformers import AutoModelForCausalLM, GPT2Config, Qwen2Config

from pilotage.core.errors import UsageError
from pilotage.engines import build_engine
from pilotage.engines.decoder import DecoderEngine
from pilotage.policies.language.adapters import named_weights, with_adapter
from pilotage.policies.language.policy import LanguagePolicy
from pilotage.types import Request, Sampling


def frozen_hash(model) -> str:
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            digest.update(parameter.detach().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture
def adapted(tmp_path) -> LanguagePolicy:
    small_policy("qwen2").save_pretrained(tmp_path / "plain")
    return LanguagePolicy.from_pretrained(str(tmp_path / "plain"), adapter="lora:2")


def test_a_new_adapter_changes_nothing_and_alone_is_trained(adapted, tmp_path):
    plain = LanguagePolicy.from_pretrained(str(tmp_path / "plain"))
    ids = torch.tensor(prompts(9))
    assert torch.equal(adapted.model(ids).logits, plain.model(ids).logits)
    trained = {name for name, parameter in adapted.model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in adapted.model.named_parameters() if "lora_" in name}
    # Four projections of attention and three of the feed-forward network, two factors, two layers.
    assert len(trained) == 7 * 2 * 2
    again = LanguagePolicy.from_pretrained(str(tmp_path / "plain"), adapter="lora:2").model.state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in adapted.model.state_dict().items())


def test_ranks_that_are_none_are_refused():
    for adapter in ("lora:", "lora:0", "lora:many"):
        with pytest.raises(UsageError, match="lora:RANK with RANK 1 or more"):
            with_adapter(random_model(), adapter)


def test_an_adapter_is_saved_merged_and_opens_from_its_own_folder(adapted, tmp_path):
    disturb(adapted.model, 0.3)
    ids = torch.tensor(prompts(9))
    expected = adapted.model(ids).logits
    adapted.save_pretrained(tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(merged(ids).logits, expected, atol=1e-4, rtol=1e-4)
    adapted.model.save_pretrained(tmp_path / "adapter")
    again = LanguagePolicy.from_pretrained(str(tmp_path / "plain"), adapter=str(tmp_path / "adapter"))
    torch.testing.assert_close(again.model(ids).logits, expected)
    assert any(parameter.requires_grad for parameter in again.model.parameters())
    with pytest.raises(UsageError, match=r"no adapter_model\.safetensors"):
        LanguagePolicy.from_pretrained(str(tmp_path / "plain"), adapter=str(tmp_path / "plain"))


# ---- every kind ------------------------------------------------------------------------------------------------------

LORA: dict[str, Any] = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", "init_lora_weights": False}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("LoraConfig", {"target_modules": ["q_proj", "down_proj"], **LORA}),
    "rank-stabilised": ("LoraConfig", {"target_modules": ["q_proj"], "use_rslora": True, **LORA}),
    "ranks-by-layer": (
        "LoraConfig",
        {"target_modules": ["q_proj", "o_proj"], "rank_pattern": {"o_proj": 2}, "alpha_pattern": {"q_proj": 3}, **LORA},
    ),
    "magnitudes": ("LoraConfig", {"target_modules": ["q_proj", "up_proj"], "use_dora": True, **LORA}),
    "bias-of-the-adapter": ("LoraConfig", {"target_modules": ["q_proj"], "lora_bias": True, **LORA}),
    "biases-of-the-model": ("LoraConfig", {"target_modules": ["q_proj"], "bias": "all", **LORA}),
    "head": ("LoraConfig", {"target_modules": ["lm_head"], **LORA}),
    "head-and-queries": ("LoraConfig", {"target_modules": ["lm_head", "q_proj"], **LORA}),
    "embedding": ("LoraConfig", {"target_modules": ["embed_tokens"], **LORA}),
    "embedding-and-head": ("LoraConfig", {"target_modules": ["embed_tokens", "lm_head"], **LORA}),
    "some-tokens": ("LoraConfig", {"target_modules": ["q_proj"], "trainable_token_indices": [3, 5, 6], **LORA}),
    "whole-head": ("LoraConfig", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"], **LORA}),
    "whole-embedding": ("LoraConfig", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], **LORA}),
    "factors": (
        "IA3Config",
        {
            "target_modules": ["k_proj", "down_proj"],
            "feedforward_modules": ["down_proj"],
            "task_type": "CAUSAL_LM",
            "init_ia3_weights": False,
        },
    ),
    "kronecker": ("LoKrConfig", {"target_modules": ["q_proj"], "r": 4, "alpha": 8, "init_weights": False}),
}


def model_with(kind: str, tied: bool) -> Any:
    """A Qwen2 model with an adapter that changes much."""
    import peft

    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(Qwen2Config(**SHAPE | {"tie_word_embeddings": tied})).eval()
    disturb(plain, 0.15)
    name, options = KINDS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(plain, getattr(peft, name)(**options)).eval()
    disturb(adapted, 0.3)
    return adapted


@pytest.mark.parametrize(
    ("kind", "tied"),
    [*((kind, True) for kind in KINDS), *((kind, False) for kind in ("plain", "head", "whole-embedding"))],
)
def test_all_of_an_adapters_effect_is_sampled_from_and_exported(kind, tied, tmp_path):
    adapted, (ids,) = model_with(kind, tied), prompts(9)
    text = torch.tensor([ids])
    expected = adapted(text).logits
    with adapted.disable_adapter():
        plain = adapted(text).logits
        # Biases of the model are trained in place.
        assert kind == "biases-of-the-model" or not torch.allclose(plain, expected, atol=0.05), (
            "there must be an effect"
        )
        disabled = DecoderEngine(adapted, weights=named_weights(adapted))
        assert largest_gap(adapted, ids, disabled.generate([Request(ids, 6)], Sampling(ignore_eos=True))[0]) < 1e-4
    for engine in ("decoder", "transformers"):
        made = build_engine(engine, adapted, None, weights=named_weights(adapted))
        for version in range(2):
            answers = made.generate([Request(ids, 6, n=2)], Sampling(ignore_eos=True))[0]
            assert largest_gap(adapted, ids, answers) < 1e-4
            disturb(adapted, 0.02, seed=version)
            made.load(version + 1, named_weights(adapted))
    expected = adapted(text).logits
    LanguagePolicy(adapted, small_policy().tokenizer, "small").save_pretrained(tmp_path)
    again = LanguagePolicy.from_pretrained(str(tmp_path)).model
    torch.testing.assert_close(again(text).logits, expected, atol=1e-4, rtol=1e-4)


def test_transposed_layers_are_merged_too():
    """GPT-2 keeps the weights of its linear layers the other way round."""
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=41, n_embd=32, n_layer=2, n_head=4, n_positions=48))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = with_adapter(plain.eval(), "lora:2")
    disturb(adapted, 0.3)
    (ids,) = prompts(6)
    engine = build_engine("auto", adapted, None, weights=named_weights(adapted))
    assert largest_gap(adapted, ids, engine.generate([Request(ids, 6)], Sampling(ignore_eos=True))[0]) < 1e-4


def refused(adapted: Any) -> str:
    with pytest.raises(UsageError) as error:
        dict(named_weights(adapted))
    return str(error.value)


def test_adapters_that_do_not_lie_on_weights_are_refused():
    from peft import LoraConfig, PromptTuningConfig, get_peft_model

    tuned = get_peft_model(random_model(), PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"))
    assert "PROMPT_TUNING" in (text := refused(tuned))
    assert "LoRA" in text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        biased = get_peft_model(random_model(), LoraConfig(r=2, target_modules=["q_proj"], lora_bias=True))
    assert "lora_bias=False" in refused(biased)


def test_an_adapter_of_an_unknown_kind_ends_with_a_sentence(adapted, tmp_path):
    adapted.model.save_pretrained(tmp_path / "adapter")
    settings = tmp_path / "adapter" / "adapter_config.json"
    for field, value in (("peft_type", "UNHEARD_OF"), ("target_modules", ["no_such_layer"]), ("r", "many")):
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {field: value}))
        with pytest.raises(UsageError, match=r"does not fit the model.*adapter_config\.json"):
            LanguagePolicy.from_pretrained(str(tmp_path / "plain"), adapter=str(tmp_path / "adapter"))
        adapted.model.save_pretrained(tmp_path / "adapter")
    settings.write_text("[]")
    with pytest.raises(UsageError, match="does not fit the model"):
        LanguagePolicy.from_pretrained(str(tmp_path / "plain"), adapter=str(tmp_path / "adapter"))


def test_an_adapter_merged_in_place_is_refused(adapted):
    adapted.model.merge_adapter()
    with pytest.raises(UsageError, match="unmerge_adapter"):
        dict(named_weights(adapted.model))


def check_syncs(adapted: LanguagePolicy, count: int) -> None:
    """Frozen weights stay as they are, and what is handed over last is right (S6)."""
    before = frozen_hash(adapted.model)
    engine = build_engine("decoder", adapted.model, None, weights=named_weights(adapted.model))
    for version in range(1, count + 1):
        disturb(adapted.model, 0.02, seed=version)
        engine.load(version, named_weights(adapted.model))
    assert frozen_hash(adapted.model) == before
    (ids,) = prompts(6)
    answers = engine.generate([Request(ids, 8, n=2)], Sampling(ignore_eos=True))[0]
    assert largest_gap(adapted.model, ids, answers) < 2e-5
    assert answers[0].version == count


def test_frozen_weights_are_untouched_and_the_last_sync_is_right(adapted):
    check_syncs(adapted, 10)


def test_frozen_weights_are_untouched_by_a_thousand_syncs():
    """In bfloat16, where adding a change to a weight and taking it off again would lose digits."""
    from peft import LoraConfig, get_peft_model

    shape = SHAPE | {"hidden_size": 16, "num_hidden_layers": 1, "tie_word_embeddings": True}
    plain = AutoModelForCausalLM.from_config(Qwen2Config(**shape), dtype=torch.bfloat16).eval()
    settings = LoraConfig(target_modules=["q_proj", "lm_head"], **LORA)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(plain, settings)
    frozen = [parameter for parameter in adapted.parameters() if not parameter.requires_grad]
    before = [parameter.clone() for parameter in frozen]
    engine = build_engine("decoder", adapted, None, weights=named_weights(adapted))
    for version in range(1, 1001):
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.mul_(1.001)
        engine.load(version, named_weights(adapted))
    assert all(torch.equal(parameter, kept) for parameter, kept in zip(frozen, before, strict=True))
    assert engine.version == 1000


def test_a_disabled_adapter_is_not_sampled_from(adapted):
    disturb(adapted.model, 0.3)
    engine, (ids,) = DecoderEngine(adapted.model, weights=named_weights(adapted.model)), prompts(6)
    assert largest_gap(adapted.model, ids, engine.generate([Request(ids, 8)], Sampling())[0]) < 1e-5
    with adapted.model.disable_adapter():
        stale = engine.generate([Request(ids, 8, n=4)], Sampling(ignore_eos=True))[0]
        assert largest_gap(adapted.model, ids, stale) > 0.05
        engine.load(1, named_weights(adapted.model))
        fresh = engine.generate([Request(ids, 8, n=4)], Sampling(ignore_eos=True))[0]
        assert largest_gap(adapted.model, ids, fresh) < 1e-5
