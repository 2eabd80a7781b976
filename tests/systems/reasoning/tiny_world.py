"""A world in which a measure of a claim runs in a second: a policy that has learnt nothing, and a graded reward."""

from __future__ import annotations

from pathlib import Path

from pilotage.experiments.jobs import Job, ModuleNames
from pilotage.experiments.worker import Context


def close_reward(text, item):
    """Graded, so that an untrained policy has something to learn from: the share of digits in the answer."""
    del item
    return sum(c.isdigit() for c in text) / max(len(text), 1)


TINY = (
    "--task add --difficulties 1,2 --num-train-prompts 40 --pretrain-to-accuracy 0 --prompts-per-step 6 "
    "--group-size 4 --max-tokens 8 --steps 2 "
    "--evaluate-every 1 --evaluation-prompts 4 --evaluation-samples 1 --save-rollouts -1 --lr 1e-3 "
    f"--reward {__file__}:close_reward"
)


def context_for(folder: Path, command: str, arm: str = "arm", unit: int = 0, quick: bool = True) -> Context:
    """What the process of a cell gives to a measure."""
    return Context(Job(arm, unit, command, "", quick), folder / f"{arm}-{unit}", ModuleNames(), folder)
