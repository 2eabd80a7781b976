"""Ways to imitate towards a goal by way of plans that BESO is compared with, as rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pilotage.system import Card, Paper, Result, System
from pilotage.systems.robots.goal_baselines import PLAY
from pilotage.trainers.imitation_config import ACTIONS, ImitationConfig

PLANNED = replace(PLAY, observation_steps=16, chunk=16, batch=32)
"""What both learn from and how: windows of 16 frames; 32 of them hold twice as many actions as BESO's batch."""


def train(config: ImitationConfig, run: Any) -> Result:
    """Train a policy from demonstrations; the trainer is imported only now."""
    from pilotage.trainers.imitation import train as train_imitation
    from pilotage.trainers.plan_pieces import PlanTrainer

    return train_imitation(config, run, PlanTrainer)


def _row(name: str, head: str, summary: str, use_when: str, avoid_when: str, paper: Paper, notes: str) -> System:
    card = Card(
        name=name,
        family="robots",
        summary=summary,
        audience="Whoever learns from play and wonders whether a level of plans helps.",
        use_when=use_when,
        avoid_when=avoid_when,
        paper=paper,
        baseline=True,
        notes=notes,
    )
    return System(card, replace(PLANNED, head=head), train, ACTIONS, metric="evaluation/result")


SYSTEMS = [
    _row(
        "lmp",
        "pilotage.trainers.plan_pieces:latent_plans",
        "Latent plans from play: a plan that explains a window of play is learnt with a prior over plans given state "
        "and goal; a drawn plan is kept for some steps, and every action is decoded from it.",
        "Play is multi-modal and a choice should be kept for a while.",
        "A plan must be given up as soon as something happens: it is kept for `--executor held:steps=16`.",
        Paper("Learning Latent Plans from Play", "1903.01973"),
        "- The published decoder is recurrent and gives a mixture of logistics; here the same residual network as the "
        "other rows' is regressed on the action, given the state, the goal and the plan.\n"
        "- The published goal is the window's last state; here it lies beyond the window, as for all rows.\n"
        "- `--head latent_plans:divergence_weight=0.01,latent=32`.\n",
    ),
    _row(
        "ril",
        "pilotage.trainers.plan_pieces:relay",
        "Relay imitation: a network proposes the state to be in some steps ahead on the way to the goal, and a second "
        "one, learnt from all pairs of nearby states, goes there.",
        "Goals are far, and what is near says well how to get on.",
        "There are several ways to go: the subgoal is their mean.",
        Paper(
            "Relay Policy Learning: Solving Long-Horizon Tasks via Imitation and Reinforcement Learning", "1910.11956"
        ),
        "- Imitation only; the paper goes on with reinforcement learning of both levels.\n"
        "- The upper level is regressed on the change of the state over the window, the lower one on actions.\n",
    ),
]
