"""The critic is made of the body of any policy, adapted ones too."""

from __future__ import annotations

import pytest
import torch
from tests.engines.models import random_model
from tests.policies.language.architectures import small_model
from tests.properties.batches import random_rollouts

from pilotage.policies.language.adapters import with_adapter
from pilotage.policies.language.scoring import microbatches
from pilotage.training.language.critic import ValueModel


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make",
    [
        random_model,
        lambda: random_model("gpt2"),
        lambda: with_adapter(random_model("qwen2"), "lora:2"),
        lambda: small_model("Mamba"),
    ],
    ids=["llama", "gpt2", "adapted", "states"],
)
def test_values_stand_before_each_token_and_are_trained(make):
    policy = make()
    critic = ValueModel(policy, torch.Generator().manual_seed(0))
    rollouts = random_rollouts(groups=2, answers=2, dtype=torch.float32)
    (batch,) = microbatches(rollouts, share_prompt=False)
    values = critic(batch)
    assert values.shape == (len(rollouts), batch.width)
    values.square().sum().backward()
    assert critic.head.weight.grad is not None
    moved = [parameter for parameter in critic.body.parameters() if parameter.grad is not None]
    assert moved
    assert all(parameter.grad is None for parameter in policy.parameters())
