"""EBT-Policy: a scalar energy over action chunks; acting is a short descent on it that stops when it is at rest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pilotage.core.system import Card, Paper, System
from pilotage.training.imitation.config import ACTIONS, ImitationConfig, train

NOTES = """
- **Two heads.** `--head ebt` is the paper's loss: behaviour cloning *through* a few descent steps from noise, each
  step's gradient differentiated again, steps scaled by exp(E), Nesterov's look-ahead, falling Langevin noise in
  training, a chunk at unit scale before the last step, α learnt. `--head energy`, the default, is the same landscape
  trained by equilibrium matching: the slope at a mixture of noise and data is fitted, no descent within training.
- **Why the default is not the paper's loss.** From a start that knows nothing of the demonstrated chunk, squared error
  is least where every start goes to the conditional mean: with demonstrations that do two things in one situation it
  answers their average, like regression. The claims measure this. `start=noised` in the head's options is a remedy
  between: two basins, shrunken. A third party's summary of the paper names equilibrium matching; its code does not
  have it.
- **Inferred.** Beyond the abstract the paper's text could not be read; the loss follows the Energy-Based Transformers
  code (2507.02092) and a public robomimic version. Momentum .9 and the noise schedule come from a configuration.
  Whether exp(E) is differentiated is not known; here it is, and the last layer has no bias, so that the energy's level
  means something. Unit scale is over a whole chunk.
- **Sizes.** The paper: transformer of width 256 and depth 8, α = 10,000, 3 to 7 training steps, 20 in action, stop at
  ‖∂E/∂a‖ < .002, about 30 M weights. Here: residual network 3×256, α = 100 for `ebt` and .2 for `energy`, 2 to 4 and
  at most 10, and a stop at the slope below which nine in ten descents of training ended. The paper's network:
  `--encoder causal:width=256 --network transformer:width=256,depth=8`; attention is then computed plainly, since fused
  kernels have no second derivative.
- **What a step costs.** A step down an energy is a forward and a backward, a denoiser's step one forward; training
  differentiates the backward too. Metrics count all three, row by row; the action `compute` counts floating-point
  operations of a decision and of a window of training. Two steps are worth about four denoiser calls, not two.
- **The scalar.** `candidates=16` ranks starts by energy; the action `confidence` writes quantiles of the energy on
  demonstrations held back, by which `EnergyConfidence` says how odd a situation is. Energies of different runs cannot
  be compared.
- Real demonstrations: `--env push-t --data pusht`. Forced failures of a grasp: `--env pick-place`.
"""


def compute(config: ImitationConfig, run: Path) -> Mapping[str, float]:
    """What a decision and a window of training cost: see `pilotage.systems.robots.ebt_policy.actions.compute`."""
    from pilotage.systems.robots.ebt_policy.actions import compute as counted

    return counted(config, run)


def confidence(config: ImitationConfig, run: Path, windows: int = 1000) -> Mapping[str, float]:
    """Calibrate the run's energy: see `pilotage.systems.robots.ebt_policy.actions.confidence`."""
    from pilotage.systems.robots.ebt_policy.actions import confidence as calibrated

    return calibrated(config, run, windows)


SYSTEM = System(
    Card(
        name="ebt-policy",
        family="robots",
        summary="Learns one scalar energy over chunks of actions; acting is a few descent steps on it, as many as the "
        "situation needs, and the energy says how sure the policy is.",
        audience="Whoever runs diffusion policies and wants fewer passes per decision and a score that rises in odd "
        "situations.",
        use_when="A decision must be short, its length may vary, or something must notice that the situation is odd.",
        avoid_when="Training time is short: each step differentiates a gradient. And take the default head, not `ebt`, "
        "where demonstrations do different things in one situation.",
        paper=Paper("EBT-Policy: Energy Unlocks Emergent Physical Reasoning Capabilities", "2510.27545"),
        notes=NOTES,
    ),
    ImitationConfig(
        head="energy",
        network="residual_mlp:width=256,depth=3",
        steps=2000,
        grad_clip=1.0,
    ),
    train,
    {**ACTIONS, "compute": compute, "confidence": confidence},
    metric="evaluation/success",
    pieces={
        "head": {
            "energy": "pilotage.policies.control.heads.energy_optimisation:EnergyOptimisation",
            "ebt": "pilotage.policies.control.heads.energy_optimisation:build_ebt",
            "descent": "pilotage.policies.control.heads.energy:EnergyByDescent",
        },
        "encoder": {"causal": "pilotage.policies.control.causal_encoder:CausalEncoder"},
    },
)
