"""The models that are trained: a planner (scene encoder with a denoiser or a VAE), and RefineNet on top of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.objectives.denoising import valid_mean
from pilotage.objectives.diversity import diversity_loss
from pilotage.objectives.draws import normal
from pilotage.objectives.noise_paths import VariancePreserving
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.heads.denoiser import Denoiser
from pilotage.systems.robots.stl_diffusion.config import DrivingConfig
from pilotage.systems.robots.stl_diffusion.data import Drives
from pilotage.systems.robots.stl_diffusion.env.highway import STEPS, Scenes, in_ego_frame
from pilotage.systems.robots.stl_diffusion.networks import PlanAutoEncoder, PlanDenoiser, RefineNet, SceneEncoder
from pilotage.systems.robots.stl_diffusion.reverse import Nudge, best_candidate, reverse_iterates
from pilotage.systems.robots.stl_diffusion.rules import RuleSets, rule_condition

WEIGHTS = "planner.safetensors"
CONDITION = 7
"""Numbers by which a network is told mode and ψ."""
RULE_ROWS = 256
"""Rows of a batch, at most, on which a VAE's rule and collision losses are taken: a roll-out costs far more than a
pass."""


class Plans:
    """Plans to learn from, each with its scene, mode, ψ, and whether it keeps its rule."""

    def __init__(self, drives: Drives, sets: list[RuleSets], plans: list[Tensor], valid: list[Tensor]) -> None:
        self.observed = in_ego_frame(drives.scenes)
        self.scenes, self.others = drives.scenes, drives.others
        self.scene = torch.cat([each.scene for each in sets])
        self.mode = torch.cat([each.mode for each in sets])
        self.psi = torch.cat([each.psi for each in sets])
        self.plan, self.valid = torch.cat(plans), torch.cat(valid)
        if not self.valid.any():
            raise UsageError("no plan keeps its rule, so there is nothing to learn from; give more --plan-steps")

    @classmethod
    def augmented(cls, drives: Drives, plans: Tensor) -> Plans:
        """Return plans [set, draw, step, 2] from trajectory optimisation as training data, with one rule per draw."""
        sets = [drives.sets(draw) for draw in range(plans.shape[1])]
        with torch.no_grad():
            valid = [each.robustness(plans[:, k : k + 1])[:, 0] > 0 for k, each in enumerate(sets)]
        return cls(drives, sets, list(plans.unbind(1)), valid)

    @classmethod
    def logs(cls, drives: Drives) -> Plans:
        """Return what the drivers did as training data, under their own calibrated rules."""
        sets, plans = drives.logged()
        with torch.no_grad():
            valid = sets.robustness(plans[:, None])[:, 0] > 0
        return cls(drives, [sets], [plans], [valid])

    def __len__(self) -> int:
        return len(self.plan)

    def sets(self, rows: Tensor) -> RuleSets:
        """Return the rule sets of these rows."""
        scene = self.scene[rows]
        return RuleSets(self.scenes[scene], self.others[scene], self.mode[rows], self.psi[rows], scene)


class Planner(nn.Module):
    """Planner of drives: encoder, learner and refiner; `vector` is the condition of all networks."""

    def __init__(self, config: DrivingConfig) -> None:
        super().__init__()
        if config.learner not in ("denoiser", "vae"):
            raise UsageError(f"learner={config.learner!r} is not known; choose denoiser or vae")
        self.config = config
        self.path = VariancePreserving(config.num_noise_levels, beta_scale=config.beta_scale)
        self.encoder = SceneEncoder()
        size = self.encoder.features + CONDITION
        self.learner: nn.Module
        if config.learner == "denoiser":
            network = PlanDenoiser(2, STEPS, size, width=config.width)
            self.learner = Denoiser(network, self.path, predicts=config.predicts)  # type: ignore[arg-type]
        else:
            self.learner = PlanAutoEncoder(2, STEPS, size, width=config.width)
        self.refiner = RefineNet(2, STEPS, size, shard=config.shard, width=config.width, shared=config.shared)

    def vector(self, sets: RuleSets) -> Tensor:
        """Return the condition of all networks, [set, features]."""
        return torch.cat([self.encoder(sets.observed()), sets.condition()], -1)

    # ---- losses ----------------------------------------------------------------------------------------------------

    def learner_loss(self, plans: Plans, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return the learner's loss on these rows; plans that break their rule count only where the mask is off."""
        scene, place = plans.scene[rows].unique(return_inverse=True)
        features = self.encoder({name: value[scene] for name, value in plans.observed.items()})[place]
        vector = torch.cat([features, rule_condition(plans.mode[rows], plans.psi[rows])], -1)
        plan, valid = plans.plan[rows], plans.valid[rows]
        if not self.config.masked:
            valid = torch.ones_like(valid)
        if isinstance(self.learner, Denoiser):
            mask = torch.ones(plan.shape[:2], dtype=torch.bool)
            return valid_mean(self.learner.loss(plan, Condition(vector), generator, mask), valid)
        return self._vae_loss(plans, rows, vector, valid, generator)

    def _vae_loss(
        self, plans: Plans, rows: Tensor, vector: Tensor, valid: Tensor, generator: torch.Generator
    ) -> Tensor:
        config, learner = self.config, self.learner
        assert isinstance(learner, PlanAutoEncoder)
        plan = plans.plan[rows]
        latent = normal((len(rows), learner.latent), generator)
        again, divergence = learner.reconstruct(plan, vector, latent)
        error = (again - plan).square().mean((1, 2)) + config.kl_weight * divergence / learner.latent
        loss = valid_mean(error, valid)
        if config.rule_weight or config.collision_weight:
            some = min(len(rows), RULE_ROWS)
            noise = normal((some, learner.latent), generator)
            drawn = learner.sample(vector[:some], noise).clamp(-1, 1)[:, None]
            sets = plans.sets(rows[:some])
            broken = (config.margin - sets.robustness(drawn, config.tau)).relu().mean()
            hit = (-sets.clearance(drawn)).relu().mean()
            loss = loss + config.rule_weight * broken + config.collision_weight * hit
        return loss

    def refiner_loss(self, sets: RuleSets, vector: Tensor, plans: Tensor, found: Tensor) -> dict[str, Tensor]:
        """Return RefineNet's loss on one shard per set.

        Args:
            sets: the rules.
            vector: condition, [set, features].
            plans: one shard of plans per set, [set, plan, step, 2].
            found: their robustness, [set, plan].
        """
        config = self.config
        refined = self.refine(vector, plans, found)
        value = sets.robustness(refined, config.tau)
        broken = (config.margin - value).relu().mean()
        change = (refined - plans).square().mean()
        if config.refine_loss == "rule":
            loss = broken
        elif config.refine_loss == "diversity":
            loss = diversity_loss(refined.flatten(2), value).mean() + config.refine_rule_weight * broken
        else:
            raise UsageError(f"refine_loss={config.refine_loss!r} is not known; choose diversity or rule")
        kept = (value.detach() > 0).float().mean()
        return {"loss": loss + config.change_weight * change, "refine/satisfied": kept}

    # ---- planning --------------------------------------------------------------------------------------------------

    def refine(self, vector: Tensor, plans: Tensor, robustness: Tensor) -> Tensor:
        """Return plans after one pass of RefineNet, of the shape of `plans`.

        Shards are filled up with the first siblings.

        Args:
            vector: condition, [set, features].
            plans: in units of the limits, [set, plan, step, 2].
            robustness: of the plans, [set, plan].
        """
        count, number = plans.shape[:2]
        missing = -number % self.refiner.shard
        at = torch.arange(number + missing) % number
        wide, value = plans[:, at], robustness[:, at]
        known = vector.repeat_interleave(number + missing, 0)
        changed = self.refiner(wide.flatten(0, 1), known, value.flatten())
        return changed.view(count, number + missing, *plans.shape[2:])[:, :number]

    def draw(
        self, vector: Tensor, count: int, generator: torch.Generator, *, keep: int = 1, nudge: Nudge | None = None
    ) -> Tensor:
        """Draw plans from the learner within the limits, [kept iterate, set, plan, step, 2].

        Args:
            vector: condition, [set, features].
            count: plans per set.
            generator: of the noise.
            keep: last iterates of the reverse process that are returned.
            nudge: guidance of the reverse process; None: none.
        """
        many = vector.repeat_interleave(count, 0)
        if isinstance(self.learner, PlanAutoEncoder):
            if nudge is not None or keep > 1:
                raise UsageError("a vae draws in one pass: it has neither candidates nor guidance")
            drawn = self.learner.sample(many, normal((len(many), self.learner.latent), generator))[None]
        else:
            assert isinstance(self.learner, Denoiser)
            x = normal((len(many), STEPS, 2), generator)
            denoise = self.learner.denoiser(Condition(many))
            drawn = reverse_iterates(denoise, x, generator, path=self.path, keep=keep, nudge=nudge)
        return drawn.clamp(-1, 1).view(-1, len(vector), count, STEPS, 2)

    def best(
        self, sets: RuleSets, vector: Tensor, count: int, generator: torch.Generator, *, nudge: Nudge | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw plans and return, of the last iterates, that of highest exact robustness, and its robustness.

        Shapes: [set, plan, step, 2] and [set, plan]. The arguments are those of `draw`.
        """
        keep = min(self.config.candidates, self.config.num_noise_levels) if isinstance(self.learner, Denoiser) else 1
        iterates = self.draw(vector, count, generator, keep=keep, nudge=nudge)
        value = torch.stack([sets.robustness(each) for each in iterates])
        plans, found = best_candidate(iterates.flatten(1, 2), value.flatten(1))
        return plans.view_as(iterates[0]), found.view_as(value[0])


def scenes_joined(scenes: list[Scenes]) -> Scenes:
    """Return scenes with roads of one length as one batch."""
    return Scenes(**{name: torch.cat([getattr(each, name) for each in scenes]) for name in vars(scenes[0])})


def averaged(values: list[Mapping[str, Any]]) -> dict[str, float]:
    """Return means by name."""
    return {name: float(sum(float(each[name]) for each in values) / len(values)) for name in values[0]}


def load_planner(config: DrivingConfig, run: Path) -> Planner:
    """Return the planner of a finished run. Raises UsageError where there is none."""
    if not (run / WEIGHTS).is_file():
        raise UsageError(f"{run} holds no trained planner yet; let the run finish")
    planner = Planner(config)
    planner.load_state_dict(load_file(run / WEIGHTS))
    return planner.eval()
