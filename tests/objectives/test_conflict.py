import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilotage.objectives.conflict import conflict_tokens, conflict_weights, entropy_shape, reward_sign


def pad(answers, side="right"):
    width = max(map(len, answers)) + 1
    ids, mask = torch.full((len(answers), width), 99), torch.zeros(len(answers), width, dtype=torch.bool)
    for row, answer in enumerate(answers):
        place = slice(0, len(answer)) if side == "right" else slice(width - len(answer), width)
        ids[row, place], mask[row, place] = torch.tensor(answer), True
    return ids, mask


def weights(answers, reward, group=None, truncated=None, side="right", **options):
    ids, mask = pad(answers, side)
    group = torch.zeros(len(answers), dtype=torch.int64) if group is None else torch.tensor(group)
    truncated = torch.zeros(len(answers), dtype=torch.bool) if truncated is None else torch.tensor(truncated)
    result = conflict_weights(ids, mask, torch.tensor(reward, dtype=torch.float64), group, truncated, **options)
    assert (result[~mask] == 0).all()
    return [row[there].tolist() for row, there in zip(result, mask, strict=True)]


EQUAL = [[5, 6, 7, 8, 2], [5, 6, 9, 8, 2], [5, 6, 7, 3, 2], [5, 4, 9, 8, 2]]
UNEQUAL = [[5, 6, 7, 8, 2], [5, 6, 9, 2], [5, 6, 7, 3, 8, 2], [5, 4, 8, 2]]


def test_reference_group_of_equal_lengths():
    expected = [[2, 2, 2, 1, 2], [1] * 5, [0, 0, 0, 1, 0], [1] * 5]
    assert weights(EQUAL, [20, 10, 0, 10]) == expected


@pytest.mark.parametrize("side", ["right", "left"])
def test_reference_group_of_unequal_lengths_on_either_side_of_the_padding(side):
    expected = [[2, 2, 2, 2, 2], [2, 2, 1, 2], [0, 0, 0, 1, 0, 0], [0, 1, 0, 0]]
    assert weights(UNEQUAL, [1, 1, 0, 0], side=side) == expected


def test_identical_answers_of_both_signs_get_the_square_and_zero():
    assert weights([[5, 6], [5, 6]], [1, 0]) == [[4, 4], [0, 0]]


def test_an_overlap_in_the_middle_is_no_conflict():
    result = weights([[5, 8, 1, 2, 3], [6, 8, 1, 2, 4]], [1, 0])
    assert result == [[1] * 5, [1] * 5]
    ids, mask = pad([[5, 8, 1, 2, 3], [6, 8, 1, 2, 4]])
    tokens = conflict_tokens(ids, mask, torch.tensor([1.0, 0]), torch.tensor([0, 0]), torch.tensor([False, False]))
    assert tokens.raw_forward[:, :5].tolist() == [[False, True, True, True, False]] * 2
    assert not tokens.forward.any()


