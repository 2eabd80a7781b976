"""What BNPO's paper promises (Xiao et al. 2025, arXiv 2506.02864), at bench scale.

One warmed-up policy of 0.4 M weights on `add` with 1 to 3 digits, as many prompts of each, 16 prompts × 8 answers.
All arms share aggregation, surrogate and optimiser and differ in the advantage alone. AdamW does not change when a
gradient is multiplied by a constant and gradients are not clipped here, so rescaling the arms to equal
gradient norms would change nothing: raw and rescaled are the same experiment.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilotage.core.claims import Arm, Claim, Criterion, Events

WORLD = (
    "--task add --difficulties 1,2,3 --pretrain-to-accuracy 0.45 --num-train-prompts 240 --prompts-per-step 16 "
    "--group-size 8 --grad-clip 0 "
    "--aggregate seq_mean_token_sum --evaluate-every 0"
)
SHORT = f"{WORLD} --steps 40"
TWO_REWARDS = f"{WORLD} --reward exact+format --steps 30"
GRID = ("--lr 3e-5", "--lr 1e-4")
BATCHES, QUICK_BATCHES = 24, 3
STEP_SECONDS = 0.7
UNIFORM, SQUARE_ROOT = "α = β = 1 is centring", "α = β = 3/2 is GRPO"
BEFORE, AFTER = "before training", "after training"


# ---- what is measured ------------------------------------------------------------------------------------------------


def identities(arm: str, seed: int, context: Any) -> Mapping[str, float]:
    """Return whether BNPO's advantages equal those of the method it generalises, within 1e-10, in float64, on 1000
    random groups of 16 rewards of 0 or 1 (`equal`, 1 or 0); with `largest_error`, and for GRPO how far TRL's ε =
    1e-4 takes it from there (`trl_gap`, the largest relative difference).
    """
    import torch

    from pilotage.objectives.advantages import group_center, group_zscore
    from pilotage.objectives.beta_normalisation import beta_norm

    answers, groups = 16, 20 if context.quick else 1000
    generator = torch.Generator().manual_seed(seed)
    rate = torch.rand(groups, 1, generator=generator, dtype=torch.float64)
    reward = (torch.rand(groups, answers, generator=generator, dtype=torch.float64) < rate).double().flatten()
    group = torch.arange(groups).repeat_interleave(answers)
    if arm == UNIFORM:
        expected, exponent, gap = group_center(reward, group), 1.0, 0.0
    else:
        # π/8 = B(3/2, 3/2); the paper's deviation divides by G, the library's by G − 1.
        factor = math.pi / 8 * math.sqrt(answers / (answers - 1))
        expected, exponent = factor * group_zscore(reward, group, epsilon=0.0).nan_to_num(0.0), 1.5
        with_epsilon, there = factor * group_zscore(reward, group, epsilon=1e-4), expected != 0
        gap = float((with_epsilon[there] / expected[there] - 1).abs().max())
    error = float((beta_norm(reward, group, alpha=exponent, beta=exponent) - expected).abs().max())
    return {"equal": float(error <= 1e-10), "largest_error": error, "trl_gap": gap}


def gradient_noise(arm: str, seed: int, context: Any) -> Mapping[str, float]:
    """Return ln(tr Cov g / |E g|²) of the arm's gradient, mean over the first and the last policy of a GRPO training.

    Every arm meets the same batches of the same answers.
    """
    del arm
    import torch

    from pilotage.systems.reasoning.bnpo.gradients import gram_matrix, scale_free_variance
    from pilotage.training.language.frozen_policy import batches, frozen_trainer, gradient

    config = context.configuration()
    out: dict[str, float] = {}
    for steps, model in _walk(seed, context).items():
        with frozen_trainer(replace(config, model=model), context.directory / f"at-{steps}", seed) as trainer:
            drawn = batches(trainer, QUICK_BATCHES if context.quick else BATCHES)
            rows = [gradient(trainer, rollouts) for rollouts in drawn]
            out[f"log_noise_at_{steps}"] = math.log(scale_free_variance(gram_matrix(torch.stack(rows))))
    return {"log_noise": sum(out.values()) / len(out), **out}


def _walk(seed: int, context: Any) -> dict[int, str]:
    """Policies by number of steps along one training with GRPO, whatever the arm's own method is."""
    config = context.configuration()
    rest = shlex.join(shlex.split(context.command)[1:])
    walk = {0: config.model}
    if config.steps:
        done = context.train(f"grpo {rest} --advantage zscore --shaping none", seed)
        walk[config.steps] = str(Path(done.run) / "policy")
    return walk


