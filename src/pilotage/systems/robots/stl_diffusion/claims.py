"""What STL-diffusion promises (RA-L 2024), in the world Lanes.

Reduced against the card: 500 scenes × 8 draws for training (not 2,000 × 16), 60 scenes × 32 plans for testing (not 300
× 64), 12 drives of 8 plans (not 60 of 16; CTG takes seconds for a decision of them). Plans by trajectory optimisation
are artifacts and not counted. All rows that plan with a denoiser are measured on one checkpoint: the rows «sampled»
(DDPM + augmentation), «ctg» and «rejection» thereby get the same learner as the method, told mode and ψ."""

from __future__ import annotations

import math

from pilotage.core.claims import Arm, Claim, Criterion
from pilotage.systems.robots.stl_diffusion import measures

GRID = ("--lr 1e-3", "--lr 3e-4", "--lr 3e-3")
ROWS = "--rows constant,random,trajopt,sampled,rejection,candidates,refined,guided,released,ctg"
ALL_ROWS = f"{ROWS} --closed-rows constant,sampled,guided,ctg --closed-scenes 12 --closed-samples 8"
OURS = Arm(f"stl-diffusion {ALL_ROWS}", GRID)
"""One training; which row of it is meant, the arm's name says."""
VAE, DDPM = Arm("traffic-vae", GRID), Arm("traffic-ddpm", GRID)
VAE_AUGMENTED = Arm("traffic-vae --data augmented", GRID)
TRAFFICSIM = Arm("trafficsim", GRID)
TRAINING, BASELINE = 45.0, 45.0
"""CPU-seconds of a cell: a training with its judgement (extrapolated: 460 s for ours, 80 to 190 s for the others, on a
slow machine), spread over the ten or so cells that are read off it."""


def _claim(name: str, statement: str, source: str, metric: str, criterion: Criterion, **options: object) -> Claim:
    """A claim about two rows or systems in open loop; tuned by compliance."""
    settings: dict[str, object] = {"measure": measures.row, "cost": TRAINING, "tuned_by": "compliance", **options}
    return Claim(
        name=name,
        statement=statement,
        source=source,
        metric=metric,
        criterion=criterion,
        **settings,  # type: ignore[arg-type]
    )


def _rows(
    name: str, statement: str, of: str, against: str, metric: str, criterion: Criterion, **options: object
) -> Claim:
    """A claim that compares two rows of one training."""
    settings: dict[str, object] = {"source": "table I; card, claim «most diverse rule-compliant»", **options}
    return _claim(
        name,
        statement,
        metric=metric,
        criterion=criterion,
        arms={of: OURS, against: OURS},
        compare=(of, against),
        **settings,  # type: ignore[arg-type]
    )


def _closed(
    name: str, statement: str, of: str, against: str, metric: str, criterion: Criterion, **options: object
) -> Claim:
    return _rows(
        name,
        statement,
        of,
        against,
        metric,
        criterion,
        source="table II; card, claim «closed loop»",
        measure=measures.closed,
        **options,
    )


def _ablation(name: str, statement: str, option: str, metric: str, delta: float, of: str = "refined") -> Claim:
    """A training without one part, compared in the row `of`; its name, too, must be a row."""
    return _claim(
        name,
        statement,
        "ablations; card, claim «RefineNet and DPP loss matter»",
        metric,
        Criterion("better", delta),
        arms={of: Arm(OURS.command), f"without ({of})": Arm(f"{OURS.command} {option}")},
        compare=(of, f"without ({of})"),
        tier="long",
        measure=measures.ablation,
        tuned_by="",
    )


def _unmeasured(name: str, statement: str, source: str, why: str) -> Claim:
    return Claim(
        name=name,
        statement=statement,
        source=source,
        arms={"guided": OURS, "sampled": OURS},
        metric="compliance",
        criterion=Criterion("better", 0.0),
        compare=("guided", "sampled"),
        tier="long",
        unmeasured=why,
    )


def _time(name: str, statement: str, of: str, factor: float, **options: object) -> Claim:
    return _rows(
        name,
        statement,
        of,
        "ctg",
        "log speed",
        Criterion("better", math.log(factor)),
        source="abstract; card, claim «1/17 run time of CTG»",
        measure=measures.seconds,
        tuned_by="log speed",
        note="Processor time on the test scenes, one batch. The learning rate does not change it.",
        **options,
    )