def test_groups_do_not_see_each_other():
    assert weights([[5, 6], [5, 6], [5, 7], [5, 7]], [1, 1, 0, 0], group=[0, 0, 1, 1]) == [[1, 1]] * 4
    both = [UNEQUAL[i // 2] if i % 2 else EQUAL[i // 2] for i in range(8)]
    result = weights(both, [20, 1, 10, 1, 0, 0, 10, 0], group=[9, 4] * 4)
    assert result[::2] == weights(EQUAL, [20, 10, 0, 10])
    assert result[1::2] == weights(UNEQUAL, [1, 1, 0, 0])


def test_equal_rewards_leave_the_mask():
    assert weights(UNEQUAL, [0.1] * 4) == [[1] * len(answer) for answer in UNEQUAL]


def test_a_reward_at_the_mean_takes_no_part_whatever_the_rounding():
    reward = torch.tensor([0.1, 0.1, 0.6, 0.6, 0.35])
    assert reward[4] != reward.sum() / 5, "the mean in floats should miss the reward that equals it"
    assert reward_sign(reward, torch.zeros(5, dtype=torch.int64)).tolist() == [-1, -1, 1, 1, 0]


def test_truncated_answers_stay_out_of_the_backward_run():
    answers, reward = [[1, 8, 2], [4, 8, 2]], [1, 0]
    assert weights(answers, reward) == [[1, 2, 2], [1, 0, 0]]
    assert weights(answers, reward, truncated=[True, False]) == [[1, 1, 1], [1, 1, 1]]
    kept = weights(answers, reward, truncated=[True, False], exclude_truncated=False)
    assert kept == [[1, 2, 2], [1, 0, 0]]


def test_division_by_the_number_of_conflicts():
    plain, divided = weights(UNEQUAL, [1, 1, 0, 0]), weights(UNEQUAL, [1, 1, 0, 0], divide_by_conflicts=True)
    for row, count in enumerate([5, 3, 5, 3]):
        assert divided[row] == pytest.approx([w / count for w in plain[row]])


def test_a_token_in_both_runs_is_one_conflict():
    assert weights([[5, 6], [5, 6]], [1, 0], divide_by_conflicts=True) == [[2, 2], [0, 0]]


def test_another_weight():
    assert weights([[5, 6], [5, 7]], [1, 0], weight=1.7) == [[1.7, 1], [0, 1]]


def slow_weights(answers, sign):
    """The definition, token by token, for one group."""

    def run(row, reverse):
        turned = [answer[::-1] if reverse else answer for answer in answers]
        for t, token in enumerate(turned[row]):
            seen = {sign[other] for other, a in enumerate(turned) if t < len(a) and a[t] == token}
            if not {1, -1} <= seen:
                return t
        return len(turned[row])

    result = []
    for row, answer in enumerate(answers):
        factor = {1: 2.0, -1: 0.0, 0: 1.0}[sign[row]]
        ahead, behind = (0, 0) if sign[row] == 0 else (run(row, False), run(row, True))
        result.append(
            [
                (factor if t < ahead else 1.0) * (factor if len(answer) - 1 - t < behind else 1.0)
                for t in range(len(answer))
            ]
        )
    return result


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=5), st.sampled_from([0, 1, 2])),
        min_size=1,
        max_size=6,
    )
)
def test_weights_equal_the_definition(rows):
    answers, reward = [list(ids) for ids, _ in rows], [r for _, r in rows]
    mean = sum(reward) / len(reward)
    sign = [0 if abs(r - mean) < 1e-9 else 1 if r > mean else -1 for r in reward]
    assert weights(answers, reward) == slow_weights(answers, sign)


def shape(advantage, mean_entropy, **options):
    entropy = torch.tensor(mean_entropy, dtype=torch.float64)[:, None].repeat(1, 2)
    entropy = torch.cat([entropy, torch.full((len(entropy), 1), torch.nan)], 1)
    mask = torch.tensor([[True, True, False]]).expand(len(entropy), 3)
    return entropy_shape(torch.tensor(advantage, dtype=torch.float64), entropy, mask, **options).tolist()


A, H = [10.0, 0, -10, 0], [0.3, 0.5, 0.8, 0.7]


def test_reference_shaping():
    assert shape(A, H, gamma=0.1, threshold=0.7) == pytest.approx([9.97, -0.05, 0, -0.07])


def test_ties_can_be_left_silent():
    result = shape(A, H, gamma=0.1, threshold=0.7, shape_zero_advantage=False)
    assert result == pytest.approx([9.97, 0, 0, 0])


def test_an_uncertain_initial_policy_switches_the_filter_off():
    assert shape(A, H, initial_entropy=0.75)[2] == pytest.approx(-10.08)
    assert shape(A, H, initial_entropy=0.5)[2] == 0
    assert shape([1.0, 1.0], [math.log(2) - 1e-9, math.log(2) + 1e-9])[1] == 0


def test_the_entropy_gets_no_gradient():
    entropy = torch.rand(2, 3, requires_grad=True)
    assert not entropy_shape(torch.ones(2), entropy, torch.ones(2, 3, dtype=torch.bool)).requires_grad
