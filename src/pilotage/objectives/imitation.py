"""Losses of imitation that are no regression: mixtures, bins, contrast, latent variables, energies by matching."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from pilotage.objectives.denoising import needed_mask, step_mean
from pilotage.objectives.shapes import check_shapes


def mixture_log_likelihood(chunk: Tensor, mask: Tensor | None, logits: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Ln Σ_m w_m Π N(chunk; mean_m, std_m²), a mode covering the whole chunk: -> [B], in nats.

    chunk [B, T, A], mask [B, T], logits [B, M], mean and std [B, M, T, A]. Padded steps take no part.
    The head of BC-RNN-GMM (Mandlekar et al. 2021, arXiv 2108.03298), with a mode over a chunk instead of one action.
    """
    check_shapes("B,T,A B,M B,M,T,A B,M,T,A", chunk, logits, mean, std)
    real = needed_mask(mask, chunk)[:, None, :, None]
    target = torch.where(real[:, 0], chunk, torch.zeros_like(chunk))[:, None]
    density = -0.5 * ((target - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)
    of_mode = torch.where(real, density, torch.zeros_like(density)).sum((2, 3))
    return torch.logsumexp(logits.log_softmax(-1) + of_mode, -1)


def focal_loss(logits: Tensor, label: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Return −(1 − p)^γ·ln p of the right class: logits [..., K], label [...] int64 -> [...]. Lin et al. 2017.

    γ = 0 is cross-entropy; 2 in Behavior Transformers (Shafiullah et al. 2022, arXiv 2206.11251).
    """
    logp = logits.log_softmax(-1).gather(-1, label[..., None])[..., 0]
    return -(1 - logp.exp()).clamp(min=0).pow(gamma) * logp


def bins_with_offsets_loss(
    chunk: Tensor,
    mask: Tensor | None,
    logits: Tensor,
    offsets: Tensor,
    centers: Tensor,
    *,
    gamma: float = 2.0,
    offset_weight: float = 1000.0,
) -> Tensor:
    """Focal loss of each action's nearest bin, plus `offset_weight` times the squared error of its offset: -> [B].

    chunk [B, T, A], mask [B, T], logits [B, T, K], offsets [B, T, K, A], centers [K, A]. Shafiullah et al. 2022.
    """
    check_shapes("B,T,A B,T,K B,T,K,A K,A", chunk, logits, offsets, centers)
    mask = needed_mask(mask, chunk)
    action = torch.where(mask[..., None], chunk, torch.zeros_like(chunk))
    label = nearest_center(action, centers)
    chosen = offsets.gather(2, label[..., None, None].expand(-1, -1, 1, offsets.shape[-1]))[:, :, 0]
    error = (chosen - (action - centers[label])).square().mean(-1)
    return step_mean(focal_loss(logits, label, gamma=gamma) + offset_weight * error, mask)


def info_nce(positive: Tensor, negative: Tensor) -> Tensor:
    """Return −ln of the softmax share of the demonstrated chunk under −energy: positive [B], negative [B, n] -> [B].

    Florence et al. 2021, Implicit Behavioral Cloning (arXiv 2109.00137), eq. 3.
    """
    check_shapes("B B,N", positive, negative)
    return positive + torch.logsumexp(torch.cat([-positive[:, None], -negative], 1), 1)


def standard_normal_divergence(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, std²) ‖ N(0, 1)), summed over the latent: [B, Z] twice -> [B], in nats."""
    check_shapes("B,Z B,Z", mean, log_std)
    return (0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std).sum(-1)


def equilibrium_gradient(clean: Tensor, noise: Tensor, share: Tensor, *, decay: float = 0.2) -> Tensor:
    """Return (noise − clean)·min(1, (1 − g)/decay): the slope an energy should have at g·clean + (1−g)·noise -> [B, T,
    A].

    clean, noise [B, T, A], share g [B] in [0, 1]: so the demonstrated chunk is a stationary point, and descent from
    any noise leads to one. Wang & Du 2025, Equilibrium Matching.
    """
    check_shapes("B,T,A B,T,A B", clean, noise, share)
    falling = ((1 - share) / decay).clamp(max=1).to(clean.dtype)
    return (noise - clean) * falling[:, None, None]


def nearest_center(points: Tensor, centers: Tensor) -> Tensor:
    """Index of the nearest center: points [..., A], centers [K, A] -> [...] int64."""
    return torch.cdist(points.reshape(-1, points.shape[-1]), centers).argmin(-1).view(points.shape[:-1])


def k_means(points: Tensor, count: int, generator: torch.Generator, *, iterations: int = 50) -> Tensor:
    """`count` centers of `points` [N, A]: [count, A]. Lloyd's algorithm from a k-means++ start.

    Raises ValueError when there are fewer different points than centers.
    """
    check_shapes("N,A", points)
    different = len(torch.unique(points, dim=0))
    if not 1 <= count <= different:
        raise ValueError(f"{count} bins of {different} different actions; give between 1 and {different}")
    first = torch.randint(len(points), (1,), generator=generator)
    centers = points[first]
    while len(centers) < count:
        gap = torch.cdist(points, centers).amin(1).double().square()
        centers = torch.cat([centers, points[torch.multinomial(gap, 1, generator=generator)]])
    for _ in range(iterations):
        label = nearest_center(points, centers)
        held = functional.one_hot(label, count).to(points.dtype)
        size = held.sum(0)[:, None]
        # A bin that lost all its points stays where it was.
        moved = torch.where(size > 0, held.T @ points / size.clamp(min=1), centers)
        if torch.equal(moved, centers):
            break
        centers = moved
    return centers
