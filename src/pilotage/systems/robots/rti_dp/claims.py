"""RTI-DP's claims (arXiv 2508.05396) at the scale of a laptop.

One base per environment and training seed, an artifact: a residual network that predicts clean chunks, 3×512 and 6,000
steps on Push-T with human demonstrations, 3×256 and 3,000 steps on the ring maze from one fixed start and on pick and
place with a gripper. Each arm has 60 starts and five seeds. «Within 3 points» cannot be shown with 60 starts, so the
margin is 5. Levels and the baselines' samplers are chosen on tuning seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pilotage.core.claims import Arm, Claim, Criterion
from pilotage.systems.robots.rti_dp import measures

PUSH_T = "rti-dp --env push-t --data pusht --num-envs 30 --videos 0 --timed-decisions 0"
SMALL = "--network residual_mlp:width=256,depth=3 --steps 3000 --num-envs 30 --videos 0 --timed-decisions 0"
RING = f"rti-dp --env ring-fixed {SMALL}"
PICK = f"rti-dp --env pick-place {SMALL}"
CHUNKS = "--start noise --n-action-steps 8"
MOVED = "--disturbance displaced:at=60,size=40"
COVERAGE, SUCCESS = "evaluation/coverage/best", "evaluation/success"
LONG_LIST = ",".join(map(str, [*range(40, 0, -3), 0]))
"""40, 37, … 1, 0: as long a list as the paper clips grippers with."""
LEVELS = ("--levels 3,1,0", "--levels 2,1,0", "--levels 10,5,0")
FULL_SAMPLERS = ("--sampler ddpm:steps=100", "--sampler ddim:steps=100", "--sampler ddim:steps=16")
THREE_PASSES = ("--sampler ddim:steps=3", "--sampler ddim:steps=3,eta=1", "--sampler 'ddpm:levels=99|50|0'")
GRIPPER_LEVELS = ("--levels 3,1,0", "--levels 10,5,0", f"--levels {LONG_LIST}")
GOOD_BASE = {"full": (COVERAGE, 0.7)}
"""Gate of Push-T: about what regression covers there."""


def _claim(name: str, statement: str, source: str, arms: Mapping[str, str | Arm], **more: Any) -> Claim:
    """Return a claim on runs, measured by `acted` unless another measure is given."""
    made = {arm: spec if isinstance(spec, Arm) else Arm(spec) for arm, spec in arms.items()}
    return Claim(
        name, statement, source, made, **{"measure": measures.acted, "needs": ("robots",), "cost": 40.0, **more}
    )


def _over(name: str, statement: str, other: str, source: str, criterion: Criterion) -> Claim:
    """Return a claim on RTI against another way to act with the same base, on Push-T."""
    arms = {"full": f"{PUSH_T} {CHUNKS}", "other": f"{PUSH_T} {other}", "rti": PUSH_T}
    return _claim(
        name, statement, source, arms, metric=COVERAGE, criterion=criterion, compare=("rti", "other"), gates=GOOD_BASE
    )


CLAIMS = [
    _claim(
        "push-t: as good as in full",
        "On Push-T one action per decision in three passes covers at most 5 points less than the same base in full.",
        "section on state-based tasks",
        {"full": Arm(f"{PUSH_T} {CHUNKS}", FULL_SAMPLERS), "rti": Arm(PUSH_T, LEVELS)},
        metric=COVERAGE,
        criterion=Criterion("not_worse", 0.05),
        compare=("rti", "full"),
        gates=GOOD_BASE,
        primary=True,
        cost=50.0,
    ),
    _claim(
        "time of a decision",
        "A decision takes at most a twentieth of the time of one in full, one episode at a time, one thread.",
        "abstract",
        {"full": f"{PUSH_T} {CHUNKS}", "rti": PUSH_T},
        metric="log_ms",
        criterion=Criterion("better", math.log(20)),
        compare=("rti", "full"),
        higher_is_better=False,
        measure=measures.latency,
        primary=True,
        cost=15.0,
        note="Depends on the processor that the document names. The paper says in proportion to passes: 100 to 3.",
    ),
    _claim(
        "gripper: scaling over plain",
        "Where the gripper was scaled for training, warm starts succeed more often than where nothing was done.",
        "section on discrete actions",
        {
            "full": Arm(f"{PICK} {CHUNKS}", FULL_SAMPLERS),
            "plain": Arm(f"{PICK} --gripper plain", GRIPPER_LEVELS),
            "scale": Arm(PICK, GRIPPER_LEVELS),
        },
        metric=SUCCESS,
        criterion=Criterion("better", 0.1),
        compare=("scale", "plain"),
        gates={"full": (SUCCESS, 0.5)},
        bounded_metric=True,
        primary=True,
        cost=30.0,
    ),
    _claim(
        "gripper: as good as in full",
        "With a scaled gripper warm starts succeed at most 10 points less often than the same base in full.",
        "section on discrete actions",
        {"full": Arm(f"{PICK} {CHUNKS}", FULL_SAMPLERS), "scale": Arm(PICK, GRIPPER_LEVELS)},
        metric=SUCCESS,
        criterion=Criterion("not_worse", 0.1),
        compare=("scale", "full"),
        gates={"full": (SUCCESS, 0.5)},
        bounded_metric=True,
        cost=30.0,
    ),
    _claim(
        "push-t: over three passes from noise",
        "Three passes from the last plan cover more than three passes from noise, at one action per decision.",
        "method (a control that the paper lacks)",
        {
            "full": Arm(f"{PUSH_T} {CHUNKS}", FULL_SAMPLERS),
            "noise": Arm(f"{PUSH_T} --start noise", THREE_PASSES),
            "rti": Arm(PUSH_T, LEVELS),
        },
        metric=COVERAGE,
        criterion=Criterion("better", 0.0),
        compare=("rti", "noise"),
        gates=GOOD_BASE,
    ),
    _over(
        "push-t: over the old plan",
        "Denoising the shifted plan covers more than following it blindly to its end.",
        "--levels ''",
        "method (a control that the paper lacks)",
        Criterion("better", 0.0),
    ),
    _over(
        "push-t: no noise on the guess",
        "Denoising the guess as it is is at most 5 points worse than noising it first to the same level (SDEdit).",
        "--start renoised",
        "method",
        Criterion("not_worse", 0.05),
    ),
    _claim(
        "push-t: a displaced block",
        "When the block is moved by 40 pixels in mid-episode, warm starts cover more than chunks of eight in full.",
        "introduction (closed-loop reaction)",
        {"full": f"{PUSH_T} {CHUNKS} {MOVED}", "rti": f"{PUSH_T} {MOVED}"},
        metric=COVERAGE,
        criterion=Criterion("better", 0.0),
        compare=("rti", "full"),
    ),
    _claim(
        "ring: one mind at the fork",
        "At the fork warm starts change the planned route less often per episode than full denoising at every action.",
        "method (consistency of consecutive plans)",
        {"full": f"{RING} --start noise", "rti": RING},
        metric="switches",
        criterion=Criterion("better", 0.5),
        compare=("rti", "full"),
        higher_is_better=False,
        measure=measures.fork,
        cost=120.0,
    ),
    _claim(
        "guesses contract on push-t",
        "Denoising from the estimated K' shrinks a disturbance of the guess.",
        "section on contractivity",
        {"rti": PUSH_T},
        metric="shrinks",
        criterion=Criterion("exact"),
        measure=measures.chosen_level,
        cost=15.0,
    ),
]
