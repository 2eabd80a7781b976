"""What to know of a tokeniser of chunks before anything is built on it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pilotage.systems.robots.carp.multiscale_tokeniser import MultiscaleTokeniser
from pilotage.systems.robots.carp.scale_resizing import cosine_basis

MOST_ERROR, LEAST_USE = 1e-3, 0.3
"""The gates: mean squared error in normalised units, and the share of codes in use at every scale but the coarsest,
which of a chunk says little more than a mean per dimension: few directions do for that, and its error shows it."""


def code_use(tokens: Tensor, per_scale: Sequence[int], signals: int, codes: int) -> Tensor:
    """The share of codes that occur at a scale, per signal: tokens [B, N] -> [K, G]."""
    shares = []
    for part in tokens.split(list(per_scale), 1):
        of_signal = part.unflatten(1, (-1, signals)).movedim(2, 0).flatten(1)
        shares.append(torch.stack([torch.bincount(one, minlength=codes).gt(0).double().mean() for one in of_signal]))
    return torch.stack(shares)


@torch.no_grad()
def scale_errors(tokeniser: MultiscaleTokeniser, chunk: Tensor) -> Tensor:
    """Mean squared error when only the first k scales are decoded: chunk [B, T, A] -> [K]."""
    sums = tokeniser.quantise(tokeniser.encode(chunk)).sums
    return torch.stack([(tokeniser.decode(total) - chunk).square().mean() for total in sums])


def high_frequency_share(chunk: Tensor, above: int = 4) -> Tensor:
    """Energy of the cosines from number `above` on, among all but the constant: chunk [B, T, A] -> scalar."""
    energy = (cosine_basis(chunk.shape[1]).to(chunk.device) @ chunk.double()).square().sum((0, 2))
    return energy[above:].sum() / energy[1:].sum().clamp(min=1e-12)


@torch.no_grad()
def tokeniser_report(tokeniser: MultiscaleTokeniser, chunks: Tensor) -> dict[str, float]:
    """Numbers by name, of chunks [B, T, A] in normalised units.

    mse; rmse/dimension_i; mse/scales_k with the first k scales; use/scale_k, the least over dimensions that vary;
    finest_changed, the share of the finest tokens that change when the reconstruction is tokenised again;
    coarse_energy, the share of high frequencies in what the first scale alone decodes to; ready, 1 when mse and use
    pass their gates."""
    latent = tokeniser.encode(chunks)
    found = tokeniser.quantise(latent)
    answer = tokeniser.decode(found.sums[-1])
    error = (answer - chunks).square().mean((0, 1))
    use = code_use(found.tokens, tokeniser.per_scale, tokeniser.signals, tokeniser.codes)
    varies = chunks.flatten(0, 1).std(0) > 0
    if tokeniser.per_dimension and bool(varies.any()):
        use = use[:, varies]
    least_use = use.amin(1)
    again = tokeniser.tokens(answer)
    finest = tokeniser.per_scale[-1]
    report = {"mse": float(error.mean())}
    report |= {f"rmse/dimension_{i}": float(value) for i, value in enumerate(error.sqrt())}
    errors = scale_errors(tokeniser, chunks)
    report |= {f"mse/scales_{k + 1}": float(value) for k, value in enumerate(errors)}
    report |= {f"use/scale_{k + 1}": float(value) for k, value in enumerate(least_use)}
    changed = again[:, -finest:] != found.tokens[:, -finest:]
    report["finest_changed"] = float(changed.double().mean())
    report["coarse_energy"] = float(high_frequency_share(tokeniser.decode(found.sums[0])))
    finer = least_use[1:] if len(least_use) > 1 else least_use
    report["ready"] = float(report["mse"] < MOST_ERROR and float(finer.min()) > LEAST_USE)
    return report
