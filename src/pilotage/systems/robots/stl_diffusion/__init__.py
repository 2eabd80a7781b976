"""STL-diffusion: varied drives that keep a parametric rule; a denoiser, refinement, guidance, and its baselines."""

from __future__ import annotations

from pilotage.core.system import Card, Paper, System
from pilotage.systems.robots.stl_diffusion.config import ACTIONS, DrivingConfig, train

CARD = Card(
    name="stl-diffusion",
    family="robots",
    summary="Trajectory optimisation turns one log per scene into many drives under a parametric Signal Temporal Logic "
    "rule; a masked denoiser learns them, and RefineNet repairs what breaks its rule while keeping the set varied.",
    audience="Whoever simulates traffic and needs other road users that are varied, keep rules and can be dialled.",
    use_when="You can write the rule down, its robustness has gradients, and one scene allows many good outcomes.",
    avoid_when="The one most likely outcome is what you want (it does not predict), or the rule cannot be "
    "differentiated.",
    paper=Paper("Diverse Controllable Diffusion Policy with Signal Temporal Logic", "2503.02924"),
    notes="""\
- The world is Lanes, made here; the paper has nuScenes, whose data and licence are the user's own.
- Dial it: mode and ψ = (vmin, vmax, dmin, dmax, dsafe, thmax) are inputs of every network.
- Compliance, success and diversity are counted with exact robustness; gradients go through the smooth one, τ = 100,
  with signals divided by their ranges (10 m/s, 3.5 m, 5 m, .5 rad), so that a metre and a radian weigh alike.
- Trajectory optimisation: Adam .03 in units of the limits, 300 steps in five rounds, each from the plans that still
  break their rule; the paper takes .005 and 2000 steps over all of them. Plans are artifacts of 50 scenes each.
- Bench sizes: 50 levels (paper 100), 8 draws (64), 3000 steps of 1024 plans; `--levels 100` for the paper's sampler.
- Guidance: one Adam step at each of the last ten levels, |change| ≤ β with its sign. The code released with the paper
  clips |change|, so that every guided change is upwards: the row «released».
- With λ = 0 the diversity loss has a gradient only through plans that satisfy after the change;
  `--refine-rule-weight` adds ReLU(margin − ρ), which the paper does not have.
- RefineNet trains on one shard under each of several rules per scene and mode; the paper on four under one rule.
- «sampled» after training on augmented plans is the baseline DDPM + augmentation, here with the validity mask and told
  mode and ψ as the method is. TrafficSim's rule and
  collision losses are taken on 256 rows of a batch.
- Not here: the human-robot case (world Encounter), nuScenes, CommonRoad, closed loop in highway-env.
""",
)

SYSTEM = System(CARD, DrivingConfig(), train, ACTIONS, metric="success")
