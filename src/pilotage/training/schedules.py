"""Learning-rate schedules, one place for every trainer."""

from __future__ import annotations

import torch

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest

SCHEDULES = ("constant", "linear", "cosine", "stepped")


def check_schedule(kind: str) -> None:
    """Raises UsageError for a schedule that `schedule` does not know; to be asked before anything is trained."""
    if kind not in SCHEDULES:
        raise UsageError(
            f"lr_schedule={kind!r} is not known{nearest(kind, SCHEDULES)}; choose of {', '.join(SCHEDULES)}"
        )


def schedule(kind: str, step: int, steps: int, warm_up: int) -> float:
    """Factor on the learning rate at `step` of `steps` (from 0). kind: constant, linear or cosine decay to zero, or
    stepped: times 0.99 after every 100 steps.
    """
    if warm_up and step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    if kind == "constant":
        return 1.0
    if kind == "linear":
        return 1.0 - progress
    if kind == "cosine":
        return 0.5 * (1.0 + float(torch.cos(torch.tensor(torch.pi * progress, dtype=torch.float64))))
    if kind == "stepped":
        return float(0.99 ** ((step - warm_up) // 100))
    raise ValueError(f"lr_schedule={kind!r}: expected {', '.join(SCHEDULES)}")
