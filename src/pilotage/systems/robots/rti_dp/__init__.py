"""RTI-DP: a trained diffusion policy decides in three passes, from its last plan instead of from noise."""

from __future__ import annotations

from pathlib import Path

from pilotage.core.system import Card, Paper, System
from pilotage.systems.robots.rti_dp.config import WarmStartConfig

CARD = Card(
    name="rti-dp",
    family="robots",
    summary="A diffusion policy that is trained already acts by warm starts: its last chunk, shifted by what was "
    "executed, is denoised from a low level in about three passes, so that it looks again at every action.",
    audience="Anyone with a diffusion policy, perhaps a large one, whose many passes are too slow to close the loop.",
    use_when="The weights must stay as they are, consecutive plans change little, and reacting at every step matters.",
    avoid_when="The situation jumps often, actions are sharp or mostly discrete, or a distilled policy is at hand.",
    paper=Paper("Real-Time Iteration Scheme for Diffusion Policy", "2508.05396"),
    notes=Path(__file__).with_name("card.md").read_text(encoding="utf-8"),
)

SYSTEM = System(
    CARD,
    WarmStartConfig(
        head="denoiser:predicts=clean", network="residual_mlp:width=512,depth=3", steps=6000, evaluation_episodes=60
    ),
    "pilotage.systems.robots.rti_dp.train:train",
    {
        "estimate_cost": "pilotage.systems.robots.rti_dp.train:estimate_cost",
        "play": "pilotage.systems.robots.rti_dp.actions:play",
        "estimate": "pilotage.systems.robots.rti_dp.actions:estimate",
        "latency": "pilotage.systems.robots.rti_dp.actions:latency",
    },
    metric="evaluation/success",
    pieces={
        "start": {
            "shifted": "pilotage.policies.control.sampling.starts:ShiftedStart",
            "restarting": "pilotage.policies.control.sampling.restarts:RestartingStart",
        },
        "binary_dims": {
            "guess": "pilotage.policies.control.execution.discrete_entries:SignedGuess",
            "executor": "pilotage.policies.control.execution.discrete_entries:BinaryDimsHorizon",
        },
        "env": {"pick-place": "pilotage.environments.control.pick_place:PickPlace"},
        "expert": {"pick-place": "pilotage.environments.control.pick_place:GraspExpert"},
    },
)
