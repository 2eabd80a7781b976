"""A critic for text: the value of what an answer will earn, before each of its tokens."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pilotage.objectives.aggregation import token_mean
from pilotage.objectives.critic import value_loss
from pilotage.policies.language import scoring
from pilotage.policies.language.adapters import is_adapted
from pilotage.policies.language.policy import LanguagePolicy
from pilotage.training.language.config import TextConfig
from pilotage.training.language.update import optimiser_step
from pilotage.types import Rollouts


class Critic:
    """The policy's body with a scalar head, trained on value targets; its own optimiser and checkpoint state."""

    def __init__(self, policy: LanguagePolicy, config: TextConfig, generator: torch.Generator) -> None:
        self.config = config
        self.model = ValueModel(policy.model, generator)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=config.critic_lr, weight_decay=0.0, fused=True)

    def values(self, rollouts: Rollouts) -> Tensor:
        """Return without gradient: the value before each token of every answer; 0 on padding, [N, T]."""
        out = torch.zeros(rollouts.mask.shape, dtype=torch.float32)
        with torch.no_grad():
            for micro in self._cut(rollouts):
                out[micro.rows, : micro.width] = self.model(micro)
        return torch.where(rollouts.mask, out, 0.0)

    def learn(self, rollouts: Rollouts) -> dict[str, float]:
        """Return one pass over the batch towards `value_target`; returns its metrics."""
        mask, target, old = rollouts.mask, rollouts.column("value_target"), rollouts.column("value")
        weights = token_mean(mask)
        total = 0.0
        for micro in self._cut(rollouts):
            rows, width = micro.rows, micro.width
            value = self.model(micro)
            losses = value_loss(value, old[rows, :width], target[rows, :width], mask[rows, :width])
            loss = (losses * weights[rows, :width]).sum()
            loss.backward()
            total += float(loss.detach())
        optimiser_step(self.optimiser, self.model, self.config.grad_clip)
        residual, spread = (target - old)[mask].double(), target[mask].double()
        explained = 1.0 - float(residual.var(unbiased=False) / spread.var(unbiased=False).clamp(min=1e-12))
        return {"critic/loss": total, "critic/explained_variance": explained}

    def _cut(self, rollouts: Rollouts) -> list[Any]:
        return scoring.microbatches(
            rollouts, torch.arange(len(rollouts)), tokens_per_batch=self.config.tokens_per_batch, share_prompt=False
        )

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimiser."""
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state written by `state_dict`."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])


class ValueModel(nn.Module):
    """A copy of a causal model's body and a linear head on the state that predicts each token."""

    def __init__(self, causal: Any, generator: torch.Generator) -> None:
        super().__init__()
        plain = causal.get_base_model() if is_adapted(causal) else causal
        self.body = copy.deepcopy(plain.base_model)
        width = plain.config.get_text_config().hidden_size
        self.head = nn.utils.skip_init(nn.Linear, width, 1)  # the usual start draws from torch's global generator
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(1, width, generator=generator) / width)
            self.head.bias.zero_()

    def forward(self, micro: Any) -> Tensor:
        """Return the value before each answer token of a micro-batch, [m, t]."""
        return self.head(scoring.hidden_states(self.body, micro)).squeeze(-1)
