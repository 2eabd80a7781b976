"""P3O: which wordings of a prompt lead to the outcome that is wanted, by REINFORCE over the prompt's slots.

A template has slots in double brackets, `[[tone]]`, each with a list of wordings; over each list stands a categorical
distribution. A draw of all slots gives a prompt, the prompt an outcome y, the outcome the fitness −(y − target)²."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError

_SLOT = re.compile(r"\[\[(\w+)\]\]")


class PromptSlots(nn.Module):
    """A distribution over the prompts that a template allows.

    Raises UsageError for a slot without wordings, or wordings without a slot."""

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
        """[count, slots] int64: the wording of each slot."""
        drawn = [
            torch.multinomial(self.logits[name].detach().softmax(0), count, True, generator=generator)
            for name in self.slots
        ]
        return torch.stack(drawn, 1)

    def log_probability(self, choices: Tensor) -> Tensor:
        """[count] of choices [count, slots]."""
        logs = [self.logits[name].log_softmax(0)[choices[:, place]] for place, name in enumerate(self.slots)]
        return torch.stack(logs).sum(0)

    def entropy(self) -> Tensor:
        """Nats, summed over slots."""
        logs = [self.logits[name].log_softmax(0) for name in self.slots]
        return -torch.stack([(log.exp() * log).sum() for log in logs]).sum()

    def best(self) -> Tensor:
        """[slots] int64: the likeliest wording of each."""
        return torch.stack([self.logits[name].argmax() for name in self.slots])

    def prompt(self, choice: Tensor) -> str:
        """The text with the chosen [slots] wordings."""
        chosen = {name: self.wordings[name][int(choice[place])] for place, name in enumerate(self.slots)}
        return _SLOT.sub(lambda slot: chosen[slot.group(1)], self.text)


@dataclass(frozen=True)
class SlotStep:
    """One update."""

    fitness: float
    """Mean over the prompts that were tried."""
    entropy: float
    """Nats, before the update."""
    best: str
    """The likeliest prompt after it."""


class SlotOptimiser:
    """REINFORCE with a moving mean as baseline and a bonus for entropy.

    Args:
        slots: what is learnt.
        outcome: from prompts to y [prompts], such as a simulation's cases; it is given the prompts of a step at once,
            so that a service answers equal ones together.
        target: the wanted y.
        scale: y and target are divided by it, so that rates mean the same in any unit.
        prompts: drawn per step.
        rate: of Adam.
        entropy: weight of the bonus; the paper's is .01.
        decay: of the baseline's moving mean, in [0, 1)."""

    def __init__(
        self,
        slots: PromptSlots,
        outcome: Callable[[Sequence[str]], Tensor],
        target: float,
        *,
        scale: float = 1.0,
        prompts: int = 4,
        rate: float = 0.1,
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
        self.optimiser = torch.optim.Adam(slots.parameters(), lr=rate)
        self.baseline: float | None = None

    def step(self, generator: torch.Generator) -> SlotStep:
        """Draws prompts, sees what comes of them, updates. Raises UsageError for outcomes that are not finite."""
        choices = self.slots.sample(self.prompts, generator)
        texts = [self.slots.prompt(choice) for choice in choices]
        y = self.outcome(texts)
        if y.shape != (self.prompts,) or not bool(y.isfinite().all()):
            raise UsageError(f"outcome must give a finite number for each of {self.prompts} prompts, got {y.tolist()}")
        fitness = -(((y - self.target) / self.scale) ** 2).float()
        mean = float(fitness.mean())
        # The baseline is of earlier steps: one of the same draws would bias the gradient.
        advantage = fitness - (mean if self.baseline is None else self.baseline)
        entropy = self.slots.entropy()
        loss = -(advantage * self.slots.log_probability(choices)).mean() - self.entropy_weight * entropy
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.baseline = mean if self.baseline is None else self.decay * self.baseline + (1 - self.decay) * mean
        return SlotStep(mean, float(entropy.detach()), self.slots.prompt(self.slots.best()))

    def state_dict(self) -> dict[str, Any]:
        return {
            "slots": dict(self.slots.state_dict()),
            "optimiser": self.optimiser.state_dict(),
            "baseline": self.baseline,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.slots.load_state_dict(state["slots"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.baseline = state["baseline"]
