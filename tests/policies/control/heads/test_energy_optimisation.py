"""EBT-Policy's head: second derivatives reach every weight, rows stop for themselves, passes are counted."""

import gc
import math

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pilotage.core.errors import UsageError
from pilotage.networks.action_transformer import ActionTransformer
from pilotage.networks.chunk_network import ChunkNetwork
from pilotage.networks.residual_mlp import ResidualMLP
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.heads.energy import energy_loss
from pilotage.policies.control.heads.energy_descent import Descent, energy_step, settle
from pilotage.policies.control.heads.energy_optimisation import EnergyOptimisation, check_double_backward
from pilotage.policies.control.heads.energy_training import ThroughDescent, through_descent
from pilotage.policies.control.saving import describe, rebuild

PAPER = {
    "training_loss": "through_descent",
    "step_size": 1.0,
    "learn_step": True,
    "scaled": True,
    "momentum": 0.9,
    "normalise_last": True,
    "noise_first": 0.1,
    "noise_last": 0.01,
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def head(**options):
    torch.manual_seed(0)
    made = EnergyOptimisation(ResidualMLP(2, 4, 3, width=16, depth=2, takes_level=False, outputs=1), **options)
    return made.eval()


def randomised(made):
    """With an output layer away from 0, as after training."""
    nn.init.normal_(made.network.output_proj.weight, std=0.5, generator=generator(7))
    return made


def condition(rows, seed=1):
    return Condition(torch.randn(rows, 3, generator=generator(seed)), torch.randn(rows, 2, 3, generator=generator(2)))


def chunks(rows, seed=3):
    return torch.rand(rows, 4, 2, generator=generator(seed)) * 2 - 1


def all_real(rows):
    return torch.ones(rows, 4, dtype=torch.bool)


def test_the_gradient_agrees_with_central_differences_in_float64():
    made = randomised(head()).double()
    known = condition(3).map(lambda part: part.double())
    x, direction = chunks(3).double(), torch.randn(3, 4, 2, generator=generator(5)).double()
    at = x.requires_grad_()
    (slope,) = torch.autograd.grad(made.energy(at, known).sum(), at)
    with torch.no_grad():
        ahead, behind = (made.energy(x + sign * 1e-5 * direction, known) for sign in (1, -1))
    torch.testing.assert_close((slope * direction).sum((1, 2)), (ahead - behind) / 2e-5, rtol=1e-3, atol=1e-8)


def test_the_energy_has_neither_level_nor_last_bias_and_begins_flat():
    made = head()
    assert made.network.level is None
    assert made.network.output_proj.bias is None
    assert float(made.energy(chunks(2), condition(2)).detach().abs().max()) == 0
    assert head(bias=True).network.output_proj.bias is not None


@pytest.mark.parametrize("loss", ["through_descent", "equilibrium_matching"])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("kind", ["residual", "transformer"])
def test_second_derivatives_reach_every_weight(loss, kind, scaled):
    options = {**PAPER, "training_loss": loss, "scaled": scaled}
    made = randomised(head(**options))
    if kind == "transformer":
        network = ActionTransformer(
            2, 4, token_dim=3, frames=2, width=16, depth=1, heads=2, outputs=1, takes_level=False
        )
        made = randomised(EnergyOptimisation(network, **options))
    made.train().loss(chunks(8), condition(8), generator(), all_real(8)).mean().backward()
    for name, weight in made.network.named_parameters():
        if name == "decoder.norm.bias" and (loss == "equilibrium_matching" or not scaled):
            continue  # it adds the same to every energy, which only steps scaled by the energy know of
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name
    assert (made.log_step.grad is not None) == (loss == "through_descent")


def test_a_detached_gradient_would_reach_none():
    made = randomised(head())
    x = chunks(4)
    step = energy_step(lambda chunk: made.energy(chunk, condition(4)), x, torch.zeros_like(x), Descent(), graph=False)
    assert not step.chunk.requires_grad


def bowl(curvature, center=0.3):
    return lambda x, rows=None: 0.5 * curvature * (x - center).square().sum((1, 2))  # noqa: ARG005


@pytest.mark.parametrize(("step_size", "converges"), [(0.9, True), (1.1, False)])
def test_plain_steps_converge_below_two_over_the_curvature(step_size, converges):
    law = Descent(step_size=step_size)
    end = settle(bowl(2.0), chunks(3).double(), None, law, steps=200).chunk
    assert ((end - 0.3).abs().max() < 1e-6) == converges


def test_momentum_needs_fewer_steps():
    def narrow(x, rows):  # noqa: ARG001
        return 0.5 * (x[..., 0].square() * 20 + x[..., 1].square() * 0.5).sum(1)

    taken = [
        settle(narrow, chunks(3), None, Descent(step_size=0.02, momentum=m), steps=800, least_slope=1e-4).steps
        for m in (0.0, 0.9)
    ]
    assert (taken[1] < taken[0] / 2).all()


def test_a_scaled_step_is_the_equation_and_shrinks_as_the_energy_falls():
    x = chunks(3).double()
    zero = torch.zeros_like(x)
    law = Descent(step_size=0.1, scaled=True, temperature=2.0)
    energy = bowl(1.0)
    step = energy_step(energy, x, zero, law)
    expected = x - 0.1 * energy(x).exp()[:, None, None] / 2 * (x - 0.3)
    torch.testing.assert_close(step.chunk, expected)
    lower = energy_step(lambda at: energy(at) - 1, x, zero, law)
    torch.testing.assert_close((lower.chunk - x) * math.e, step.chunk - x)
    clipped = energy_step(energy, x, zero, Descent(step_size=0.1, gradient_clip=0.01))
    assert float((clipped.chunk - x).abs().max()) <= 0.01 + 1e-12


def test_rows_stop_for_themselves_and_the_batch_changes_nothing():
    made = randomised(head(step_size=0.5, steps=12, noise=0.01))
    known = condition(6)
    with torch.no_grad():
        made.sample(known, [generator(n) for n in range(6)])
        made.least_slope = float(made.latest.slope.sort().values[2:4].mean())
        together = made.sample(known, [generator(n) for n in range(6)])
        steps = made.latest.steps
        alone = [made.sample(known.map(lambda part, n=n: part[n : n + 1]), [generator(n)]) for n in range(6)]
    assert len(set(steps.tolist())) > 1
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)


