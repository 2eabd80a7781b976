"""Planners by name: the method, its parts, and what it is compared with. All have one signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.systems.robots.stl_diffusion.env.highway import STEPS
from pilotage.systems.robots.stl_diffusion.model import Planner
from pilotage.systems.robots.stl_diffusion.reverse import rule_guidance
from pilotage.systems.robots.stl_diffusion.rules import RuleSets


@dataclass(frozen=True)
class PlanRequest:
    """Request for plans of all sets by one planner."""

    planner: Planner
    sets: RuleSets
    samples: int
    generator: torch.Generator
    lr: float
    """Learning rate of guidance; it differs in closed loop."""

    @property
    def vector(self) -> Tensor:
        """Return the condition of the networks, [set, features]."""
        return self.planner.vector(self.sets)


def constant(request: PlanRequest) -> Tensor:
    """Predict constant velocity (baseline without a model)."""
    return torch.zeros(len(request.sets), request.samples, STEPS, 2)


def random(request: PlanRequest) -> Tensor:
    """Draw controls uniformly within the limits at every step."""
    return 2 * torch.rand(len(request.sets), request.samples, STEPS, 2, generator=request.generator) - 1


def sampled(request: PlanRequest) -> Tensor:
    """Draw plans from the learner alone."""
    return request.planner.draw(request.vector, request.samples, request.generator)[-1]


def rejection(request: PlanRequest) -> Tensor:
    """Draw `rejection_factor` times as many from the learner and keep those of highest robustness."""
    vector = request.vector
    count = request.samples * request.planner.config.rejection_factor
    plans = request.planner.draw(vector, count, request.generator)[-1]
    best = request.sets.robustness(plans).topk(request.samples, 1).indices
    return plans[torch.arange(len(plans))[:, None], best]


def candidates(request: PlanRequest) -> Tensor:
    """Take the best of the last iterates, not refined."""
    return request.planner.best(request.sets, request.vector, request.samples, request.generator)[0]


def refined(request: PlanRequest) -> Tensor:
    """Take the best of the last iterates, refined once where it breaks its rule."""
    vector = request.vector
    plans, found = request.planner.best(request.sets, vector, request.samples, request.generator)
    return request.planner.refine(vector, plans, found)


def guided(request: PlanRequest, clip: Literal["signed", "absolute"] = "signed") -> Tensor:
    """Guide the last levels by the rule's gradient, then refine `1 + passes_after_guidance` times."""
    planner, config, vector = request.planner, request.planner.config, request.vector
    nudge = rule_guidance(_scored(request), below=config.guidance_levels, rate=request.lr, clip=clip)
    plans, found = planner.best(request.sets, vector, request.samples, request.generator, nudge=nudge)
    plans = planner.refine(vector, plans, found)
    for _ in range(config.passes_after_guidance):
        plans = planner.refine(vector, plans, request.sets.robustness(plans))
    return plans


def released(request: PlanRequest) -> Tensor:
    """Plan as `guided`, with the clip of the released code, whose changes are all upwards."""
    return guided(request, "absolute")


def ctg(request: PlanRequest) -> Tensor:
    """Guide the learner at every level by several Adam steps. Zhong et al. 2022 (arXiv 2210.17366)."""
    config = request.planner.config
    nudge = rule_guidance(
        _scored(request), below=config.num_noise_levels, rounds=config.ctg_rounds, rate=config.ctg_lr, clip="none"
    )
    return request.planner.draw(request.vector, request.samples, request.generator, nudge=nudge)[-1]


def _scored(request: PlanRequest) -> Callable[[Tensor], Tensor]:
    """Return a function from flattened plans [set × plan, step, 2] to their smooth robustness [set × plan]."""
    sets, tau = request.sets, request.planner.config.tau

    def score(flat: Tensor) -> Tensor:
        return sets.robustness(flat.view(len(sets), request.samples, *flat.shape[1:]), tau).flatten()

    return score


PLANNERS: Mapping[str, Callable[[PlanRequest], Tensor]] = {
    "constant": constant,
    "random": random,
    "sampled": sampled,
    "rejection": rejection,
    "candidates": candidates,
    "refined": refined,
    "guided": guided,
    "released": released,
    "ctg": ctg,
}
"""Planners by name: from a request to plans [set, plan, step, 2] in units of the limits, within ±1. «trajopt» is an
artifact and stands with the data."""


def check_planners(names: tuple[str, ...], planner: Planner) -> None:
    """Raise UsageError for planners that do not exist or that the learner cannot do."""
    for name in names:
        if name != "trajopt" and name not in PLANNERS:
            known = [*PLANNERS, "trajopt"]
            raise UsageError(f"there is no planner {name!r}{nearest(name, known)}; choose of {', '.join(known)}")
        if planner.config.learner == "vae" and name in ("candidates", "guided", "released", "ctg"):
            raise UsageError(f"the planner {name!r} needs the reverse process of a denoiser, and the learner is a vae")
        if name in ("refined", "guided", "released") and not planner.config.refine_steps:
            raise UsageError(f"the planner {name!r} needs a RefineNet: give refine_steps above 0, or other planners")


def plans_by(name: str, request: PlanRequest) -> Tensor:
    """Return the plans of the planner called `name`, its networks frozen."""
    with torch.no_grad():
        plans = PLANNERS[name](request)
    return plans.clamp(-1, 1)