CLAIMS = [
    Claim(
        name="calibration",
        statement="At least 99 % of the logged drives satisfy the rule that is calibrated on them.",
        source="section on calibration; card, claim «calibration»",
        arms={"calibrated": Arm("stl-diffusion")},
        metric="at least .99",
        criterion=Criterion("exact"),
        unit="500 scenes",
        n=16,
        measure=measures.calibration,
        cost=0.5,
    ),
    _rows(
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
    _rows(
        "area over ctg",
        "Compliant plans cover 1.3 times the area of those of guidance at every level (paper: 33.5 against 14.9 m²).",
        "guided",
        "ctg",
        "log area",
        Criterion("better", math.log(1.3)),
        primary=True,
    ),
    _time("time against ctg", "With guidance a scene takes a tenth of CTG's time.", "guided", 10, primary=True),
    _time("time against ctg, without guidance", "Without guidance a scene takes a fiftieth of it.", "refined", 50),
    _rows(
        "compliance over ctg",
        "Guided and refined, more plans keep their rule than with guidance at every level (paper: .544 against .267).",
        "guided",
        "ctg",
        "compliance",
        Criterion("better", 0.05),
        bounded_metric=True,
    ),
    _rows(
        "success of ctg is matched",
        "In as many scenes and modes some plan keeps its rule as with CTG, within 5 points (paper: .840, .833).",
        "guided",
        "ctg",
        "success",
        Criterion("not_worse", 0.05),
    ),
    _rows(
        "area over rejection",
        "Compliant plans cover more than the best of eight times as many draws of the diffusion model.",
        "guided",
        "rejection",
        "log area",
        Criterion("better", 0.0),
        source="card, row that the paper lacks",
        note="«time against rejection» says what the eight draws cost.",
    ),
    _rows(
        "time against rejection",
        "Eight draws for every plan take no less time than guidance, so that the comparison is fair.",
        "guided",
        "rejection",
        "log speed",
        Criterion("not_worse", math.log(1.5)),
        source="card, row that the paper lacks",
        measure=measures.seconds,
        tuned_by="log speed",
    ),
    _rows(
        "the oracle bounds all",
        "Trajectory optimisation keeps rules more often than the method (paper: .746 against .544).",
        "trajopt",
        "guided",
        "compliance",
        Criterion("better", 0.0),
        bounded_metric=True,
    ),
    _rows(
        "doing nothing is not enough",
        "The method succeeds in more scenes and modes than constant velocity: by 20 points at least.",
        "guided",
        "constant",
        "success",
        Criterion("better", 0.2),
        source="card, traps",
    ),
    _rows(
        "refinement widens",
        "RefineNet adds to the area that compliant plans cover: by 5 % at least.",
        "refined",
        "candidates",
        "log area",
        Criterion("better", math.log(1.05)),
        source="ablations; card, claim «RefineNet and DPP loss matter»",
    ),
    _rows(
        "refinement repairs",
        "RefineNet adds to compliance.",
        "refined",
        "candidates",
        "compliance",
        Criterion("better", 0.0),
        source="ablations; card, claim «RefineNet and DPP loss matter»",
    ),
    _rows(
        "several candidates",
        "Choosing among the last five iterates adds to compliance.",
        "candidates",
        "sampled",
        "compliance",
        Criterion("better", 0.0),
        source="ablations; card, claim «RefineNet and DPP loss matter»",
    ),
    _rows(
        "signed clip over the released one",
        "A clip of the change's size with its sign keeps more rules than the released clip, whose changes all go up.",
        "guided",
        "released",
        "compliance",
        Criterion("better", 0.0),
        source="released code; card, step 5",
    ),
    _claim(
        "augmentation widens the diffusion model",
        "Learning from augmented plans instead of logs, a diffusion model's compliant plans cover 1.5 times the area "
        "(paper: 1.96 times).",
        "table I; card, claim «augmentation gives diversity»",
        "log area",
        Criterion("better", math.log(1.5)),
        arms={"sampled": OURS, "ddpm on logs": DDPM},
        compare=("sampled", "ddpm on logs"),
        note="The cells hold compliance, too, which falls in the paper.",
    ),
    _claim(
        "augmentation disorders the diffusion model",
        "Learning from augmented plans, its compliant plans' controls have more entropy: .1 nats at least.",
        "table I; card, claim «augmentation gives diversity»",
        "entropy",
        Criterion("better", 0.1),
        arms={"sampled": OURS, "ddpm on logs": DDPM},
        compare=("sampled", "ddpm on logs"),
    ),
    _claim(
        "compliance over trafficsim",
        "Guided and refined, more plans keep their rule than TrafficSim's (paper: .544 against .335).",
        "table I; card, claim «most diverse rule-compliant»",
        "compliance",
        Criterion("better", 0.05),
        arms={"guided": OURS, "trafficsim": TRAFFICSIM},
        compare=("guided", "trafficsim"),
    ),
    _claim(
        "area over trafficsim",
        "Compliant plans cover 1.5 times the area of TrafficSim's (paper: 4.9 times).",
        "table I; card, claim «most diverse rule-compliant»",
        "log area",
        Criterion("better", math.log(1.5)),
        arms={"guided": OURS, "trafficsim": TRAFFICSIM},
        compare=("guided", "trafficsim"),
    ),
    _closed(
        "closed loop: compliance of ctg is matched",
        "In closed loop as many plans keep their rule as CTG's, within 5 points (paper: .763, .704).",
        "guided",
        "ctg",
        "compliance",
        Criterion("not_worse", 0.05),
    ),
    _closed(
        "closed loop: collisions",
        "In closed loop the method collides no more often than CTG, within 5 points (paper: .077, .115).",
        "guided",
        "ctg",
        "collision",
        Criterion("not_worse", 0.05),
        higher_is_better=False,
    ),
    _closed(
        "closed loop: area over the diffusion model",
        "In closed loop compliant plans cover more than the diffusion model's, by 2 m² at least (paper: 21.6, 5.25).",
        "guided",
        "sampled",
        "area",
        Criterion("better", 2.0),
    ),
    _claim(
        "controllable",
        "What plans do follows ψ: speed with vmax, offset with dmax, clearance with dsafe, each with a rank "
        "correlation above .9 over seven values.",
        "figure on controllability; card, claim «controllable»",
        "all above .9",
        Criterion("exact"),
        arms={"refined": OURS},
        measure=measures.sweep,
    ),
    _claim(
        "augmentation widens the vae",
        "Learning from augmented plans instead of logs, a VAE's compliant plans cover 1.2 times the area; in the paper "
        "they do not (1.01 times).",
        "table I; card, claim «augmentation gives diversity»",
        "log area",
        Criterion("better", math.log(1.2)),
        arms={"vae, augmented": VAE_AUGMENTED, "vae on logs": VAE},
        compare=("vae, augmented", "vae on logs"),
        tier="long",
        cost=BASELINE,
    ),
    _ablation(
        "dpp loss over L_STL",
        "The DPP loss covers 1.1 times the area of L_STL alone.",
        "--refine-loss rule",
        "log area",
        math.log(1.1),
    ),
    _ablation("sharing", "A summary shared by siblings adds to the area.", "--no-shared", "log area", 0.0),
    _ablation(
        "candidates in training", "Refining candidates beats refining final plans.", "--candidates 1", "success", 0.0
    ),
    _ablation(
        "mask",
        "Leaving out plans that break their rule adds to compliance.",
        "--no-masked",
        "compliance",
        0.0,
        "sampled",
    ),
    Claim(
        name="short trajectory optimisation",
        statement="300 steps at .03 in units of the limits succeed as often as the paper's 2000 at .005, within 2 "
        "points.",
        source="card, bench configuration",
        arms={"short": Arm("stl-diffusion"), "paper": Arm("stl-diffusion")},
        metric="success",
        criterion=Criterion("not_worse", 0.02),
        compare=("short", "paper"),
        unit="5 scenes",
        n=10,
        tier="long",
        measure=measures.oracle,
        cost=10.0,
    ),
    _unmeasured(
        "human-robot case",
        "In the world Encounter the learnt plans are nearer to the oracle's set than other learners' (MMD, Chamfer).",
        "case study; card, claim «human-robot case»",
        "the trainer knows the world Lanes only; Encounter's rule and roll-out are there, its encoder is not",
    ),
    _unmeasured(
        "closed loop in highway-env",
        "In highway-env, too, the method keeps its rule and collides seldom.",
        "card, world Lanes",
        "no adapter from highway-env's roads to scenes is written",
    ),
    _unmeasured(
        "nuScenes",
        "On nuScenes the tables of the paper come out.",
        "tables I and II",
        "the data is under its owners' licence and needs a download; there is no reader here",
    ),
]
