"""Random batches of roll-outs on which the properties are checked, and every piece of the table with options."""

from __future__ import annotations

import torch

from pilotage.core.registry import find_pieces
from pilotage.types import Rollouts

OPTIONS = {"const_norm": ":maximum=12", "mvar": ":size=2"}
"""Options without which a piece cannot be made, or that fit these small batches."""


def choices(slot: str) -> list[str]:
    """Every piece of a slot that the library knows, ready for a configuration: a new one joins by being registered."""
    return [name + OPTIONS.get(name, "") for name in find_pieces(slot)]


def random_rollouts(
    *,
    groups: int = 4,
    answers: int = 4,
    width: int = 9,
    vocabulary: int = 20,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    empty_row: bool = False,
) -> Rollouts:
    """Answers of different lengths with 0/1 rewards, all columns that pieces may ask for, unequal prompts."""
    generator = torch.Generator().manual_seed(seed)
    rows = groups * answers
    prompt_width = 5
    prompt_length = torch.randint(2, prompt_width + 1, (groups,), generator=generator).repeat_interleave(answers)
    prompt_ids = torch.randint(4, vocabulary, (groups, prompt_width), generator=generator).repeat_interleave(answers, 0)
    length = torch.randint(1, width + 1, (rows,), generator=generator)
    length[0] = width
    if empty_row:
        length[1] = 0
    mask = torch.arange(width)[None] < length[:, None]

    def noise(scale: float = 0.3) -> torch.Tensor:
        return torch.where(mask, scale * torch.randn(rows, width, generator=generator, dtype=dtype), 0.0)

    reward = torch.randint(0, 2, (rows,), generator=generator).to(dtype)
    base = noise() - 2.0
    columns = {
        "scores": torch.stack([reward, torch.randint(0, 2, (rows,), generator=generator).to(dtype)], 1),
        "score": reward,
        "correctness": reward.clone(),
        "reward": reward.clone(),
        "difficulty": torch.ones(rows, dtype=torch.int64),
        "logp_old": torch.where(mask, base, 0.0),
        "logp_ref": torch.where(mask, base + noise(), 0.0),
        "entropy": noise().abs(),
        "value": noise(),
        "greedy_reward": torch.randint(0, 2, (groups,), generator=generator).to(dtype).repeat_interleave(answers),
    }
    return Rollouts(
        prompt_ids=prompt_ids,
        prompt_mask=torch.arange(prompt_width)[None] >= prompt_width - prompt_length[:, None],
        ids=torch.where(mask, torch.randint(4, vocabulary, (rows, width), generator=generator), 0),
        mask=mask,
        group=torch.arange(groups).repeat_interleave(answers),
        item=torch.arange(groups).repeat_interleave(answers),
        stop=torch.zeros(rows, dtype=torch.int64),
        logp_sampled=columns["logp_old"].float(),
        columns=columns,
    )


def context(seed: int = 0) -> dict[str, object]:
    """What pieces may ask for that is not a column."""
    return {"generator": torch.Generator().manual_seed(seed), "initial_entropy": 0.3}
