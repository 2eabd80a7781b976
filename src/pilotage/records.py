"""Dataclasses of tensors that the rooms hand to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

STOP_REASONS = ("eos", "length", "stop")
"""Why an answer ended: end-of-sequence token, token limit, or stop string. `Rollouts.stop` holds the index."""


@dataclass
class Rollouts:
    """N sampled answers; every tensor's first dimension is the answer.

    Columns that pieces need or write (reward, advantage, entropy, logp_old, ...) live in `columns`; `column(name)`
    finds either kind. What is trained on is what was sampled: `ids` are the sampler's own token ids."""

    prompt_ids: Tensor
    """[N, P] int64, left-padded."""
    prompt_mask: Tensor
    """[N, P] bool, False on padding."""
    ids: Tensor
    """[N, T] int64, right-padded."""
    mask: Tensor
    """[N, T] bool, True on tokens that the policy wrote (its end-of-sequence token included)."""
    group: Tensor
    """[N] int64, one number per prompt *instance*: two instances of one text are two groups."""
    item: Tensor
    """[N] int64, position of the prompt in the task's pool of items."""
    stop: Tensor
    """[N] int64, index into STOP_REASONS."""
    logp_sampled: Tensor
    """[N, T] float32, log-probability under the distribution sampled from; 0 on padding."""
    version: int = 0
    """Version of the weights that sampled."""
    columns: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.ids.shape[0]

    @property
    def truncated(self) -> Tensor:
        """[N] bool: cut at the token limit."""
        return self.stop == STOP_REASONS.index("length")

    @property
    def length(self) -> Tensor:
        """[N] int64: number of tokens that the policy wrote."""
        return self.mask.sum(-1)

    def column(self, name: str) -> Tensor:
        """The tensor called `name`. Raises KeyError, with the columns there are, when nobody wrote it."""
        if name in self.columns:
            return self.columns[name]
        if name in BASE_COLUMNS:
            return getattr(self, name)
        raise KeyError(f"no column {name!r} in these rollouts; there are {sorted({*BASE_COLUMNS, *self.columns})}")

    def select(self, rows: Tensor) -> Rollouts:
        """The rollouts of `rows` (bool mask or int64 indices), columns included."""
        tensors = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name in _TENSOR_FIELDS}
        return Rollouts(
            **tensors, version=self.version, columns={name: column[rows] for name, column in self.columns.items()}
        )

    @staticmethod
    def concatenate(parts: Sequence[Rollouts]) -> Rollouts:
        """One batch from several of the same columns: prompts padded on the left, answers on the right.

        Groups are numbered anew, so that equal numbers in different parts stay different groups."""
        if not parts:
            raise ValueError("concatenate needs at least one part")
        prompt_width = max(part.prompt_ids.shape[1] for part in parts)
        width = max(part.ids.shape[1] for part in parts)

        def pad(tensor: Tensor, to: int, left: bool) -> Tensor:
            missing = to - tensor.shape[1]
            return torch.nn.functional.pad(tensor, (missing, 0) if left else (0, missing))

        groups, offset = [], 0
        for part in parts:
            unique, inverse = part.group.unique(return_inverse=True)
            groups.append(inverse + offset)
            offset += len(unique)
        names = set(parts[0].columns)
        if any(set(part.columns) != names for part in parts):
            raise ValueError("the parts have different columns: " + ", ".join(str(sorted(p.columns)) for p in parts))

        def join(tensors: list[Tensor], wide: list[int]) -> Tensor:
            if tensors[0].dim() >= 2 and all(t.shape[1] == w for t, w in zip(tensors, wide, strict=True)):
                tensors = [pad(t, width, left=False) for t in tensors]
            return torch.cat(tensors)

        widths = [part.ids.shape[1] for part in parts]
        return Rollouts(
            prompt_ids=torch.cat([pad(part.prompt_ids, prompt_width, left=True) for part in parts]),
            prompt_mask=torch.cat([pad(part.prompt_mask, prompt_width, left=True) for part in parts]),
            ids=torch.cat([pad(part.ids, width, left=False) for part in parts]),
            mask=torch.cat([pad(part.mask, width, left=False) for part in parts]),
            group=torch.cat(groups),
            item=torch.cat([part.item for part in parts]),
            stop=torch.cat([part.stop for part in parts]),
            logp_sampled=torch.cat([pad(part.logp_sampled, width, left=False) for part in parts]),
            version=min(part.version for part in parts),
            columns={name: join([part.columns[name] for part in parts], widths) for name in names},
        )


_TENSOR_FIELDS = ("prompt_ids", "prompt_mask", "ids", "mask", "group", "item", "stop", "logp_sampled")
BASE_COLUMNS = (*_TENSOR_FIELDS, "truncated", "length")
