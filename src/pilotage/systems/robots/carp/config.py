"""Configuration of a policy that answers in tokens of chunks, in two stages. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from pilotage.core.references import PieceName
from pilotage.training.imitation.config import ImitationConfig


@dataclass(frozen=True)
class TokensConfig(ImitationConfig):
    """Configuration of an imitation whose head answers in tokens, and of the tokeniser that it learns first."""

    tokeniser: PieceName = "multiscale:scales=1|2|3|4,codes=256,latent=8,channels=8"
    """The first stage: scales (P, the last is chunk/4), codes (V), latent (z), channels (the paper's ch=2),
    similarity=cosine or euclidean, per_dimension=true or false."""
    tokeniser_steps: int = 2500
    """Optimiser steps of the tokeniser; 0: untrained, to time things only."""
    tokeniser_batch: int = 256
    """Chunks per step of the tokeniser."""
    tokeniser_lr: float = 2e-3
    """Learning rate of the tokeniser, which falls to .3 of that by a cosine."""
    tokeniser_seed: int = 0
    """Seed of the tokeniser's weights and batches; one tokeniser is shared by all arms and seeds that name it alike."""
