import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.objectives.risk import (
    LARGEST_SHARE,
    MeanValueAtRisk,
    QuantileTracker,
    bundle_credit,
    bundle_score,
    curve_mean,
    curve_tail_mean,
    divide_by_set_std,
    make_bundles,
    mvar,
    mvar_repository,
    mvar_seeking,
    rvar_weight,
    scores_of_bundles,
    set_quantiles,
    sum_mean_share,
    track_quantiles,
)

SCORES = torch.arange(6, dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_reference_values_of_the_paper():
    assert mvar(SCORES, 1, 3, omega=0.5).tolist() == [-3.5, -2, -1, 0, 0, 0]


@pytest.mark.parametrize(
    ("natural", "expected"),
    [(True, [-4.3333, -1.3333, -0.6667, 0, 0, 0]), (False, [-3, 0, 0.6667, 1.3333, 1.3333, 1.3333])],
)
def test_reference_values_of_the_repository(natural, expected):
    result = mvar_repository(SCORES, 1, 3, alpha=0.2, beta=0.8, mix=1.5, natural_baseline=natural)
    assert result.tolist() == pytest.approx(expected, abs=1e-4)


def test_the_seeking_form_rewards_the_upper_tail():
    result = mvar_seeking(SCORES, 1, 3, natural_baseline=False)
    middle = [0, 0, 1 / 0.6, 2 / 0.6, 2 / 0.6, 2 / 0.6]
    upper = [0, 0, 0, 0, 1 / 0.2, 2 / 0.2]
    assert result.tolist() == pytest.approx([(1.5 * u + m) / 2.5 for u, m in zip(upper, middle, strict=True)], rel=1e-4)


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 5))
def test_the_range_weight_is_the_clamped_score_below_its_upper_end(z, a, width):
    b = a + width
    weight = rvar_weight(torch.tensor(z, dtype=torch.float64), a, b).item()
    assert weight == pytest.approx(min(max(z, a), b) - b, abs=1e-12)


@pytest.mark.parametrize(("alpha", "beta"), [(0.1, 0.9), (0.25, 0.6)])
def test_objectives_are_integrals_of_the_quantile_function(alpha, beta):
    """A shift of the whole distribution by h: the derivative of the range and tail means, numerically, by numpy.

    E[g(R, q_α, q_β)] = ∫_{q_α}^{q_β} (1 − F) dr + q_α − q_β, and −E[(q_α − R)⁺] = ∫_0^α (q_u − q_α) du."""
    sample = np.random.default_rng(0).gamma(2.0, size=5_000)
    levels = (np.arange(50_000) + 0.5) / 50_000
    quantile = np.quantile(sample, levels)
    q_alpha, q_beta = np.quantile(sample, [alpha, beta])
    lower = (quantile[levels < alpha] - q_alpha).sum() / len(levels)
    middle = quantile[(levels >= alpha) & (levels < beta)].sum() / len(levels)
    clamped = alpha * q_alpha + middle + (1 - beta) * q_beta - q_beta
    result = mvar(torch.tensor(sample), q_alpha, q_beta, omega=0.5).mean().item()
    assert result == pytest.approx(1.5 * lower + clamped, abs=1e-3)


@st.composite
def batches(draw):
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=7))
    group = torch.tensor([5 * g + 2 for g, size in enumerate(sizes) for _ in range(size)])
    order = torch.tensor(draw(st.permutations(range(len(group)))))
    return group[order], sizes, draw(st.integers(1, len(sizes))), draw(st.integers(0, 99))


@given(batches())
def test_a_bundle_joins_one_answer_of_each_of_its_prompts(batch):
    group, sizes, size, seed = batch
    bundle = make_bundles(group, size, generator(seed))
    sets = len(sizes) // size
    expected = sum(min(sizes[s * size : (s + 1) * size]) for s in range(sets))
    assert sorted(set(bundle.tolist()) - {-1}) == list(range(expected))
    for number in range(expected):
        members = group[bundle == number]
        assert len(members) == size
        position = sorted((members - 2).div(5).long().tolist())
        assert position == list(range(position[0], position[0] + size))
        assert position[0] % size == 0
    left_over = group[bundle < 0]
    assert len(left_over) == len(group) - expected * size


