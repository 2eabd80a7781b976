"""RTI-DP: a trained diffusion policy decides in three passes, from its last plan instead of from noise."""

from __future__ import annotations

from pilotage.core.system import Card, Paper, System
from pilotage.systems.robots.rti_dp.config import ACTIONS, WarmStartConfig, run

CARD = Card(
    name="rti-dp",
    family="robots",
    summary="A diffusion policy that is trained already acts by warm starts: its last chunk, shifted by what was "
    "executed, is denoised from a low level in about three passes, so that it looks again at every action.",
    audience="Whoever has a diffusion policy, perhaps a large one, whose many passes are too slow to close the loop.",
    use_when="The weights must stay as they are, consecutive plans change little, and reacting at every step matters.",
    avoid_when="The situation jumps often, actions are sharp or mostly discrete, or a distilled policy is at hand.",
    paper=Paper("Real-Time Iteration Scheme for Diffusion Policy", "2508.05396"),
    notes="""\
- Nothing is trained but the base, once per world, settings and seed, as an artifact; `--base RUN` takes a policy of
  yours. `--start noise` (in full) and `--start renoised` (SDEdit) act with the same weights, as does
  `--n-action-steps 8`.
- The guess gets no noise. Each listed level is left by a one-level DDPM step even where the list skips some: so does
  the released code, whose scheduler was told of 100 steps. `--update ddim` moves from level to listed level instead.
- The released code forgets its guess only when the policy is made; here it is forgotten at every episode, per lane.
- It shifts by one; here the shift is what was executed (`--n-action-steps`).
- Entries with two values: `--gripper scale` trains the base with them at ±1/10; `clip` gives guesses their sign and
  needs longer lists (such as 40,37,…,0); `plain` shows what happens without. The factor travels with the weights, and
  a base that was scaled is refused where it would be scaled twice.
- K' is set by hand in the paper. `pilotage do rti-dp estimate --from RUN` estimates it from demonstrations and says
  whether denoising shrinks the error of a guess. `pilotage do rti-dp latency --from RUN` times decisions.
- `--restart jump|residual|either` is ours: a decision is made in full when the state jumps or the last guess was far
  off. Limits are quantiles of what the demonstrations show.
- The paper's base is a U-Net of 256, 512, 1024 that predicts noise; here a residual network predicts the clean chunk
  (`--network unet:widths=256|512|1024 --head denoiser:predicts=noise`).
""",
)

SYSTEM = System(
    CARD,
    WarmStartConfig(
        head="denoiser:predicts=clean", network="residual_mlp:width=512,depth=3", steps=6000, evaluation_episodes=60
    ),
    run,
    ACTIONS,
    metric="evaluation/success",
    pieces={
        "start": {
            "shifted": "pilotage.policies.control.sampling.starts:ShiftedStart",
            "restarting": "pilotage.policies.control.sampling.restarts:RestartingStart",
        },
        "binary_dims": {
            "guess": "pilotage.policies.control.execution.discrete_entries:SignedGuess",
            "executor": "pilotage.policies.control.execution.discrete_entries:TwoValuedHorizon",
        },
        "env": {"pick-place": "pilotage.environments.control.pick_place:PickPlace"},
        "expert": {"pick-place": "pilotage.environments.control.pick_place:GraspExpert"},
    },
)