def test_a_row_that_rests_is_not_computed_again():
    seen = []

    def energy(x, rows):
        seen.append(rows.tolist())
        return 0.5 * (x - 0.3).square().sum((1, 2))

    x = torch.stack([torch.full((4, 2), 0.3), torch.ones(4, 2)])
    settled = settle(energy, x, None, Descent(step_size=0.5), steps=4, least_slope=0.01)
    assert seen == [[0, 1], [1], [1], [1]]
    assert settled.steps.tolist() == [1, 4]
    assert settled.early.tolist() == [True, False]
    torch.testing.assert_close(settled.chunk[0], x[0])


def test_the_last_step_is_taken_at_unit_scale_by_all():
    law = Descent(step_size=1.0, normalise_last=True)
    settled = settle(lambda x, rows: x.sum((1, 2)) * 0, chunks(3), None, law, steps=3)  # noqa: ARG005
    torch.testing.assert_close(settled.chunk.square().mean((1, 2)), torch.ones(3), rtol=1e-3, atol=1e-3)
    assert settled.steps.tolist() == [3, 3, 3]


def test_within_no_grad_it_works_and_leaves_no_graph():
    made = randomised(head(steps=3))
    counts = []
    with torch.no_grad():
        for number in range(200):
            chunk = made.sample(condition(2), generator(number))
            if number in (20, 199):
                gc.collect()
                counts.append(sum(type(one) is torch.Tensor for one in gc.get_objects()))
    assert not chunk.requires_grad
    assert abs(counts[1] - counts[0]) < 5
    assert all(weight.grad is None for weight in made.parameters())


def test_passes_are_counted_as_they_happen():
    made = randomised(head(steps=3, least_slope=0.0))
    with torch.no_grad():
        made.sample(condition(2), generator())
    taken = made.pop_metrics()
    assert (taken["forward_passes"], taken["backward_passes"], taken["second_passes"]) == (3, 3, 0)
    assert taken["descent_steps"] == 3
    made.candidates = 4
    with torch.no_grad():
        made.sample(condition(2), generator())
    assert made.pop_metrics()["forward_passes"] == 4 * 3 + 4  # and one forward each to rank them
    paper = randomised(head(**{**PAPER, "least_steps": 3, "more_steps": 0}))
    paper.loss(chunks(5), condition(5), generator(), all_real(5)).mean().backward()
    taken = paper.pop_metrics()
    assert (taken["forward_passes"], taken["second_passes"]) == (3, 3)
    assert taken["backward_passes"] == 6  # the descent's, and the loss's own


