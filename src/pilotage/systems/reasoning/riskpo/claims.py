"""What RiskPO promises (arXiv 2510.00911), on a laptop: sums of 1 to 4 digits, a policy of 0.4 M weights."""

from __future__ import annotations

from pilotage.core.claims import Arm, Claim, Criterion
from pilotage.systems.reasoning.riskpo import measures

WORLD = (
    "--difficulties 1,2,3,4 --pretrain-to-accuracy 0.35 --num-train-prompts 300 --prompts-per-step 15 "
    "--group-size 8 --steps 50 --evaluate-every 10 "
    "--evaluation-prompts 50 --save-rollouts 4"
)
GRID = ("--lr 3e-5", "--lr 1e-4")

GRPO = Arm(f"grpo {WORLD}", GRID)
RISKPO = Arm(f"riskpo {WORLD}", GRID)
PAIR = {"grpo": GRPO, "riskpo": RISKPO}
TUNED = "held_out/accuracy"
TRAINING = 65.0
"""CPU-seconds of one training with its probes, as timed; claims that share it count it once."""


def _trained(name: str, statement: str, source: str, metric: str, criterion: Criterion, **options: object) -> Claim:
    """A claim about the tuned trainings of GRPO and RiskPO, which all such claims share."""
    settings: dict[str, object] = {
        "arms": PAIR,
        "compare": ("riskpo", "grpo"),
        "gates": {"grpo": ("held_out/accuracy", 0.40)},
        **options,
    }
    return Claim(
        name=name,
        statement=statement,
        source=source,
        metric=metric,
        criterion=criterion,
        measure=measures.trained,
        tuned_by=TUNED,
        tuning_seeds=1,
        cost=TRAINING,
        **settings,  # type: ignore[arg-type]
    )


CLAIMS = [
    _trained(
        "entropy at equal accuracy",
        "At the same held-out accuracy, RiskPO keeps a higher entropy along gold solutions than GRPO.",
        "abstract",
        "gold_entropy_at_equal_accuracy",
        Criterion("better", 0.0),
        primary=True,
        note="Entropy is measured on the same gold prefixes for every policy, as a mean over accuracies 0.38 to 0.42, "
        "each where it is first reached; a run that never reaches 0.42 gives no number.",
    ),
    _trained(
        "signal",
        "More answers carry a non-zero advantage with RiskPO than with GRPO.",
        "section on bundling",
        "nonzero",
        Criterion("better", 0.2),
        primary=True,
        gates={},
    ),
    _trained(
        "pass@32 on hard levels",
        "After equal samples RiskPO solves more of the hard prompts within 32 answers than GRPO.",
        "table of pass@k",
        "pass@32",
        Criterion("better", 0.0),
        primary=True,
        bounded_metric=True,
        note="Unbiased estimate from 64 answers to each of 48 held-out prompts of levels 3 and 4.",
    ),
    _trained(
        "pass@8 on hard levels",
        "After equal samples RiskPO solves more of the hard prompts within 8 answers than GRPO.",
        "table of pass@k",
        "pass@8",
        Criterion("better", 0.0),
        bounded_metric=True,
    ),
    _trained(
        "hard levels",
        "After equal samples RiskPO is more accurate than GRPO on the two hardest levels.",
        "not of the paper",
        "hard_accuracy",
        Criterion("better", 0.0),
        bounded_metric=True,
    ),
    _trained(
        "held-out accuracy",
        "After equal samples RiskPO is more accurate than GRPO (pass@1, mean over levels).",
        "tables of pass@1",
        "held_out/accuracy",
        Criterion("better", 0.0),
        bounded_metric=True,
    ),
    _trained(
        "easy level",
        "RiskPO gives up little on the easiest level: not more than 10 points below GRPO.",
        "not of the paper",
        "easy_accuracy",
        Criterion("not_worse", 0.1),
        bounded_metric=True,
    ),
    Claim(
        name="covariance at checkpoints",
        statement="On the same answers, and with both scaled to deviation 1, RiskPO's advantage has a smaller "
        "covariance with log π than the mean-centred one.",
        source="theorem on entropy",
        arms={"mvar": GRPO, "mean": GRPO},
        metric="covariance",
        criterion=Criterion("better", 0.0),
        compare=("mvar", "mean"),
        higher_is_better=False,
        measure=measures.covariance,
        tuned_by=TUNED,
        tuning_seeds=1,
        cost=1.0,
        note="Mean over 6 looks (steps 0 to 50) at the GRPO training of each seed, 20 prompts × 16 answers each. The "
        "cells also hold `assumption`, mean log π of right minus wrong answers: positive "
        "where probability rises with the reward.",
    ),
    Claim(
        name="noise of bundling",
        statement="Bundling has a price: the gradient of the hardest level varies more over fresh answers with bundles "
        "of 5 prompts than with single prompts, at equal deviation of the advantages.",
        source="not of the paper",
        arms={"B=5": Arm(f"riskpo {WORLD}"), "B=1": Arm(f"riskpo {WORLD} --advantage mvar:size=1")},
        metric="log_variance",
        criterion=Criterion("better", 0.0),
        compare=("B=5", "B=1"),
        unit="draw of answers",
        measure=measures.bundling_noise,
        cost=15.0,
        note="Not of the paper: a cost that its reviewers would look for. 12 batches at the warmed-up policy.",
    ),
]
