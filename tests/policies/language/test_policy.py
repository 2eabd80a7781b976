"""Opening, saving and speaking with language policies."""

from __future__ import annotations

import hashlib

import pytest
import torch
from tests.engines.models import CONFIGURATIONS, disturb, largest_gap, prompts, random_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from pilotage.core.errors import UsageError
from pilotage.engines import build_engine
from pilotage.engines.decoder import DecoderEngine
from pilotage.policies.language.embedded import SIZES, character_tokenizer, tiny_policy
from pilotage.policies.language.policy import LanguagePolicy, named_weights, remove_dropout, with_adapter
from pilotage.types import Request, Sampling

VOCABULARY = "0123456789+-= ?abcdefghijklmnopqrstuv"
"""As many characters as the random models have tokens, less the four special ones."""


def small_policy(kind: str = "llama") -> LanguagePolicy:
    return LanguagePolicy(random_model(kind), character_tokenizer(VOCABULARY), "small")


def frozen_hash(model) -> str:
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            digest.update(parameter.detach().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("kind", ["llama", "llama-tied-grouped", "qwen3"])
def test_a_saved_folder_opens_in_transformers_and_comes_back(tmp_path, capfd, kind):
    policy = small_policy(kind)
    policy.save_pretrained(tmp_path)
    ids = torch.tensor([policy.encode("12+3=")])
    expected = policy.model(ids).logits
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path).eval()(ids).logits, expected)
    assert AutoTokenizer.from_pretrained(tmp_path)("12+3=")["input_ids"] == ids[0].tolist()
    capfd.readouterr()
    again = LanguagePolicy.from_pretrained(str(tmp_path))
    again.save_pretrained(tmp_path / "again")
    assert "shards" not in (shown := "".join(capfd.readouterr()))
    assert "Loading" not in shown
    assert logging.is_progress_bar_enabled()
    assert torch.equal(again.model(ids).logits, expected)
    assert (again.eos_ids, again.pad_id, again.context) == (policy.eos_ids, policy.pad_id, policy.context)
    assert again.name == str(tmp_path)


def test_text_of_the_embedded_tokenizer_survives_encoding():
    tokenizer = character_tokenizer(VOCABULARY + "\n")
    policy = LanguagePolicy(random_model(), tokenizer, "small")
    for text in ("12 + 3 =", "  a\n b ", "?"):
        assert policy.decode(policy.encode(text)) == text
    assert policy.decode([*policy.encode("7"), tokenizer.eos_token_id, tokenizer.pad_token_id]) == "7"
    assert policy.decode(torch.tensor(policy.encode("7 8"))) == "7 8"


def test_an_unknown_character_is_named():
    with pytest.raises(UsageError, match=r"cannot represent 'Z€' in the prompt '1€2Z'"):
        small_policy().encode("1€2Z")


def test_vocabularies_and_sizes_are_checked():
    for vocabulary in ("", "aba"):
        with pytest.raises(UsageError, match="different characters"):
            character_tokenizer(vocabulary)
    with pytest.raises(UsageError, match="no size '7B'"):
        tiny_policy("7B", "ab", 0)


@pytest.mark.parametrize("size", SIZES)
def test_embedded_sizes_are_what_their_names_say_and_depend_on_the_seed_alone(size):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    policy = tiny_policy(size, VOCABULARY, 1)
    assert torch.equal(before, torch.get_rng_state())
    assert policy.parameter_count == pytest.approx(float(size[:-1]) * 1e6, rel=0.25)
    if size == "0.4M":
        again, other = (dict(named_weights(tiny_policy(size, VOCABULARY, seed).model)) for seed in (1, 2))
        mine = dict(named_weights(policy.model))
        assert all(torch.equal(mine[name], again[name]) for name in mine)
        assert not torch.equal(mine["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_a_conversation_goes_through_the_chat_template():
    policy = small_policy()
    with pytest.raises(UsageError, match="no chat template"):
        policy.encode_chat([{"role": "user", "content": "1"}])
    policy.tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role[0] }}{{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}a={% endif %}"
    )
    ids = policy.encode_chat([{"role": "user", "content": "1+2"}])
    assert ids == [*policy.encode("u1+2"), policy.tokenizer.eos_token_id, *policy.encode("a=")]


def test_folders_that_cannot_be_opened_say_why(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        LanguagePolicy.from_pretrained(str(tmp_path / "absent"))
    with pytest.raises(UsageError, match=r"no config\.json"):
        LanguagePolicy.from_pretrained(str(tmp_path))
    with pytest.raises(UsageError, match="dtype 'int8' is not known"):
        LanguagePolicy.from_pretrained(str(tmp_path), dtype="int8")
    policy = small_policy()
    policy.model.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"no tokenizer; expected one of tokenizer\.json"):
        LanguagePolicy.from_pretrained(str(tmp_path))
    policy.tokenizer.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.rename(tmp_path / "kept")
    with pytest.raises(UsageError, match="has no weights"):
        LanguagePolicy.from_pretrained(str(tmp_path))
    torch.save(policy.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"only pickled weights \(pytorch_model\.bin\).*save_pretrained"):
        LanguagePolicy.from_pretrained(str(tmp_path))
    (tmp_path / "kept").rename(weights)
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(UsageError, match=r"could (not )?be opened"):
        LanguagePolicy.from_pretrained(str(tmp_path))


def test_a_name_that_is_no_model_is_refused():
    with pytest.raises(UsageError, match="no tokenizer could be opened for nobody/nothing"):
        LanguagePolicy.from_pretrained("nobody/nothing")


def test_bfloat16_weights_on_demand(tmp_path):
    small_policy().save_pretrained(tmp_path)
    assert LanguagePolicy.from_pretrained(str(tmp_path), dtype="bfloat16").model.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_dropout_is_removed_so_that_training_mode_changes_nothing(kind):
    config = CONFIGURATIONS[kind]()
    for field in ("attention_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop"):
        if hasattr(config, field):
            setattr(config, field, 0.5)
    model = AutoModelForCausalLM.from_config(config)
    disturb(model, 0.1)
    ids = torch.tensor(prompts(12))
    assert not torch.equal(model.train()(ids).logits, model.eval()(ids).logits), "there must be some to remove"
    assert remove_dropout(model)
    assert torch.equal(model.train()(ids).logits, model.eval()(ids).logits)
    assert remove_dropout(model) == []


# ---- adapters --------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_bias": True}, {"modules_to_save": ["lm_head"]}])
def test_adapters_that_are_more_than_a_product_are_refused(options):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(random_model(), LoraConfig(r=2, target_modules=["q_proj"], **options))
    with pytest.raises(UsageError, match=r"plain LoRA|modules_to_save"):
        dict(named_weights(model))


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


def test_frozen_weights_are_untouched_by_fifty_syncs(adapted):
    check_syncs(adapted, 50)


@pytest.mark.slow
def test_frozen_weights_are_untouched_by_a_thousand_syncs(adapted):
    check_syncs(adapted, 1000)


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
