import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage.objectives import advantages
from pilotage.objectives.advantages import (
    batch_center,
    gae,
    generalised_advantage,
    greedy_baseline,
    group_center,
    group_zscore,
    leave_one_out,
    raw_reward,
    token_return,
)

GROUPED = {"center": group_center, "zscore": group_zscore, "leave_one_out": leave_one_out}
ONE = torch.zeros(8, dtype=torch.int64)
REWARD = torch.tensor([1.0, 0, 0, 0, 1, 0, 0, 0], dtype=torch.float64)


@st.composite
def grouped_rewards(draw):
    """Rewards and groups of unequal sizes, rows in any order, group numbers with gaps."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    group = torch.tensor([7 * g - 3 for g, size in enumerate(sizes) for _ in range(size)])
    order = torch.tensor(draw(st.permutations(range(len(group)))))
    reward = torch.tensor([draw(st.floats(-10, 10)) for _ in range(len(group))], dtype=torch.float64)
    return reward, group[order]


def test_reference_values():
    zscore, loo, center = group_zscore(REWARD, ONE), leave_one_out(REWARD, ONE), group_center(REWARD, ONE)
    assert zscore[:2].tolist() == pytest.approx([1.6202, -0.5401], abs=5e-5)
    assert loo[:2].tolist() == pytest.approx([0.857143, -0.285714], abs=5e-7)
    assert center[:2].tolist() == [0.75, -0.25]
    assert group_center(torch.tensor([20.0, 0, 0, 0]), ONE[:4]).tolist() == [15, -5, -5, -5]


@given(grouped_rewards())
def test_every_group_equals_numpy_on_that_group_alone(batch):
    reward, group = batch
    results = {name: piece(reward, group) for name, piece in GROUPED.items()}
    for number in group.unique():
        rows = (group == number).numpy()
        r = reward.numpy()[rows]
        if len(r) == 1 or np.ptp(r) == 0:
            expected = dict.fromkeys(GROUPED, np.zeros(len(r)))
        else:
            others = np.array([np.delete(r, i).mean() for i in range(len(r))])
            expected = {
                "center": r - r.mean(),
                "zscore": (r - r.mean()) / (r.std(ddof=1) + 1e-6),
                "leave_one_out": r - others,
            }
        for name in GROUPED:
            np.testing.assert_allclose(results[name].numpy()[rows], expected[name], atol=1e-8)


@pytest.mark.parametrize("piece", GROUPED.values(), ids=GROUPED)
@given(batch=grouped_rewards(), data=st.data())
def test_permuting_rows_permutes_advantages(piece, batch, data):
    reward, group = batch
    order = torch.tensor(data.draw(st.permutations(range(len(group)))))
    torch.testing.assert_close(piece(reward[order], group[order]), piece(reward, group)[order], rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("piece", GROUPED.values(), ids=GROUPED)
@given(value=st.floats(-1e3, 1e3), size=st.integers(1, 7))
def test_ties_and_groups_of_one_are_exactly_zero(piece, dtype, value, size):
    reward = torch.tensor([value] * size + [value + 1, value + 2, value + 3], dtype=dtype)
    group = torch.tensor([4] * size + [9] + [2] * 2)
    advantage = piece(reward, group)
    assert advantage.dtype == dtype
    assert (advantage[: size + 1] == 0).all()
    assert (advantage[size + 1 :] != 0).all()


@pytest.mark.parametrize("piece", GROUPED.values(), ids=GROUPED)
def test_two_instances_of_one_prompt_all_right_and_all_wrong_give_zero(piece):
    assert piece(torch.tensor([1.0, 1, 1, 0, 0, 0]), torch.tensor([0, 0, 0, 1, 1, 1])).tolist() == [0] * 6


@given(grouped_rewards())
def test_leave_one_out_is_a_scaled_group_center(batch):
    reward, group = batch
    size = torch.tensor([(group == g).sum() for g in group], dtype=torch.float64)
    expected = group_center(reward, group) * torch.where(size > 1, size / (size - 1).clamp(min=1), 1)
    torch.testing.assert_close(leave_one_out(reward, group), expected)


def test_batch_scaling_divides_by_the_deviation_of_the_whole_batch():
    reward, group = torch.tensor([0.0, 1, 2, 5, 5]), torch.tensor([0, 0, 1, 1, 1])
    expected = group_center(reward, group) / (reward.std() + 1e-4)
    torch.testing.assert_close(group_zscore(reward, group, epsilon=1e-4, scale="batch"), expected)
    with pytest.raises(ValueError, match="'group' or 'batch'"):
        group_zscore(reward, group, scale="none")


def test_baselines_without_groups():
    reward = torch.tensor([1.0, 0, 2])
    assert raw_reward(reward).tolist() == [1, 0, 2]
    assert batch_center(reward).tolist() == [0, -1, 1]
    assert batch_center(torch.full((3,), 0.1)).tolist() == [0, 0, 0]
    assert greedy_baseline(reward, torch.tensor([1.0, 1, 1])).tolist() == [0, -1, 1]


def test_score_itself_is_a_copy():
    reward = torch.ones(2)
    raw_reward(reward).zero_()
    assert reward.tolist() == [1, 1]


def slow_gae(reward, value, bootstrap, discount, gae_lambda):
    """One episode by the definition Σ_k (γλ)^k δ_{t+k}; `bootstrap` is the value after its last step."""
    following = [*value[1:], bootstrap]
    delta = [r + discount * v_next - v for r, v, v_next in zip(reward, value, following, strict=True)]
    return [sum((discount * gae_lambda) ** k * delta[t + k] for k in range(len(delta) - t)) for t in range(len(delta))]


episodes = st.lists(
    st.tuples(st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2)), min_size=1, max_size=5), st.booleans()),
    min_size=1,
    max_size=4,
)


@given(episodes, st.floats(0, 1), st.floats(0, 1), st.floats(-2, 2))
def test_concatenated_episodes_equal_each_alone(several, discount, gae_lambda, final):
    columns: dict[str, list[float]] = {k: [] for k in ("reward", "value", "next", "terminated", "ended", "expected")}
    for steps, terminated in several:
        reward, value = [r for r, _ in steps], [v for _, v in steps]
        bootstrap = 0.0 if terminated else final
        columns["reward"] += reward
        columns["value"] += value
        columns["next"] += [*value[1:], float("nan") if terminated else final]
        columns["terminated"] += [False] * (len(steps) - 1) + [terminated]
        columns["ended"] += [False] * (len(steps) - 1) + [True]
        columns["expected"] += slow_gae(reward, value, bootstrap, discount, gae_lambda)
    row = {name: torch.tensor([values], dtype=torch.float64) for name, values in columns.items()}
    advantage = gae(
        row["reward"], row["value"], row["next"], row["terminated"].bool(), row["ended"].bool(),
        discount=discount, gae_lambda=gae_lambda,
    )  # fmt: skip
    torch.testing.assert_close(advantage, row["expected"], rtol=1e-9, atol=1e-9)


@given(
    st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.booleans()), min_size=1, max_size=8),
    st.floats(0, 1), st.floats(0, 1), st.floats(-2, 2),
)  # fmt: skip
def test_answers_pass_over_masked_slots(slots, discount, gae_lambda, final):
    mask = torch.tensor([[there for *_, there in slots]])
    reward = torch.tensor([[r if there else torch.nan for r, _, there in slots]], dtype=torch.float64)
    value = torch.tensor([[v if there else torch.nan for _, v, there in slots]], dtype=torch.float64)
    kept = [(r, v) for r, v, there in slots if there]
    result = generalised_advantage(reward, value, mask, torch.tensor([final]), discount=discount, gae_lambda=gae_lambda)
    expected = slow_gae([r for r, _ in kept], [v for _, v in kept], final, discount, gae_lambda) if kept else []
    torch.testing.assert_close(result.advantage[mask].tolist(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(result.value_target[mask], (result.advantage + value)[mask], rtol=0, atol=1e-12)
    assert (result.advantage[~mask] == 0).all()
    assert (result.value_target[~mask] == 0).all()


def test_without_a_final_value_an_answer_counts_as_terminated():
    reward, value = torch.tensor([[0.0, 1.0, 9.0]]), torch.tensor([[0.25, 0.5, 9.0]])
    mask = torch.tensor([[True, True, False]])
    result = generalised_advantage(reward, value, mask, gae_lambda=0.0)
    assert result.advantage.tolist() == [[0.25, 0.5, 0]]
    assert result.value_target.tolist() == [[0.5, 1.0, 0]]


def test_no_gradient_reaches_the_critic_through_its_advantage():
    value = torch.rand(2, 3, requires_grad=True)
    result = generalised_advantage(torch.rand(2, 3), value, torch.ones(2, 3, dtype=torch.bool))
    assert not result.advantage.requires_grad
    assert not result.value_target.requires_grad


@settings(max_examples=30)
@given(st.floats(0, 1))
def test_token_return_sums_what_follows(discount):
    reward = torch.tensor([[1.0, 2, torch.nan, 4], [torch.nan, 1, 1, torch.nan]], dtype=torch.float64)
    g = discount
    expected = [[1 + 2 * g + 4 * g * g, 2 + 4 * g, 0, 4], [0, 1 + g, 1, 0]]
    result = token_return(reward, ~reward.isnan(), discount=discount)
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64))


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="expected tensors of shapes"):
        advantages.group_center(torch.zeros(3), torch.zeros(2, dtype=torch.int64))