def normaliser(arm: str, seed: int, context: Any) -> Mapping[str, float]:
    """Return what BNPO fits to the batches of its own policy before (BEFORE) and after training: m, a, b, α, β,
    `log_ratio` = ln(α/β), each a mean over batches, and whether it is on the foretold side of 1 (`as_foretold`).
    """
    import numpy as np

    from pilotage.objectives.beta_normalisation import beta_fit
    from pilotage.training.language.frozen_policy import batches, frozen_trainer

    config = context.configuration()
    model = config.model if arm == BEFORE else str(Path(context.train().run) / "policy")
    with frozen_trainer(replace(config, model=model), context.directory / "fit", seed) as trainer:
        drawn = batches(trainer, QUICK_BATCHES if context.quick else 8)
        fits = [beta_fit(rollouts.column("reward"), rollouts.group) for rollouts in drawn]
    out = {name: float(np.mean([getattr(fit, name) for fit in fits])) for name in ("mean", "a", "b", "alpha", "beta")}
    out["log_ratio"] = float(np.mean([math.log(fit.alpha / fit.beta) for fit in fits]))
    return {**out, "as_foretold": float(out["log_ratio"] < 0 if arm == BEFORE else out["log_ratio"] > 0)}


def steadiness(arm: str, seed: int, context: Any) -> Mapping[str, float]:
    """Return how evenly a training went: `variation` of the gradient norm (standard deviation over mean), `spikes`
    (steps with a norm above three times the median of the ten before), and final accuracy.
    """
    del arm, seed
    done = context.train()
    lines = [json.loads(line) for line in (Path(done.run) / "metrics.jsonl").open(encoding="utf-8")]
    norms = [line["gradient_norm"] for line in lines if "gradient_norm" in line]
    return {**steadiness_of(norms), "accuracy": done.metrics["held_out/accuracy"]}


def steadiness_of(norms: list[float], window: int = 10) -> dict[str, float]:
    """`variation` and `spikes` of gradient norms in order of time; a spike is above three times the running median of
    the `window` norms before it, counted once there are at least three.
    """
    import numpy as np

    values = np.asarray(norms, dtype=float)
    spikes = sum(
        value > 3 * np.median(values[max(0, step - window) : step]) for step, value in enumerate(values) if step >= 3
    )
    return {"variation": float(values.std(ddof=1) / values.mean()), "spikes": float(spikes)}


# ---- what is claimed -------------------------------------------------------------------------------------------------

NOISE_NOTE = (
    "A seed is one GRPO training with its first and its last policy, 24 batches at each, the same for both arms; "
    "differences of logarithms, so that 0.02 is 2 %. Within a policy |E g|² is estimated without bias from pairs of "
    "batches. Estimates p̂ come from 8 answers."
)


def _noise_claim(name: str, against: str, command: str, statement: str, **more: Any) -> Claim:
    settings: dict[str, Any] = {"measure": gradient_noise, "cost": 50.0, "note": NOISE_NOTE, **more}
    return Claim(
        name=name,
        statement=statement,
        arms={"bnpo": Arm(f"bnpo {SHORT}"), against: Arm(f"{command} {SHORT}")},
        compare=("bnpo", against),
        metric="log_noise",
        criterion=Criterion("better", 0.02),
        higher_is_better=False,
        source="§3.3",
        **settings,
    )


NOISE = [
    _noise_claim(
        "less-noise-than-grpo",
        "grpo",
        "grpo",
        "BNPO's gradient has at least 2 % less scale-free variance than GRPO's at the same policies.",
        primary=True,
    ),
    _noise_claim(
        "less-noise-than-centring",
        "reinforce-mean",
        "reinforce-mean",
        "BNPO's gradient has at least 2 % less scale-free variance than that of REINFORCE with the group's mean.",
        primary=True,
    ),
]

