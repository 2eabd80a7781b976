"""Chunks of actions as few tokens, coarse before fine: a residual vector quantiser over scales of time.

CARP's first stage (Gong et al. 2024, arXiv 2412.06782, section 3.2), after VAR (Tian et al. 2024). Each dimension of
the actions is a signal with an autoencoder and a codebook of its own; they are trained side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pilotage.core.errors import UsageError
from pilotage.systems.robots.carp.grouped_convolutions import convolution, signal_decoder, signal_encoder
from pilotage.systems.robots.carp.scale_resizing import area_matrix, cubic_matrix, resized

Similarity = Literal["cosine", "euclidean"]


class Quantised(NamedTuple):
    """A latent in tokens."""

    tokens: Tensor
    """[B, N] int64, by scale, then time, then dimension."""
    sums: list[Tensor]
    """For each scale the latent that the tokens up to it stand for, f̂_k [B, G, L, z]."""


def nearest_codes(points: Tensor, codes: Tensor, similarity: Similarity) -> Tensor:
    """Index of the code that is most like each point, the first of equals: [B, G, P, z], [G, V, z] -> [B, G, P].

    "cosine" compares directions alone, so that the length of a code does not matter."""
    if similarity == "cosine":
        points, codes = functional.normalize(points, dim=-1), functional.normalize(codes, dim=-1)
        return (points @ codes.mT).argmax(-1)
    return (2 * points @ codes.mT - codes.square().sum(-1)[:, None]).argmax(-1)


class MultiscaleTokeniser(nn.Module):
    """Chunks [B, T, A] to tokens [B, N] and back, N = G·Σ scales; the paper's MSAT.

    G is the number of signals: A with a codebook per dimension, 1 with `per_dimension=False`, where one signal of A
    channels has one codebook. A token says which of V codes; the codes of a signal serve all its scales.

    Args:
        action_dim: A. horizon: T, a multiple of 2^len(multipliers).
        scales: tokens of a signal at each scale, rising; the last is the latent length L = T / 2^len(multipliers).
        codes: V. latent: z, numbers of a code. channels, multipliers: widths of the autoencoder (the paper: 2, (2, 4)).
        similarity: how the nearest code is found.
        refiners: convolutions φ, shared among scales that are near one another.
        commitment: weight of the error that draws the latent to its codes, the paper's .25."""

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
        self.two_valued: Tensor
        self.register_buffer("two_valued", torch.zeros(action_dim, dtype=torch.bool))
        for k, scale in enumerate(self.scales):
            self.register_buffer(f"down_{k}", area_matrix(length, scale), persistent=False)
            self.register_buffer(f"up_{k}", cubic_matrix(scale, length), persistent=False)

    # ---- sizes -----------------------------------------------------------------------------------------------------

    @property
    def per_scale(self) -> tuple[int, ...]:
        """Tokens of each scale, all signals together."""
        return tuple(scale * self.signals for scale in self.scales)

    @property
    def count(self) -> int:
        """Tokens of a chunk, N."""
        return sum(self.per_scale)

    # ---- there and back --------------------------------------------------------------------------------------------

    def encode(self, chunk: Tensor) -> Tensor:
        """chunk [B, T, A] -> latent f [B, G, L, z]."""
        if chunk.dim() != 3 or tuple(chunk.shape[1:]) != (self.horizon, self.action_dim):
            raise UsageError(
                f"a chunk of shape {list(chunk.shape)}; this tokeniser was made for [batch, {self.horizon}, "
                f"{self.action_dim}]"
            )
        latent: Tensor = self.encoder(chunk.mT)
        return latent.unflatten(1, (self.signals, self.latent)).mT

    def decode(self, latent: Tensor) -> Tensor:
        """latent [B, G, L, z] -> chunk [B, T, A]."""
        chunk: Tensor = self.decoder(latent.mT.flatten(1, 2))
        return chunk.mT

    def quantise(self, latent: Tensor, scales: int | None = None) -> Quantised:
        """latent [B, G, L, z] -> the tokens of the first `scales` scales (all by default), and their running sums."""
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
        """chunk [B, T, A] -> [B, N] int64."""
        return self.quantise(self.encode(chunk)).tokens

    def latent_of(self, tokens: Tensor) -> Tensor:
        """tokens [B, N], or those of the first scales alone -> f̂ [B, G, L, z]."""
        ends = list(accumulate(self.per_scale))
        if tokens.shape[1] not in ends:
            raise UsageError(f"{tokens.shape[1]} tokens; the scales have {', '.join(map(str, self.per_scale))}")
        scales = ends.index(tokens.shape[1]) + 1
        parts = tokens.split(list(self.per_scale[:scales]), 1)
        return torch.stack([self.refined(part, k) for k, part in enumerate(parts)]).sum(0)

    def chunk_of(self, tokens: Tensor) -> Tensor:
        """tokens [B, N], or those of the first scales alone -> chunk [B, T, A]."""
        return self.decode(self.latent_of(tokens))

    # ---- steps of a scale ------------------------------------------------------------------------------------------

    def vectors(self, tokens: Tensor) -> Tensor:
        """The codes of tokens [B, n] that begin with a first dimension and end with a last: [B, n, z]."""
        signal = torch.arange(self.signals, device=tokens.device).repeat(tokens.shape[1] // self.signals)
        return self.codebook[signal, tokens]

    def refined(self, tokens: Tensor, k: int) -> Tensor:
        """What the tokens [B, G·p_k] of scale k add to the latent, φ_k(up(codes)): [B, G, L, z]."""
        codes = self.vectors(tokens).unflatten(1, (self.scales[k], self.signals)).transpose(1, 2)
        raised = resized(codes, self._matrix("up", k))
        refine = self.refine[self._refiner(k)]
        smooth: Tensor = refine(raised.mT.flatten(1, 2))
        return 0.5 * raised + 0.5 * smooth.unflatten(1, (self.signals, self.latent)).mT

    def shrunk(self, latent: Tensor, k: int) -> Tensor:
        """A latent [B, G, L, z] at the length of scale k, in the order of tokens: [B, G·p_k, z]."""
        return resized(latent, self._matrix("down", k)).transpose(1, 2).flatten(1, 2)

    # ---- training --------------------------------------------------------------------------------------------------

    def loss(self, chunk: Tensor) -> Tensor:
        """Reconstruction plus quantisation error per chunk: [B, T, A] -> [B].

        The decoder's gradient goes straight through to the encoder, as if nothing had been quantised; codes and
        refiners learn from the quantisation error alone."""
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
        """Which φ serves scale k: that whose place on [0, 1] is nearest, as in VAR."""
        count, last = self.refiners, max(1, len(self.scales) - 1)
        margin = 1 / 3 / count if count == 4 else 1 / 2 / count
        places = torch.linspace(margin, 1 - margin, count)
        return int((places - k / last).abs().argmin())

    def _check(self) -> None:
        shrinking = 2 ** len(self.multipliers)
        if self.horizon % shrinking:
            fits = self.horizon // shrinking * shrinking
            raise UsageError(
                f"chunk={self.horizon} is not divisible by {shrinking}, by which the tokeniser shortens it; give "
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
