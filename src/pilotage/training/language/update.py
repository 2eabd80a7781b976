"""The update of a policy from a batch of its own answers: minibatches, micro-batches, exact global denominators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pilotage.core.pieces import Piece
from pilotage.training.language.piece_set import PieceSet
from pilotage.types import Rollouts


class MicroBatch(Protocol):
    """Rows that go through the model together, cut at `width` answer tokens."""

    rows: Tensor
    width: int


class Likelihood(Protocol):
    """How probable the policy finds the sampled tokens: the slot that autoregressive and diffusion models fill."""

    def micro_batches(self, rollouts: Rollouts, rows: Tensor) -> list[Any]:
        """Cut rows into micro-batches."""
        ...

    def __call__(self, model: nn.Module, micro_batch: Any, entropy: bool) -> tuple[Tensor, Tensor | None]:
        """(log-probabilities [m, t], entropies [m, t] or None), with gradients."""
        ...


@dataclass
class Sums:
    """Token sums over an update, from which its metrics are made; exact however the batch was cut."""

    values: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, value: Tensor | float) -> None:
        """Add values."""
        self.values[name] = self.values.get(name, 0.0) + float(value)

    def mean(self, name: str) -> float:
        """Return the mean."""
        return self.values.get(name, 0.0) / max(self.values.get("tokens", 0.0), 1.0)


def minibatches(group: Tensor, count: int, generator: torch.Generator) -> list[Tensor]:
    """Return the rows of `count` parts of about equally many whole groups, in random order; one part keeps order."""
    if count == 1:
        return [torch.arange(len(group))]
    unique = group.unique()
    if count > len(unique):
        raise ValueError(f"cannot cut {len(unique)} groups into {count} minibatches")
    order = unique[torch.randperm(len(unique), generator=generator)]
    return [torch.nonzero(torch.isin(group, part)).flatten() for part in order.tensor_split(count)]


def token_losses(
    pieces: PieceSet,
    rollouts: Rollouts,
    rows: Tensor,
    width: int,
    logp: Tensor,
    policy_entropy: Tensor | None,
    on_policy: bool,
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Weighted surrogate plus regularisers of the tokens of one micro-batch, [m, t].

    `on_policy`: whether logp_old is the current log-probability itself, so that every ratio is exactly 1.
    """
    mask = rollouts.mask[rows, :width]

    def get(name: str) -> Any:
        if name == "logp":
            return logp
        if name == "policy_entropy":
            return policy_entropy
        if name == "logp_old" and on_policy:
            return logp.detach()
        column = rollouts.column(name)[rows]
        return column[:, :width] if column.dim() == 2 and column.shape[1] == rollouts.mask.shape[1] else column

    surrogate = pieces.surrogate[0](get, _never)
    loss = surrogate
    if pieces.weights:
        loss = loss * get("token_weight")
    for piece in pieces.regulariser:
        loss = loss + piece.weight * piece(get, _never)
    return torch.where(mask, loss, 0.0), {"surrogate": surrogate, "logp_old": get("logp_old")}


def _never(_: str) -> bool:
    return False


def coefficients(piece: Piece, rollouts: Rollouts, rows: Tensor) -> Tensor:
    """Return what each token's loss counts for, from the mask of the whole minibatch, [rows, T]."""

    def get(name: str) -> Tensor:
        return rollouts.column(name)[rows]

    return piece(get)


def accumulate_gradient(
    pieces: PieceSet,
    model: nn.Module,
    likelihood: Likelihood,
    rollouts: Rollouts,
    rows: Tensor,
    *,
    on_policy: bool,
) -> Sums:
    """Adds the gradient of one minibatch to the model's. It does not depend on how the rows are cut."""
    weights = coefficients(pieces.aggregate[0], rollouts, rows)
    place = torch.full((len(rollouts),), -1, dtype=torch.int64)
    place[rows] = torch.arange(len(rows))
    sums = Sums()
    live_entropy = any("policy_entropy" in piece.needs for piece in pieces.in_update)
    for micro in likelihood.micro_batches(rollouts, rows):
        logp, entropy = likelihood(model, micro, live_entropy)
        losses, parts = token_losses(pieces, rollouts, micro.rows, micro.width, logp, entropy, on_policy)
        loss = (losses * weights[place[micro.rows], : micro.width]).sum()
        loss.backward()
        _count(sums, rollouts, micro, logp.detach(), parts, loss.detach())
    return sums


def _count(
    sums: Sums, rollouts: Rollouts, micro: MicroBatch, logp: Tensor, parts: Mapping[str, Tensor], loss: Tensor
) -> None:
    mask = rollouts.mask[micro.rows, : micro.width]
    log_ratio = torch.where(mask, logp - parts["logp_old"].detach(), 0.0)
    sums.add("loss", loss)
    sums.add("tokens", mask.sum())
    sums.add("ratio", torch.where(mask, log_ratio.exp(), 0.0).sum())
    sums.add("kl_old", torch.where(mask, torch.exp(log_ratio) - 1 - log_ratio, 0.0).sum())
    sums.add("logp", torch.where(mask, logp, 0.0).sum())
    gap = torch.where(mask, (logp - rollouts.logp_sampled[micro.rows, : micro.width]).abs(), 0.0)
    sums.add("gap", gap.sum())


def parameters_of(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters that are trained."""
    return (parameter for parameter in model.parameters() if parameter.requires_grad)


def optimiser_step(optimiser: torch.optim.Optimizer, model: nn.Module, grad_clip: float) -> float:
    """Clips, steps, clears; returns the gradient norm before clipping."""
    limit = grad_clip if grad_clip > 0 else float("inf")
    norm = nn.utils.clip_grad_norm_(list(parameters_of(model)), limit)
    if torch.isfinite(norm):
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return float(norm)