def test_the_lowest_of_several_is_kept():
    made = randomised(head(steps=2, candidates=8))
    known = condition(3)
    with torch.no_grad():
        chunk = made.sample(known, generator())
        energy = made.energy(chunk, known)
        made.candidates = 1
        one = made.energy(made.sample(known, generator(9)), known)
    torch.testing.assert_close(energy, energy.minimum(one))


def test_the_slope_to_stop_at_is_learnt_from_descents_and_travels_with_the_weights():
    made = randomised(head(steps=4)).train()
    for number in range(50):
        made.loss(chunks(8), condition(8), generator(number), all_real(8))
    assert float(made.rest_slope) > 0
    again = rebuild(describe(made))
    again.load_state_dict(made.state_dict())
    assert float(again.rest_slope) == float(made.rest_slope)
    assert again.law == made.law


def test_bad_input_is_refused():
    with pytest.raises(UsageError, match="not finite"):
        settle(lambda x, rows: x.sum((1, 2)) * math.inf, chunks(2), None, Descent(), steps=2)  # noqa: ARG005
    with pytest.raises(UsageError, match="through_descent"):
        head(training_loss="nothing")
    with pytest.raises(UsageError, match="noised"):
        head(start="elsewhere")
    with pytest.raises(UsageError, match="at least 1"):
        head(candidates=0)
    with pytest.raises(UsageError, match="noise level"):
        EnergyOptimisation(ResidualMLP(2, 4, 3, width=8, depth=1, outputs=1))
    with pytest.raises(UsageError, match="momentum"):
        Descent(momentum=1.0)


class Fused(ChunkNetwork):
    """Attention that insists on the fused kernel."""

    def __init__(self):
        super().__init__(2, 4, 1, False)
        self.output_proj = nn.Linear(8, 1)
        self.input_proj = nn.Linear(2, 8)

    def forward(self, x, level, vector, tokens=None, goal=None):  # noqa: ARG002
        hidden = self.input_proj(x)[:, None]
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return self.output_proj(nn.functional.scaled_dot_product_attention(hidden, hidden, hidden)[:, 0])


def test_fused_attention_is_refused_by_the_name_of_its_kernel():
    network = Fused()
    with pytest.raises(UsageError, match=r"flash.*MATH"):
        check_double_backward(lambda x: network(x, x[:, 0, 0], x[:, 0]).mean((1, 2)), chunks(1))


def test_the_losses_switches_do_what_they_say():
    center = torch.full((64, 4, 2), 0.5)

    def loss(**how):
        return through_descent(
            lambda x: 0.5 * (x - 0.5).square().sum((1, 2)), center, all_real(64), generator(),
            descent=Descent(step_size=0.5), training=ThroughDescent(least_steps=3, more_steps=0, **how),
        )  # fmt: skip

    start = torch.randn(64, 4, 2, generator=generator()) - 0.5
    gaps = torch.stack([(start / 2**n).square().mean((1, 2)) for n in (1, 2, 3)])
    torch.testing.assert_close(loss(), gaps.mean(0))
    torch.testing.assert_close(loss(truncate=True), gaps[-1])
    torch.testing.assert_close(loss(truncate=True, detach=False), gaps[-1])
    assert loss(start="noised").mean() < loss().mean()
    assert loss(smooth=True).mean() < loss().mean()
    assert loss(noise_first=0.5).mean() > loss().mean()
    assert energy_loss("through_descent") is through_descent


def test_not_detaching_lets_later_steps_teach_earlier_ones():
    weight = torch.tensor(0.5, requires_grad=True)
    grads = []
    for detach in (True, False):
        how = ThroughDescent(least_steps=2, more_steps=0, truncate=True, detach=detach)
        loss = through_descent(
            lambda x: 0.5 * weight * x.square().sum((1, 2)), torch.zeros(4, 4, 2), all_real(4), generator(),
            descent=Descent(step_size=0.1), training=how,
        )  # fmt: skip
        grads.append(torch.autograd.grad(loss.sum(), weight)[0])
    torch.testing.assert_close(grads[1], 2 * grads[0])


def test_padding_teaches_nothing():
    made = randomised(head(**PAPER))
    mask = all_real(3)
    mask[:, 2:] = False
    spoilt = chunks(3)
    spoilt[:, 2:] = torch.nan
    assert made.loss(spoilt, condition(3), generator(), mask).isfinite().all()
