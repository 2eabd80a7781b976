"""Baselines for varied, rule-abiding traffic, on the trainer of STL-diffusion."""

from __future__ import annotations

from pilotage.core.system import Card, Paper, System
from pilotage.systems.robots.stl_diffusion.config import DrivingConfig


def _row(name: str, summary: str, use_when: str, avoid_when: str, paper: Paper, config: DrivingConfig) -> System:
    card = Card(
        name=name,
        family="robots",
        summary=summary,
        audience="Anyone who needs a faithful baseline for varied, rule-abiding traffic.",
        use_when=use_when,
        avoid_when=avoid_when,
        paper=paper,
        baseline=True,
    )
    return System(
        card,
        config,
        "pilotage.systems.robots.stl_diffusion.train:train",
        {"play": "pilotage.systems.robots.stl_diffusion.actions:play"},
        metric="success",
    )


def _alone(*, learner: str, data: str, **options: float) -> DrivingConfig:
    """Return the configuration of a learner without refinement or guidance."""
    return DrivingConfig(
        learner=learner,
        data=data,
        refine_steps=0,
        planner="sampled",
        planners=("sampled",),
        closed_loop_planners=("sampled",),
        **options,  # type: ignore[arg-type]
    )


DENOISING = Paper("Denoising Diffusion Probabilistic Models", "2006.11239")

SYSTEMS = [
    _row(
        "traffic-vae",
        "A conditional VAE of drives, learnt from one log per scene.",
        "The cheapest generative model of logs.",
        "Rules matter: it knows none.",
        Paper("Auto-Encoding Variational Bayes", "1312.6114"),
        _alone(learner="vae", data="logs"),
    ),
    _row(
        "traffic-ddpm",
        "A diffusion model of drives, learnt from one log per scene.",
        "You want to see what diffusion alone gives.",
        "Rules matter: it is told them and has seen one outcome per scene.",
        DENOISING,
        _alone(learner="denoiser", data="logs"),
    ),
    _row(
        "trafficsim",
        "A conditional VAE of augmented drives with losses for broken rules and collisions of what it draws.",
        "Planning must take one pass.",
        "Variety matters more than speed.",
        Paper("TrafficSim: Learning to Simulate Realistic Multi-Agent Behaviors", "2101.06557"),
        _alone(learner="vae", data="augmented", rule_weight=1.0, collision_weight=0.1),
    ),
    _row(
        "ctg",
        "A diffusion model of logs, guided by the rule's gradient at every level.",
        "The rule is known only when one plans, and seconds per scene are affordable.",
        "Planning must take less than a second.",
        Paper("Guided Conditional Diffusion for Controllable Traffic Simulation", "2210.17366"),
        DrivingConfig(
            data="logs", refine_steps=0, planner="ctg", planners=("sampled", "ctg"), closed_loop_planners=("ctg",)
        ),
    ),
]
