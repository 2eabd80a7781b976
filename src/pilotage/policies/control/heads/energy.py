"""Heads whose network gives a scalar: low where the demonstrated actions are.

The energy is the mean of the network's outputs over the chunk; the network is made with takes_level=False.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from pilotage.core.errors import UsageError
from pilotage.core.pieces import fill, load_piece
from pilotage.networks.chunk_network import ChunkNetwork
from pilotage.objectives.denoising import chunk_error, fill_padding, needed_mask
from pilotage.objectives.draws import Generators, normal, uniform
from pilotage.objectives.imitation import equilibrium_gradient, info_nce
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.heads.head import Head, PartMaker
from pilotage.policies.control.sampling.descent import Energy, derivative_free, descend
from pilotage.policies.control.sampling.sampling import Guide, InitialSample

EnergyLoss = Callable[[Energy, Tensor, Tensor, Generators], Tensor]
"""(energy, chunk [B, T, A] with its padding filled, mask [B, T], generator) -> loss per row [B]: a piece of the slot
`energy_loss`."""


def energy_loss(name: str) -> EnergyLoss:
    """Return the loss of an energy called `name`, or the user's own ("module:function").

    Raises UsageError, with the names there are, for another.
    """
    return load_piece("energy_loss", name)


class EnergyHead(Head):
    """A head with an energy."""

    def __init__(self, network: ChunkNetwork) -> None:
        super().__init__(network)
        if network.takes_level:
            raise UsageError("an energy knows no noise level; make its network with takes_level=False")

    @classmethod
    def build(cls, make: PartMaker, **options: Any) -> EnergyHead:
        """Build the part to the sizes of the data."""
        made: EnergyHead = fill(cls, options, {"network": make.network(outputs=1, takes_level=False)})
        return made

    def energy(self, chunk: Tensor, condition: Condition) -> Tensor:
        """Energy per chunk: chunk [B, T, A] -> [B]. Attention is computed plainly, since the fused kernels have no
        second derivative.
        """
        with sdpa_kernel(SDPBackend.MATH):
            return self.network(chunk, chunk[:, 0, 0], *condition).mean((1, 2))

    def _energy_of(self, condition: Condition) -> Energy:
        """The energy given the condition, of chunks [B, T, A] or of n per row [B, n, T, A]."""

        def energy(chunks: Tensor) -> Tensor:
            if chunks.dim() == 3:
                return self.energy(chunks, condition)
            count = chunks.shape[1]
            return self.energy(chunks.flatten(0, 1), condition.repeated(count)).view(-1, count)

        return energy


class ContrastiveEnergy(EnergyHead):
    """Implicit behaviour cloning: InfoNCE against uniform negatives, sampled without derivatives.

    Florence et al. 2021 (arXiv 2109.00137). Negatives and candidates fill the box [−bound, bound].
    """

    def __init__(
        self,
        network: ChunkNetwork,
        *,
        negatives: int = 1024,
        candidates: int = 1024,
        rounds: int = 5,
        std: float = 0.03,
        jitter: float = 1e-4,
        bound: float = 1.0,
        choose: Literal["draw", "lowest"] = "draw",
    ) -> None:
        super().__init__(network)
        self.negatives, self.candidates, self.rounds, self.std = negatives, candidates, rounds, std
        self.jitter, self.bound, self.choose = jitter, bound, choose

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:
        """Return the loss of each window, [batch]."""
        clean = fill_padding(chunk, mask)
        real = needed_mask(mask, chunk)[:, None, :, None]
        positive = (clean + self.jitter * normal(clean.shape, generator, like=clean))[:, None]
        # Padded steps are the same in all, so that they cannot tell the demonstrated chunk from the others.
        negative = torch.where(real, self._box(self.negatives, condition, generator), positive)
        energy = self._energy_of(condition)(torch.cat([positive, negative], 1))
        return info_nce(energy[:, 0], energy[:, 1:])

    def sample(
        self,
        condition: Condition,
        generator: Generators,
        start: InitialSample | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Return chunks of actions, [batch, time, action]."""
        self._only(start, guide)
        return derivative_free(
            self._energy_of(condition),
            self._box(self.candidates, condition, generator),
            generator,
            rounds=self.rounds,
            std=self.std,
            low=-self.bound,
            high=self.bound,
            choose=self.choose,
        )

    def action_limit(self) -> float | None:
        """Return the bound of the box from which negatives and candidates are drawn."""
        return self.bound

    def limit_reason(self) -> str:
        """Return what limits the actions and how the limit is moved."""
        return f"the head contrastive, whose candidates lie in a box (--head contrastive:bound={self.bound:g}),"

    def _box(self, count: int, condition: Condition, generator: Generators) -> Tensor:
        shape = [len(condition.vector), count, self.horizon, self.action_dim]
        return self.bound * (2 * uniform(shape, generator, like=condition.vector) - 1)


class EnergyByDescent(EnergyHead):
    """Sampled by descent on the energy from noise, with an early stop per row; trained by a loss that is passed in.

    `training_loss` names a piece of the slot `energy_loss`. `noise` is the standard deviation added at each step
    (Langevin).
    """

    def __init__(
        self,
        network: ChunkNetwork,
        *,
        training_loss: str = "equilibrium_matching",
        step_size: float = 0.1,
        steps: int = 20,
        noise: Sequence[float] | float = 0.0,
        momentum: float = 0.0,
        gradient_clip: float | None = None,
        least_slope: float = 0.0,
    ) -> None:
        super().__init__(network)
        energy_loss(training_loss)  # refuses an unknown one
        if not isinstance(noise, int | float) and len(noise) != steps:
            raise UsageError(f"{len(noise)} noise levels for {steps} steps; give one, or one per step")
        self.training_loss, self.step_size, self.steps, self.noise = training_loss, step_size, steps, noise
        self.momentum, self.gradient_clip, self.least_slope = momentum, gradient_clip, least_slope

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:
        """Return the loss of each window, [batch]."""
        clean, mask = fill_padding(chunk, mask), needed_mask(mask, chunk)
        return energy_loss(self.training_loss)(self._energy_of(condition), clean, mask, generator)

    def sample(
        self,
        condition: Condition,
        generator: Generators,
        start: InitialSample | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Return chunks of actions, [batch, time, action]."""
        self._only(guide=guide)
        fresh = normal(self._noise_shape(condition), generator, like=condition.vector) if start is None else start.chunk
        noise = [float(self.noise)] * self.steps if isinstance(self.noise, int | float) else self.noise
        options: dict[str, Any] = {"momentum": self.momentum, "gradient_clip": self.gradient_clip}
        return descend(
            self._energy_of(condition), noise, fresh, generator,
            step_size=self.step_size, least_slope=self.least_slope, **options,
        ).chunk  # fmt: skip


def equilibrium_matching(energy: Energy, chunk: Tensor, mask: Tensor, generator: Generators) -> Tensor:
    """Return ‖∂E/∂x − (noise − clean)·min(1, (1−g)/.2)‖² at x = g·clean + (1−g)·noise, per element: -> [B].

    One double backward per step, and no descent within training. Wang & Du 2025, Equilibrium Matching.
    """
    share = uniform([len(chunk)], generator, like=chunk)
    noise = normal(chunk.shape, generator, like=chunk)
    mixed = torch.lerp(noise, chunk, share[:, None, None]).requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(energy(mixed).sum(), mixed, create_graph=True)
    return chunk_error(slope, equilibrium_gradient(chunk, noise, share), mask)
