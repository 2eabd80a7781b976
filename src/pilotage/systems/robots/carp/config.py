"""The configuration of policies that answer in tokens of chunks: two stages. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pilotage.core.system import Result
from pilotage.training.imitation.config import ImitationConfig, play


@dataclass(frozen=True)
class TokensConfig(ImitationConfig):
    """An imitation whose head answers in tokens, and the tokeniser that it learns first."""

    tokeniser: str = "multiscale:scales=1|2|3|4,codes=256,latent=8,channels=8"
    """The first stage: scales (P, the last is chunk/4), codes (V), latent (z), channels (the paper's ch=2),
    similarity=cosine or euclidean, per_dimension=true or false."""
    tokeniser_steps: int = 2500
    """Its optimiser steps; 0: untrained, to time things only."""
    tokeniser_batch: int = 256
    """Chunks per step."""
    tokeniser_lr: float = 2e-3
    """Its learning rate, which falls to .3 of that by a cosine."""
    tokeniser_seed: int = 0
    """Of its weights and batches; one tokeniser is shared by all arms and seeds that name it alike."""


def train(config: TokensConfig, run: Any) -> Result:
    """Both stages; the trainer is imported only now."""
    from pilotage.systems.robots.carp.train import TokensTrainer
    from pilotage.training.imitation.trainer import train as train_imitation

    return train_imitation(config, run, TokensTrainer)


def forecast(config: TokensConfig) -> Mapping[str, float]:
    """What a run will take, its tokeniser included (which is made once and shared)."""
    from pilotage.systems.robots.carp.train import forecast as timed

    return timed(config)


ACTIONS: Mapping[str, Callable[..., Any]] = {"estimate_cost": forecast, "play": play}
