"""BESO: a score model of the next action given a goal, sampled in three steps."""

from __future__ import annotations

from pilotage.core.system import Card, Paper, System
from pilotage.training.imitation.config import ACTIONS, ImitationConfig, train

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
    notes="""\
- Goals are future states of the same demonstration, drawn uniformly after the window; windows with nothing after them
  get a goal of zeros, which is also what «no goal» is. So a goal of zeros is no goal.
- In the released code a goal is the whole future observation in training and, when acting on block push, only the
  positions of the two blocks. Here it shows those positions both times; `--goal-mask all` is the released variant.
- Goals are dropped whole with probability 0.1, as the paper says; the released code zeroes every entry by itself
  (`--encoder flatten`), which almost never drops all of them.
- By default a residual network sees one state and no executed actions. The paper's transformer over five states and
  actions is `--network gpt:width=64,depth=3,heads=4 --n-obs-steps 5 --chunk-size 5 --context noised`. In the minutes
  of a laptop it does not learn block push: of single trainings of two to four minutes each, the transformer had results
  of .1 to .2 after 4,000 steps, the residual network on five states .06 and with the executed actions as they are .01,
  on one state .99. A window shows what was done before, and copying it is learnt first.
- Earlier actions of such a window are the executed ones when acting. In training they are noised like the newest, as
  in the released code; `--context clean` closes that gap and trains the newest alone.
- A window that begins before its episode has the first state repeated and actions of 0, in training and when acting;
  the released code shortens the window.
- On a σ path the sampler `euler` without churn equals `ddim_sigma`.
- The published model for block push: a window of 5, width 240, 4 layers, 12 heads, batch 1024, 60,000 steps
  (`--n-obs-steps 5 --chunk-size 5 --context noised --network gpt:width=240,depth=4,heads=12 --batch 1024 --steps 60000
  --lr 1e-4 --lr-schedule stepped`); for the kitchen width 360, 6 layers of 6 heads, window 4, two frames of goal, no
  scaling, euler_ancestral, λ = 1.5. The kitchen, CALVIN and image goals are not here; play data of one's own comes with
  `--env none --data FILE`.
- C-BESO is this with `--goal-dropout 0 --goal-weight 1`.
- The number to compare is `evaluation/result`: what the goal asked for. `evaluation/reward` counts any completed task,
  so that a policy which is blind to the goal can score high on it. `evaluation/success` here is that of the world,
  which asks for no goal either.
""",
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
    train,
    ACTIONS,
    metric="evaluation/result",
    pieces={
        "context": {
            "noised": "pilotage.policies.control.heads.context_denoiser:ContextDenoiser",
            "clean": "pilotage.policies.control.heads.context_denoiser:ContextDenoiser",
        },
        "noise_schedule": {"karras": "pilotage.objectives.noise_paths:Karras"},
        "env": {
            "block-push": "pilotage.environments.control.block_push:block_push",
            "block-push-goals": "pilotage.environments.control.block_push:block_push_goals",
        },
        "expert": {"block-push": "pilotage.environments.control.block_push:PushOracle"},
    },
)
