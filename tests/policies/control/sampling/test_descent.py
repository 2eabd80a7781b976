import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.policies.control.sampling.descent import derivative_free, descend, energy_gradient

CURVATURE = 2.0
CENTER = torch.tensor([[[0.3, -0.2]]], dtype=torch.float64)


def bowl(x):
    return 0.5 * CURVATURE * (x - CENTER).square().sum((-1, -2))


def double_well(x):
    return 40 * (x.square() - 1).square().sum((-1, -2))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def double(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def test_the_gradient_agrees_with_central_differences_within_no_grad():
    x = double(3, 1, 1)
    with torch.no_grad():
        gradient = energy_gradient(double_well, x)
    difference = (double_well(x + 1e-5) - double_well(x - 1e-5)) / 2e-5
    torch.testing.assert_close(gradient.flatten(), difference, rtol=1e-3, atol=1e-6)
    assert not gradient.requires_grad


@pytest.mark.parametrize(("step_size", "converges"), [(0.9, True), (1.1, False)])
def test_plain_descent_on_a_bowl_converges_below_two_over_the_curvature(step_size, converges):
    end = descend(bowl, [0.0] * 200, double(5, 1, 2), None, step_size=step_size).chunk
    distance = (end - CENTER).abs().max()
    assert distance < 1e-6 if converges else distance > 1e6


def test_each_step_is_the_equation():
    x = double(3, 1, 2)
    end = descend(bowl, [0.0], x, None, step_size=0.1).chunk
    torch.testing.assert_close(end, x - 0.1 * CURVATURE * (x - CENTER))
    clipped = descend(bowl, [0.0], x, None, step_size=0.1, gradient_clip=0.05).chunk
    assert (clipped - x).abs().max() <= 0.1 * 0.05 + 1e-12


def test_momentum_needs_fewer_steps():
    def narrow(x):
        return 0.5 * (x[..., 0].square() * 20 + x[..., 1].square() * 0.5).sum(-1)

    taken = [
        descend(narrow, [0.0] * 800, double(4, 1, 2), None, step_size=0.02, momentum=m, least_slope=1e-4).steps
        for m in (0.0, 0.9)
    ]
    assert (taken[1] < taken[0] / 2).all()


def test_a_finished_row_stays_while_others_move_as_it_would_alone():
    x = CENTER + torch.tensor([0.01, 1.0, 10.0], dtype=torch.float64)[:, None, None]
    together = descend(bowl, [0.0] * 100, x, None, step_size=0.1, least_slope=0.05)
    assert together.steps[0] < together.steps[1] < together.steps[2] < 100
    assert (together.slope < 0.05).all()
    for row in range(3):
        alone = descend(bowl, [0.0] * 100, x[row : row + 1], None, step_size=0.1, least_slope=0.05)
        torch.testing.assert_close(together.chunk[row : row + 1], alone.chunk, rtol=0, atol=1e-12)
        assert alone.steps[0] == together.steps[row]


def test_langevin_dynamics_reach_the_boltzmann_distribution():
    step = 0.02
    end = descend(bowl, [(2 * step) ** 0.5] * 400, double(4000, 1, 2), generator(3), step_size=step).chunk
    torch.testing.assert_close(end.mean(0), CENTER[0], rtol=0, atol=0.05)
    # x' = (1 − step·k)·(x + n) has the variance V = (1 − step·k)²·(V + 2·step), which is 1/k for small steps.
    shrink = (1 - step * CURVATURE) ** 2
    assert end.var(0).mean().item() == pytest.approx(2 * step * shrink / (1 - shrink), rel=0.05)


def test_rows_with_their_own_generators_do_not_depend_on_the_batch():
    x = double(3, 1, 1)
    together = descend(double_well, [0.05] * 10, x, [generator(i) for i in range(3)], step_size=1e-3).chunk
    alone = descend(double_well, [0.05] * 10, x[1:2], [generator(1)], step_size=1e-3).chunk
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-12)


def test_an_energy_that_explodes_is_refused():
    with pytest.raises(UsageError, match="not finite"):
        descend(lambda x: (x * float("nan")).sum((-1, -2)), [0.0], double(1, 1, 1), None, step_size=1.0)
    with pytest.raises(UsageError, match="give a generator"):
        descend(bowl, [0.1], double(1, 1, 2), None, step_size=1.0)


@pytest.mark.parametrize("choose", ["draw", "lowest"])
def test_derivative_free_search_finds_both_wells(choose):
    rows = [generator(i) for i in range(200)]
    candidates = torch.stack([2 * torch.rand(256, 1, 1, generator=g, dtype=torch.float64) - 1 for g in rows]) * 1.2
    found = derivative_free(double_well, candidates, rows, low=-1.2, high=1.2, choose=choose).flatten()
    # Boltzmann's standard deviation around a well of curvature 8·40 is 0.056, and each round adds 0.03 to it.
    assert ((found.abs() - 1).abs() < 0.2).double().mean() > 0.95
    assert 0.35 < (found > 0).double().mean() < 0.65
    alone = derivative_free(double_well, candidates[7:8], [_advanced(7)], low=-1.2, high=1.2, choose=choose)
    assert torch.equal(alone.flatten()[0], found[7])


def _advanced(seed):
    """The generator of a row after its candidates were drawn."""
    one = generator(seed)
    torch.rand(256, 1, 1, generator=one, dtype=torch.float64)
    return one


def test_candidates_stay_in_the_box():
    pushed_out = derivative_free(lambda c: -100 * c.sum((-1, -2)), double(4, 32, 2, 1), generator(), low=-1, high=1)
    assert pushed_out.max() == 1
    with pytest.raises(UsageError, match="choose draw or lowest"):
        derivative_free(bowl, double(1, 2, 1, 2), generator(), choose="best")
