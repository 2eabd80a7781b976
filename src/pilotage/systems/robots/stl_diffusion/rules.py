"""Rules of driving with their parameters ψ = (vmin, vmax, dmin, dmax, dsafe, thmax), and sets of plans under a rule.

ψ is calibrated on logged trajectories and drawn around that for the other modes. Meng and Fan 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.rewards.temporal_logic.formulas import Formula
from pilotage.rewards.temporal_logic.parsing import parse
from pilotage.rewards.temporal_logic.robustness import Parameters, robustness
from pilotage.systems.robots.stl_diffusion.env.geometry import roll_out
from pilotage.systems.robots.stl_diffusion.env.highway import (
    ACCELERATION_LIMIT,
    DT,
    TURN_LIMIT,
    Scenes,
    in_ego_frame,
)
from pilotage.systems.robots.stl_diffusion.env.highway import signals as highway_signals

MODES = ("keep", "left", "right")
"""Manoeuvres of a driver; the label 3 of a log means none of them."""
PARAMETERS = ("vmin", "vmax", "dmin", "dmax", "dsafe", "thmax")
"""The order of ψ as a vector."""
SCALES: Mapping[str, float] = {"v": 10.0, "offset": 3.5, "heading": 0.5, "clearance": 5.0}
"""The range of each signal, in its unit."""
_OF = {"vmin": "v", "vmax": "v", "dmin": "offset", "dmax": "offset", "dsafe": "clearance", "thmax": "heading"}
_SPEED_AND_SAFETY = "always (vmin <= v <= vmax) and always (clearance >= dsafe)"
SLOWEST = -0.3
"""m/s below which vmin never goes."""
LIMITS = torch.tensor([TURN_LIMIT, ACCELERATION_LIMIT])
"""Largest absolute controls; plans are in units of them."""
_SIDE = torch.tensor([0.0, 1.0, -1.0])
"""Number by which a network is told the mode: the side it leads to."""
_RANGES = torch.tensor([10.0, 10.0, 3.5, 3.5, 5.0, 0.5])
"""Ranges of ψ in the order of PARAMETERS; see `SCALES`."""


@dataclass(frozen=True)
class RuleSets:
    """Sets of plans, each with a scene, a mode and a rule. Robustness is in units of the signals' ranges."""

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
        """Return the states [set, plan, step + 1, 4] that plans [set, plan, step, 2] lead to, the start first."""
        if plans.dim() != 4 or len(plans) != len(self) or plans.shape[-1] != 2:
            raise UsageError(f"expected plans [{len(self)}, K, T, 2] in units of the limits, got {list(plans.shape)}")
        return roll_out(self.scenes.start[:, None], plans * LIMITS, DT)

    def robustness(self, plans: Tensor, tau: float | None = None) -> Tensor:
        """Return the robustness [set, plan] of plans [set, plan, step, 2], exact or smooth at temperature `tau`."""
        return self.robustness_of(self.states(plans), tau)

    def robustness_of(self, states: Tensor, tau: float | None = None) -> Tensor:
        """Return the robustness [set, plan] of states [set, plan, step + 1, 4]."""
        found, order = [], []
        for mode in range(len(MODES)):
            rows = (self.mode == mode).nonzero()[:, 0]
            if len(rows):
                found.append(self[rows]._of_mode(mode, states[rows], tau))
                order.append(rows)
        return torch.cat(found)[torch.cat(order).argsort()]

    def _of_mode(self, mode: int, states: Tensor, tau: float | None) -> Tensor:
        seen = highway_signals(self.scenes, states, mode, self.others)
        values = {name: self.psi[:, None, i] for i, name in enumerate(PARAMETERS)}
        scaled, parameters = normalised(seen, values)
        return robustness(lane_rule(mode, states.shape[2] - 1), scaled, parameters, tau=tau)

    def clearance(self, plans: Tensor) -> Tensor:
        """Return the distance in m to the nearest neighbour, [set, plan, step + 1]."""
        return highway_signals(self.scenes, self.states(plans), self.mode, self.others)["clearance"]

    def condition(self) -> Tensor:
        """Return mode and ψ as a network is told them, [set, 7]."""
        return rule_condition(self.mode, self.psi)

    def observed(self) -> dict[str, Tensor]:
        """Return the scenes as a network observes them."""
        return in_ego_frame(self.scenes)


def rule_condition(mode: Tensor, psi: Tensor) -> Tensor:
    """Return mode [rule] and ψ [rule, 6] as a network is told them, [rule, 7]."""
    return torch.cat([_SIDE[mode][:, None], psi / _RANGES], -1)


def psi_of(parameters: Mapping[str, Tensor]) -> Tensor:
    """Return ψ by name as one tensor [..., 6]. Raises UsageError where no trajectory could keep the rule."""
    check_parameters(parameters)
    return torch.stack([parameters[name] for name in PARAMETERS], -1)


