"""STL-diffusion's claims (RA-L 2024) in a highway made here, at the scale of a laptop.

500 scenes × 8 draws for training, 60 scenes × 32 plans for testing, 12 drives of 8 plans (CTG takes seconds for a
decision of them). Plans by trajectory optimisation are artifacts and not counted. All planners that use a denoiser are
measured on one checkpoint: «sampled» (DDPM + augmentation) and «ctg» thereby have the same learner as the method, told
mode and ψ.
"""

from __future__ import annotations

import math

from pilotage.core.claims import Arm, Claim, Criterion
from pilotage.systems.robots.stl_diffusion import measures

GRID = ("--lr 1e-3", "--lr 3e-4", "--lr 3e-3")
PLANNERS = (
    "--planners constant,random,trajopt,sampled,rejection,candidates,refined,guided,released,ctg "
    "--closed-loop-planners constant,sampled,guided,ctg --closed-scenes 12 --closed-samples 8"
)
OURS = Arm(f"stl-diffusion {PLANNERS}", GRID)
"""One training; which planner of it is meant, the arm's name says."""
DDPM, TRAFFICSIM = Arm("traffic-ddpm", GRID), Arm("trafficsim", GRID)
TRAINING = 45.0
"""CPU-seconds of a job: a training with its evaluation (extrapolated: 460 s for ours, 80 to 190 s for the others, on a
slow machine), spread over the ten or so claims that read it."""


def _claim(
    name: str,
    statement: str,
    of: str,
    against: str,
    metric: str,
    criterion: Criterion,
    *,
    other: Arm = OURS,
    **options: object,
) -> Claim:
    """Return a claim that compares two planners of one training, or one with another system (`other`)."""
    settings: dict[str, object] = {
        "source": "table I",
        "measure": measures.row,
        "cost": TRAINING,
        "tuned_by": "compliance",
        **options,
    }
    return Claim(
        name=name,
        statement=statement,
        metric=metric,
        criterion=criterion,
        arms={of: OURS, against: other},
        compare=(of, against),
        **settings,  # type: ignore[arg-type]
    )


CLAIMS = [
    _claim(
        "compliance over the diffusion model",
        "Guided and refined, more plans keep their rule than the diffusion model's on the same augmented data: by 10 "
        "points at least (paper: .544 against .050).",
        "guided",
        "sampled",
        "compliance",
        Criterion("better", 0.1),
        primary=True,
        bounded_metric=True,
    ),
    _claim(
        "area over ctg",
        "Compliant plans cover 1.3 times the area of those of guidance at every level (paper: 33.5 against 14.9 m²).",
        "guided",
        "ctg",
        "log_area",
        Criterion("better", math.log(1.3)),
        primary=True,
    ),
    _claim(
        "time against ctg",
        "With guidance a scene takes a tenth of CTG's time.",
        "guided",
        "ctg",
        "log_speed",
        Criterion("better", math.log(10)),
        primary=True,
        source="abstract",
        measure=measures.seconds,
        tuned_by="log_speed",
        note="Processor time on the test scenes, one batch. The learning rate does not change it.",
    ),
    _claim(
        "compliance over ctg",
        "Guided and refined, more plans keep their rule than with guidance at every level (paper: .544 against .267).",
        "guided",
        "ctg",
        "compliance",
        Criterion("better", 0.05),
        bounded_metric=True,
    ),
    _claim(
        "refinement widens",
        "RefineNet adds to the area that compliant plans cover: by 5 % at least.",
        "refined",
        "candidates",
        "log_area",
        Criterion("better", math.log(1.05)),
        source="ablations",
    ),
    _claim(
        "augmentation widens the diffusion model",
        "Learning from augmented plans instead of logs, a diffusion model's compliant plans cover 1.5 times the area "
        "(paper: 1.96 times).",
        "sampled",
        "ddpm on logs",
        "log_area",
        Criterion("better", math.log(1.5)),
        other=DDPM,
        note="The jobs hold compliance, too, which falls in the paper.",
    ),
    _claim(
        "compliance over trafficsim",
        "Guided and refined, more plans keep their rule than TrafficSim's (paper: .544 against .335).",
        "guided",
        "trafficsim",
        "compliance",
        Criterion("better", 0.05),
        other=TRAFFICSIM,
    ),
    _claim(
        "area over trafficsim",
        "Compliant plans cover 1.5 times the area of TrafficSim's (paper: 4.9 times).",
        "guided",
        "trafficsim",
        "log_area",
        Criterion("better", math.log(1.5)),
        other=TRAFFICSIM,
    ),
    _claim(
        "closed loop: compliance of ctg is matched",
        "In closed loop as many plans keep their rule as CTG's, within 5 points (paper: .763, .704).",
        "guided",
        "ctg",
        "compliance",
        Criterion("not_worse", 0.05),
        source="table II",
        measure=measures.closed,
    ),
    Claim(
        name="controllable",
        statement="What plans do follows ψ: speed with vmax, offset with dmax, clearance with dsafe, each with a rank "
        "correlation above .9 over seven values.",
        source="figure on controllability",
        arms={"refined": OURS},
        metric="all_above_.9",
        criterion=Criterion("exact"),
        measure=measures.sweep,
        cost=TRAINING,
        tuned_by="compliance",
    ),
]
