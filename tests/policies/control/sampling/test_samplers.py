import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.core.pieces import load_piece
from pilotage.core.registry import find_pieces
from pilotage.objectives.draws import normal
from pilotage.objectives.levels import exponential_levels, linear_levels
from pilotage.objectives.noise_paths import Karras, Linear, VariancePreserving
from pilotage.policies.control.sampling.discrete_samplers import ddim, ddpm
from pilotage.policies.control.sampling.samplers import SLOT, flow_euler, limit_of, sampler_for, takes_path
from pilotage.policies.control.sampling.sigma_samplers import (
    ancestral_step,
    ddim_sigma,
    dpm_solver_2m,
    dpm_solver_2s,
    euler,
    euler_ancestral,
    heun,
)

SAMPLERS = {name: load_piece(SLOT, name) for name in find_pieces(SLOT)}
SIGMA = {name: sampler for name, sampler in SAMPLERS.items() if sampler.path is Karras}
DETERMINISTIC = {name: function for name, function in SIGMA.items() if name != "euler_ancestral"}
VP = VariancePreserving()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def generators(rows, seed=0):
    return [generator(seed + row) for row in range(rows)]


def double(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def two_points(x, sigma):
    """E[clean | x] of equal mass at ±1: the analytic denoiser on a path with a = 1."""
    return torch.tanh(x / sigma[:, None, None] ** 2)


def two_points_vp(x, level):
    bar = VP.alpha_bars[level][:, None, None]
    return torch.tanh(bar.sqrt() * x / (1 - bar))


def two_points_flow(x, t):
    t = t[:, None, None]
    return torch.tanh(t * x / (1 - t) ** 2)


def gaussian(std):
    return lambda x, sigma: std**2 / (std**2 + sigma[:, None, None] ** 2) * x


def expect_two_modes(x):
    assert ((x.abs() - 1).abs() < 0.02).double().mean() > 0.98
    assert 0.4 < (x > 0).double().mean() < 0.6


# ---- against diffusers -----------------------------------------------------------------------------------------------


def model(x, level):
    """Any function of both, so that every coefficient matters; also outside ±1, so that clipping matters."""
    return torch.sin(3 * x) * 1.4 + 0.01 * level[:, None, None]


@pytest.mark.parametrize("schedule", ["squaredcos_cap_v2", "linear"])
def test_ddpm_agrees_with_diffusers_on_the_same_noise(schedule):
    diffusers = pytest.importorskip("diffusers")
    path = VariancePreserving(100, schedule)
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=100, beta_schedule=schedule, variance_type="fixed_small")
    scheduler.alphas_cumprod = path.alpha_bars  # its own table is float32
    scheduler.set_timesteps(100)
    ours = theirs = double(3, 4, 2)
    first, second = generator(7), generator(7)
    for t in scheduler.timesteps:
        level = torch.full((3,), int(t))
        theirs = scheduler.step(path.noise_of(model(theirs, level), theirs, level, "clean"), int(t), theirs, second)
        theirs = theirs.prev_sample
    ours = ddpm(model, path.levels(), ours, first, path=path)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert ours.abs().max() <= 1 + 1e-9


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("count", [5, 10, 100])
def test_ddim_agrees_with_diffusers_on_the_same_noise(count, eta):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2")
    scheduler.alphas_cumprod, scheduler.final_alpha_cumprod = VP.alpha_bars, torch.ones((), dtype=torch.float64)
    scheduler.set_timesteps(count)
    theirs = start = double(3, 4, 2)
    first, second = generator(7), generator(7)
    for t in scheduler.timesteps:
        level = torch.full((3,), int(t))
        noise = VP.noise_of(model(theirs, level), theirs, level, "clean")
        theirs = scheduler.step(noise, int(t), theirs, eta=eta, generator=second).prev_sample
    ours = ddim(model, scheduler.timesteps, start, first, path=VP, eta=eta)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("level", "tolerance"), [(0, 1e-6), (3, 1e-4)])
