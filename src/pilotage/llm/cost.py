"""Estimate of what requests will cost, from a sample that is really asked, and kept."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from pilotage.core.errors import UsageError
from pilotage.llm.budget import UNITS, Spent
from pilotage.llm.chat import ChatRequest
from pilotage.llm.service import Service
from pilotage.types import Failed


@dataclass(frozen=True)
class CostEstimate:
    """Estimated cost of the requests that have no answer yet."""

    calls: int
    """Number of different requests without an answer; tries after failures are not included."""
    prompt_tokens: float
    """Tokens of prompts."""
    completion_tokens: float
    """Tokens of answers."""
    money: float
    """Money, in the currency of the prices."""
    most_money: float
    """Money if every prompt and every answer took as many tokens as possible."""
    sampled: int
    """Number of requests that were asked for the estimate; they are answered now and not among `calls`."""

    def times(self, number: float) -> CostEstimate:
        """Return the cost of `number` times as many requests, such as those of all steps of a simulation."""
        return CostEstimate(
            round(self.calls * number),
            self.prompt_tokens * number,
            self.completion_tokens * number,
            self.money * number,
            self.most_money * number,
            self.sampled,
        )

    def __str__(self) -> str:
        return (
            f"{self.calls} calls, about {self.prompt_tokens:.0f} tokens of prompts and {self.completion_tokens:.0f} of "
            f"answers, {self.money:.4g} of money (at most {self.most_money:.4g})"
        )


def estimate_cost(service: Service, requests: Sequence[ChatRequest], *, sample: int = 8, seed: int = 0) -> CostEstimate:
    """Ask a random sample of the requests that have no answer yet, and scale up what it took.

    Args:
        service: asks.
        requests: the requests whose cost is estimated.
        sample: largest number of requests that are asked.
        seed: seed of the sample.

    Raises:
        UsageError: no request of the sample got an answer; and what `Service.ask` raises.
    """
    if sample < 1:
        raise UsageError(f"the sample has {sample} requests; give at least 1")
    missing = service.missing(requests)
    drawn = random.Random(seed).sample(missing, min(sample, len(missing)))
    used = [answer.usage for answer in service.ask(drawn) if not isinstance(answer, Failed)]
    if drawn and not used:
        raise UsageError(f"none of {len(drawn)} sampled requests got an answer: {dict(service.failures)}")
    asked = set(drawn)
    # What is not kept on disk will be asked for again.
    left = [request for request in missing if request not in asked] if service.provider.kept else missing
    scale = len(left) / max(1, len(used))
    prompt, completion = sum(usage.prompt for usage in used), sum(usage.completion for usage in used)
    units = sum(service.prices.units(usage) for usage in used)
    most = sum((Spent.of(service.provider.max_usage(request), service.prices) for request in left), Spent())
    return CostEstimate(len(left), prompt * scale, completion * scale, units * scale / UNITS, most.money, len(drawn))
