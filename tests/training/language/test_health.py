"""What goes wrong without an error is said, once, and survives a checkpoint."""

from __future__ import annotations

import math

import pytest
import torch
from tests.properties.batches import random_rollouts

from pilotage.core.errors import RunError
from pilotage.systems.reasoning.riskpo.advantage import CHECK, FALLS
from pilotage.training.language.config import TextConfig
from pilotage.training.language.health import PATIENCE, HealthMonitor
from pilotage.training.language.piece_set import make_piece_set
from pilotage.types import Rollouts

SOUND = {"groups/zero_variance": 0.5, "truncated": 0.1, "logp": -1.0, "reward/mean": 0.5}
GTPO = {"advantage": "center", "shaping": "entropy_shape", "surrogate": "reinforce"}


def watch(**slots: str) -> HealthMonitor:
    return HealthMonitor(make_piece_set(TextConfig(**slots)))


def batch(groups: int = 4, entropy: float = 0.1) -> Rollouts:
    rollouts = random_rollouts(groups=groups)
    rollouts.columns["entropy"] = torch.full(rollouts.mask.shape, entropy)
    return rollouts


def kinds(
    look: HealthMonitor, steps: int, rollouts: Rollouts | None = None, initial: float | None = 0.3, **numbers
) -> list[str]:
    """Kinds of the events of so many steps that are alike."""
    found = []
    for _ in range(steps):
        found += [kind for kind, _ in look({**SOUND, **numbers}, rollouts, initial)]
    return found


def test_reasoning_that_was_never_finished_is_said_once() -> None:
    look = watch()
    assert kinds(look, 3, batch()) == []
    assert kinds(look, 3, batch(), unfinished_reasoning=2.0) == ["unfinished reasoning"]


def test_a_sound_run_says_nothing() -> None:
    assert kinds(watch(), 3 * PATIENCE, batch()) == []


@pytest.mark.parametrize("rollouts", [None, batch()], ids=["all filtered", "trained"])
def test_equal_rewards_for_many_steps_in_a_row_are_said_once(rollouts: Rollouts | None) -> None:
    look = watch()
    equal = {"groups/zero_variance": 1.0}
    assert kinds(look, PATIENCE - 1, rollouts, **equal) == []
    assert kinds(look, 1, batch()) == []
    assert kinds(look, PATIENCE - 1, rollouts, **equal) == []
    assert kinds(look, 1, rollouts, **equal) == ["equal rewards"]
    assert kinds(look, 3 * PATIENCE, rollouts, **equal) == []


@pytest.mark.parametrize(("share", "said"), [(0.2, []), (0.21, ["truncated"]), (1.0, ["truncated"])])
def test_many_truncated_answers_are_said_once_with_their_share(share: float, said: list[str]) -> None:
    assert kinds(watch(), 5, batch(), truncated=share) == said
    events = watch()({**SOUND, "truncated": share}, batch(), None)
    assert all(f"{share:.0%} of the answers" in text and "--max-tokens" in text for _, text in events)


@pytest.mark.parametrize(
    ("advantage", "groups", "said"),
    [
        ("bnpo", 3, ["few prompts"]),
        ("bnpo_decomposed", 3, ["few prompts"]),
        ("0.5*zscore+0.5*bnpo", 3, ["few prompts"]),
        ("bnpo", 4, []),
        ("bnpo:alpha=1.5,beta=1.5", 3, []),
        ("zscore", 3, []),
    ],
)
def test_too_few_prompts_for_a_beta_fit_are_said_once(advantage: str, groups: int, said: list[str]) -> None:
    assert kinds(watch(advantage=advantage), 5, batch(groups)) == said


def checks(look: HealthMonitor, logps: list[float], rewards: list[float]) -> list[str]:
    found = []
    for logp, reward in zip(logps, rewards, strict=True):
        found += kinds(look, CHECK, batch(), logp=logp, **{"reward/mean": reward})
    return found


@pytest.mark.parametrize(
    ("logps", "rewards", "said"),
    [
        ([-1.0, -1.1, -1.2, -1.3, -1.4], [0.5] * 5, ["falling log-probability"]),
        ([-1.0, -1.1, -1.2, -1.3], [0.5, 0.55, 0.6, 0.65], []),
        ([-1.0, -1.1, -1.05, -1.2, -1.3], [0.5] * 5, []),
        ([-1.0, -1.1, -1.2], [0.5] * 3, []),
        ([-1.0, -1.001, -1.002, -1.003], [0.5] * 4, []),
    ],
)
def test_a_policy_that_is_pushed_apart_for_nothing_is_said(
    logps: list[float], rewards: list[float], said: list[str]
) -> None:
    assert len(logps) <= FALLS + 2
    assert checks(watch(advantage="mvar:size=2"), logps, rewards) == said
    assert checks(watch(), logps, rewards) == []


def test_a_filter_that_leaves_nothing_for_many_steps_ends_the_run_with_its_numbers() -> None:
    look = watch(**GTPO)
    uncertain = batch(entropy=1.5)
    assert kinds(look, PATIENCE - 1, uncertain) == []
    assert kinds(look, 1, batch()) == []
    assert kinds(look, PATIENCE - 1, uncertain) == []
    with pytest.raises(RunError, match=r"threshold of 0\.693 nats .*1\.500; before training it was 0\.300 nats"):
        kinds(look, 1, uncertain)


def test_a_filter_that_is_off_ends_nothing() -> None:
    uncertain = batch(entropy=1.5)
    assert kinds(watch(**GTPO), 2 * PATIENCE, uncertain, initial=math.log(2) + 0.01) == []
    always = watch(**{**GTPO, "shaping": "entropy_shape:threshold=0.7,always_filter=true"})
    with pytest.raises(RunError, match=r"threshold of 0\.700"):
        kinds(always, PATIENCE, uncertain, initial=2.0)


def test_what_was_seen_and_said_is_in_the_checkpoint() -> None:
    first, second = watch(advantage="mvar:size=2"), watch(advantage="mvar:size=2")
    kinds(first, PATIENCE - 1, batch(), truncated=0.5, **{"groups/zero_variance": 1.0})
    second.load_state_dict(first.state_dict())
    assert kinds(second, 1, batch(), truncated=0.5, **{"groups/zero_variance": 1.0}) == ["equal rewards"]
