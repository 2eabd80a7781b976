"""The set encoder: order, absence, and gradients."""

from __future__ import annotations

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.systems.robots.stl_diffusion.env.highway import draw_scenes, in_ego_frame
from pilotage.systems.robots.stl_diffusion.networks import SceneEncoder, pooled


def seen(count: int = 6) -> dict[str, torch.Tensor]:
    return in_ego_frame(draw_scenes(count, torch.Generator().manual_seed(0)))


def test_the_order_of_neighbours_does_not_matter_and_their_places_do() -> None:
    torch.manual_seed(0)
    encoder, known = SceneEncoder(), seen()
    features = encoder(known)
    assert features.shape == (6, 7 * 32)
    turned = {**known, "neighbours": known["neighbours"].flip(1)}
    torch.testing.assert_close(encoder(turned), features, atol=1e-5, rtol=1e-5)
    moved = {**known, "neighbours": known["neighbours"] + known["neighbours"][..., :1] * torch.eye(7)[1]}
    there = known["neighbours"][..., 0].any(1)
    assert not torch.allclose(encoder(moved)[there], features[there])


def test_what_stands_in_the_place_of_an_absent_neighbour_is_not_seen() -> None:
    items, there = torch.randn(3, 4, 5), torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]]).bool()
    changed = torch.where(there[..., None], items, torch.full_like(items, 1e6))
    torch.testing.assert_close(pooled(items, there), pooled(changed, there))
    assert (pooled(items, there)[1] == 0).all()
    torch.testing.assert_close(pooled(items, there)[2, 5:10], items[2].mean(0))
    torch.testing.assert_close(pooled(items, there)[2, :5], items[2].amin(0))


def test_gradients_are_finite_where_nobody_is_there() -> None:
    encoder, known = SceneEncoder(), seen()
    known["neighbours"] = torch.zeros_like(known["neighbours"])
    encoder(known).square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(UsageError, match=r"neighbours \[B, N, 7\]"):
        SceneEncoder()({**seen(), "ego": torch.zeros(6, 5)})
