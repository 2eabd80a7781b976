"""Flat groups: several independent answers to each prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pilotage.types import STOP_REASONS, Completion, Engine, Request, Rollouts, Sampling


def sample_groups(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    positions: Sequence[int],
    *,
    answers: int,
    max_tokens: Sequence[int],
    seeds: Sequence[int],
    sampling: Sampling,
    pad_id: int,
) -> Rollouts:
    """`answers` answers to every prompt, as one batch on the CPU.

    prompts: token ids of each prompt; positions: each prompt's place in the pool; max_tokens and seeds: per prompt.
    Rows of one group are neighbours; groups are numbered in the order of the prompts, per instance.
    """
    requests = [
        Request(ids=ids, max_tokens=limit, n=answers, seed=seed)
        for ids, limit, seed in zip(prompts, max_tokens, seeds, strict=True)
    ]
    completions = engine.generate(requests, sampling)
    check_groups(completions, answers)
    rows = [completion for group in completions for completion in group]
    width = max((len(row.ids) for row in rows), default=0)
    prompt_width = max(len(ids) for ids in prompts)
    prompt_ids = torch.full((len(prompts), prompt_width), pad_id, dtype=torch.int64)
    prompt_mask = torch.zeros((len(prompts), prompt_width), dtype=torch.bool)
    for index, ids in enumerate(prompts):
        if len(ids):
            prompt_ids[index, -len(ids) :] = torch.as_tensor(ids, dtype=torch.int64)
            prompt_mask[index, -len(ids) :] = True
    lengths = torch.tensor([len(row.ids) for row in rows])
    columns: dict[str, Tensor] = {}
    if rows and all(row.entropy is not None for row in rows):
        columns["entropy"] = _padded([row.entropy for row in rows], width, np.float32, 0)
    return Rollouts(
        prompt_ids=prompt_ids.repeat_interleave(answers, 0),
        prompt_mask=prompt_mask.repeat_interleave(answers, 0),
        ids=_padded([row.ids for row in rows], width, np.int64, pad_id),
        mask=torch.arange(width)[None, :] < lengths[:, None],
        group=torch.arange(len(prompts)).repeat_interleave(answers),
        item=torch.as_tensor(np.asarray(positions, dtype=np.int64)).repeat_interleave(answers),
        stop=torch.tensor([STOP_REASONS.index(row.stop) for row in rows]),
        logp_sampled=_padded([row.logp for row in rows], width, np.float32, 0),
        version=engine.version,
        columns=columns,
    )


def check_groups(completions: Sequence[Sequence[Completion]], answers: int) -> None:
    """Raises ValueError when an engine gave a prompt more or fewer answers than asked."""
    for index, group in enumerate(completions):
        if len(group) != answers:
            raise ValueError(
                f"the engine gave {len(group)} answers to prompt {index} of {len(completions)}, not {answers}: "
                "a group of the wrong size would make its advantages wrong"
            )


def _padded(rows: Sequence[np.ndarray | None], width: int, kind: type, value: float) -> Tensor:
    out: np.ndarray = np.full((len(rows), width), value, dtype=kind)
    for index, row in enumerate(rows):
        if row is not None:
            out[index, : len(row)] = row
    return torch.from_numpy(out)
