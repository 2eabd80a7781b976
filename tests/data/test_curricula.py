"""Which prompts come next: epochs, VADE's reference values, and what a resume must not change."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from pilotage.core.errors import UsageError
from pilotage.data.curricula import BetaThompsonSampler, UniformSampler, information
from pilotage.data.pass_rates import BetaPassRate, moment_prior


def array(*values: float) -> np.ndarray:
    return np.array(values)


# ---- pass rates ------------------------------------------------------------------------------------------------------


def test_the_two_scale_update_gives_the_values_of_the_paper_s_figure() -> None:
    sampler = BetaThompsonSampler(3)
    sampler.rates.right[:] = [0.1, 2.7, 9.0]
    sampler.rates.wrong[:] = [8.4, 5.3, 0.2]
    sampler.update(array(0, 1).astype(int), array(1, 4), array(8, 8))
    np.testing.assert_allclose(sampler.rates.right, [1.02, 4.54, 8.991], rtol=1e-12)
    np.testing.assert_allclose(sampler.rates.wrong, [8.68, 5.06, 0.1998], rtol=1e-12)
    assert sampler.rates.mean()[1] == pytest.approx(0.477586, abs=1e-6)


def test_a_prompt_selected_at_every_step_has_ten_effective_observations() -> None:
    rates = BetaPassRate(1)
    for _ in range(200):
        rates.observe(array(0).astype(int), array(3), array(8), retain_rows=0.2, retain_others=0.999)
    assert rates.right[0] + rates.wrong[0] == pytest.approx(8 / (1 - 0.2))
    assert rates.mean()[0] == pytest.approx((10 * 3 / 8 + 1) / 12)


def test_an_unselected_prompt_is_half_forgotten_after_693_steps() -> None:
    assert math.log(2) / -math.log(0.999) == pytest.approx(692.8, abs=0.05)
    sampler = BetaThompsonSampler(2)
    sampler.rates.right[:] = sampler.rates.wrong[:] = 8.0
    for _ in range(693):
        sampler.update(array(0).astype(int), array(4), array(8))
    assert sampler.rates.right[1] == pytest.approx(4.0, rel=1e-3)


def test_the_information_score_has_the_card_s_values() -> None:
    p = array(0.13, 0.32, 0.90)
    np.testing.assert_allclose(information(p, "p(1-p)^2"), [0.098397, 0.147968, 0.009], atol=1e-12)
    grid = np.linspace(0, 1, 300_001)
    assert grid[information(grid, "p(1-p)^2").argmax()] == pytest.approx(1 / 3, abs=1e-5)
    assert information(grid, "p(1-p)^2").max() == pytest.approx(4 / 27)
    assert integrate.quad(lambda q: information(q, "p(1-p)^2"), 0, 1)[0] == pytest.approx(1 / 12)
    assert information(array(0.5), "p(1-p)").item() == 0.25


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 8), st.integers(0, 8)).map(
            lambda t: (t[0], min(t[1:]), max(t[1:]))
        ),
        min_size=1,
        max_size=20,
    )
)
def test_without_forgetting_the_counts_are_sums_also_of_repeated_rows(groups: list[tuple[int, int, int]]) -> None:
    rates = BetaPassRate(5)
    rows, right, total = (np.array(column) for column in zip(*groups, strict=True))
    rates.observe(rows, right, total, retain_rows=1.0, retain_others=1.0)
    for row in range(5):
        mine = rows == row
        assert rates.right[row] == right[mine].sum()
        assert rates.wrong[row] == (total - right)[mine].sum()
        assert rates.solved[row] == (right[mine].sum() > 0)
    a, b = rates.posterior()
    lower, upper = rates.interval(0.8)
    np.testing.assert_allclose(stats.beta.cdf(upper, a, b) - stats.beta.cdf(lower, a, b), 0.8, rtol=1e-9)
    np.testing.assert_allclose(rates.quantile(0.5, rows[:1]), rates.quantile(0.5)[rows[:1]])


def test_credible_intervals_cover_when_nothing_drifts() -> None:
    generator = np.random.default_rng(0)
    truth = generator.uniform(size=4000)
    rates = BetaPassRate(4000)
    rates.observe(np.arange(4000), generator.binomial(8, truth), np.full(4000, 8), retain_rows=1, retain_others=1)
    lower, upper = rates.interval(0.8)
    assert ((lower < truth) & (truth < upper)).mean() == pytest.approx(0.8, abs=0.025)


def test_draws_have_the_posterior_s_moments() -> None:
    rates = BetaPassRate(20_000)
    rates.right[:], rates.wrong[:] = 2.7, 5.3
    draws = rates.draw(np.random.default_rng(0))
    assert draws.mean() == pytest.approx(stats.beta.mean(3.7, 6.3), abs=0.004)
    assert draws.std() == pytest.approx(stats.beta.std(3.7, 6.3), abs=0.004)


def test_prompts_that_nobody_solves_are_listed_and_staleness_is_counted() -> None:
    rates = BetaPassRate(4)
    rates.observe(array(0, 1).astype(int), array(0, 0.5), array(8, 8), retain_rows=0.2, retain_others=1)
    rates.observe(array(2).astype(int), array(0), array(4), retain_rows=0.2, retain_others=1)
    assert rates.never_solved(8).tolist() == [0]
    assert rates.never_solved(1).tolist() == [0, 2]
    assert rates.staleness().tolist() == [1, 1, 0, -1]


def test_the_moment_prior_finds_the_distribution_of_the_pass_rates() -> None:
    generator = np.random.default_rng(1)
    p = generator.beta(2.0, 6.0, 20_000)
    answers = np.full(20_000, 8.0)
    prior = moment_prior(generator.binomial(8, p) / 8, answers)
    np.testing.assert_allclose(prior, [2.0, 6.0], rtol=0.08)
    assert moment_prior(generator.binomial(1, p).astype(float), np.ones(20_000)).sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rows", "right", "total", "message"),
    [
        ([0], [9], [8], "prompt 0 has 9 right of 8"),
        ([0], [-1], [8], "0 ≤ right ≤ total"),
        ([0], [math.nan], [8], "0 ≤ right ≤ total"),
        ([5], [1], [8], "from 0 to 2"),
        ([-1], [1], [8], "from 0 to 2"),
        ([0.0], [1], [8], "whole numbers"),
        ([0, 1], [1], [8], "one length"),
    ],
)
def test_counts_that_cannot_be_are_refused_and_change_nothing(rows, right, total, message: str) -> None:
    sampler = BetaThompsonSampler(3)
    sampler.update(array(1).astype(int), array(2), array(8))
    before = sampler.state_dict()
    with pytest.raises(UsageError, match=message):
        sampler.update(np.array(rows), np.array(right), np.array(total))
    np.testing.assert_equal(sampler.state_dict(), before)


# ---- samplers ------------------------------------------------------------


@given(size=st.integers(1, 40), counts=st.lists(st.integers(1, 60), min_size=1, max_size=8), seed=st.integers(0, 3))
def test_every_prompt_comes_once_per_epoch_across_any_batches_and_resumes(
    size: int, counts: list[int], seed: int
) -> None:
    whole = UniformSampler(size, seed=seed).select(sum(counts))
    sampler, parts = UniformSampler(size, seed=seed), []
    for count in counts:
        resumed = UniformSampler(size, seed=99)
        resumed.load_state_dict(sampler.state_dict())
        sampler = resumed
        parts.append(sampler.select(count))
    drawn = np.concatenate(parts)
    np.testing.assert_array_equal(drawn, whole)
    for start in range(0, len(drawn) - size + 1, size):
        assert sorted(drawn[start : start + size]) == list(range(size))


def test_epochs_and_seeds_differ_in_order() -> None:
    drawn = UniformSampler(50, seed=1).select(100)
    assert drawn[:50].tolist() != drawn[50:].tolist()
    assert drawn[:50].tolist() != UniformSampler(50, seed=2).select(50).tolist()


def informed(**options: Any) -> BetaThompsonSampler:
    """90 prompts, known well: 0-29 impossible, 30-59 at 1/3, 60-89 easy."""
    sampler = BetaThompsonSampler(90, **options)
    sampler.rates.right[:] = np.repeat([0.0, 100.0, 290.0], 30)
    sampler.rates.wrong[:] = np.repeat([300.0, 200.0, 10.0], 30)
    return sampler


@pytest.mark.parametrize("draw", ["thompson", "greedy"])
def test_prompts_that_are_hard_but_solvable_are_chosen_without_repetition(draw: Any) -> None:
    rows = informed(draw=draw).select(20)
    assert len(set(rows.tolist())) == 20
    assert rows.min() >= 30
    assert rows.max() < 60


def test_the_selection_is_the_top_of_the_promise() -> None:
    one, two = informed(seed=5), informed(seed=5)
    promise = two.promise()
    assert one.select(7).tolist() == np.argsort(-promise)[:7].tolist()


def test_greedy_breaks_ties_at_random_and_never_by_position() -> None:
    first = [BetaThompsonSampler(50, draw="greedy", seed=seed).select(5).tolist() for seed in range(3)]
    assert first[0] != first[1] != first[2]


def test_mixing_visits_what_the_score_neglects_and_one_is_uniform() -> None:
    counts = np.zeros(90)
    sampler = informed(mixing=1.0)
    for _ in range(300):
        counts[sampler.select(9)] += 1
    assert counts[:30].sum() == pytest.approx(900, abs=120)
    neglected = [np.sum((rows := informed(mixing=0.5, seed=s).select(20)) < 30) + np.sum(rows >= 60) for s in range(20)]
    assert np.mean(neglected) > 2


def test_a_cooldown_leaves_chosen_prompts_out_for_so_many_selections() -> None:
    sampler = informed(cooldown=2, draw="greedy")
    batches = [set(sampler.select(15).tolist()) for _ in range(3)]
    assert not batches[0] & batches[1]
    assert not batches[0] & batches[2]
    assert not batches[1] & batches[2]
    assert batches[0] & set(sampler.select(15).tolist())
    with pytest.raises(UsageError, match=r"of 90 can be chosen \(cooldown 2\)"):
        sampler.select(80)


@pytest.mark.parametrize("update", ["two-scale", "last", "none"])
def test_update_rules_forget_as_they_say(update: Any) -> None:
    sampler = BetaThompsonSampler(2, update=update)
    for right in (8, 2):
        sampler.update(array(0).astype(int), array(right), array(8))
    sampler.update(array(1).astype(int), array(4), array(8))
    expected = {"two-scale": (0.2 * 8 + 2) * 0.999, "last": 2.0, "none": 10.0}[update]
    assert sampler.rates.right[0] == pytest.approx(expected)


def test_fitted_priors_inform_about_prompts_never_visited_by_group() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat([7, 9], 100)
    sampler = BetaThompsonSampler(200, prior="moments", groups=groups)
    rows = np.concatenate([np.arange(0, 50), np.arange(100, 150)])
    p = np.where(rows < 100, generator.beta(8, 2, 100), generator.beta(1, 9, 100))
    sampler.update(rows, generator.binomial(8, p), np.full(100, 8))
    mean = sampler.rates.mean()
    assert mean[75] == pytest.approx(0.8, abs=0.07)
    assert mean[175] == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("options", [{}, {"draw": "greedy"}, {"mixing": 0.3, "cooldown": 1}, {"prior": "moments"}])
def test_a_resumed_sampler_selects_what_an_undisturbed_one_would(options: dict[str, Any]) -> None:
    world = np.random.default_rng(3)
    results = world.integers(0, 9, (12, 10))
    undisturbed, resumed, seen = BetaThompsonSampler(60, **options), BetaThompsonSampler(60, **options), ([], [])
    for right in results:
        np.random.seed(0)  # the global generator must not matter
        for sampler, batches in zip((undisturbed, resumed), seen, strict=True):
            rows = sampler.select(10)
            sampler.update(rows, right, np.full(10, 8))
            batches.append(rows.tolist())
        state = resumed.state_dict()
        resumed.select(5)  # what happens after the checkpoint is undone by loading it
        resumed = BetaThompsonSampler(60, seed=1234, **options)
        resumed.load_state_dict(state)
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retain_selected": 0.0}, r"retain_selected=0.0 .* \(0, 1\]"),
        ({"retain_others": 1.1}, r"retain_others=1.1 .* \(0, 1\]"),
        ({"retain_others": math.nan}, r"retain_others=nan"),
        ({"score": "p"}, r"score='p' is unknown; there are p\(1-p\)"),
        ({"draw": "ucb"}, "thompson, greedy"),
        ({"update": "first"}, "two-scale, last, none"),
        ({"mixing": 2}, "mixing in"),
        ({"cooldown": -1}, "cooldown ≥ 0"),
        ({"prior": (0, 1)}, "positive numbers"),
        ({"prior": "level"}, "'moments'"),
        ({"groups": [1, 2]}, "one number for each of 9"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BetaThompsonSampler(9, **options)


def test_few_prompts_warn_once_and_too_few_are_refused() -> None:
    sampler = BetaThompsonSampler(10)
    with pytest.warns(UserWarning, match="8 of only 10 prompts"):
        sampler.select(8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler.select(8)
        BetaThompsonSampler(10).select(5)
    for wrong in (11, 0):
        with pytest.raises(UsageError, match="expected 1 to 10"):
            sampler.select(wrong)
    for kind in (UniformSampler, BetaThompsonSampler):
        with pytest.raises(UsageError, match="at least 1"):
            kind(0)
        with pytest.raises(UsageError, match="same data"):
            kind(11).load_state_dict(kind(10).state_dict())


def test_a_million_prompts_fit() -> None:
    sampler = BetaThompsonSampler(1_000_000)
    rows = sampler.select(512)
    sampler.update(rows, np.ones(512), np.full(512, 8))
    assert len(set(rows.tolist())) == 512
    assert sampler.rates.right.sum() == 512
