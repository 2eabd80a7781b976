"""Groups of options that several trainers share; a configuration inherits them and may change their defaults."""

from __future__ import annotations

from dataclasses import dataclass

from pilotage.core.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, Share


@dataclass(frozen=True)
class OptimiserOptions:
    """The optimiser (AdamW) and its learning rate."""

    lr: PositiveFloat = 1e-4
    """Learning rate of AdamW."""
    lr_schedule: str = "constant"
    """constant, linear or cosine decay to zero; stepped: times 0.99 after every 100 steps."""
    lr_warmup_steps: NonNegativeInt = 0
    """Steps over which the learning rate rises from zero."""
    beta1: Share = 0.9
    """AdamW β₁."""
    beta2: Share = 0.999
    """AdamW β₂."""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW decoupled weight decay."""
    grad_clip: NonNegativeFloat = 1.0
    """Largest gradient norm; 0: unlimited."""
