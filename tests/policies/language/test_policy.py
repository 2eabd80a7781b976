"""Opening, saving and speaking with language policies."""

from __future__ import annotations

import pytest
import torch
from tests.engines.models import CONFIGURATIONS, disturb, prompts, random_model
from tests.policies.language.policies import VOCABULARY, small_policy
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from pilotage.core.errors import UsageError
from pilotage.policies.language.adapters import named_weights, with_adapter
from pilotage.policies.language.embedded import SIZES, character_tokenizer, tiny_policy
from pilotage.policies.language.hub import hub_failure
from pilotage.policies.language.policy import LanguagePolicy, remove_dropout


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


def test_special_tokens_inside_an_answer_are_seen_and_those_at_its_end_are_not():
    policy = small_policy()
    end, pad = policy.tokenizer.eos_token_id, policy.tokenizer.pad_token_id
    one, two = policy.encode("1"), policy.encode("2")
    assert policy.decode_answer([*one, *two, end, pad, pad]) == "12"
    shown = policy.decode_answer([*one, pad, *two, end])
    assert shown == f"1{policy.tokenizer.pad_token}2"
    assert policy.decode_answer(torch.tensor([*one, end, *two])) == f"1{policy.tokenizer.eos_token}2"
    assert policy.decode_answer([end]) == policy.decode_answer([]) == ""


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


ALTERNATING = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}"
)


@pytest.mark.parametrize(
    ("roles", "template", "message"),
    [
        (("system", "user"), ALTERNATING, "system, user: System role not supported.*in front of the user's"),
        (("user", "user"), ALTERNATING, "user, user: Roles must alternate; make user and assistant take turns"),
        (("user",), "{{ messages[0].parts[0] }}", "of user: .*--no-chat"),
        (("user",), "{% if %}", "of user: .*--no-chat"),
        ((), "{{ messages[0].content }}", "of no messages: "),
    ],
)
def test_what_a_chat_template_refuses_is_a_sentence_with_a_remedy(roles, template, message):
    policy = small_policy()
    policy.tokenizer.chat_template = template
    with pytest.raises(UsageError, match=message):
        policy.encode_chat([{"role": role, "content": "1"} for role in roles])


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
    with pytest.raises(UsageError, match="nobody/nothing is no folder and is not in the cache.*HF_HUB_OFFLINE is set"):
        LanguagePolicy.from_pretrained("nobody/nothing")
    with pytest.raises(UsageError, match="adapter nobody/nothing is no folder.*HF_HUB_OFFLINE is set"):
        with_adapter(random_model(), "nobody/nothing")


def test_without_a_network_one_connection_is_tried_to_the_hub_or_to_its_proxy(monkeypatch):
    tried: list[tuple[str, int]] = []

    def connect(address, timeout):
        tried.append(address)
        raise TimeoutError(f"timed out after {timeout:.0f} s")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.create_connection", connect)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match=r"no connection to huggingface\.co \(timed out after 3 s\); give the folder"):
        LanguagePolicy.from_pretrained("nobody/nothing")
    assert tried == [("huggingface.co", 443)]
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert "timed out" in hub_failure()
    assert tried[1:] == [("proxy.example", 3128)]


# ---- files that cannot be trusted ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ('{"weight_map": {"lm_head.weight": "pytorch_model.bin"}}', r"names pytorch_model\.bin.*save_pretrained"),
        ('{"weight_map": {"lm_head.weight": "../other/model.safetensors"}}', "not beside it"),
        ('{"weight_map": 3}', "no index of weights"),
        ("[]", "no index of weights"),
        ("{", "no index of weights"),
    ],
)
def test_an_index_of_weights_names_safetensors_of_its_folder_alone(index, message, tmp_path, monkeypatch):
    small_policy().save_pretrained(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors.index.json").write_text(index)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    with pytest.raises(UsageError, match=message):
        LanguagePolicy.from_pretrained(str(tmp_path))


def test_a_tokenizer_with_ids_beyond_the_embedding_is_refused(tmp_path):
    policy = small_policy()
    policy.tokenizer.add_tokens(["<beyond>"])
    policy.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"ids up to 41 \('<beyond>'\).*0 to 40.*resize_token_embeddings"):
        LanguagePolicy.from_pretrained(str(tmp_path))


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
