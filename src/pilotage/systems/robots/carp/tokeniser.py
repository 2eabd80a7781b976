"""Tokeniser of chunks of actions, coarse before fine: a residual vector quantiser over scales of time.

CARP's first stage (Gong et al. 2024, arXiv 2412.06782, section 3.2), after VAR (Tian et al. 2024). Each dimension of
the actions is a signal with an autoencoder and a codebook of its own; they are trained side by side, each channel group
a network of its own. All weights begin with the channels of group 0, so that networks of one group each are merged by
joining their tensors along dimension 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pilotage.core.errors import UsageError

Similarity = Literal["cosine", "euclidean"]


class Quantised(NamedTuple):
    """Result of quantising a latent."""

    tokens: Tensor
    """Tokens [batch, token] int64, by scale, then time, then dimension."""
    sums: list[Tensor]
    """For each scale the latent that the tokens up to it stand for, [batch, signal, place, z]."""


def nearest_codes(points: Tensor, codes: Tensor, similarity: Similarity) -> Tensor:
    """Return the index of the code that is most like each point, the first of equals: [batch, signal, place].

    points [batch, signal, place, z]; codes [signal, code, z]. "cosine" compares directions alone, so that the length of
    a code does not matter.
    """
    if similarity == "cosine":
        points, codes = functional.normalize(points, dim=-1), functional.normalize(codes, dim=-1)
        return (points @ codes.mT).argmax(-1)
    return (2 * points @ codes.mT - codes.square().sum(-1)[:, None]).argmax(-1)


class MultiscaleTokeniser(nn.Module):
    """Tokeniser from chunks [batch, step, number] to tokens [batch, token] and back; the paper's MSAT.

    Each number of an action is a signal with a codebook; with `per_dimension=False` all numbers are one signal with one
    codebook. A token is the index of a code; the codes of a signal serve all its scales.

    Args:
        action_dim: numbers of an action.
        horizon: steps of a chunk, a multiple of 2^len(multipliers).
        scales: tokens of a signal at each scale, rising; the last is the latent length, horizon / 2^len(multipliers).
        codes: codes of a signal (V).
        latent: numbers of a code (z).
        channels: width of the autoencoder (the paper: 2).
        multipliers: widths of its levels in units of `channels` (the paper: 2, 4).
        similarity: of a latent and its nearest code: cosine or euclidean.
        per_dimension: whether each number of an action has a codebook.
        refiners: convolutions φ, shared among scales that are near one another.
        commitment: weight of the error that draws the latent to its codes, the paper's .25.
    """

    def __init__(
        self,
        action_dim: int,
        horizon: int,
        *,
        scales: Sequence[int] | int = (1, 2, 3, 4),
        codes: int = 256,
        latent: int = 8,
        channels: int = 8,
        multipliers: Sequence[int] | int = (2, 4),
        similarity: Similarity = "cosine",
        per_dimension: bool = True,
        refiners: int = 4,
        commitment: float = 0.25,
    ) -> None:
        super().__init__()
        self.scales = (scales,) if isinstance(scales, int) else tuple(scales)
        self.multipliers = (multipliers,) if isinstance(multipliers, int) else tuple(multipliers)
        self.action_dim, self.horizon, self.codes, self.latent = action_dim, horizon, codes, latent
        self.channels, self.similarity, self.per_dimension = channels, similarity, per_dimension
        self.refiners, self.commitment = refiners, commitment
        self._check()
        self.signals = action_dim if per_dimension else 1
        inputs, length = (1, self.scales[-1]) if per_dimension else (action_dim, self.scales[-1])
        self.encoder = signal_encoder(self.signals, inputs, channels, self.multipliers, latent)
        self.decoder = signal_decoder(self.signals, inputs, channels, self.multipliers, latent)
        self.refine = nn.ModuleList(convolution(self.signals, latent, latent) for _ in range(refiners))
        bound = 1 / (36 * latent**0.5)
        self.codebook = nn.Parameter(torch.empty(self.signals, codes, latent).uniform_(-bound, bound))
        self.binary_dims: Tensor
        self.register_buffer("binary_dims", torch.zeros(action_dim, dtype=torch.bool))
        for k, scale in enumerate(self.scales):
            self.register_buffer(f"down_{k}", area_matrix(length, scale), persistent=False)
            self.register_buffer(f"up_{k}", cubic_matrix(scale, length), persistent=False)

    # ---- sizes -----------------------------------------------------------------------------------------------------

    @property
    def per_scale(self) -> tuple[int, ...]:
        """Return the number of tokens of each scale, all signals together."""
        return tuple(scale * self.signals for scale in self.scales)

    @property
    def count(self) -> int:
        """Return the number of tokens of a chunk."""
        return sum(self.per_scale)

    # ---- there and back --------------------------------------------------------------------------------------------

    def encode(self, chunk: Tensor) -> Tensor:
        """Return the latent [batch, signal, place, z] of a chunk [batch, step, number]."""
        if chunk.dim() != 3 or tuple(chunk.shape[1:]) != (self.horizon, self.action_dim):
            raise UsageError(
                f"a chunk of shape {list(chunk.shape)}; this tokeniser was made for [batch, {self.horizon}, "
                f"{self.action_dim}]"
            )
        latent: Tensor = self.encoder(chunk.mT)
        return latent.unflatten(1, (self.signals, self.latent)).mT

    def decode(self, latent: Tensor) -> Tensor:
        """Return the chunk [batch, step, number] of a latent [batch, signal, place, z]."""
        chunk: Tensor = self.decoder(latent.mT.flatten(1, 2))
        return chunk.mT

    def quantise(self, latent: Tensor, scales: int | None = None) -> Quantised:
        """Return the tokens of the first `scales` scales (all by default) of a latent, and their running sums."""
        rest, total = latent.detach(), torch.zeros_like(latent)
        tokens, sums = [], []
        for k in range(len(self.scales) if scales is None else scales):
            with torch.no_grad():
                found = nearest_codes(resized(rest, self._matrix("down", k)), self.codebook, self.similarity)
            found = found.mT.flatten(1)
            step = self.refined(found, k)
            total, rest = total + step, rest - step.detach()
            tokens.append(found)
            sums.append(total)
        return Quantised(torch.cat(tokens, 1), sums)

    def tokens(self, chunk: Tensor) -> Tensor:
        """Return the tokens [batch, token] int64 of a chunk [batch, step, number]."""
        return self.quantise(self.encode(chunk)).tokens

    def latent_of(self, tokens: Tensor) -> Tensor:
        """Return the latent [batch, signal, place, z] of all tokens, or of those of the first scales alone."""
        ends = list(accumulate(self.per_scale))
        if tokens.shape[1] not in ends:
            raise UsageError(f"{tokens.shape[1]} tokens; the scales have {', '.join(map(str, self.per_scale))}")
        scales = ends.index(tokens.shape[1]) + 1
        parts = tokens.split(list(self.per_scale[:scales]), 1)
        return torch.stack([self.refined(part, k) for k, part in enumerate(parts)]).sum(0)

    def chunk_of(self, tokens: Tensor) -> Tensor:
        """Return the chunk [batch, step, number] of all tokens, or of those of the first scales alone."""
        return self.decode(self.latent_of(tokens))

    # ---- steps of a scale ------------------------------------------------------------------------------------------

    def vectors(self, tokens: Tensor) -> Tensor:
        """Return the codes [batch, token, z] of tokens that begin with a first dimension and end with a last."""
        signal = torch.arange(self.signals, device=tokens.device).repeat(tokens.shape[1] // self.signals)
        return self.codebook[signal, tokens]

    def refined(self, tokens: Tensor, k: int) -> Tensor:
        """Return what the tokens of scale k add to the latent, φ_k(up(codes)): [batch, signal, place, z]."""
        codes = self.vectors(tokens).unflatten(1, (self.scales[k], self.signals)).transpose(1, 2)
        raised = resized(codes, self._matrix("up", k))
        refine = self.refine[self._refiner(k)]
        smooth: Tensor = refine(raised.mT.flatten(1, 2))
        return 0.5 * raised + 0.5 * smooth.unflatten(1, (self.signals, self.latent)).mT

    def downsampled(self, latent: Tensor, k: int) -> Tensor:
        """Return a latent at the length of scale k, in the order of tokens: [batch, token, z]."""
        return resized(latent, self._matrix("down", k)).transpose(1, 2).flatten(1, 2)

    # ---- training --------------------------------------------------------------------------------------------------

    def loss(self, chunk: Tensor) -> Tensor:
        """Return reconstruction plus quantisation error per chunk, [batch].

        The decoder's gradient goes straight through to the encoder, as if nothing had been quantised; codes and
        refiners learn from the quantisation error alone.
        """
        latent = self.encode(chunk)
        sums = self.quantise(latent).sums
        through = latent + (sums[-1] - latent).detach()
        error = (self.decode(through) - chunk).square().mean((1, 2))
        drawn = torch.stack([(total.detach() - latent).square().mean((1, 2, 3)) for total in sums]).mean(0)
        codes = torch.stack([(total - latent.detach()).square().mean((1, 2, 3)) for total in sums]).mean(0)
        return error + self.commitment * drawn + codes

    def _matrix(self, kind: str, k: int) -> Tensor:
        matrix: Tensor = getattr(self, f"{kind}_{k}")
        return matrix

    def _refiner(self, k: int) -> int:
        """Return which φ serves scale k: that whose place on [0, 1] is nearest, as in VAR."""
        count, last = self.refiners, max(1, len(self.scales) - 1)
        margin = 1 / 3 / count if count == 4 else 1 / 2 / count
        places = torch.linspace(margin, 1 - margin, count)
        return int((places - k / last).abs().argmin())

    def _check(self) -> None:
        shrinking = 2 ** len(self.multipliers)
        if self.horizon % shrinking:
            fits = self.horizon // shrinking * shrinking
            raise UsageError(
                f"chunk_size={self.horizon} is not divisible by {shrinking}, by which the tokeniser shortens it; give "
                f"{f'{fits} or ' if fits else ''}{fits + shrinking}"
            )
        length = self.horizon // shrinking
        rising = list(self.scales) == sorted(set(self.scales)) and min(self.scales, default=0) >= 1
        if not rising or self.scales[-1] != length:
            raise UsageError(
                f"scales={'|'.join(map(str, self.scales))} were given; a chunk of {self.horizon} becomes {length} "
                f"places, so scales must rise and end with {length}, such as "
                f"{'|'.join(map(str, range(1, length + 1)))}, 1|{length} or {length}"
            )
        if self.similarity not in ("cosine", "euclidean"):
            raise UsageError(f"similarity={self.similarity!r} is not known; choose cosine or euclidean")
        if min(self.codes, self.latent, self.channels, self.refiners, self.action_dim) < 1:
            raise UsageError("codes, latent, channels, refiners and action_dim must be at least 1")


# ---- grouped convolutions --------------------------------------------------------------------------------------------


def convolution(groups: int, inputs: int, outputs: int, *, size: int = 3, stride: int = 1) -> nn.Conv1d:
    """Return a convolution from `inputs` to `outputs` channels per group; the length is divided by the stride."""
    return nn.Conv1d(groups * inputs, groups * outputs, size, stride, size // 2, groups=groups)


def normalisation(groups: int, channels: int) -> nn.GroupNorm:
    """Return a normalisation over all channels and places of a group."""
    return nn.GroupNorm(groups, groups * channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Residual block of grouped convolutions: norm, SiLU, convolution, twice, beside a shortcut."""

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            normalisation(groups, inputs),
            nn.SiLU(),
            convolution(groups, inputs, outputs),
            normalisation(groups, outputs),
            nn.SiLU(),
            convolution(groups, outputs, outputs),
        )
        same = inputs == outputs
        self.shortcut: nn.Module = nn.Identity() if same else convolution(groups, inputs, outputs, size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, groups × outputs, length] for x [batch, groups × inputs, length]."""
        shortcut: Tensor = self.shortcut(x)
        return shortcut + self.layers(x)


def signal_encoder(groups: int, inputs: int, channels: int, multipliers: Sequence[int], latent: int) -> nn.Sequential:
    """Return an encoder of signals [batch, groups × inputs, length] that halves the length once per multiplier.

    Args:
        groups: networks side by side.
        inputs: channels of a signal.
        channels: width before the first level.
        multipliers: width of each level in units of `channels`.
        latent: channels of a group in what it returns.
    """
    widths = [channels, *(channels * multiplier for multiplier in multipliers)]
    layers: list[nn.Module] = [convolution(groups, inputs, channels)]
    for narrow, wide in pairwise(widths):
        layers += [
            ResidualBlock(groups, narrow, wide),
            convolution(groups, wide, wide, stride=2),
            ResidualBlock(groups, wide, wide),
        ]
    layers += [normalisation(groups, widths[-1]), nn.SiLU(), convolution(groups, widths[-1], latent)]
    return nn.Sequential(*layers, convolution(groups, latent, latent))


def signal_decoder(groups: int, outputs: int, channels: int, multipliers: Sequence[int], latent: int) -> nn.Sequential:
    """Return the mirror of `signal_encoder`, with transposed convolutions."""
    widths = [channels, *(channels * multiplier for multiplier in multipliers)][::-1]
    layers: list[nn.Module] = [convolution(groups, latent, latent), convolution(groups, latent, widths[0])]
    for wide, narrow in pairwise(widths):
        layers += [
            ResidualBlock(groups, wide, wide),
            nn.ConvTranspose1d(groups * wide, groups * wide, 4, 2, 1, groups=groups),
            ResidualBlock(groups, wide, narrow),
        ]
    layers += [normalisation(groups, widths[-1]), nn.SiLU(), convolution(groups, widths[-1], outputs)]
    return nn.Sequential(*layers)


# ---- lengths ---------------------------------------------------------------------------------------------------------


def area_matrix(length: int, shorter: int) -> Tensor:
    """Return the matrix [shorter, length] that averages a signal over the parts of a shorter one."""
    unit = torch.eye(length)[None]
    return functional.adaptive_avg_pool1d(unit, shorter)[0].T.contiguous()


def cubic_matrix(length: int, longer: int) -> Tensor:
    """Return the matrix [longer, length] of cubic interpolation, corners not aligned (equal lengths: identity)."""
    if length == longer:
        return torch.eye(length)
    unit = torch.eye(length)[None, :, :, None]
    return functional.interpolate(unit, (longer, 1), mode="bicubic", align_corners=False)[0, :, :, 0].T.contiguous()


def resized(signal: Tensor, matrix: Tensor) -> Tensor:
    """Return a signal [..., length, channel] at the length of a matrix [other, length]."""
    return matrix.to(signal.dtype) @ signal
