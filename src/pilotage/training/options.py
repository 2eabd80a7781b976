"""Groups of options that several trainers share; a configuration inherits them and may change their defaults."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OptimiserOptions:
    """The optimiser (AdamW) and its learning rate."""

    lr: float = 1e-4
    """Learning rate of AdamW."""
    lr_schedule: str = "constant"
    """constant, linear or cosine decay to zero; stepped: times 0.99 after every 100 steps."""
    lr_warmup_steps: int = 0
    """Steps over which the learning rate rises from zero."""
    beta1: float = 0.9
    """AdamW β₁."""
    beta2: float = 0.999
    """AdamW β₂."""
    weight_decay: float = 0.0
    """AdamW decoupled weight decay."""
    grad_clip: float = 1.0
    """Largest gradient norm; 0: unlimited."""
