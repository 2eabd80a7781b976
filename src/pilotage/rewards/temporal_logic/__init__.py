"""Signal Temporal Logic: rules over time, and the robustness with which a trajectory keeps or breaks them.

    rule = parse("always (v <= vmax) and eventually[0,10] always (offset >= dmin)")
    robustness(rule, {"v": v, "offset": offset}, {"vmax": 10.0, "dmin": dmin})            # signals [B, T] -> [B]

`formulas`: formulas as values; `parsing`: formulas from text; `robustness`: their value on trajectories.
"""

from __future__ import annotations

from pilotage.rewards.temporal_logic.formulas import (
    Always,
    And,
    Eventually,
    Formula,
    Function,
    Implies,
    Linear,
    Not,
    Or,
    Predicate,
    Until,
    fits,
    name,
    names,
)
from pilotage.rewards.temporal_logic.parsing import parse
from pilotage.rewards.temporal_logic.robustness import (
    RobustnessReward,
    robustness,
    robustness_trace,
    smoothing_bound,
)

__all__ = [
    "Always",
    "And",
    "Eventually",
    "Formula",
    "Function",
    "Implies",
    "Linear",
    "Not",
    "Or",
    "Predicate",
    "RobustnessReward",
    "Until",
    "fits",
    "name",
    "names",
    "parse",
    "robustness",
    "robustness_trace",
    "smoothing_bound",
]
