"""S2: groups are prompt instances. S3: what stands in masked slots changes nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.properties.batches import choices, context, random_rollouts

from pilotage.core.pieces import parse_term, resolve
from pilotage.training.language.config import TextConfig
from pilotage.training.language.credit import assign_credit
from pilotage.training.language.piece_set import make_piece_set
from pilotage.types import Rollouts

RELATIVE = [name for name in choices("advantage") if resolve("advantage", parse_term(name)).needs_group]


def credited(rollouts: Rollouts, **slots: str) -> Rollouts:
    assign_credit(make_piece_set(TextConfig(**slots)), rollouts, context())
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


@st.composite
def instances(draw) -> tuple[list[int], list[float], list[int]]:
    """Prompt instances of different sizes over few texts: (item of each instance, rewards of all rows, sizes)."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=6))
    items = draw(st.lists(st.integers(0, 1), min_size=len(sizes), max_size=len(sizes)))
    rows = sum(sizes)
    return items, draw(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=rows, max_size=rows)), sizes


def of_instances(case: tuple[list[int], list[float], list[int]]) -> Rollouts:
    items, rewards, sizes = case
    rollouts = random_rollouts(groups=sum(sizes), answers=1)
    rollouts.group = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    rollouts.item = torch.tensor(items)[rollouts.group]
    rollouts.prompt_ids = rollouts.prompt_ids[rollouts.item]
    rollouts.prompt_mask = rollouts.prompt_mask[rollouts.item]
    rollouts.columns["reward"] = torch.tensor(rewards, dtype=torch.float64)
    rollouts.columns["scores"] = rollouts.columns["reward"][:, None].expand(-1, 2).clone()
    return rollouts


LOCAL = [name for name in RELATIVE if "bnpo" not in name]
"""Advantages of a group that nothing outside of it changes; BNPO's density follows all pass rates of the batch."""


@settings(max_examples=20)
@given(case=instances(), seed=st.integers(0, 99))
@pytest.mark.parametrize("advantage", RELATIVE)
def test_groups_are_instances_whatever_their_texts_sizes_and_order(advantage, case, seed):
    whole = credited(of_instances(case), advantage=advantage).column("advantage")
    group, reward = of_instances(case).group, of_instances(case).columns["reward"]
    for index in group.unique():
        members = group == index
        if bool((reward[members] == reward[members][0]).all()):
            assert (whole[members] == 0).all(), "no spread within an instance, no advantage"
    order = torch.randperm(len(group), generator=torch.Generator().manual_seed(seed))
    permuted = credited(of_instances(case).select(order), advantage=advantage).column("advantage")
    width = min(whole.shape[1], permuted.shape[1])
    torch.testing.assert_close(permuted[:, :width], whole[order][:, :width], rtol=1e-9, atol=1e-9)


@settings(max_examples=20)
@given(case=instances())
@pytest.mark.parametrize("advantage", LOCAL)
def test_a_group_alone_gets_what_it_gets_in_a_batch(advantage, case):
    rollouts = of_instances(case)
    whole = credited(of_instances(case), advantage=advantage).column("advantage")
    for index in rollouts.group.unique():
        rows = torch.nonzero(rollouts.group == index).flatten()
        alone = credited(of_instances(case).select(rows), advantage=advantage).column("advantage")
        torch.testing.assert_close(alone, whole[rows][:, : alone.shape[1]], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("advantage", RELATIVE)
def test_a_group_of_one_never_gets_its_reward_as_advantage(advantage):
    rollouts = random_rollouts(groups=4, answers=1)
    rollouts.columns["reward"] = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    rollouts.columns["scores"] = rollouts.columns["reward"][:, None].clone()
    pieces = make_piece_set(TextConfig(advantage=advantage))
    assign_credit(pieces, rollouts, context())
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
