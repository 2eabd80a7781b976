"""The check before the first step finds samplers and exports that lack a part of the policy."""

from __future__ import annotations

import pytest
import torch
from tests.engines.models import disturb, random_model

from pilotage.core.errors import UsageError
from pilotage.engines.decoder import DecoderEngine
from pilotage.engines.hugging_face import TransformersEngine
from pilotage.policies.language.adapters import named_weights, with_adapter
from pilotage.training.language import hand_over
from pilotage.training.language.hand_over import check_hand_over


def adapted_head():
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=2, target_modules=["lm_head", "q_proj"], task_type="CAUSAL_LM")
    return get_peft_model(random_model("llama-tied-grouped"), settings)


class HeadLost(DecoderEngine):
    """A sampler that takes the head from the embedding, as the configuration says."""

    def load(self, version, named_tensors):
        super().load(version, ((name, tensor) for name, tensor in named_tensors if name != "lm_head.weight"))


class NeverLoads(DecoderEngine):
    """A sampler that keeps its first weights."""

    def load(self, version, named_tensors):
        if not hasattr(self, "model"):
            super().load(version, named_tensors)


@pytest.mark.parametrize("engine", [DecoderEngine, TransformersEngine])
@pytest.mark.parametrize("make", [random_model, lambda: with_adapter(random_model("qwen2"), "lora:2"), adapted_head])
def test_a_policy_that_arrives_passes_and_is_left_as_it_was(make, engine):
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sampler = engine(model, weights=named_weights(model))
    state = torch.get_rng_state()
    check_hand_over(model, sampler)
    assert torch.equal(state, torch.get_rng_state())
    assert sampler.version == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    check_hand_over(model, sampler)


@pytest.mark.parametrize("engine", [HeadLost, NeverLoads])
def test_an_adapter_that_does_not_arrive_ends_the_run_although_it_has_no_effect_yet(engine):
    model = adapted_head()
    with pytest.raises(UsageError, match=r"not the policy that is trained.*--adapter lora:8"):
        check_hand_over(model, engine(model, weights=named_weights(model)))
    assert not any(parameter.any() for name, parameter in model.named_parameters() if "lora_B" in name), "put back"


def test_an_export_without_a_part_of_the_adapter_ends_the_run(monkeypatch):
    model = adapted_head()
    monkeypatch.setattr(hand_over, "merged_model", lambda adapted: adapted.get_base_model())
    check_hand_over(model, DecoderEngine(model, weights=named_weights(model)))
    monkeypatch.setattr(hand_over, "merged_model", lambda _: random_model("llama-tied-grouped"))
    with pytest.raises(UsageError, match="adapter"):
        check_hand_over(model, DecoderEngine(model, weights=named_weights(model)))


def test_a_sampler_of_other_weights_ends_the_run():
    model = random_model()
    sampler = DecoderEngine(model)
    disturb(model, 0.1)
    with pytest.raises(UsageError, match="--engine"):
        check_hand_over(model, sampler)


def test_weights_that_are_no_numbers_are_no_agreement():
    model = random_model()
    sampler = DecoderEngine(model)
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(UsageError, match="nan nats"):
        check_hand_over(model, sampler)
