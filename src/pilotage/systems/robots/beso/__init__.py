"""BESO: a score model of the next action given a goal, sampled in three steps."""

from __future__ import annotations

from pathlib import Path

from pilotage.core.system import Card, Paper, System
from pilotage.training.imitation.config import ACTIONS, ImitationConfig

CARD = Card(
    name="beso",
    family="robots",
    summary="A network denoises the next action, given what is seen, perhaps the executed actions, and a goal from the "
    "future of the same play. Training fixes the network only; sampler, levels, steps and the weight of the "
    "goal are chosen when acting, and three steps are enough.",
    audience="A lab with hours of unlabelled play that wants one policy which goes wherever a shown state is.",
    use_when="Demonstrations carry no labels or rewards, the same situation has several good continuations, and a "
    "decision may take a few passes of a small network.",
    avoid_when="Demonstrations do one thing in one situation (bc-mlp is cheaper), or goals are given in words or as "
    "tasks and not as a state of the same kind as the observations.",
    paper=Paper("Goal-Conditioned Imitation Learning using Score-based Diffusion Policies", "2304.02532"),
    notes=Path(__file__).with_name("card.md").read_text(encoding="utf-8"),
)

SYSTEM = System(
    CARD,
    ImitationConfig(
        encoder="flatten:dropout_kind=whole",
        network="residual_mlp:width=256,depth=6",
        head="denoiser:predicts=residual",
        noise_schedule="karras:sigma_min=0.05,sigma_max=1",
        sampler="ddim_sigma:steps=3,schedule=linear,sigma_min=0.1",
        n_obs_steps=1,
        chunk_size=1,
        n_action_steps=1,
        goal_steps=1,
        goal_dropout=0.1,
        goal_weight=2.0,
        env="block-push-goals",
        demonstrations=1000,
        steps=5000,
        lr=1e-3,
        beta1=0.9,
        weight_decay=0.0,
        ema_decay=0.999,
        evaluation_episodes=100,
        num_envs=50,
    ),
    "pilotage.training.imitation.trainer:train",
    ACTIONS,
    metric="evaluation/result",
    pieces={
        "context": {
            "noised": "pilotage.policies.control.heads.context_denoiser:ContextDenoiser",
            "clean": "pilotage.policies.control.heads.context_denoiser:ContextDenoiser",
        },
        "noise_schedule": {"karras": "pilotage.objectives.noise_paths:Karras"},
        "denoising_sampler": {
            "ddim_sigma": "pilotage.policies.control.sampling.sigma_samplers:ddim_sigma",
            "euler": "pilotage.policies.control.sampling.sigma_samplers:euler",
            "euler_ancestral": "pilotage.policies.control.sampling.sigma_samplers:euler_ancestral",
            "heun": "pilotage.policies.control.sampling.sigma_samplers:heun",
            "dpm_solver_2s": "pilotage.policies.control.sampling.sigma_samplers:dpm_solver_2s",
            "dpm_solver_2m": "pilotage.policies.control.sampling.sigma_samplers:dpm_solver_2m",
        },
        "env": {
            "block-push": "pilotage.environments.control.block_push:block_push",
            "block-push-goals": "pilotage.environments.control.block_push:block_push_goals",
        },
        "expert": {"block-push": "pilotage.environments.control.block_push:PushOracle"},
    },
)
