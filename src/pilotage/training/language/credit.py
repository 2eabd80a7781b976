"""From scored answers to advantages and token weights: the slots that see the whole global batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.pieces import Piece
from pilotage.training.language.piece_set import PieceSet
from pilotage.types import Rollouts

Columns = Callable[[str], Any]


def columns_of(rollouts: Rollouts, context: Mapping[str, Any]) -> tuple[Columns, Callable[[str], bool]]:
    """Access to columns by name, and whether one is there. `context` holds what is not a column (generator)."""

    def get(name: str) -> Any:
        return context[name] if name in context else rollouts.column(name)

    def has(name: str) -> bool:
        if name in context:
            return True
        try:
            rollouts.column(name)
        except KeyError:
            return False
        return True

    return get, has


def apply_filter(pieces: PieceSet, rollouts: Rollouts, context: Mapping[str, Any]) -> Tensor:
    """Return the rows that every filter keeps, [N] bool."""
    keep = torch.ones(len(rollouts), dtype=torch.bool)
    for piece in pieces.filter:
        keep &= piece(*columns_of(rollouts, context))
    return keep


def assign_credit(pieces: PieceSet, rollouts: Rollouts, context: Mapping[str, Any]) -> None:
    """Writes token_reward, reward, advantage [N, T] and token_weight [N, T] (only when a piece weighs tokens)."""
    get, has = columns_of(rollouts, context)
    columns = rollouts.columns
    if pieces.penalty:
        _write(rollouts, pieces.penalty[0], get, has, "token_reward")
        columns["reward"] = torch.where(rollouts.mask, columns["token_reward"], 0.0).sum(-1)
    elif pieces.asks_for("token_reward"):
        columns["token_reward"] = _at_last_token(columns["reward"], rollouts.mask)
    total: Tensor | None = None
    for piece in pieces.advantage:
        part = _write(rollouts, piece, get, has, "advantage") * piece.weight
        total = part if total is None else _wide(total, part) + _wide(part, total)
    assert total is not None
    columns["advantage"] = total
    for piece in pieces.shaping:
        columns["advantage"] = _write(rollouts, piece, get, has, "advantage")
    if columns["advantage"].dim() == 1:
        columns["advantage"] = columns["advantage"][:, None].expand(-1, rollouts.mask.shape[1])
    # Stored as the loss consumes it: zero where no policy token stands, whatever a piece left there.
    columns["advantage"] = torch.where(rollouts.mask, columns["advantage"], 0.0)
    if pieces.weights:
        weight = torch.ones_like(rollouts.mask, dtype=torch.float32)
        for piece in pieces.weights:
            part = _write(rollouts, piece, get, has, "token_weight")
            weight = weight * (part[:, None] if part.dim() == 1 else part)
        columns["token_weight"] = torch.where(rollouts.mask, weight, 0.0)


def _write(rollouts: Rollouts, piece: Piece, get: Columns, has: Callable[[str], bool], main: str) -> Tensor:
    """Call a piece and keep what it returns: its slot's column `main`, and the other entries of a dictionary.

    Raises UsageError for what is neither a number for each answer, [N], nor one for each token, [N, T].
    """
    returned = piece(get, has)
    if hasattr(returned, "_asdict"):
        returned = returned._asdict()
    if not isinstance(returned, Mapping):
        returned = {main: returned}
    rows, width = rollouts.mask.shape
    value = returned.get(main)
    shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    if shape not in ((rows,), (rows, width)):
        raise UsageError(
            f"the {piece.slot} piece {piece.name!r} gave {shape} as {main}; expected a tensor with a number for "
            f"each of {rows} answers, or for each of {rows} x {width} tokens"
        )
    rollouts.columns.update({name: value.detach() for name, value in returned.items()})
    return rollouts.columns[main]


def _wide(tensor: Tensor, other: Tensor) -> Tensor:
    return tensor[:, None] if tensor.dim() < other.dim() else tensor


def _at_last_token(reward: Tensor, mask: Tensor) -> Tensor:
    """[N, T]: the reward on each answer's last token, zero elsewhere."""
    out = torch.zeros(mask.shape, dtype=reward.dtype)
    last = (mask.sum(-1) - 1).clamp(min=0)
    out[torch.arange(len(out)), last] = reward
    return torch.where(mask, out, 0.0)
