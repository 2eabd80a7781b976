"""RiskPO as one piece: it bundles the batch, judges the bundles by tracked quantiles, and credits their members."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.objectives.risk import MeanValueAtRisk, make_bundles


class BundledRisk(MeanValueAtRisk):
    """`--advantage mvar:size=5,alpha=0.2,…`: bundles of `size` prompts, then `MeanValueAtRisk` with its options.

    Refuses dynamic sampling: groups that are all wrong are what it learns from."""

    writes = ("bundle",)
    refuses = ("informative",)

    def __init__(
        self,
        *,
        size: int = 5,
        alpha: float = 0.2,
        beta: float = 0.8,
        omega: float = 0.5,
        form: Any = "paper",
        mix: float = 1.5,
        natural_baseline: bool = True,
        normalise: bool = True,
        credit: Any = "uniform",
        rate: float = 0.1,
        quantiles: Any = "track",
        curve_baseline: bool = False,
    ) -> None:
        if size < 1:
            raise UsageError(f"mvar:size={size}: a bundle joins at least one prompt")
        super().__init__(
            alpha=alpha,
            beta=beta,
            omega=omega,
            form=form,
            mix=mix,
            natural_baseline=natural_baseline,
            normalise=normalise,
            credit=credit,
            rate=rate,
            quantiles=quantiles,
            curve_baseline=curve_baseline,
        )
        self.size = size

    def __call__(self, reward: Tensor, group: Tensor, generator: torch.Generator) -> dict[str, Tensor]:  # type: ignore[override]
        """reward [N], group [N] -> advantage [N] and bundle [N] (-1: in none, as the rest of an incomplete set)."""
        bundle = make_bundles(group, self.size, generator)
        return {"advantage": super().__call__(reward, group, bundle), "bundle": bundle}
