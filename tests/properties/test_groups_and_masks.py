"""S2: groups are prompt instances. S3: what stands in masked slots changes nothing."""

from __future__ import annotations

import pytest
import torch
from tests.properties.batches import choices, context, random_rollouts

from pilotage.records import Rollouts
from pilotage.trainers.credit import assign_credit
from pilotage.trainers.text_config import TextConfig
from pilotage.trainers.text_pieces import GROUP_RELATIVE
from pilotage.trainers.text_plan import make_plan

RELATIVE = [name for name in choices("advantage") if name.split(":")[0] in GROUP_RELATIVE]


def credited(rollouts: Rollouts, **slots: str) -> Rollouts:
    assign_credit(make_plan(TextConfig(**slots)), rollouts, context())
    return rollouts


def all_pieces() -> list[dict[str, str]]:
    cases = [{"advantage": name} for name in choices("advantage")]
    cases += [{"shaping": name} for name in choices("shaping")]
    cases += [{"weights": name} for name in choices("weights")]
    cases += [{"penalty": name, "advantage": "token_return"} for name in choices("penalty")]
    return cases


@pytest.mark.parametrize("advantage", RELATIVE)
def test_an_all_wrong_and_an_all_right_instance_of_one_text_give_no_advantage(advantage):
    rollouts = random_rollouts(groups=2, answers=4)
    rollouts.prompt_ids[4:] = rollouts.prompt_ids[:4]
    rollouts.item[:] = 0
    rollouts.columns["reward"] = torch.tensor([0.0] * 4 + [1.0] * 4, dtype=torch.float64)
    rollouts.columns["scores"] = rollouts.columns["reward"][:, None].expand(-1, 2).clone()
    assert (credited(rollouts, advantage=advantage).column("advantage") == 0).all()


@pytest.mark.parametrize("advantage", RELATIVE)
def test_a_group_of_one_never_gets_its_reward_as_advantage(advantage):
    rollouts = random_rollouts(groups=4, answers=1)
    rollouts.columns["reward"] = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    rollouts.columns["scores"] = rollouts.columns["reward"][:, None].clone()
    plan = make_plan(TextConfig(advantage=advantage))
    assign_credit(plan, rollouts, context())
    assert (rollouts.column("advantage") == 0).all()


@pytest.mark.parametrize("case", all_pieces(), ids=lambda case: "-".join(case.values()))
def test_permuting_rows_permutes_advantages(case):
    if "mvar" in case.get("advantage", ""):
        pytest.skip("bundles are drawn at random: another order draws others")
    rollouts, order = random_rollouts(seed=1), torch.randperm(16, generator=torch.Generator().manual_seed(5))
    permuted = random_rollouts(seed=1).select(order)
    credited(rollouts, **case)
    credited(permuted, **case)
    for name in ("advantage", "token_weight"):
        if name in rollouts.columns:
            torch.testing.assert_close(permuted.column(name), rollouts.column(name)[order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fill", [float("nan"), 1e30])
@pytest.mark.parametrize("case", all_pieces(), ids=lambda case: "-".join(case.values()))
def test_masked_slots_change_nothing_bit_for_bit(case, fill):
    clean, dirty = random_rollouts(seed=2), random_rollouts(seed=2)
    hole = ~dirty.mask
    for name, column in dirty.columns.items():
        if column.shape == dirty.mask.shape:
            dirty.columns[name] = torch.where(hole, fill, column)
    dirty.logp_sampled = torch.where(hole, fill, dirty.logp_sampled)
    dirty.ids = torch.where(hole, 3, dirty.ids)
    credited(clean, **case)
    credited(dirty, **case)
    for name in ("advantage", "token_weight", "reward"):
        if name in clean.columns:
            assert torch.equal(clean.column(name), dirty.column(name)), name
