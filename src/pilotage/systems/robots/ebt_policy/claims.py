"""EBT-Policy's claims (arXiv 2510.27545) at the scale of a laptop: residual networks 3×256 on every side.

2,000 steps on the pillar, 6,000 and 30 episodes on Push-T. The fork is that before the pillar, which experts pass on
either side: on the ring, success does not separate the methods.

Seen before on a tuning seed, Push-T at 1e-3: diffusion .64, regression .66, matching .34 (30 steps: .14), the paper's
loss .27 (at 3e-4 .19; no unit scale .31; two, four or ten steps or the best of 16 starts: less than .04 of change).
1e-2 was added for all arms after a first reading, in which nearly all had chosen 3e-3, the larger of two rates.
"""

from __future__ import annotations

import math

from pilotage.core.claims import Arm, Claim, Criterion
from pilotage.systems.robots.ebt_policy import measures

SIZE = "--network residual_mlp:width=256,depth=3 --videos 0"
PILLAR = f"{SIZE} --env pillar --steps 2000 --batch 128"
PUSH_T = f"{SIZE} --env push-t --data pusht --steps 6000 --batch 128 --evaluation-episodes 30"
GRID = ("--lr 1e-3", "--lr 3e-3", "--lr 1e-2")
HEADS = {
    "ebt": "ebt-policy --head ebt",
    "matching": "ebt-policy --head energy",
    "diffusion": "diffusion-mlp --grad-clip 1",
    "regression": "bc-mlp --grad-clip 1",
}
COST = {PILLAR: 35.0, PUSH_T: 98.0}
"""CPU-seconds of a training with its evaluation, mean over the arms; Push-T's were timed, the others extrapolated."""
EXTRA = 3.0  # CPU-seconds of a measure of a policy that is trained already
SUCCESS, COVERAGE = "evaluation/success", "evaluation/coverage/best"
TUNED_BY = {PILLAR: SUCCESS, PUSH_T: COVERAGE}


def _claim(
    name: str,
    statement: str,
    source: str,
    world: str,
    metric: str,
    criterion: Criterion,
    compare: tuple[str, str],
    *,
    head: str = "",
    **options: object,
) -> Claim:
    """Return a claim about tuned trainings in `world`, which all such claims share.

    The arms of `compare` are heads, or two ways to act with the same weights of `head`.
    """
    settings: dict[str, object] = {"measure": measures.trained, "cost": COST[world], **options}
    return Claim(
        name=name,
        statement=statement,
        source=source,
        arms={arm: Arm(f"{HEADS[head or arm]} {world}", GRID) for arm in reversed(compare)},
        metric=metric,
        criterion=criterion,
        compare=compare,
        tuned_by=TUNED_BY[world],
        **settings,  # type: ignore[arg-type]
    )


CLAIMS = [
    _claim(
        "coverage over diffusion",
        "On Push-T with real demonstrations the paper's energy covers more of the goal than diffusion of equal size in "
        "equally many optimiser steps.",
        "abstract",
        PUSH_T,
        COVERAGE,
        Criterion("better", 0.0),
        ("ebt", "diffusion"),
        primary=True,
        gates={"diffusion": (COVERAGE, 0.55)},
        note="The diffusion side predicts the clean chunk and takes the steps it was tuned with. An optimiser step "
        "of the energy costs several of diffusion's: see the claim on training compute.",
    ),
    _claim(
        "fifty times less compute",
        "A decision of the paper's energy costs 50 times fewer floating-point operations than 100 denoiser steps.",
        "abstract (2 steps instead of 100)",
        PUSH_T,
        "log_decision_flops",
        Criterion("better", math.log(50)),
        ("ebt", "diffusion"),
        higher_is_better=False,
        primary=True,
        measure=measures.compute,
        cost=EXTRA,
        note="Operations are counted in what is executed, backwards included. Two steps, each a forward and a backward "
        "of the activations, are about four forwards.",
    ),
    _claim(
        "the energy knows odd observations",
        "The energy after descent separates disturbed observations from those of held-back demonstrations better than "
        "diffusion's own denoising error does.",
        "abstract",
        PUSH_T,
        "area",
        Criterion("better", 0.0),
        ("ebt", "diffusion"),
        primary=True,
        measure=measures.detection,
        cost=EXTRA,
        note="Noise of .5 in normalised units on every number of the state. Held-back demonstrations only.",
    ),
    _claim(
        "matching over diffusion",
        "With equilibrium matching the same landscape covers more of Push-T's goal than diffusion.",
        "abstract (with the remedy of the default head)",
        PUSH_T,
        COVERAGE,
        Criterion("better", 0.0),
        ("matching", "diffusion"),
        gates={"diffusion": (COVERAGE, 0.55)},
    ),
    _claim(
        "two steps over diffusion at equal compute",
        "Forced to two steps, the paper's energy covers more than diffusion with the four passes that these cost.",
        "abstract (2 steps)",
        PUSH_T,
        COVERAGE,
        Criterion("better", 0.05),
        ("ebt", "diffusion"),
        measure=measures.few_passes,
        cost=12.0,
    ),
    _claim(
        "less compute in training",
        "A window of training costs fewer floating-point operations than diffusion's.",
        "abstract (less training)",
        PILLAR,
        "log_training_flops",
        Criterion("better", 0.0),
        ("ebt", "diffusion"),
        higher_is_better=False,
        measure=measures.compute,
        cost=EXTRA,
        note="At equally many steps.",
    ),
    _claim(
        "the paper's loss at a fork is regression",
        "Before a pillar that experts pass on either side, the paper's loss succeeds as rarely as regression.",
        "not of the paper: a weakness of its loss",
        PILLAR,
        SUCCESS,
        Criterion("same", 0.1),
        ("ebt", "regression"),
    ),
    _claim(
        "matching at a fork",
        "There, equilibrium matching on the same landscape succeeds more often than the paper's loss, by 30 points.",
        "not of the paper: a weakness of its loss",
        PILLAR,
        SUCCESS,
        Criterion("better", 0.3),
        ("matching", "ebt"),
        bounded_metric=True,
    ),
    _claim(
        "an early stop costs nothing",
        "With the same weights and starts, stopping decisions at rest loses at most 5 points of success against all "
        "ten steps.",
        "abstract (dynamic computation)",
        PILLAR,
        SUCCESS,
        Criterion("not_worse", 0.05),
        ("early stop", "all steps"),
        head="matching",
        measure=measures.stopping,
        cost=EXTRA,
    ),
    _claim(
        "more steps at a fork",
        "More gradients are taken before the pillar, where experts part, than behind it.",
        "abstract (dynamic computation)",
        PILLAR,
        "gradients",
        Criterion("better", 0.0),
        ("fork", "past it"),
        head="matching",
        measure=measures.steps_by_place,
        cost=EXTRA,
    ),
]
