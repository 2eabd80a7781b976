"""Guidance: wrappers of a denoiser, and choosing among several chunks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.objectives.draws import Generators
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.heads.energy import EnergyHead
from pilotage.policies.control.heads.head import Head
from pilotage.policies.control.sampling.sampling import Denoise, Guide, InitialSample

Score = Callable[[Tensor], Tensor]
"""Clean chunks [B, T, A] -> scores [B], high is good, differentiable where gradients are asked for."""


def classifier_free(goal_free: Denoise, weight: float) -> Guide:
    """D_u + λ·(D_c − D_u), `weight` λ: 1 is the guided denoiser itself and 0 `goal_free` itself, in one call each.

    Ho & Salimans 2022 (arXiv 2207.12598), on the clean estimate; BESO's kitchen has λ = 1.5, its blocks 2.
    """

    def guide(denoise: Denoise) -> Denoise:
        if weight == 1:
            return denoise
        if weight == 0:
            return goal_free

        def guided(x: Tensor, level: Tensor) -> Tensor:
            free = goal_free(x, level)
            return free + weight * (denoise(x, level) - free)

        return guided

    return guide


def uphill(
    score: Score, *, step: float, bound: float | None = None, rounds: int = 1, below: float | None = None
) -> Guide:
    """Return the clean estimate moved along the gradient of `score`, `rounds` times `step`, in all by at most ±`bound`.

    The change keeps its sign when it is bounded (a clip of its absolute value would push every entry upwards).
    `below`: only at levels below it, such as the last tenth. The gradient is not taken through the network.
    """

    def guide(denoise: Denoise) -> Denoise:
        def guided(x: Tensor, level: Tensor) -> Tensor:
            clean = denoise(x, level)
            if below is not None and not bool((level < below).any()):
                return clean
            moved = clean
            for _ in range(rounds):
                moved = moved + step * _gradient(score, moved)
            change = moved - clean
            if bound is not None:
                change = change.clamp(-bound, bound)
            if below is not None:
                change = torch.where((level < below)[:, None, None], change, torch.zeros_like(change))
            return clean + change

        return guided

    return guide


def holding(values: Tensor, known: Tensor) -> Guide:
    """Entries where `known` [B, T, A] bool are `values` [B, T, A], in what the network sees and in what it answers.

    For in-painting, and for actions that are already executed.
    """

    def guide(denoise: Denoise) -> Denoise:
        def held(x: Tensor, level: Tensor) -> Tensor:
            return torch.where(known, values, denoise(torch.where(known, values, x), level))

        return held

    return guide


def chained(*guides: Guide) -> Guide:
    """Return the guides one around the other, the first innermost."""

    def guide(denoise: Denoise) -> Denoise:
        for one in guides:
            denoise = one(denoise)
        return denoise

    return guide


class BestOf(Head):
    """Draws `count` chunks per row from a head and keeps the one of the highest score.

    `score(chunk [B, T, A], condition) -> [B]`; without one, the lowest energy of a head that has an energy. All draws
    go through the network in one batch.
    """

    def __init__(
        self, head: Head, *, count: int = 8, score: Callable[[Tensor, Condition], Tensor] | None = None
    ) -> None:
        nn.Module.__init__(self)  # the network is the inner head's, and registered there
        if count < 1:
            raise UsageError(f"count={count} must be at least 1")
        if score is None and not isinstance(head, EnergyHead):
            raise UsageError(f"a {type(head).__name__} head has no energy to choose by; pass a score")
        self.head, self.count, self.score = head, count, score
        self.horizon, self.action_dim = head.horizon, head.action_dim

    @property
    def history(self) -> int:  # type: ignore[override]
        """Return how many executed actions come before the chunk."""
        return self.head.history

    @property
    def network(self) -> nn.Module:  # type: ignore[override]
        """Return the network of the head that draws candidates."""
        return self.head.network

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:
        """Return the loss of each window, [batch]."""
        return self.head.loss(chunk, condition, generator, mask)

    def action_limit(self) -> float | None:
        """Return the limit of the head that draws."""
        return self.head.action_limit()

    def denoiser(self, condition: Condition) -> Denoise:
        """Return the denoiser under a condition."""
        return self.head.denoiser(condition)

    def sample(
        self,
        condition: Condition,
        generator: Generators,
        start: InitialSample | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Return chunks of actions, [batch, time, action]."""
        if guide is not None and self.count > 1:
            raise UsageError("guidance belongs to a condition of one row each; guide the head within, or take count=1")
        rows, many = len(condition.vector), condition.repeated(self.count)
        if start is not None:
            start = start._replace(chunk=start.chunk.repeat_interleave(self.count, 0))
        # The same generator for all draws of a row: each takes the numbers that follow the last one's.
        sources = generator
        if not isinstance(generator, torch.Generator):
            sources = [one for one in generator for _ in range(self.count)]
        chunks = self.head.sample(many, sources, start, guide)
        if self.score is not None:
            score = self.score(chunks, many)
        else:
            assert isinstance(self.head, EnergyHead)
            score = -self.head.energy(chunks, many)
        best = score.view(rows, self.count).argmax(1)
        return chunks.view(rows, self.count, *chunks.shape[1:])[torch.arange(rows, device=best.device), best]


def _gradient(score: Score, clean: Tensor) -> Tensor:
    with torch.enable_grad():
        at = clean.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(score(at).sum(), at)
    return gradient
