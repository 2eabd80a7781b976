"""Rules of the worlds Lanes and Encounter, their parameters ψ, and ψ from logged trajectories.

Lanes: signals v, offset, heading (absolute), clearance; ψ = (vmin, vmax, dmin, dmax, dsafe, thmax), where offset and
heading refer to the lane that is kept or changed to. Meng and Fan 2024 (pSTL-diffusion)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.rewards.temporal_logic.formulas import Formula
from pilotage.rewards.temporal_logic.parsing import parse
from pilotage.rewards.temporal_logic.robustness import Parameters

MODES = ("keep", "left", "right")
"""What a driver can set out to do; the label 3 of a log means none of them."""
PARAMETERS = ("vmin", "vmax", "dmin", "dmax", "dsafe", "thmax")
"""The order of ψ as a vector."""
SCALES: Mapping[str, float] = {"v": 10.0, "offset": 3.5, "heading": 0.5, "clearance": 5.0}
"""The range of each signal, in its unit."""
_OF = {"vmin": "v", "vmax": "v", "dmin": "offset", "dmax": "offset", "dsafe": "clearance", "thmax": "heading"}
_SPEED_AND_SAFETY = "always (vmin <= v <= vmax) and always (clearance >= dsafe)"
SLOWEST = -0.3
"""m/s below which vmin never goes."""


def lane_rule(mode: int, steps: int) -> Formula:
    """The rule of mode 0 (keep the lane), 1 or 2 (change to the left or right) over trajectories of `steps` steps, the
    start not counted. Who keeps the lane is always in it; who changes is in the new one from half-time on."""
    if mode not in range(len(MODES)):
        raise UsageError(f"there is no mode {mode}; expected 0 (keep), 1 (left) or 2 (right)")
    if mode == 0:
        return parse(f"{_SPEED_AND_SAFETY} and always (dmin <= offset <= dmax) and always (heading <= thmax)")
    soon = f"eventually[0,{steps // 2}] always"
    return parse(f"{_SPEED_AND_SAFETY} and {soon} (dmin <= offset <= dmax) and {soon} (heading <= thmax)")


def encounter_rule(*, behind: bool = False) -> Formula:
    """Keep `dsafe` m from the person always and be within `radius` m of the goal before `deadline` s; with `behind`,
    also cross the person's way (within `reach` m of its line) only behind them.

    Signals: clearance, goal_distance, time; for `behind` also ahead and beside, the robot's place in the person's
    frame."""
    text = "always (clearance >= dsafe) and eventually (goal_distance <= radius and time <= deadline)"
    if behind:
        text += " and always (ahead <= 0 or beside >= reach or -beside >= reach)"
    return parse(text)


def check_parameters(parameters: Parameters) -> None:
    """Raise UsageError where a lower bound lies above its upper one: no trajectory keeps such a rule."""
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
    """ψ under which logged trajectories keep the rule of their own label, with some room: name -> [B].

    signals: [B, T+1] each, offset and heading to the lane of the label; label [B] of 0 to 3 (3 counts as 0: mask it).
    Room: 1 m/s, .3 m, .1 m and .1 rad; for lane changes offset and heading count from half-time on."""
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
    """Rules for what was not logged, looser than the calibrated ψ [B]: name -> [B, draws].

    Speed limits are moved apart by U(1.3, 3) m/s; offsets are U(−2.5, −.5) and U(.5, 2.5) m; dsafe is lowered by up to
    1.5 m (not below 0), thmax raised by up to .3 rad."""
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
    """Signals and ψ of Lanes divided by `SCALES`, so that a metre and a radian weigh alike. The sign of a robustness
    does not change by it."""
    return (
        {name: value / SCALES[name] for name, value in signals.items()},
        {name: value / SCALES[_OF[name]] for name, value in parameters.items()},
    )
