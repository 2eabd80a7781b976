"""P3O on a scripted stand-in whose best wording is known, and its gradient against enumeration."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.llm import Service
from pilotage.systems.societies.agent_torch.prompt_optimisation import PromptSlots, SlotOptimiser
from pilotage.systems.societies.agent_torch.yes_no import poll, scripted_yes_no

TEXT = "[[role]] Cases rise. [[stress]] Does this person isolate?"
WORDINGS = {
    "role": ("You are careful.", "You are bold.", "You are a person."),
    "stress": ("Think of others.", "Think of money.", "Think.", "Decide."),
}


def says(text: str) -> float:
    """The closest to .8 is: a person, who thinks of others."""
    role = {"careful": 0.3, "bold": 0.1, "a person": 0.6}
    stress = {"others": 0.2, "money": -0.3, "Think.": 0.0, "Decide": -0.1}
    p = next(p for word, p in role.items() if word in text) + next(p for word, p in stress.items() if word in text)
    return min(0.99, max(0.01, p))


def test_the_known_best_wording_is_found_with_nine_of_ten_seeds() -> None:
    right = 0
    for seed in range(10):
        with Service(scripted_yes_no(says, "citizen", seed=seed)) as service:
            known: dict[str, float] = {}

            def outcome(prompts: Sequence[str], service: Service = service, known: dict[str, float] = known) -> Tensor:
                # From the first token: shares of few draws are drawn towards a half, and with them the best wording.
                new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]
                polls = poll(service, [[("user", prompt)] for prompt in new], first_token=True)
                known.update(zip(new, (found.share for found in polls), strict=True))
                return torch.tensor([known[prompt] for prompt in prompts])

            slots = PromptSlots(TEXT, WORDINGS)
            made = SlotOptimiser(slots, outcome, 0.8, scale=0.2)
            generator = torch.Generator().manual_seed(seed)
            for _ in range(60):
                step = made.step(generator)
        right += step.best == "You are a person. Cases rise. Think of others. Does this person isolate?"
    assert right >= 9


def test_the_expected_gradient_is_that_of_the_expected_fitness() -> None:
    slots = PromptSlots("[[a]][[b]]", {"a": ("0", "1"), "b": ("0", "1", "2")})
    torch.manual_seed(0)
    for logits in slots.logits.values():
        logits.data.normal_()
    every = torch.tensor(list(product(range(2), range(3))))
    fitness = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0, -1.0])
    expected = (slots.log_probability(every).exp() * fitness).sum()
    exact = torch.autograd.grad(expected, list(slots.parameters()))
    # A baseline of any size leaves the expectation as it is.
    logs = slots.log_probability(every)
    reinforce = torch.autograd.grad((logs.detach().exp() * (fitness - 7) * logs).sum(), list(slots.parameters()))
    for one, other in zip(exact, reinforce, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert float(slots.log_probability(every).exp().sum().detach()) == pytest.approx(1)


def test_slots_and_outcomes_are_checked() -> None:
    with pytest.raises(UsageError, match="no slot"):
        PromptSlots("Does this person isolate?", {})
    with pytest.raises(UsageError, match="the slots role, stress; wordings are given for role"):
        PromptSlots(TEXT, {"role": ("a",), "stress": ()})
    made = SlotOptimiser(PromptSlots(TEXT, WORDINGS), lambda p: torch.full((len(p),), float("nan")), 0.8)
    with pytest.raises(UsageError, match="finite"):
        made.step(torch.Generator())