def test_bundles_are_permuted_within_prompts_and_repeat_with_the_generator():
    group = torch.arange(4).repeat_interleave(8)
    first, again, other = (make_bundles(group, 2, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    partners = [tuple((first[:8] == n).nonzero().flatten().tolist()) for n in first[8:16].tolist()]
    assert partners != [(i,) for i in range(8)]


def test_no_answer_is_in_a_bundle_when_no_set_fills_and_a_size_below_one_is_refused():
    assert make_bundles(torch.tensor([0, 0, 1, 1]), 3, generator()).tolist() == [-1] * 4
    with pytest.raises(UsageError, match="bundles of"):
        make_bundles(torch.tensor([0, 0, 1, 1]), 0, generator())


def test_scores_are_sums_and_rows_without_a_bundle_do_not_count():
    reward, bundle = torch.tensor([1.0, 1, 0, 5]), torch.tensor([0, 1, 1, -1])
    assert bundle_score(reward, bundle).tolist() == [1, 1, 1, 0]
    assert scores_of_bundles(reward, bundle).tolist() == [1, 1]


def test_bundles_of_one_with_open_quantiles_are_reward_minus_a_constant():
    reward = torch.tensor([0.0, 1, 0.5, 1, 0, 0.25])
    group = torch.tensor([0, 0, 0, 1, 1, 1])
    score = bundle_score(reward, make_bundles(group, 1, generator()))
    advantage = mvar(score, reward.min().item(), reward.max().item())
    torch.testing.assert_close(advantage - reward, torch.full((6,), -1.0))


def test_no_spread_between_quantiles_gives_zero_above_them():
    assert mvar(torch.full((3,), 2.0), 2.0, 2.0).tolist() == [0, 0, 0]


def test_deviation_of_a_set_is_over_its_bundles():
    group = torch.arange(4).repeat_interleave(5)
    reward = torch.rand(20, generator=generator(), dtype=torch.float64)
    bundle = make_bundles(group, 2, generator(3))
    result = divide_by_set_std(torch.ones(20, dtype=torch.float64), reward, group, bundle)
    for rows in (slice(0, 10), slice(10, 20)):
        scores = torch.stack([reward[bundle == n].sum() for n in bundle[rows].unique()])
        torch.testing.assert_close(result[rows], torch.full((10,), 1 / (scores.std().item() + 1e-6)).double())
    flat = divide_by_set_std(torch.ones(20), torch.ones(20), group, bundle)
    assert flat.tolist() == [1] * 20


def reference_bundle():
    """One bundle (rows 0 to 4) with rewards [1,1,0,0,1] of prompts with means [.5,.9,.1,0,.6]."""
    rewards, means = [1.0, 1, 0, 0, 1], [0.5, 0.9, 0.1, 0.0, 0.6]
    others = [[round(10 * mean) - r] for r, mean in zip(rewards, means, strict=True)]
    rows = [(r, p, 0) for p, r in enumerate(rewards)]
    for p, (total,) in enumerate(others):
        rows += [(1.0 if i < total else 0.0, p, -1) for i in range(9)]
    columns = torch.tensor(rows, dtype=torch.float64).T
    return columns[0], columns[1].long(), columns[2].long()


def test_reference_sum_mean_credit_punishes_right_answers():
    reward, group, bundle = reference_bundle()
    advantage = torch.full_like(reward, -2.0)
    credit = bundle_credit(advantage, reward, group, bundle, mode="sum_mean")
    assert credit[:5].tolist() == pytest.approx([-1.1111, -0.2222, 0.2222, 0, -0.8889], abs=1e-4)
    assert (credit[5:] == 0).all()


def test_other_credits():
    reward, group, bundle = reference_bundle()
    advantage = torch.full_like(reward, -2.0)
    uniform = bundle_credit(advantage, reward, group, bundle)
    score = bundle_credit(advantage, reward, group, bundle, mode="score")
    std = bundle_credit(advantage, reward, group, bundle, mode="std")
    assert uniform[:5].tolist() == [-2] * 5
    assert score[:5].tolist() == [-1, -1, -3, -3, -1]
    deviations = [reward[group == p].std().item() for p in range(5)]
    assert std[:5].tolist() == pytest.approx([-2 / (d if d > 1e-3 else 1) for d in deviations])
    assert std[3] == -2
    with pytest.raises(UsageError, match="sum_mean"):
        bundle_credit(advantage, reward, group, bundle, mode="median")


def test_shares_are_equal_where_deviations_cancel_and_clamped_where_they_nearly_do():
    group, bundle = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    cancelling = torch.tensor([1.0, 0, 0, 1])
    assert sum_mean_share(cancelling, group, bundle).tolist() == [0.5] * 4
    nearly = torch.tensor([1.0, 0, 0, 0.9], dtype=torch.float64)
    share = sum_mean_share(nearly, group, bundle)
    assert (share.abs() > LARGEST_SHARE).sum() == 4
    credit = bundle_credit(torch.ones(4, dtype=torch.float64), nearly, group, bundle, mode="sum_mean")
    assert credit.abs().tolist() == [LARGEST_SHARE] * 4


def test_reference_tracking():
    scores = torch.tensor([0.0, 1, 1, 2, 3, 3, 4, 5])
    levels, start = torch.tensor([0.2, 0.8]), torch.tensor([2.0, 4.0])
    assert track_quantiles(start, levels, scores, rate=0.1).tolist() == pytest.approx([1.9825, 4.005])


def test_tracked_quantiles_approach_those_of_the_distribution():
    tracker, random = QuantileTracker(rate=0.05), np.random.default_rng(0)
    tracker.update(torch.zeros(4))
    for _ in range(2000):
        tracker.update(torch.tensor(random.uniform(0, 4, size=64)))
    assert [tracker.quantile(level) for level in (0.2, 0.5, 0.8)] == pytest.approx([0.8, 2.0, 3.2], abs=0.15)


def test_the_first_batch_gives_empirical_quantiles():
    tracker, scores = QuantileTracker(), torch.tensor([0.0, 1, 1, 2, 5])
    with pytest.raises(RuntimeError, match="no scores yet"):
        tracker.quantile(0.2)
    tracker.update(scores)
    for level in (0.05, 0.2, 0.5, 0.95):
        assert tracker.quantile(level) == pytest.approx(np.quantile(scores.numpy(), level))
    middle = (tracker.quantile(0.10) + tracker.quantile(0.15)) / 2
    assert tracker.quantile(0.125) == pytest.approx(middle)
    with pytest.raises(UsageError, match=r"0\.05 to 0\.95"):
        tracker.quantile(0.99)


def batch(seed=0):
    group = torch.arange(10).repeat_interleave(4)
    reward = (torch.rand(40, generator=generator(seed)) < 0.4).float()
    return reward, group, make_bundles(group, 5, generator(seed + 100))


@pytest.mark.parametrize("form", ["paper", "repository", "seeking"])
def test_a_resumed_advantage_goes_on_where_it_was(form):
    first, second, fresh = (MeanValueAtRisk(form=form, quantiles="track") for _ in range(3))
    for seed in range(3):
        reward, group, bundle = batch(seed)
        first(reward, group, bundle)
        first.update(reward, bundle)
    second.load_state_dict(first.state_dict())
    reward, group, bundle = batch(7)
    assert torch.equal(first(reward, group, bundle), second(reward, group, bundle))
    assert not torch.equal(first(reward, group, bundle), fresh(reward, group, bundle))


def test_a_batch_is_judged_by_the_quantiles_of_those_before_it():
    piece = MeanValueAtRisk()
    reward, group, bundle = batch()
    piece(reward, group, bundle)
    piece.update(reward, bundle)
    q_alpha, q_beta = piece.tracker.quantile(0.2), piece.tracker.quantile(0.8)
    reward, group, bundle = batch(1)
    advantage = piece(reward, group, bundle)
    torch.testing.assert_close(advantage, mvar(bundle_score(reward, bundle), q_alpha, q_beta))
    assert piece.tracker.quantile(0.2) == q_alpha


def test_a_group_without_spread_still_gets_a_signal():
    piece = MeanValueAtRisk()
    reward, group, bundle = batch()
    reward = torch.where(group == 0, 0.0, reward)
    assert (piece(reward, group, bundle)[group == 0] != 0).any()


def test_options_are_checked():
    with pytest.raises(UsageError, match="0 < alpha < beta < 1"):
        MeanValueAtRisk(alpha=0.8, beta=0.2)
    with pytest.raises(UsageError, match="paper, repository or seeking"):
        MeanValueAtRisk(form="averse")
    assert MeanValueAtRisk()(torch.ones(2), torch.tensor([0, 0]), torch.tensor([-1, -1])).tolist() == [0, 0]


@pytest.mark.parametrize("form", ["paper", "repository"])
def test_quantiles_of_the_set_itself_and_the_mean_of_both(form):
    tracked, own, mixed = (MeanValueAtRisk(form=form, quantiles=source) for source in ("track", "batch", "mix"))
    reward, group, bundle = batch()
    for piece in (tracked, own, mixed):
        piece(*batch(3))
        piece.update(batch(3)[0], batch(3)[2])
    low = set_quantiles(reward.double(), group, bundle, 0.2)
    for first, prompts in ((0, range(5)), (5, range(5, 10))):
        rows = torch.isin(group, torch.tensor(list(prompts))) & (bundle >= 0)
        scores = [float(reward[bundle == one].sum()) for one in bundle[rows].unique()]
        assert low[rows].tolist() == pytest.approx([np.quantile(scores, 0.2)] * int(rows.sum())), first
    q_low, q_high = (set_quantiles(reward, group, bundle, level) for level in (0.2, 0.8))
    if form == "paper":
        torch.testing.assert_close(own(reward, group, bundle), mvar(bundle_score(reward, bundle), q_low, q_high))
        q_low, q_high = (q_low + mixed.tracker.quantile(0.2)) / 2, (q_high + mixed.tracker.quantile(0.8)) / 2
        torch.testing.assert_close(mixed(reward, group, bundle), mvar(bundle_score(reward, bundle), q_low, q_high))
    assert not torch.equal(own(reward, group, bundle), tracked(reward, group, bundle))


def test_the_baselines_of_the_curve_are_what_the_parts_are_on_average():
    levels = torch.arange(1, 20, dtype=torch.float64) / 20
    quantiles = 10 * levels  # of a uniform score on [0, 10]
    exact = np.trapezoid([float(rvar_weight(q, 2.0, 8.0)) for q in quantiles], levels)
    assert curve_mean(quantiles, levels, 2.0, 8.0) == pytest.approx(exact)
    # The curve from 0.5 to 2: a triangle of height 1.5 over levels 0.05 to 0.2.
    assert curve_tail_mean(quantiles, levels, 2.0) == pytest.approx(-0.5 * 1.5 * 0.15)


@pytest.mark.parametrize("natural", [True, False])
@pytest.mark.parametrize(("form", "with_tail"), [("repository", True), ("seeking", False)])
def test_the_baseline_holds_the_tail_of_the_form_that_has_one(form, with_tail, natural):
    reward, group, bundle = batch()
    options = {"form": form, "normalise": False, "natural_baseline": natural}
    plain, lowered = MeanValueAtRisk(**options), MeanValueAtRisk(**options, curve_baseline=True)
    difference = (plain(reward, group, bundle) - lowered(reward, group, bundle))[bundle >= 0]
    curve, levels = plain.tracker.quantiles, plain.tracker.levels
    a, b = plain.tracker.quantile(0.2), plain.tracker.quantile(0.8)
    middle = (curve_mean(curve, levels, a, b) + (0 if natural else b - a)) / 0.6
    tail = 1.5 * curve_tail_mean(curve, levels, a) / 0.2
    expected = (middle + (tail if with_tail else 0)) / 2.5
    assert tail < 0
    assert difference.tolist() == pytest.approx([expected] * len(difference), rel=1e-4)


def test_the_form_of_the_repository_uses_the_quantiles_of_each_set_and_the_paper_tracks():
    for form, source in (("paper", "track"), ("repository", "batch"), ("seeking", "batch")):
        default, named = MeanValueAtRisk(form=form), MeanValueAtRisk(form=form, quantiles=source)
        for piece in (default, named):
            piece(*batch(3))
            piece.update(batch(3)[0], batch(3)[2])
        assert torch.equal(default(*batch()), named(*batch()))


def test_other_quantiles_are_refused():
    with pytest.raises(UsageError, match="track, batch or mix"):
        MeanValueAtRisk(quantiles="own")