def sets_of(scenes: Scenes, others: Tensor, psi: Tensor, valid: Tensor) -> RuleSets:
    """Return one set for every scene and mode in `valid`.

    Args:
        scenes: the scenes.
        others: where the neighbours will be, [scene, 8, step + 1, 3].
        psi: rules, [scene, mode, 6].
        valid: bool, [scene, mode].

    Raises:
        UsageError: for a mode whose lane a scene does not have.
    """
    if (valid & ~scenes.lane_valid).any():
        scene, mode = (valid & ~scenes.lane_valid).nonzero()[0].tolist()
        raise UsageError(f"mode {mode} of scene {scene} has no lane; ask for modes within `lane_valid`")
    scene, mode = valid.nonzero(as_tuple=True)
    return RuleSets(scenes[scene], others[scene], mode, psi[scene, mode], scene)


# ---- rules and their parameters --------------------------------------------------------------------------------------


def lane_rule(mode: int, steps: int) -> Formula:
    """Return the rule of a mode over trajectories of `steps` steps, the start not counted.

    Mode 0 keeps the lane and is always in it; 1 and 2 change to the left or right and are in the new lane from
    half-time on. Signals: v, offset, heading (absolute), clearance; offset and heading refer to the lane that is kept
    or changed to.
    """
    if mode not in range(len(MODES)):
        raise UsageError(f"there is no mode {mode}; expected 0 (keep), 1 (left) or 2 (right)")
    if mode == 0:
        return parse(f"{_SPEED_AND_SAFETY} and always (dmin <= offset <= dmax) and always (heading <= thmax)")
    soon = f"eventually[0,{steps // 2}] always"
    return parse(f"{_SPEED_AND_SAFETY} and {soon} (dmin <= offset <= dmax) and {soon} (heading <= thmax)")


def check_parameters(parameters: Parameters) -> None:
    """Raise UsageError where a lower bound lies above its upper one, since no trajectory keeps such a rule."""
    for lower, upper in (("vmin", "vmax"), ("dmin", "dmax")):
        below, above = torch.broadcast_tensors(*(torch.as_tensor(parameters[name]) for name in (lower, upper)))
        wrong = (below > above).nonzero()
        if len(wrong):
            at = tuple(wrong[0].tolist())
            raise UsageError(
                f"{lower} {below[at].item():.3g} lies above {upper} {above[at].item():.3g} in {len(wrong)} rules, the "
                f"first at {at}: no trajectory satisfies them"
            )


def calibrate(signals: Mapping[str, Tensor], label: Tensor) -> dict[str, Tensor]:
    """Return ψ under which logged trajectories keep the rule of their own label: [log] by name.

    With slack of 1 m/s, .3 m, .1 m and .1 rad; for lane changes offset and heading count from half-time on.

    Args:
        signals: by name, [log, step]; offset and heading refer to the lane of the label.
        label: 0 to 3, [log]; 3 counts as 0 and is to be masked.
    """
    steps = signals["v"].shape[-1] - 1
    late = torch.arange(steps + 1, device=label.device) >= steps // 2
    counts = late | ~((label == 1) | (label == 2))[:, None]
    offset, heading = signals["offset"], signals["heading"]
    return {
        "vmin": (signals["v"].amin(-1) - 1).clamp(min=SLOWEST),
        "vmax": signals["v"].amax(-1) + 1,
        "dmin": offset.masked_fill(~counts, torch.inf).amin(-1) - 0.3,
        "dmax": offset.masked_fill(~counts, -torch.inf).amax(-1) + 0.3,
        "dsafe": (signals["clearance"].amin(-1) - 0.1).clamp(min=0.0),
        "thmax": heading.masked_fill(~counts, -torch.inf).amax(-1) + 0.1,
    }


def draw_around(parameters: Mapping[str, Tensor], draws: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw rules for what was not logged, looser than the calibrated ψ [log]: [log, draw] by name.

    Speed limits are moved apart by U(1.3, 3) m/s; offsets are U(−2.5, −.5) and U(.5, 2.5) m; dsafe is lowered by up to
    1.5 m (not below 0), thmax raised by up to .3 rad.
    """
    shape = (len(parameters["vmin"]), draws)

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    return {
        "vmin": (parameters["vmin"][:, None] - between(1.3, 3)).clamp(min=SLOWEST),
        "vmax": parameters["vmax"][:, None] + between(1.3, 3),
        "dmin": between(-2.5, -0.5),
        "dmax": between(0.5, 2.5),
        "dsafe": (parameters["dsafe"][:, None] - between(0, 1.5)).clamp(min=0.0),
        "thmax": parameters["thmax"][:, None] + between(0, 0.3),
    }


def normalised(
    signals: Mapping[str, Tensor], parameters: Parameters
) -> tuple[dict[str, Tensor], dict[str, Tensor | float]]:
    """Return signals and ψ divided by `SCALES`, so that a metre and a radian weigh alike.

    The sign of a robustness does not change by it.
    """
    return (
        {name: value / SCALES[name] for name, value in signals.items()},
        {name: value / SCALES[_OF[name]] for name, value in parameters.items()},
    )
