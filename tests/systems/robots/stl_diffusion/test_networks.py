"""Refinement of violators and the reverse process that leads to them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.objectives.noise_paths import VariancePreserving
from pilotage.policies.control.sampling.discrete_samplers import ddpm
from pilotage.systems.robots.stl_diffusion.networks import PlanAutoEncoder, PlanDenoiser, RefineNet, moved_within_limits
from pilotage.systems.robots.stl_diffusion.reverse import best_candidate, bounded, reverse_iterates, rule_guidance

PATH = VariancePreserving(8, beta_scale=0.2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def refiner(**options: object) -> RefineNet:
    torch.manual_seed(0)
    return RefineNet(2, 5, 3, shard=4, width=16, **options)  # type: ignore[arg-type]


def test_plans_that_keep_their_rule_pass_bit_for_bit_and_others_change() -> None:
    plan, vector = 2 * torch.rand(8, 5, 2, generator=generator()) - 1, torch.randn(8, 3)
    value = torch.tensor([0.0, 1.0, -1e-9, -1.0, 0.5, -0.5, 2.0, -2.0])
    changed = refiner()(plan, vector, value)
    keeps = value >= 0
    assert torch.equal(changed[keeps], plan[keeps])
    assert (changed[~keeps] != plan[~keeps]).flatten(1).any(1).all()
    assert changed.abs().max() <= 1


def test_changes_fill_the_room_to_the_limits_and_no_more() -> None:
    plan = torch.tensor([-1.0, -0.5, 0.0, 0.9])[:, None, None]
    torch.testing.assert_close(moved_within_limits(plan, torch.ones_like(plan)), torch.ones_like(plan))
    torch.testing.assert_close(moved_within_limits(plan, -torch.ones_like(plan)), -torch.ones_like(plan))
    torch.testing.assert_close(moved_within_limits(plan, torch.zeros_like(plan)), plan)


def test_a_shard_shares_what_its_siblings_look_like_and_others_do_not() -> None:
    plan, vector, value = torch.zeros(8, 5, 2), torch.zeros(8, 3), -torch.ones(8)
    torch.manual_seed(1)
    plan = torch.rand_like(plan) - 0.5
    other = plan.clone()
    other[0] = -other[0] * 1.7
    for shared in (True, False):
        net = refiner(shared=shared)
        moved = (net(other, vector, value) != net(plan, vector, value)).flatten(1).any(1)
        assert bool(moved[1:4].any()) is shared
        assert not moved[4:].any()
    with pytest.raises(UsageError, match="shards of 4"):
        refiner()(plan[:6], vector[:6], value[:6])


def test_the_last_iterate_is_what_ddpm_gives() -> None:
    target = torch.randn(3, 5, 2, generator=generator(1)).clamp(-1, 1)

    def denoise(x: Tensor, level: Tensor) -> Tensor:
        return 0.5 * target + 0.1 * x * (1 + level.view(-1, 1, 1).to(x.dtype))

    x = torch.randn(3, 5, 2, generator=generator(2))
    iterates = reverse_iterates(denoise, x, generator(3), path=PATH, keep=3)
    whole = ddpm(denoise, PATH.levels(), x, generator(3), path=PATH)
    torch.testing.assert_close(iterates[-1], whole)
    assert iterates.shape == (3, 3, 5, 2)
    with pytest.raises(UsageError, match="1 to 8"):
        reverse_iterates(denoise, x, generator(3), path=PATH, keep=9)


def test_each_row_gets_its_own_best_iterate_and_the_later_of_equals() -> None:
    iterates = torch.arange(3.0)[:, None, None, None].expand(3, 4, 5, 2)
    value = torch.tensor([[1.0, 0, 0, -3], [0, 2, 0, -1], [0, 0, 0, -2]])
    plan, best = best_candidate(iterates, value)
    assert plan[:, 0, 0].tolist() == [0, 1, 2, 1]
    assert best.tolist() == [1, 2, 0, -1]


def test_guidance_stays_within_beta_on_both_sides_and_the_released_clip_only_goes_up() -> None:
    mean = torch.randn(200, 5, 2, generator=generator())

    def distance(plan: Tensor) -> Tensor:  # symmetric about 0, never satisfied
        return -1 - plan.square().sum((1, 2))

    for beta in (0.004, 0.5):
        signed = rule_guidance(distance, below=3)(mean, 2, beta) - mean
        assert signed.abs().max() <= beta + 1e-6
        assert 0.4 < (signed > 0).float().mean() < 0.6
        released = rule_guidance(distance, below=3, clip="absolute")(mean, 2, beta) - mean
        assert (released >= -1e-7).all()
        # A step of Adam from fresh is its rate in size.
        assert signed.abs().max() == pytest.approx(min(beta, 0.01), abs=1e-5)
    assert torch.equal(rule_guidance(distance, below=3)(mean, 3, 0.5), mean)
    with pytest.raises(UsageError, match="signed, absolute or none"):
        rule_guidance(distance, below=3, clip="none of these")  # type: ignore[arg-type]


def test_guidance_leaves_alone_what_keeps_the_rule() -> None:
    mean = torch.randn(4, 5, 2, generator=generator())
    nudge = rule_guidance(lambda plan: 1 + 0 * plan.sum((1, 2)), below=3, rounds=3)
    assert torch.equal(nudge(mean, 0, 0.5), mean)


def test_bounds_by_hand() -> None:
    change = torch.tensor([-2.0, -0.1, 0.1, 2.0])
    assert bounded(change, 0.5).tolist() == pytest.approx([-0.5, -0.1, 0.1, 0.5])
    assert bounded(change, 0.5, "absolute").tolist() == pytest.approx([0.5, 0.1, 0.1, 0.5])
    assert bounded(change, 0.5, "none") is change


def test_the_denoiser_adds_its_input() -> None:
    network = PlanDenoiser(2, 5, 3, width=8)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(4, 5, 2)
    assert torch.equal(network(x, torch.rand(4), torch.randn(4, 3)), x)


def test_a_vae_that_says_the_prior_has_no_divergence() -> None:
    vae = PlanAutoEncoder(2, 5, 3, latent=4, width=8)
    torch.nn.init.zeros_(vae.encode[-1].weight)
    torch.nn.init.zeros_(vae.encode[-1].bias)
    plan, vector, noise = torch.randn(4, 5, 2), torch.randn(4, 3), torch.randn(4, 4)
    again, divergence = vae.reconstruct(plan, vector, noise)
    assert torch.equal(divergence, torch.zeros(4))
    assert torch.equal(again, vae.sample(vector, noise))
