"""Claims of BESO that take hours, and those that nothing measures here."""

from __future__ import annotations

from pilotage.core.claims import Arm, Claim, Criterion
from pilotage.systems.robots.beso import measures
from pilotage.systems.robots.beso.claims_arms import (
    BESO,
    DECOUPLED,
    GUIDANCE,
    LATTICE,
    LATTICE_BASELINE,
    PLAIN,
    PLANNED,
    RESULT,
    RIL,
    TRAINING,
    WINDOW,
    ablation_claim,
    same_checkpoint_claim,
    trained_claim,
    unmeasured_claim,
)

LONG = [
    Claim(
        name="all samplers, levels and steps",
        statement="Of 6 samplers, 4 laws of levels and 3, 5 or 10 steps with one checkpoint, the lowest result is at "
        "most 10 points below that of DDIM with 3 linear levels.",
        source=DECOUPLED,
        arms={"3 steps": PLAIN, "lowest": PLAIN},
        metric=RESULT,
        criterion=Criterion("not_worse", 0.1),
        compare=("lowest", "3 steps"),
        tier="long",
        measure=measures.spread,
        cost=96 * 18.0,
        note="The cells hold all 96 numbers.",
    ),
    same_checkpoint_claim(
        "a weight of three",
        "λ = 3 keeps the result of λ = 2, within 10 points.",
        GUIDANCE,
        "weight 3",
        "weight 2",
        Criterion("not_worse", 0.1),
        tier="long",
        bounded_metric=True,
    ),
    ablation_claim(
        "clean context",
        "Training with the executed actions as they are, instead of noised, raises the result: it closes the gap "
        "between training and acting of the released code.",
        "card, traps (not of the paper)",
        ("clean", f"{WINDOW} --context clean"),
        ("noised", f"{WINDOW} --context noised"),
    ),
    ablation_claim(
        "context of executed actions",
        "Seeing the executed actions raises the result over predicting the whole window anew.",
        "card, traps (not of the paper)",
        ("executed", f"{WINDOW} --context noised"),
        ("anew", WINDOW),
    ),
    ablation_claim(
        "goals that show what is asked for",
        "Training with goals that show the blocks alone, as when acting, raises the result over whole future states.",
        "card, bench configuration (not of the paper)",
        ("blocks", ""),
        ("whole state", "--goal-shows all"),
    ),
    ablation_claim(
        "whole goals are dropped",
        "Dropping goals whole raises the result over zeroing each entry by itself, as the released code does.",
        "card, method 6",
        ("whole", ""),
        ("entries", "--encoder flatten:dropout_kind=element"),
    ),
    ablation_claim(
        "guidance",
        "With guidance (λ = 2) the result is higher than that of a model trained without dropping goals.",
        "main table (CFG-BESO and C-BESO)",
        ("cfg", ""),
        ("c-beso", "--goal-dropout 0 --goal-weight 1"),
    ),
    ablation_claim(
        "preconditioning",
        "The preconditioned residual has a higher result than predicting the noise on the same path.",
        "ablation on preconditioning",
        ("residual", ""),
        ("noise", "--head denoiser:predicts=noise"),
    ),
    ablation_claim(
        "law of levels in training",
        "Log-logistic training levels have a higher result than uniform ones.",
        "ablation on the law of σ",
        ("log-logistic", ""),
        ("uniform", "--path karras:sigma_min=0.05,sigma_max=1,law=uniform"),
    ),
    ablation_claim(
        "window",
        "A window of five states has a higher result than one.",
        "ablation on the window",
        ("five", WINDOW),
        ("one", ""),
    ),
    Claim(
        name="three steps in the lattice",
        statement="In play among the pillars of a lattice, too, three steps reach the successes of fifty within 3 "
        "points.",
        source="card, claim 1, world B",
        arms={"50 steps": Arm(f"beso {LATTICE}"), "3 steps": Arm(f"beso {LATTICE}")},
        metric=RESULT,
        criterion=Criterion("not_worse", 0.03),
        compare=("3 steps", "50 steps"),
        tier="long",
        measure=measures.acting,
        cost=TRAINING + 200.0,
        bounded_metric=True,
    ),
    Claim(
        name="routes in the lattice",
        statement="From corner to corner of the lattice BESO takes more routes than C-BeT and regression: regression "
        "least.",
        source="card, claim 3, world B",
        arms={
            "gcbc": Arm(f"gcbc {LATTICE_BASELINE}"),
            "c-bet": Arm(f"c-bet {LATTICE_BASELINE}"),
            "beso": Arm(f"beso {LATTICE}"),
        },
        metric="entropy",
        criterion=Criterion("rank", 0.33),
        tier="long",
        measure=measures.lattice_routes,
        cost=TRAINING,
    ),
    Claim(
        name="baselines in the lattice",
        statement="Towards goals in the lattice BESO succeeds more often than C-BeT, and that than regression.",
        source="card, claim 4, world B",
        arms={
            "gcbc": Arm(f"gcbc {LATTICE_BASELINE}"),
            "c-bet": Arm(f"c-bet {LATTICE_BASELINE}"),
            "beso": Arm(f"beso {LATTICE}"),
        },
        metric="evaluation/success",
        criterion=Criterion("rank", 0.33),
        tier="long",
        cost=TRAINING,
    ),
    trained_claim(
        "over relay policies",
        "Towards goals BESO has a higher result than the two levels of RIL.",
        {"ril": RIL, "beso": BESO},
        Criterion("better", 0.0),
        PLANNED,
        tier="long",
        note="Tried before on a tuning seed, at 1e-3: windows of 16 and of 4 frames, subgoals kept for 1 to 16 steps, "
        "results .00 to .03; subgoals are off by .19 where the state changes by .32 (root mean square, normalised).",
    ),
    unmeasured_claim(
        "distance to the oracle's actions",
        "At fixed states BESO's actions are nearer in distribution to the oracle's than C-BeT's are.",
        "card, claim 3",
        "the oracle's action depends on the phase of its plan, which the state does not show, so that there is no law "
        "of actions at a state to compare with",
    ),
    unmeasured_claim(
        "first in goal-conditioned imitation",
        "BESO is the first decoupled score model in goal-conditioned imitation.",
        "abstract; card, claim 6 b",
        "a statement about the literature, which no experiment can test",
    ),
    unmeasured_claim(
        "goal-conditioned push-t",
        "On Push-T with goals BESO covers more than C-BeT.",
        "re-evaluation in VQ-BeT; card, world C",
        "the Push-T world here has one fixed target and takes no goal",
    ),
    unmeasured_claim(
        "kitchen",
        "In the relay kitchen BESO completes more of four tasks than C-BeT.",
        "main table",
        "no openly licensed copy of its play data was found, and without it there is nothing to learn from",
    ),
    unmeasured_claim(
        "calvin",
        "On CALVIN, from images, BESO is better than policies with latent plans.",
        "main table",
        "CALVIN's images are hundreds of gigabytes and need a GPU",
    ),
]