def test_short_ddpm_agrees_with_the_untouched_scheduler_in_float32(level, tolerance):
    """Its float32 table of ᾱ leaves four digits of 1 − ᾱ at low levels, where 1 − ᾱ is divided by."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(
        num_train_timesteps=100, beta_schedule="squaredcos_cap_v2", prediction_type="sample"
    )
    theirs = x = double(3, 4, 2).float()
    first, second = generator(7), generator(7)
    levels = list(range(level, -1, -1))
    for t in levels:
        theirs = scheduler.step(model(theirs, torch.full((3,), t)), t, theirs, second).prev_sample
    torch.testing.assert_close(ddpm(model, levels, x, first, path=VP), theirs, rtol=0, atol=tolerance)


# ---- exact distributions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIGMA)
def test_sigma_samplers_reproduce_both_points_in_equal_shares(name):
    x = 5.0 * double(2000, 1, 1)
    expect_two_modes(SIGMA[name](two_points, exponential_levels(50, 0.02, 5.0), x, generator(1)))


def test_churn_keeps_the_distribution():
    x = 5.0 * double(2000, 1, 1)
    for sampler in (euler, heun):
        expect_two_modes(sampler(two_points, exponential_levels(50, 0.02, 5.0), x, generator(1), churn=10.0))


def test_discrete_samplers_reproduce_both_points_in_equal_shares():
    x = double(2000, 1, 1)
    expect_two_modes(ddpm(two_points_vp, VP.levels(), x, generator(1), path=VP))
    expect_two_modes(ddim(two_points_vp, VP.levels(50), x, path=VP))
    expect_two_modes(flow_euler(two_points_flow, Linear().levels(50), x, None))


@pytest.mark.parametrize("name", SIGMA)
def test_one_step_returns_the_estimate_itself(name):
    x, sigma = double(4, 3, 2), torch.full((4,), 0.8, dtype=torch.float64)
    ours = SIGMA[name](two_points, [0.8, 0.0], x, generator())
    torch.testing.assert_close(ours, two_points(x, sigma), rtol=0, atol=1e-12)


def test_one_step_of_the_other_samplers_returns_the_estimate_too():
    x, last = double(4, 3, 2), torch.full((4,), 99)
    torch.testing.assert_close(ddim(two_points_vp, [99], x, path=VP), two_points_vp(x, last))
    zero = torch.zeros(4, dtype=torch.float64)
    torch.testing.assert_close(flow_euler(two_points_flow, [0.0, 1.0], x, None), two_points_flow(x, zero))


def test_one_step_gives_the_mean_where_fifty_give_the_modes():
    x = double(500, 1, 1)
    assert ddim(two_points_vp, VP.levels(1), x, path=VP).abs().max() < 0.01


@pytest.mark.parametrize(
    ("name", "order"), [("euler", 1), ("ddim_sigma", 1), ("heun", 2), ("dpm_solver_2s", 2), ("dpm_solver_2m", 2)]
)
def test_errors_shrink_with_the_order_of_the_solver(name, order):
    """For N(0, s²) the probability-flow ODE from σ to σ' is x·√((s² + σ'²)/(s² + σ²))."""
    std, top, bottom = 0.7, 3.0, 0.5
    x = double(8, 1, 1)
    at_bottom = math.sqrt((std**2 + bottom**2) / (std**2 + top**2)) * x
    truth = gaussian(std)(at_bottom, torch.full((8,), bottom))
    errors = [
        (DETERMINISTIC[name](gaussian(std), exponential_levels(count, bottom, top), x, None) - truth).abs().max()
        for count in (33, 65)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


def test_ddim_of_sigma_is_the_closed_form_in_the_logarithm():
    x, clean = double(3, 2, 1), double(3, 2, 1, seed=1)
    now, then = 0.9, 0.3
    calls = []

    def constant(level):
        calls.append(level[0].item())
        return clean

    h = math.log(now) - math.log(then)
    expected = then / now * x - math.expm1(-h) * clean
    middle = ddim_sigma(lambda x, s: constant(s) if s[0] == now else x, [now, then, 0.0], x)
    torch.testing.assert_close(middle, expected)
    assert calls == [now]


def test_ddim_on_both_paths_is_the_same_process():
    """x/√ᾱ and σ = √(1/ᾱ − 1) turn one path into the other."""
    levels = VP.levels(10)
    bars = VP.alpha_bars[levels]
    sigmas = [*(1 / bars - 1).sqrt().tolist(), 0.0]
    x = double(50, 2, 1)
    ours = ddim(two_points_vp, levels, x, path=VP, clip=None)
    torch.testing.assert_close(ours, ddim_sigma(two_points, sigmas, x / bars[0].sqrt()), rtol=0, atol=1e-8)


# ---- noise -----------------------------------------------------------------------------------------------------------


@given(sigma=st.floats(0.1, 5), share=st.floats(0.0, 0.99), eta=st.floats(0, 1))
def test_the_variances_of_an_ancestral_step_add_up(sigma, share, eta):
    following = sigma * share
    down, up = ancestral_step(sigma, following, eta)
    assert down**2 + up**2 == pytest.approx(following**2, abs=1e-12)
    if eta == 0:
        assert up == 0


def test_ancestral_steps_without_noise_are_euler():
    x, levels = double(5, 3, 2), linear_levels(6, 0.1, 1.0)
    torch.testing.assert_close(
        euler_ancestral(two_points, levels, x, None, eta=0.0), euler(two_points, levels, x), rtol=0, atol=1e-12
    )


def test_ancestral_noise_has_the_stated_variance():
    x, now, then = torch.zeros(200_000, 1, 1, dtype=torch.float64), 1.0, 0.6
    seen = []

    def zero(x, level):
        seen.append((level[0].item(), x.std().item()))
        return torch.zeros_like(x)

    euler_ancestral(zero, [now, then, 0.0], x, generator())
    assert seen[1] == (then, pytest.approx(ancestral_step(now, then)[1], rel=0.01))
    seen.clear()
    ddpm(zero, [1, 0], x, generator(), path=VP)
    bars, betas = VP.alpha_bars, VP.betas
    assert seen[1][1] == pytest.approx((betas[1] * (1 - bars[0]) / (1 - bars[1])).sqrt().item(), rel=0.01)


def test_no_noise_is_added_at_the_last_level():
    x = double(4, 2, 1)
    assert torch.equal(
        ddpm(two_points_vp, [0], x, generator(0), path=VP), ddpm(two_points_vp, [0], x, generator(1), path=VP)
    )


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_row_with_its_own_generator_does_not_depend_on_the_batch(name):
    path = {Karras: Karras(), VariancePreserving: VP, Linear: Linear()}[SAMPLERS[name].path]
    denoise = {Karras: two_points, VariancePreserving: two_points_vp, Linear: two_points_flow}[SAMPLERS[name].path]
    levels = linear_levels(5, 0.1, 1.0) if isinstance(path, Karras) else path.levels(5)
    if name == "ddpm":
        levels = path.levels()
    options = {"path": path} if takes_path(SAMPLERS[name]) else {}
    if name == "ddim":
        options["eta"] = 1.0
    if name in ("euler", "heun"):
        options["churn"] = 2.0

    def sample(seeds):
        rows = [generator(seed) for seed in seeds]
        x = normal([len(rows), 3, 2], rows, like=torch.empty(0, dtype=torch.float64))
        return SAMPLERS[name](denoise, levels, x, rows, **options)

    together = sample([4, 5, 6, 7])
    assert torch.equal(together[2:3], sample([6]))
    assert torch.equal(together.flip(0), sample([7, 6, 5, 4]))
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_samplers_need_no_generator(name):
    x, levels = double(6, 3, 2), linear_levels(5, 0.1, 1.0)
    together = DETERMINISTIC[name](two_points, levels, x, None)
    assert torch.equal(together[1:2], DETERMINISTIC[name](two_points, levels, x[1:2], None))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: euler_ancestral(two_points, [1.0, 0.5, 0.0], x, None),
        lambda x: euler(two_points, [1.0, 0.5, 0.0], x, None, churn=1.0),
        lambda x: ddim(two_points_vp, [1, 0], x, path=VP, eta=1.0),
    ],
)
def test_noise_without_a_generator_is_refused(call):
    with pytest.raises(UsageError, match="generator"):
        call(double(1, 1, 1))


# ---- levels and calls ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "calls"),
    [(euler, 5), (euler_ancestral, 5), (ddim_sigma, 5), (dpm_solver_2m, 5), (heun, 9), (dpm_solver_2s, 9)],
)
def test_calls_of_the_network(sampler, calls):
    seen = []

    def counted(x, sigma):
        seen.append(sigma)
        return two_points(x, sigma)

    sampler(counted, linear_levels(5, 0.1, 1.0), double(2, 1, 1), generator())
    assert len(seen) == calls
    assert all(level.shape == (2,) and level.dtype == torch.float64 for level in seen)


def test_a_short_list_skips_calls_and_not_noise():
    """Each update of ddpm is the one-level update, wherever the list goes on."""
    x, seen = double(3, 2, 1), []

    def watched(x, level):
        seen.append((int(level[0]), x.clone()))
        return two_points_vp(x, level)

    ddpm(watched, [3, 1, 0], x, generator(5), path=VP)
    assert [level for level, _ in seen] == [3, 1, 0]
    bars, betas = VP.alpha_bars, VP.betas
    clean = two_points_vp(x, torch.full((3,), 3)).clamp(-1, 1)
    mean = bars[2].sqrt() * betas[3] / (1 - bars[3]) * clean
    mean = mean + (1 - betas[3]).sqrt() * (1 - bars[2]) / (1 - bars[3]) * x
    std = (betas[3] * (1 - bars[2]) / (1 - bars[3])).sqrt()
    torch.testing.assert_close(seen[1][1], mean + std * normal(x.shape, generator(5), like=x))


def test_without_levels_the_start_comes_back():
    x = double(3, 2, 1)
    assert torch.equal(ddpm(two_points_vp, [], x, generator(), path=VP), x)
    assert torch.equal(ddim(two_points_vp, [], x, path=VP), x)


@pytest.mark.parametrize(("levels", "said"), [([3, 1], "end at 1"), ([100, 0], "within 0 to 99"), ([0, 1], "fall")])
def test_bad_integer_levels_are_refused(levels, said):
    with pytest.raises(UsageError, match=said):
        ddpm(two_points_vp, levels, double(1, 1, 1), generator(), path=VP)


@pytest.mark.parametrize("levels", [[0.0], [0.0, 0.5], [0.5, 0.2, 1.0], [-0.1, 1.0]])
def test_bad_times_are_refused(levels):
    with pytest.raises(UsageError, match="rise strictly and end with 1"):
        flow_euler(two_points_flow, levels, double(1, 1, 1), None)


def test_a_sampler_of_another_path_is_refused_with_those_that_fit():
    assert sampler_for("ddpm", VP) is ddpm
    with pytest.raises(UsageError, match=r"another kind of path.*choose of ddpm, ddim"):
        sampler_for("heun", VP)
    with pytest.raises(UsageError, match=r"not known.*choose of flow_euler"):
        sampler_for("leapfrog", Linear())


def test_an_option_that_a_sampler_has_not_is_refused_with_those_it_has():
    assert sampler_for("ddim", VP, {"eta": 0.5}) is ddim
    with pytest.raises(UsageError, match=r"no option 'eta_' .did you mean 'eta'"):
        sampler_for("ddim", VP, {"eta_": 0.5})


def test_a_sampler_says_within_what_its_answers_lie():
    assert [limit_of(ddim), limit_of(ddim, {"clip": None}), limit_of(ddpm, {"clip": 3.0}), limit_of(heun)] == [
        *(1.0, None, 3.0, None),
    ]


def test_flow_steps_equal_steps_along_the_velocity():
    x, times = double(4, 2, 1), [0.0, 0.3, 1.0]
    expected = x
    for now, then in ((0.0, 0.3), (0.3, 1.0)):
        t = torch.full((4,), now, dtype=torch.float64)
        velocity = (two_points_flow(expected, t) - expected) / (1 - now)
        expected = expected + (then - now) * velocity
    torch.testing.assert_close(flow_euler(two_points_flow, times, x, None), expected)


def test_a_linear_gaussian_policy_contracts_as_computed():
    """a ~ N(W·o, s²): D is linear in x, so is the reverse process, and a disturbance shrinks by a known factor."""
    std, levels = 0.3, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    bars, betas = VP.alpha_bars, VP.betas

    def denoise(x, level):
        bar = bars[level][:, None, None]
        return 0.2 + bar.sqrt() * std**2 / (bar * std**2 + 1 - bar) * (x - bar.sqrt() * 0.2)

    factor = 1.0
    for t in levels:
        before = bars[t - 1] if t else torch.ones(())
        slope = bars[t].sqrt() * std**2 / (bars[t] * std**2 + 1 - bars[t])
        factor *= (
            before.sqrt() * betas[t] / (1 - bars[t]) * slope + (1 - betas[t]).sqrt() * (1 - before) / (1 - bars[t])
        ).item()
    x = 0.2 + 0.05 * double(20, 2, 1)
    one, other = (ddpm(denoise, levels, start, generator(1), path=VP, clip=None) for start in (x, x + 0.1))
    assert ((other - one) / 0.1).mean().item() == pytest.approx(factor, rel=0.05)
    assert factor < 1
