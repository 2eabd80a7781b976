"""Heads that answer in one pass: regression, mixture, bins with offsets, latent variable."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pilotage.core.errors import UsageError
from pilotage.core.pieces import fill
from pilotage.networks.chunk_network import ChunkNetwork
from pilotage.objectives.denoising import chunk_error, fill_padding, needed_mask
from pilotage.objectives.draws import Generators, categorical, normal
from pilotage.objectives.imitation import (
    bins_with_offsets_loss,
    k_means,
    mixture_log_likelihood,
    standard_normal_divergence,
)
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.heads.head import Head, PartMaker, TrainingData, with_outputs
from pilotage.policies.control.sampling.sampling import Guide, InitialSample


class Regression(Head):
    """The chunk itself, by mean squared or absolute error: it answers the mean or median of what was demonstrated."""

    def __init__(self, network: ChunkNetwork, *, kind: Literal["squared", "absolute"] = "squared") -> None:
        super().__init__(with_outputs(network, network.action_dim, "regression"))
        self.kind = kind

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:  # noqa: ARG002
        """Return the loss of each window, [batch]."""
        return chunk_error(self._answer(condition), chunk, mask, kind=self.kind)

    def sample(
        self,
        condition: Condition,
        generator: Generators,  # noqa: ARG002
        start: InitialSample | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Return chunks of actions, [batch, time, action]."""
        self._only(start, guide)
        return self._answer(condition)


