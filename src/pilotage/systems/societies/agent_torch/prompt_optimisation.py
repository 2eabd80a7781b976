"""P3O: optimises the wordings of a prompt for a wanted outcome, by REINFORCE over the prompt's slots.

A template has slots in double brackets, `[[tone]]`, each with a list of wordings and a categorical distribution over
them. A draw of all slots gives a prompt, the prompt an outcome y, and the outcome the fitness −(y − target)².
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError

_SLOT = re.compile(r"\[\[(\w+)\]\]")


class PromptSlots(nn.Module):
    """Learnable distribution over the prompts that a template allows.

    Args:
        text: the template.
        wordings: wordings of each slot.

    Raises:
        UsageError: a slot has no wordings, or wordings have no slot.
    """

    def __init__(self, text: str, wordings: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.text = text
        self.slots = tuple(dict.fromkeys(_SLOT.findall(text)))
        if not self.slots:
            raise UsageError("the template has no slot; write one as [[name]]")
        if set(self.slots) != set(wordings) or any(not options for options in wordings.values()):
            raise UsageError(
                f"the template has the slots {', '.join(self.slots)}; wordings are given for "
                f"{', '.join(name for name, options in wordings.items() if options) or 'none'}"
            )
        self.wordings = {name: tuple(wordings[name]) for name in self.slots}
        self.logits = nn.ParameterDict({name: nn.Parameter(torch.zeros(len(wordings[name]))) for name in self.slots})

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw the wording of each slot, [count, slots] int64."""
        drawn = [
            torch.multinomial(self.logits[name].detach().softmax(0), count, True, generator=generator)
            for name in self.slots
        ]
        return torch.stack(drawn, 1)

    def log_probability(self, choices: Tensor) -> Tensor:
        """Return the log-probability [count] of choices [count, slots]."""
        logs = [self.logits[name].log_softmax(0)[choices[:, place]] for place, name in enumerate(self.slots)]
        return torch.stack(logs).sum(0)

    def entropy(self) -> Tensor:
        """Return the entropy in nats, summed over slots."""
        logs = [self.logits[name].log_softmax(0) for name in self.slots]
        return -torch.stack([(log.exp() * log).sum() for log in logs]).sum()

    def best(self) -> Tensor:
        """Return the likeliest wording of each slot, [slots] int64."""
        return torch.stack([self.logits[name].argmax() for name in self.slots])

    def prompt(self, choice: Tensor) -> str:
        """Return the text with the chosen wordings [slots]."""
        chosen = {name: self.wordings[name][int(choice[place])] for place, name in enumerate(self.slots)}
        return _SLOT.sub(lambda slot: chosen[slot.group(1)], self.text)


@dataclass(frozen=True)
class SlotStep:
    """Result of one update."""

    fitness: float
    """Mean fitness over the prompts of the step."""
    entropy: float
    """Entropy in nats, before the update."""
    best: str
    """Likeliest prompt after the update."""


class SlotOptimiser:
    """REINFORCE with a moving mean as baseline and an entropy bonus.

    Args:
        slots: distribution that is learnt.
        outcome: from the prompts of a step to y [prompts], such as a simulation's cases.
        target: the wanted y.
        scale: unit of y and target, so that learning rates mean the same in any unit.
        prompts: number of prompts per step.
        lr: learning rate of Adam.
        entropy: weight of the entropy bonus; the paper's is .01.
        decay: decay of the baseline's moving mean, in [0, 1).
    """

    def __init__(
        self,
        slots: PromptSlots,
        outcome: Callable[[Sequence[str]], Tensor],
        target: float,
        *,
        scale: float = 1.0,
        prompts: int = 4,
        lr: float = 0.1,
        entropy: float = 0.01,
        decay: float = 0.9,
    ) -> None:
        if prompts < 1 or scale <= 0 or not 0 <= decay < 1 or entropy < 0:
            raise UsageError(
                f"expected a prompt or more, scale > 0, decay in [0, 1), entropy ≥ 0; got {prompts}, {scale}, {decay}, "
                f"{entropy}"
            )
        self.slots, self.outcome, self.target, self.scale = slots, outcome, target, scale
        self.prompts, self.entropy_weight, self.decay = prompts, entropy, decay
        self.optimiser = torch.optim.Adam(slots.parameters(), lr=lr)
        self.baseline: float | None = None

    def step(self, generator: torch.Generator) -> SlotStep:
        """Draw prompts, evaluate their outcomes and update. Raises UsageError for outcomes that are not finite."""
        choices = self.slots.sample(self.prompts, generator)
        texts = [self.slots.prompt(choice) for choice in choices]
        y = self.outcome(texts)
        if y.shape != (self.prompts,) or not bool(y.isfinite().all()):
            raise UsageError(f"outcome must give a finite number for each of {self.prompts} prompts, got {y.tolist()}")
        fitness = -(((y - self.target) / self.scale) ** 2).float()
        mean = float(fitness.mean())
        # The baseline is that of earlier steps: one of the same draws would bias the gradient.
        advantage = fitness - (mean if self.baseline is None else self.baseline)
        entropy = self.slots.entropy()
        loss = -(advantage * self.slots.log_probability(choices)).mean() - self.entropy_weight * entropy
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.baseline = mean if self.baseline is None else self.decay * self.baseline + (1 - self.decay) * mean
        return SlotStep(mean, float(entropy.detach()), self.slots.prompt(self.slots.best()))