FIT = [
    Claim(
        name="normaliser-follows",
        statement="α/β grows as the policy solves more prompts: the normaliser follows the training.",
        source="figure of α and β",
        arms={AFTER: Arm(f"bnpo {SHORT} --lr 1e-4"), BEFORE: Arm(f"bnpo {SHORT} --lr 1e-4")},
        compare=(AFTER, BEFORE),
        metric="log_ratio",
        criterion=Criterion("better"),
        measure=normaliser,
        cost=STEP_SECONDS * 40 + 12,
        note="ln(α/β), mean over 8 batches; m, a, b, α and β are in the cells.",
    ),
]

IDENTITIES = [
    Claim(
        name="generalises-both",
        statement="With α = β = 1 BNPO is REINFORCE with the group's mean, with α = β = 3/2 it is GRPO times π/8.",
        source="§3.2",
        arms={UNIFORM: Arm("bnpo"), SQUARE_ROOT: Arm("bnpo")},
        metric="equal",
        criterion=Criterion("exact"),
        unit="random draw",
        n=5,
        primary=True,
        measure=identities,
        cost=2.0,
        note="Float64, 1000 random groups a draw, elementwise within 1e-10. TRL's ε = 1e-4 moves GRPO's advantages by "
        "less than a thousandth (trl_gap in the cells).",
    ),
]

STEADY = {"bnpo": Arm(f"bnpo {SHORT} --lr 1e-4"), "grpo": Arm(f"grpo {SHORT} --lr 1e-4")}
STABILITY = [
    Claim(
        name="steadier-gradient",
        statement="BNPO's gradient norm varies less over training than GRPO's, relative to its mean.",
        source="figure of gradient norms",
        arms=STEADY,
        compare=("bnpo", "grpo"),
        metric="variation",
        criterion=Criterion("better"),
        higher_is_better=False,
        measure=steadiness,
        cost=STEP_SECONDS * 40 + 12,
        note="Standard deviation over mean: free of scale, so that 1/f cannot count as calm. Both arms at one rate.",
    ),
    Claim(
        name="no-more-spikes",
        statement="BNPO has no more spikes of the gradient norm (above three times the running median) than GRPO.",
        source="not of the paper",
        arms=STEADY,
        compare=("bnpo", "grpo"),
        metric="spikes",
        criterion=Criterion("not_worse", 1.0),
        events=Events("spikes", 0.0, most=0.55),
        higher_is_better=False,
        measure=steadiness,
        cost=1.0,
        note="Spikes in 40 steps; at most one more on average. The cells of steadier-gradient.",
    ),
    Claim(
        name="accuracy",
        statement="BNPO ends at a higher held-out accuracy than GRPO, each at its own best learning rate.",
        source="table of results",
        arms={"bnpo": Arm(f"bnpo {SHORT}", GRID), "grpo": Arm(f"grpo {SHORT}", GRID)},
        compare=("bnpo", "grpo"),
        metric="held_out/accuracy",
        criterion=Criterion("better"),
        gates={"grpo": ("held_out/accuracy", 0.45)},
        cost=STEP_SECONDS * 40 + 12,
        bounded_metric=True,
        note="The paper's gain is one or two points, less than five seeds can show. The gate: GRPO has not "
        "lost what the warm-up, to 0.45, gave it. AdamW does not see a gradient's scale and nothing is clipped, so "
        "arms rescaled to equal norms would be these.",
    ),
]


def _decomposition(name: str, against: str, command: str, statement: str, **more: Any) -> Claim:
    rate = "--lr 1e-4"
    return Claim(
        name=name,
        statement=statement,
        source="§3.4",
        arms={
            "decomposed": Arm(f"bnpo {TWO_REWARDS} {rate} --advantage bnpo_decomposed"),
            against: Arm(f"{command} {rate}"),
        },
        compare=("decomposed", against),
        metric="held_out/accuracy",
        cost=STEP_SECONDS * 40 + 12,
        note="Rewards exact and format, each 0 or 1; 30 updates. Gated: only "
        "policies that keep the format in 95 % of answers are compared.",
        gates=dict.fromkeys(("decomposed", against), ("held_out/well_formed", 0.95)),
        **more,
    )


REWARDS = [
    _decomposition(
        "decomposed-not-worse-than-sum",
        "sum",
        f"bnpo {TWO_REWARDS} --advantage bnpo:high=2",
        "Normalising each reward by itself is not worse than normalising their sum.",
        criterion=Criterion("not_worse", 0.1),
    ),
]

CLAIMS = [*NOISE, *FIT, *IDENTITIES, *STABILITY, *REWARDS]
