"""A window of actions whose earlier ones are already executed: the denoiser that is trained for it, and its guide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.pieces import fill
from pilotage.networks.chunk_network import ChunkNetwork
from pilotage.objectives.denoising import chunk_error, fill_padding, needed_mask, weighted_rows
from pilotage.objectives.draws import Generators, normal
from pilotage.objectives.noise_paths import NoisePath, Predicts
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.heads.denoiser import Denoiser
from pilotage.policies.control.heads.head import PartMaker
from pilotage.policies.control.sampling.guidance import holding
from pilotage.policies.control.sampling.sampling import Guide, InitialSample


class ContextDenoiser(Denoiser):
    """A denoiser of windows whose first `history` actions are the executed ones when acting. Reuss et al. 2023 (BESO).

    context: what those actions are in training. "noised": noised like the rest, and asked for like the rest, as in
    BESO's released code, though none has noise when acting; "clean": as they were demonstrated, and only the rest is
    noised and asked for. Actions before an episode's first are 0, in training and when acting: a repeated first action
    would tell what is asked for. limit: samples are clipped to ±limit, the range of the data under min-max scaling.
    """

    def __init__(
        self,
        network: ChunkNetwork,
        path: NoisePath,
        *,
        history: int,
        context: Literal["noised", "clean"] = "noised",
        limit: float | None = 1.0,
        predicts: Predicts = "residual",
        sampler: str = "ddim_sigma",
        steps: int | None = 3,
        schedule: str = "linear",
        levels: Sequence[float] | None = None,
        sigma_min: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            network,
            path,
            predicts=predicts,
            sampler=sampler,
            steps=steps,
            schedule=schedule,
            levels=levels,
            sigma_min=sigma_min,
            options=options,
        )
        if context not in ("noised", "clean"):
            raise UsageError(f"context={context!r} is not known; choose noised or clean")
        if not 0 <= history < self.horizon:
            raise UsageError(
                f"history={history} of a window of {self.horizon} actions; expected 0 to {self.horizon - 1}"
            )
        self.history, self.context, self.limit = history, context, limit

    @classmethod
    def build(cls, make: PartMaker, **options: Any) -> ContextDenoiser:
        """Build the part to the sizes of the data."""
        context = {"context": make.parts.context, "history": make.encoder.frames - 1}
        made: ContextDenoiser = fill(cls, options, {**cls.configured(make), **context})
        return made

    def action_limit(self) -> float | None:
        """Return its own bound or the sampler's, whichever is narrower."""
        return min((limit for limit in (self.limit, super().action_limit()) if limit is not None), default=None)

    def limit_reason(self) -> str:
        """Return what limits the actions and how the limit is lifted."""
        if self.limit is not None and self.limit == self.action_limit():
            return f"--context {self.context} (--head denoiser:limit=none lifts it)"
        return super().limit_reason()

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:
        """Return the loss of each window, [batch]."""
        asked = needed_mask(mask, chunk)
        clean = fill_padding(chunk, asked)
        clean = torch.where((asked.cumsum(1) == 0)[..., None], torch.zeros_like(clean), clean)
        level = self.path.draw(len(clean), generator).to(clean.device)
        noise = normal(clean.shape, generator, like=clean)
        noisy = self.path.mix(clean, noise, level)
        if self.context == "clean":
            past = torch.arange(self.horizon, device=clean.device) < self.history
            noisy, asked = torch.where(past[:, None], clean, noisy), asked & ~past
        output = self._predict(noisy, level, condition)
        error = chunk_error(output, self.path.target(clean, noise, level, self.predicts), asked)
        return weighted_rows(error, self.path.weight(level, self.predicts))

    def sample(
        self,
        condition: Condition,
        generator: Generators,
        start: InitialSample | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Return chunks of actions, [batch, time, action]."""
        chunk = super().sample(condition, generator, start, guide)
        return chunk if self.limit is None else chunk.clamp(-self.limit, self.limit)


def executed_context(executed: Tensor, horizon: int) -> Guide:
    """Holds the first actions of chunks of `horizon` at those that were executed: executed [B, history, A], normalised,
    the newest last. Raises UsageError when they leave nothing to sample.
    """
    rows, history, width = executed.shape
    if history >= horizon:
        raise UsageError(f"{history} executed actions in a chunk of {horizon} leave nothing to sample")
    values = torch.cat([executed, executed.new_zeros(rows, horizon - history, width)], 1)
    known = torch.arange(horizon, device=executed.device) < history
    return holding(values, known[None, :, None].expand_as(values))


def last_actions(executed: Sequence[Sequence[Tensor]], history: int, like: Tensor) -> Tensor:
    """Return the last `history` actions [A] of every row as [B, history, A], 0 where a row has executed fewer.

    like: a chunk [..., A] whose width, type and device they take.
    """
    found = like.new_zeros(len(executed), history, like.shape[-1])
    for row, actions in enumerate(executed):
        recent = list(actions)[-history:] if history else []
        if recent:
            found[row, history - len(recent) :] = torch.stack(recent).to(found)
    return found
