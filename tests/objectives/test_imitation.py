import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence
from torch.nn import functional

from pilotage.objectives.imitation import (
    bins_with_offsets_loss,
    equilibrium_gradient,
    focal_loss,
    info_nce,
    k_means,
    mixture_log_likelihood,
    nearest_center,
    standard_normal_divergence,
)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def full(rows, steps):
    return torch.ones(rows, steps, dtype=torch.bool)


def test_the_mixture_agrees_with_torch_distributions():
    chunk, logits, mean, std = random(5, 3, 2), random(5, 4), random(5, 4, 3, 2), random(5, 4, 3, 2).exp()
    expected = MixtureSameFamily(Categorical(logits=logits), Independent(Normal(mean, std), 2)).log_prob(chunk)
    torch.testing.assert_close(mixture_log_likelihood(chunk, full(5, 3), logits, mean, std), expected)
    mask = full(5, 3)
    mask[:, 2] = False
    shorter = mixture_log_likelihood(chunk[:, :2], full(5, 2), logits, mean[:, :, :2], std[:, :, :2])
    chunk[:, 2] = float("nan")
    torch.testing.assert_close(mixture_log_likelihood(chunk, mask, logits, mean, std), shorter)


def test_the_focal_loss_without_gamma_is_cross_entropy():
    logits, label = random(7, 5), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    cross_entropy = functional.cross_entropy(logits, label, reduction="none")
    torch.testing.assert_close(focal_loss(logits, label, gamma=0), cross_entropy)
    p = (-cross_entropy).exp()
    torch.testing.assert_close(focal_loss(logits, label), (1 - p) ** 2 * cross_entropy)


def test_bins_with_offsets_count_the_offset_of_the_right_bin_only():
    centers = torch.tensor([[-1.0], [1.0]])
    chunk = torch.tensor([[[0.7]]])
    offsets = torch.tensor([[[[99.0], [0.1]]]])
    logits = torch.zeros(1, 1, 2)
    expected = 0.25 * math.log(2) + 10 * (0.1 - (0.7 - 1.0)) ** 2
    loss = bins_with_offsets_loss(chunk, full(1, 1), logits, offsets, centers, offset_weight=10)
    assert loss.tolist() == pytest.approx([expected])


def test_info_nce_is_the_negative_log_share():
    positive, negative = random(3), random(3, 8, seed=1)
    share = (-positive).exp() / ((-positive).exp() + (-negative).exp().sum(1))
    torch.testing.assert_close(info_nce(positive, negative), -share.log())


def test_the_divergence_agrees_with_torch_distributions():
    mean, log_std = random(4, 3), random(4, 3, seed=1)
    expected = kl_divergence(Normal(mean, log_std.exp()), Normal(torch.zeros(3), torch.ones(3))).sum(-1)
    torch.testing.assert_close(standard_normal_divergence(mean, log_std), expected)


def test_the_equilibrium_gradient_vanishes_at_the_demonstrated_chunk():
    clean, noise = random(3, 2, 1), random(3, 2, 1, seed=1)
    share = torch.tensor([0.5, 0.9, 1.0], dtype=torch.float64)
    target = equilibrium_gradient(clean, noise, share)
    torch.testing.assert_close(target[0], noise[0] - clean[0])
    torch.testing.assert_close(target[1], 0.5 * (noise[1] - clean[1]))
    assert (target[2] == 0).all()


def test_k_means_finds_separate_clusters_and_is_a_fixed_point():
    truth = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]], dtype=torch.float64)
    points = (truth[:, None] + 0.1 * random(3, 50, 2)).reshape(-1, 2)
    centers = k_means(points, 3, torch.Generator().manual_seed(0))
    assert nearest_center(truth, centers).unique().numel() == 3
    label = nearest_center(points, centers)
    for i in range(3):
        torch.testing.assert_close(centers[i], points[label == i].mean(0))


def test_more_bins_than_different_actions_are_refused():
    with pytest.raises(ValueError, match="3 bins of 2 different actions"):
        k_means(torch.tensor([[0.0], [0.0], [1.0]]), 3, torch.Generator())