class Mixture(Head):
    """A mixture of `modes` Gaussians, each over the whole chunk: network with `outputs` = modes·(2A + 1).

    A mode's weight is the mean of its logits over the chunk. With `per_step` every action has a mixture of its own; on
    a `Framewise` network behind a recurrent encoder that is LSTM-GMM. With `low_noise` sampling gives the mean of a
    drawn mode, as robomimic evaluates (arXiv 2108.03298).
    """

    def __init__(
        self,
        network: ChunkNetwork,
        *,
        modes: int = 5,
        least_std: float = 1e-4,
        low_noise: bool = True,
        per_step: bool = False,
    ) -> None:
        super().__init__(with_outputs(network, modes * (2 * network.action_dim + 1), "mixture"))
        self.modes, self.least_std, self.low_noise, self.per_step = modes, least_std, low_noise, per_step

    @classmethod
    def build(cls, make: PartMaker, *, modes: int = 5, **options: Any) -> Mixture:
        """Build the part to the sizes of the data."""
        network = make.network(outputs=modes * (2 * make.sizes.actions + 1), takes_level=False)
        made: Mixture = fill(cls, {"modes": modes, **options}, {"network": network})
        return made

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:  # noqa: ARG002
        """Return the loss of each window, [batch]."""
        clean, real = self._spans(fill_padding(chunk, mask)), self._spans(needed_mask(mask, chunk))
        logits, mean, std = self._mixture(condition)
        parts = [part.flatten(0, 1) for part in (clean, real, logits, mean, std)]
        return -mixture_log_likelihood(*parts).view(len(chunk), -1).sum(1) / self.horizon

    def sample(
        self,
        condition: Condition,
        generator: Generators,
        start: InitialSample | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Return chunks of actions, [batch, time, action]."""
        self._only(start, guide)
        logits, mean, std = self._mixture(condition)
        mode = categorical(logits.softmax(-1), generator)[..., None, None, None].expand(-1, -1, 1, *mean.shape[3:])
        chunk = mean.gather(2, mode)[:, :, 0]
        if not self.low_noise:
            chunk = chunk + std.gather(2, mode)[:, :, 0] * normal(chunk.shape, generator, like=mean)
        return chunk.flatten(1, 2)

    def _spans(self, steps: Tensor) -> Tensor:
        """[B, T, …] -> [B, n, T/n, …]: n spans with a mixture each, all steps together or each alone."""
        return steps.unflatten(1, (-1, 1 if self.per_step else self.horizon))

    def _mixture(self, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [B, n, M], mean and std [B, n, M, T/n, A]."""
        answer = self._answer(condition).unflatten(-1, (self.modes, 2 * self.action_dim + 1))
        mean, spread, logits = self._spans(answer).transpose(2, 3).split([self.action_dim, self.action_dim, 1], -1)
        return logits.mean((3, 4)), mean, functional.softplus(spread) + self.least_std


class BinsWithOffsets(Head):
    """A k-means bin per action, and an offset from its center: network with `outputs` = bins·(A + 1). Fit it first.

    Behavior Transformer (Shafiullah et al. 2022, arXiv 2206.11251), conditional with a goal in the condition
    (arXiv 2210.10047). Each step's bin is drawn by itself, so a chunk of several actions may mix modes.
    """

    centers: Tensor

    def __init__(
        self, network: ChunkNetwork, *, bins: int = 24, gamma: float = 2.0, offset_weight: float = 1000.0
    ) -> None:
        super().__init__(with_outputs(network, bins * (network.action_dim + 1), "bins"))
        self.bins, self.gamma, self.offset_weight = bins, gamma, offset_weight
        self.register_buffer("centers", torch.full((bins, network.action_dim), float("nan")))

    @classmethod
    def build(cls, make: PartMaker, *, bins: int = 24, **options: Any) -> BinsWithOffsets:
        """Build the part to the sizes of the data."""
        network = make.network(outputs=bins * (make.sizes.actions + 1), takes_level=False)
        made: BinsWithOffsets = fill(cls, {"bins": bins, **options}, {"network": network})
        return made

    def fit(self, data: TrainingData) -> None:
        """Fit what must be found in the data before training."""
        self.find_bins(data.actions, data.generator)

    def find_bins(self, actions: Tensor, generator: torch.Generator) -> None:
        """Finds the bins of normalised `actions` [N, A]. Raises ValueError when fewer of them differ than bins."""
        self.centers.copy_(k_means(actions, self.bins, generator))

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:  # noqa: ARG002
        """Return the loss of each window, [batch]."""
        logits, offsets = self._bins(condition)
        return bins_with_offsets_loss(
            chunk, mask, logits, offsets, self.centers, gamma=self.gamma, offset_weight=self.offset_weight
        )

    def sample(
        self,
        condition: Condition,
        generator: Generators,
        start: InitialSample | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Return chunks of actions, [batch, time, action]."""
        self._only(start, guide)
        logits, offsets = self._bins(condition)
        label = categorical(logits.softmax(-1), generator)
        offset = offsets.gather(2, label[..., None, None].expand(-1, -1, 1, self.action_dim))[:, :, 0]
        return self.centers[label] + offset

    def _bins(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Logits [B, T, K] and offsets [B, T, K, A]."""
        if bool(self.centers.isnan().any()):
            raise UsageError("the bins were not found yet; call fit(data) or find_bins(actions, generator) first")
        parts = self._answer(condition).unflatten(-1, (self.bins, self.action_dim + 1))
        return parts[..., 0], parts[..., 1:]


class LatentVariable(Head):
    """A conditional variational autoencoder: L1 plus `divergence_weight`·KL, sampled with z = 0.

    ACT (Zhao et al. 2023, arXiv 2304.13705). The network gets z appended to the condition's vector, so it is made with
    vector_dim + `latent`. `posterior` is a network over chunks made without a level, with outputs = 2·`latent`, whose
    outputs are averaged over the chunk; it is used in training only.
    """

    def __init__(
        self, network: ChunkNetwork, posterior: ChunkNetwork, *, latent: int = 32, divergence_weight: float = 10.0
    ) -> None:
        super().__init__(with_outputs(network, network.action_dim, "latent-variable"))
        if posterior.takes_level:
            raise UsageError("the posterior knows no noise level; make its network with takes_level=False")
        self.posterior: nn.Module = with_outputs(posterior, 2 * latent, "latent-variable posterior")
        self.latent, self.divergence_weight = latent, divergence_weight

    @classmethod
    def build(cls, make: PartMaker, *, latent: int = 32, **options: Any) -> LatentVariable:
        """Build the part to the sizes of the data."""
        network = make.network(extra_vector=latent, takes_level=False)
        posterior = make.network(outputs=2 * latent, takes_level=False)
        given = {"network": network, "posterior": posterior}
        made: LatentVariable = fill(cls, {"latent": latent, **options}, given)
        return made

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:
        """Return the loss of each window, [batch]."""
        clean = fill_padding(chunk, mask)
        mean, log_std = self.posterior(clean, clean[:, 0, 0], *condition).mean(1).chunk(2, -1)
        z = mean + log_std.exp() * normal(mean.shape, generator, like=mean)
        error = chunk_error(self._decode(condition, z), chunk, mask, kind="absolute")
        return error + self.divergence_weight * standard_normal_divergence(mean, log_std)

    def sample(
        self,
        condition: Condition,
        generator: Generators,  # noqa: ARG002
        start: InitialSample | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Return chunks of actions, [batch, time, action]."""
        self._only(start, guide)
        return self._decode(condition, condition.vector.new_zeros(len(condition.vector), self.latent))

    def _decode(self, condition: Condition, z: Tensor) -> Tensor:
        return self._answer(condition._replace(vector=torch.cat([condition.vector, z], -1)))
