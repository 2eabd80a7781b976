"""The arms of BESO's claims, and the kinds of claims that share them."""

from __future__ import annotations

from pilotage.core.claims import Arm, Claim, Criterion
from pilotage.systems.robots.beso import measures

THREE = "abstract; card, claim 1"
DECOUPLED = "abstract; card, claim 2"
GUIDANCE = "guidance plot of the project page; card, claim 5"

RUN = "--films 0"
LATTICE = (
    "--world lattice-goals --demonstrated-in lattice-play --demonstrations 200 --evaluation-steps 300 --films 0 "
    "--path karras:sigma_min=0.02,sigma_max=1 --sampler ddim_sigma:steps=3,schedule=linear"
)
LATTICE_BASELINE = LATTICE[: LATTICE.index(" --path")]
RATES = ("--lr 1e-3", "--lr 3e-3", "--lr 1e-2")
WINDOW = "--observation-steps 5 --chunk 5"
BESO, GCBC = (Arm(f"{name} {RUN}", RATES) for name in ("beso", "gcbc"))
DDPM = Arm(f"ddpm-goals {RUN} --sampler ddim:steps=10", RATES)
"""Judged after training with ten steps: a hundred with guidance are two hundred passes at every one of 300 actions."""
DDPM_CLEAN = Arm(f"{DDPM.command} --head denoiser:predicts=clean", RATES)
"""The stronger discrete diffusion at these sizes: it predicts the clean action, not the noise."""
C_BET = Arm(f"c-bet {RUN}", tuple(f"{rate} --head bins:bins=24,offset_weight=10" for rate in RATES))
"""Bins and weight as a first search found them: with 64 bins and a weight of 1000 (C-BeT's own) results are .00-.04."""
LMP, RIL = (Arm(f"{name} {RUN}", RATES) for name in ("lmp", "ril"))
PLAIN = Arm(f"beso {RUN}")
"""The checkpoint that acts in many ways: at the learning rate of the defaults, untuned, since it serves every arm."""
TRAINED, RESULT = "evaluation/result", "result"
LEARNT = {"gcbc": (TRAINED, 0.1)}
TRAINING, PLANNED, LOOK = 110.0, 240.0, 15.0
"""CPU-seconds of one training with its evaluation, of one with plans, and of one more evaluation, extrapolated from
timed steps. A claim whose trainings another claim has counted counts its evaluations alone."""


def trained_claim(
    name: str, statement: str, arms: dict[str, Arm], criterion: Criterion, cost: float = TRAINING, **options: object
) -> Claim:
    """A claim about the tuned trainings as they act after training; all such claims share them."""
    weakest, best = arms
    return Claim(
        name=name,
        statement=statement,
        source="main table; card, claim 4",
        arms=arms,
        metric=TRAINED,
        criterion=criterion,
        compare=(best, weakest),
        cost=cost,
        bounded_metric=True,
        **options,  # type: ignore[arg-type]
    )


def same_checkpoint_claim(
    name: str,
    statement: str,
    source: str,
    of: str,
    against: str,
    criterion: Criterion,
    metric: str = RESULT,
    **options: object,
) -> Claim:
    """A claim about two ways in which one checkpoint acts from the same starts."""
    settings: dict[str, object] = {"measure": measures.acting, "cost": LOOK, **options}
    return Claim(
        name=name,
        statement=statement,
        source=source,
        arms={against: PLAIN, of: PLAIN},
        metric=metric,
        criterion=criterion,
        compare=(of, against),
        **settings,  # type: ignore[arg-type]
    )


def ablation_claim(name: str, statement: str, source: str, better: tuple[str, str], worse: tuple[str, str]) -> Claim:
    """A claim that one variant of BESO has a higher result than another: (arm, options) each."""
    return Claim(
        name=name,
        statement=statement,
        source=source,
        arms={arm: Arm(f"beso {RUN} {options}".strip()) for arm, options in (worse, better)},
        metric=TRAINED,
        criterion=Criterion("better", 0.0),
        compare=(better[0], worse[0]),
        tier="long",
        cost=TRAINING,
        bounded_metric=True,
    )


def unmeasured_claim(name: str, statement: str, source: str, why: str) -> Claim:
    return Claim(
        name=name,
        statement=statement,
        source=source,
        arms={"gcbc": GCBC, "beso": BESO},
        metric=TRAINED,
        criterion=Criterion("better", 0.0),
        compare=("beso", "gcbc"),
        tier="long",
        unmeasured=why,
    )
