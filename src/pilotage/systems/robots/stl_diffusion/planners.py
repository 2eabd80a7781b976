"""Ways to plan, by name: the method, its parts, and what it is compared with. All have one signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.policies.control.sampling.reverse import rule_guidance
from pilotage.systems.robots.stl_diffusion.env.highway import STEPS
from pilotage.systems.robots.stl_diffusion.model import Planner
from pilotage.systems.robots.stl_diffusion.rules import RuleSets


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    planner: Planner
    sets: RuleSets
    samples: int
    generator: torch.Generator
    rate: float
    """Of guidance; it differs in closed loop."""

    @property
    def vector(self) -> Tensor:
        return self.planner.vector(self.sets)


def constant(request: Request) -> Tensor:
    """Nothing is done: constant velocity, once per sample."""
    return torch.zeros(len(request.sets), request.samples, STEPS, 2)


def random(request: Request) -> Tensor:
    """Controls uniform within the limits, at every step anew."""
    return 2 * torch.rand(len(request.sets), request.samples, STEPS, 2, generator=request.generator) - 1


def sampled(request: Request) -> Tensor:
    """The learner alone."""
    return request.planner.draw(request.vector, request.samples, request.generator)[-1]


def rejection(request: Request) -> Tensor:
    """`rejection_factor` times as many from the learner, of which those of highest robustness are kept."""
    vector = request.vector
    count = request.samples * request.planner.config.rejection_factor
    plans = request.planner.draw(vector, count, request.generator)[-1]
    best = request.sets.robustness(plans).topk(request.samples, 1).indices
    return plans[torch.arange(len(plans))[:, None], best]


def candidates(request: Request) -> Tensor:
    """The best of the last iterates, not refined."""
    return request.planner.best(request.sets, request.vector, request.samples, request.generator)[0]


def refined(request: Request) -> Tensor:
    """The best of the last iterates, refined once where it breaks its rule."""
    vector = request.vector
    plans, found = request.planner.best(request.sets, vector, request.samples, request.generator)
    return request.planner.refine(vector, plans, found)


def guided(request: Request, clip: Literal["signed", "absolute"] = "signed") -> Tensor:
    """The last levels guided by the rule's gradient, then refined `1 + passes_after_guidance` times."""
    planner, config, vector = request.planner, request.planner.config, request.vector
    nudge = rule_guidance(_scored(request), below=config.guidance_levels, rate=request.rate, clip=clip)
    plans, found = planner.best(request.sets, vector, request.samples, request.generator, nudge=nudge)
    plans = planner.refine(vector, plans, found)
    for _ in range(config.passes_after_guidance):
        plans = planner.refine(vector, plans, request.sets.robustness(plans))
    return plans


def released(request: Request) -> Tensor:
    """`guided` with the clip of the released code, whose changes are all upwards."""
    return guided(request, "absolute")


def ctg(request: Request) -> Tensor:
    """The learner guided at every level by several Adam steps. Zhong et al. 2022 (arXiv 2210.17366)."""
    config = request.planner.config
    nudge = rule_guidance(
        _scored(request), below=config.levels, rounds=config.ctg_rounds, rate=config.ctg_rate, clip="none"
    )
    return request.planner.draw(request.vector, request.samples, request.generator, nudge=nudge)[-1]


def _scored(request: Request) -> Callable[[Tensor], Tensor]:
    """Smooth robustness of flattened plans [N·K, T, 2] -> [N·K]."""
    sets, tau = request.sets, request.planner.config.tau

    def score(flat: Tensor) -> Tensor:
        return sets.robustness(flat.view(len(sets), request.samples, *flat.shape[1:]), tau).flatten()

    return score


ROWS: Mapping[str, Callable[[Request], Tensor]] = {
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
"""By name: a request for N sets of K plans -> [N, K, T, 2] in units of the limits, within ±1. «trajopt» is an artifact
and stands with the data."""


def check_rows(rows: tuple[str, ...], planner: Planner) -> None:
    """Raise UsageError for rows that do not exist or that the learner cannot do."""
    for name in rows:
        if name != "trajopt" and name not in ROWS:
            there = [*ROWS, "trajopt"]
            raise UsageError(f"there is no row {name!r}{nearest(name, there)}; choose of {', '.join(there)}")
        if planner.config.learner == "vae" and name in ("candidates", "guided", "released", "ctg"):
            raise UsageError(f"the row {name!r} needs the reverse process of a denoiser, and the learner is a vae")
        if name in ("refined", "guided", "released") and not planner.config.refine_steps:
            raise UsageError(f"the row {name!r} needs a RefineNet: give refine_steps above 0, or other rows")


def plans_by(name: str, request: Request) -> Tensor:
    """Plans of the row `name`, the planner frozen."""
    with torch.no_grad():
        plans = ROWS[name](request)
    return plans.clamp(-1, 1)
