"""Sets of plans under one rule each: a scene, a mode and ψ, and what plans are worth there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.rewards.temporal_logic.robustness import robustness
from pilotage.systems.robots.stl_diffusion.env.geometry import roll_out
from pilotage.systems.robots.stl_diffusion.env.highway import (
    ACCELERATION_LIMIT,
    DT,
    TURN_LIMIT,
    Scenes,
    in_ego_frame,
    signals,
)
from pilotage.systems.robots.stl_diffusion.signals import (
    MODES,
    PARAMETERS,
    check_parameters,
    lane_rule,
    normalised,
)

LIMITS = torch.tensor([TURN_LIMIT, ACCELERATION_LIMIT])
"""Of the controls; plans are in units of them."""
_SIDE = torch.tensor([0.0, 1.0, -1.0])
"""How a network is told the mode: where it leads."""
_RANGES = torch.tensor([10.0, 10.0, 3.5, 3.5, 5.0, 0.5])
"""Of ψ, in the order of PARAMETERS; see `driving.SCALES`."""


@dataclass(frozen=True)
class RuleSets:
    """N sets, each a scene with a mode and a rule. Robustness is in units of the signals' ranges."""

    scenes: Scenes
    """N scenes; a scene with three modes stands three times."""
    others: Tensor
    """[N, 8, T+1, 3]: where the neighbours will be."""
    mode: Tensor
    """[N] of 0 to 2."""
    psi: Tensor
    """[N, 6] in the order of PARAMETERS: one rule for all plans of a set."""
    scene: Tensor
    """[N]: number of the scene."""

    def __len__(self) -> int:
        return len(self.mode)

    def __getitem__(self, rows: Any) -> RuleSets:
        return RuleSets(*(getattr(self, name)[rows] for name in ("scenes", "others", "mode", "psi", "scene")))

    def states(self, plans: Tensor) -> Tensor:
        """Where plans [N, K, T, 2] lead: [N, K, T+1, 4], the start first."""
        if plans.dim() != 4 or len(plans) != len(self) or plans.shape[-1] != 2:
            raise UsageError(f"expected plans [{len(self)}, K, T, 2] in units of the limits, got {list(plans.shape)}")
        return roll_out(self.scenes.start[:, None], plans * LIMITS, DT)

    def robustness(self, plans: Tensor, tau: float | None = None) -> Tensor:
        """What plans [N, K, T, 2] are worth: [N, K], exact or smooth."""
        return self.robustness_of(self.states(plans), tau)

    def robustness_of(self, states: Tensor, tau: float | None = None) -> Tensor:
        """The same of states [N, K, T+1, 4]."""
        found, order = [], []
        for mode in range(len(MODES)):
            rows = (self.mode == mode).nonzero()[:, 0]
            if len(rows):
                found.append(self[rows]._of_mode(mode, states[rows], tau))
                order.append(rows)
        return torch.cat(found)[torch.cat(order).argsort()]

    def _of_mode(self, mode: int, states: Tensor, tau: float | None) -> Tensor:
        seen = signals(self.scenes, states, mode, self.others)
        values = {name: self.psi[:, None, i] for i, name in enumerate(PARAMETERS)}
        scaled, parameters = normalised(seen, values)
        return robustness(lane_rule(mode, states.shape[2] - 1), scaled, parameters, tau=tau)

    def clearance(self, plans: Tensor) -> Tensor:
        """m to the nearest neighbour on the way: [N, K, T+1]."""
        return signals(self.scenes, self.states(plans), self.mode, self.others)["clearance"]

    def told(self) -> Tensor:
        """What a network is told of the rules: mode and ψ, [N, 7]."""
        return told_of(self.mode, self.psi)

    def seen(self) -> dict[str, Tensor]:
        """What a network sees of the scenes."""
        return in_ego_frame(self.scenes)


def told_of(mode: Tensor, psi: Tensor) -> Tensor:
    """Mode [N] and ψ [N, 6] for a network: [N, 7]."""
    return torch.cat([_SIDE[mode][:, None], psi / _RANGES], -1)


def psi_of(parameters: Mapping[str, Tensor]) -> Tensor:
    """ψ by name, [...] each, as one tensor [..., 6]. Raises UsageError where no trajectory could keep the rule."""
    check_parameters(parameters)
    return torch.stack([parameters[name] for name in PARAMETERS], -1)


def sets_of(scenes: Scenes, others: Tensor, psi: Tensor, valid: Tensor) -> RuleSets:
    """One set for every scene and mode that `valid` [B, 3] names: psi [B, 3, 6], others [B, 8, T+1, 3]."""
    if (valid & ~scenes.lane_valid).any():
        scene, mode = (valid & ~scenes.lane_valid).nonzero()[0].tolist()
        raise UsageError(f"mode {mode} of scene {scene} has no lane; ask for modes within `lane_valid`")
    scene, mode = valid.nonzero(as_tuple=True)
    return RuleSets(scenes[scene], others[scene], mode, psi[scene, mode], scene)
