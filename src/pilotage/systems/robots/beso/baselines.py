"""Baselines that imitate towards a goal: everything but the head is BESO's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pilotage.core.system import Card, Paper, System
from pilotage.training.imitation.config import ACTIONS, ImitationConfig

TRAIN = "pilotage.training.imitation.trainer:train"
PLAY = ImitationConfig(
    network="residual_mlp:width=256,depth=6",
    n_obs_steps=1,
    chunk_size=1,
    n_action_steps=1,
    goal_steps=1,
    env="block-push-goals",
    demonstrations=1000,
    steps=5000,
    lr=1e-3,
    beta1=0.9,
    weight_decay=0.0,
    ema_decay=0.999,
    evaluation_episodes=100,
    num_envs=50,
)
"""Data and optimisation of all of them, the same as BESO's."""

PLANS = {"n_obs_steps": 16, "chunk_size": 16, "executor": "held:steps=16", "batch": 32, "lr": 3e-3}
"""Options of those that plan: they learn from windows of 16 frames; 32 of them hold twice as many actions as a batch
above."""


def _row(
    name: str,
    summary: str,
    use_when: str,
    avoid_when: str,
    paper: Paper | None,
    notes: str = "",
    pieces: Mapping[str, Mapping[str, str]] | None = None,
    **parts: object,
) -> System:
    card = Card(
        name=name,
        family="robots",
        summary=summary,
        audience="Anyone who learns from play and needs a faithful baseline.",
        use_when=use_when,
        avoid_when=avoid_when,
        paper=paper,
        baseline=True,
        notes=notes,
    )
    config = replace(PLAY, **parts)  # type: ignore[arg-type]
    return System(card, config, TRAIN, ACTIONS, metric="evaluation/result", pieces=pieces or {})


SYSTEMS = [
    _row(
        "gcbc",
        "Goal-conditioned behaviour cloning: a network is regressed on the action, given the last states and a goal "
        "from the future of the demonstration.",
        "Between a state and a goal there is one way.",
        "There are several: it answers their mean.",
        None,
        head="regression",
    ),
    _row(
        "c-bet",
        "Conditional Behavior Transformer: bins of actions are classified, given the last states and a goal, and an "
        "offset from the bin's centre is added.",
        "Play is multi-modal and one pass per decision is all that there is time for.",
        "Actions are many-dimensional: bins over whole actions grow sparse.",
        Paper("From Play to Policy: Conditional Behavior Generation from Uncurated Robot Data", "2210.10047"),
        "- The published transformer over a window: `--network gpt:width=72,depth=4,heads=4 --n-obs-steps 3 "
        "--chunk-size 3`.\n"
        "- The published weight of offsets, 1000, leaves block push unlearnt at these sizes (results below .05); with "
        "10 results are about .98.\n",
        head="bins:bins=24,offset_weight=10",
    ),
    _row(
        "ddpm-goals",
        "BESO's network trained as a discrete diffusion model that predicts the noise, with 100 levels.",
        "You want to see what the continuous levels and the preconditioning of BESO are worth.",
        "You want to act fast: it takes tens of passes.",
        Paper("Denoising Diffusion Probabilistic Models", "2006.11239"),
        "- Predicting the noise, as published, is weak at these sizes. `--head denoiser:predicts=clean` had a "
        "result of .95 with three DDIM steps, where predicting the noise had .13 (block push, five seeds each).\n",
        encoder="flatten:dropout_kind=whole",
        head="denoiser:predicts=noise",
        noise_schedule="vp:steps=100",
        sampler="ddpm:steps=100",
        goal_dropout=0.1,
        goal_weight=2.0,
    ),
    _row(
        "lmp",
        "Latent plans from play: a plan that explains a window of play is learnt, with a prior over plans given state "
        "and goal; a drawn plan is kept for some steps, and every action is decoded from it.",
        "Play is multi-modal and a choice should be kept for a while.",
        "A plan must be given up as soon as something happens.",
        Paper("Learning Latent Plans from Play", "1903.01973"),
        "- The published decoder is recurrent and gives a mixture of logistics; here a network like the others' is "
        "regressed on the action, given the state, the goal and the plan (`--head latent_plans:latent=32`).\n"
        "- The published goal is the window's last state; here it lies beyond the window, as for all baselines.\n"
        "- A plan is kept for `--executor held:steps=16`; 1 to 16 steps matter little (block push, one seed).\n"
        "- A divergence that costs a tenth of that, .001, leaves the prior far behind: .18, against .83 (at a rate of "
        "1e-3, the same seed).\n",
        {
            "head": {"latent_plans": "pilotage.policies.control.heads.plans:LatentPlans"},
            "executor": {"held": "pilotage.policies.control.heads.plans:HeldPlan"},
        },
        head="latent_plans:divergence_weight=0.01",
        **PLANS,
    ),
    _row(
        "ril",
        "Relay imitation: a network proposes the state to be in some steps ahead on the way to the goal, and a second "
        "one, learnt from all pairs of nearby states, goes there.",
        "Goals are far, and what is near says well how to get on.",
        "There are several ways to go: the subgoal is their mean.",
        Paper("Relay Policy Learning", "1910.11956"),
        "- Imitation only; the paper goes on with reinforcement learning of both levels.\n"
        "- The upper level is regressed on the change of the state over the window, the lower one on actions. A "
        "subgoal is kept for `--executor held:steps=16`.\n",
        {"head": {"relay": "pilotage.policies.control.heads.plans:RelayGoals"}},
        head="relay",
        **PLANS,
    ),
]
