"""RiskPO's advantage as one piece: bundles of answers, tracked quantiles of their scores, credit for their members."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.ranges import NonNegativeFloat, PositiveFloat, PositiveInt, Range
from pilotage.objectives.risk import Credit, MeanValueAtRisk, Source, make_bundles
from pilotage.types import FinishedStep

Level = Annotated[float, Range("[0.05, 0.95]")]
CHECK = 10
"""Steps over which log-probability and reward are averaged for one check of a policy's collapse."""
FALLS = 3
"""Checks in a row at which the log-probability must fall for a warning."""
LEAST_FALL, LEAST_GAIN = 0.01, 0.01
"""Nats per token that count as a fall from one check to the next; gain of the mean reward over all of them that makes
the falls an exploration that pays."""


def warn_of_falling_logp(step: FinishedStep) -> tuple[str, str] | None:
    """Return an event when sampled tokens get less probable at check after check, and the reward does not rise.

    An advantage that is never positive can push all answers down.
    """
    if "logp" not in step.metrics:
        return None
    count, logp, reward = step.memory.get("sums", (0, 0.0, 0.0))
    count, logp, reward = count + 1, logp + step.metrics["logp"], reward + step.metrics["reward/mean"]
    step.memory["sums"] = [count, logp, reward]
    if count < CHECK:
        return None
    step.memory["sums"] = [0, 0.0, 0.0]
    checks = [*step.memory.get("checks", []), [logp / count, reward / count]][-FALLS - 1 :]
    step.memory["checks"] = checks
    falls = [before[0] - after[0] > LEAST_FALL for before, after in pairwise(checks)]
    if len(falls) < FALLS or not all(falls) or checks[-1][1] - checks[0][1] > LEAST_GAIN:
        return None
    return (
        "falling log-probability",
        f"the mean log-probability of the sampled tokens fell {FALLS} checks of {CHECK} steps in a row, from "
        f"{checks[0][0]:.3f} to {checks[-1][0]:.3f} nats, while the reward went from {checks[0][1]:.3f} to "
        f"{checks[-1][1]:.3f}: the advantage is never positive, and the policy may be pushed apart; lower --lr",
    )


class BundledRisk(MeanValueAtRisk):
    """Advantage of bundles of `size` prompts, by `MeanValueAtRisk` with its options.

    On the command line: `--advantage mvar:size=5,alpha=0.2`. Dynamic sampling is refused: groups that
    are all wrong are what it learns from.

    Args:
        size: number of prompts in a bundle.
        alpha: level of the lower quantile, 0.05 to 0.95.
        beta: level of the upper quantile, 0.05 to 0.95.
        omega: weight of the lower tail in the form "paper".
        form: paper, repository, or seeking (the risk-seeking control).
        mix: weight in the forms "repository" and "seeking".
        natural_baseline: whether these forms keep the constant of the middle part, so that it is never positive.
        normalise: whether these forms divide by the set's deviation.
        credit: how a bundle's advantage is shared among its answers.
        rate: step of the tracker of quantiles.
        quantiles: track, batch (empirical quantiles of each set) or mix (the mean of both); none: track in the form
            "paper", batch in the others.
        curve_baseline: whether these forms take the advantage's mean over the tracked curve off.
    """

    writes = ("bundle",)
    refuses = ("informative",)
    alarms = (warn_of_falling_logp,)

    def __init__(
        self,
        *,
        size: PositiveInt = 5,
        alpha: Level = 0.2,
        beta: Level = 0.8,
        omega: NonNegativeFloat = 0.5,
        form: Literal["paper", "repository", "seeking"] = "paper",
        mix: NonNegativeFloat = 1.5,
        natural_baseline: bool = True,
        normalise: bool = True,
        credit: Credit = "uniform",
        rate: PositiveFloat = 0.1,
        quantiles: Source | None = None,
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
        self.size = self.least_prompts = size

    def __call__(self, reward: Tensor, group: Tensor, generator: torch.Generator) -> dict[str, Tensor]:  # type: ignore[override]
        """Return `advantage` and `bundle`, both [answer], of the rewards [answer] of groups [answer].

        An answer in no bundle, such as the rest of an incomplete set, has bundle -1.
        """
        bundle = make_bundles(group, self.size, generator)
        return {"advantage": super().__call__(reward, group, bundle), "bundle": bundle}
