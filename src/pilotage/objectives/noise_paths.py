"""Noise paths: how a clean chunk becomes noise, which levels are trained, and what the network is asked for.

On every path a noisy chunk is x = a·clean + b·noise with factors (a, b) that depend on the level, one per row [B].
A path's «velocity» is the derivative of x along the path; x and a prediction together determine clean and noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.objectives.draws import Generators, uniform
from pilotage.objectives.levels import spaced_levels
from pilotage.objectives.shapes import check_shapes

Predicts = Literal["noise", "clean", "velocity", "residual"]
"""What a network is asked for. residual: the F of EDM, with D = c_skip·x + c_out·F."""


class Scalings(NamedTuple):
    """D = c_skip·x + c_out·F(c_in·x, c_noise), each [B]. Karras et al. 2022 (arXiv 2206.00364), table 1."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


class NoisePath:
    """x = a·clean + b·noise. A path gives `scales`, `rates`, `draw` and `scalings`; the rest follows from these.

    Levels are [B]; chunks are [B, ...] of any further shape; factors are computed in float64.
    """

    PREDICTS: ClassVar[tuple[Predicts, ...]] = ("noise", "clean", "velocity")

    def scales(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return (a, b), float64, of the shape of `level`."""
        raise NotImplementedError

    def rates(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return (da, db) along the path's own parameter: velocity = da·clean + db·noise."""
        raise NotImplementedError

    def draw(self, count: int, generator: Generators) -> Tensor:
        """Levels for `count` training rows: [count]."""
        raise NotImplementedError

    def scalings(self, level: Tensor) -> Scalings:
        """Return what the network's input and output are multiplied by, and what it is told of the level, each [B]
        float64.
        """
        one = torch.ones_like(level, dtype=torch.float64)
        return Scalings(0 * one, one, one, level.double())

    def weight(self, level: Tensor, predicts: Predicts) -> Tensor:
        """Factor of a row's squared error in what is predicted: [B] float64. 1 unless the path knows better."""
        self._known(predicts)
        return torch.ones_like(level, dtype=torch.float64)

    def mix(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """Return the noisy chunk: clean, noise [B, ...], level [B] -> [B, ...]."""
        a, b = (rowwise(factor, clean) for factor in self.scales(level))
        return a * clean + b * noise

    def target(self, clean: Tensor, noise: Tensor, level: Tensor, predicts: Predicts) -> Tensor:
        """Return what a perfect network would answer: clean, noise [B, ...], level [B] -> [B, ...]."""
        self._known(predicts)
        if predicts == "noise":
            return noise
        if predicts == "clean":
            return clean
        if predicts == "velocity":
            da, db = (rowwise(rate, clean) for rate in self.rates(level))
            return da * clean + db * noise
        scaling = self.scalings(level)
        noisy = self.mix(clean, noise, level)
        return (clean - rowwise(scaling.c_skip, clean) * noisy) / rowwise(scaling.c_out, clean)

    def clean_of(self, output: Tensor, noisy: Tensor, level: Tensor, predicts: Predicts) -> Tensor:
        """Return the clean chunk that an output means: output, noisy [B, ...], level [B] -> [B, ...]."""
        self._known(predicts)
        if predicts == "clean":
            return output
        a, b = self.scales(level)
        if predicts == "noise":
            return (noisy - rowwise(b, noisy) * output) / rowwise(a, noisy)
        if predicts == "velocity":
            da, db = self.rates(level)
            volume = a * db - b * da
            return rowwise(db / volume, noisy) * noisy - rowwise(b / volume, noisy) * output
        scaling = self.scalings(level)
        return rowwise(scaling.c_skip, noisy) * noisy + rowwise(scaling.c_out, noisy) * output

    def noise_of(self, output: Tensor, noisy: Tensor, level: Tensor, predicts: Predicts) -> Tensor:
        """Return the noise that an output means; undefined at a level without noise unless noise or velocity is
        predicted.
        """
        if predicts == "noise":
            return output
        a, b = self.scales(level)
        if predicts == "velocity":
            da, db = self.rates(level)
            volume = a * db - b * da
            return rowwise(a / volume, noisy) * output - rowwise(da / volume, noisy) * noisy
        clean = self.clean_of(output, noisy, level, predicts)
        return (noisy - rowwise(a, noisy) * clean) / rowwise(b, noisy)

    def _known(self, predicts: str) -> None:
        if predicts not in self.PREDICTS:
            known = ", ".join(self.PREDICTS)
            raise UsageError(f"predicts={predicts!r} does not exist on a {type(self).__name__} path; choose of {known}")


@dataclass(frozen=True)
class VariancePreserving(NoisePath):
    """a = √ᾱ_t, b = √(1 − ᾱ_t), level t = 0 … steps−1 (int64). Ho et al. 2020; schedule of Nichol & Dhariwal 2021.

    Its velocity is Salimans & Ho's (2022) v = √ᾱ·noise − √(1−ᾱ)·clean. The network is told t/steps.
    """

    steps: int = 100
    schedule: Literal["squaredcos_cap_v2", "linear"] = "squaredcos_cap_v2"
    """β_t from cos²((u + .008)/1.008·π/2), capped at .999; or evenly from 1e-4 to .02."""
    beta_scale: float = 1.0
    """Every β is multiplied by it."""

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.beta_scale <= 1:
            raise UsageError(f"steps={self.steps} must be at least 1 and beta_scale={self.beta_scale} in (0, 1]")
        if self.schedule not in ("squaredcos_cap_v2", "linear"):
            raise UsageError(f"schedule={self.schedule!r} is not known; choose squaredcos_cap_v2 or linear")

    @property
    def betas(self) -> Tensor:
        """Return β_t: [steps] float64."""
        return _betas(self.steps, self.schedule) * self.beta_scale

    @property
    def alpha_bars(self) -> Tensor:
        """ᾱ_t = Π(1 − β): [steps] float64."""
        return (1 - self.betas).cumprod(0)

    def levels(self, count: int | None = None) -> Tensor:
        """Levels of a whole reverse process in `count` calls (default all): falling, evenly spaced from steps−1."""
        return spaced_levels(self.steps, self.steps if count is None else count)

    def scales(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scales of signal and noise at a level."""
        alpha_bar = self.alpha_bars.to(level.device)[level.long()]
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def rates(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivatives of signal and noise scale with respect to the level."""
        a, b = self.scales(level)
        return -b, a

    def draw(self, count: int, generator: Generators) -> Tensor:
        """Draw noise levels for training, [count]."""
        return (uniform([count], generator) * self.steps).long().clamp(max=self.steps - 1)

    def scalings(self, level: Tensor) -> Scalings:
        """Return the scaling of each part."""
        return super().scalings(level)._replace(c_noise=level.double() / self.steps)


@dataclass(frozen=True)
class Karras(NoisePath):
    """a = 1, b = σ, level σ (float64), with EDM's scalings. Karras et al. 2022 (arXiv 2206.00364).

    Its velocity dx/dσ is the noise. The network is told ln(σ)/4.
    """

    PREDICTS: ClassVar[tuple[Predicts, ...]] = ("noise", "clean", "velocity", "residual")

    sigma_data: float = 0.5
    """Standard deviation of the clean chunks, in normalised units."""
    sigma_min: float = 0.05
    sigma_max: float = 1.0
    law: Literal["log_logistic", "log_normal", "log_uniform", "uniform"] = "log_logistic"
    """Of training levels, each cut to [sigma_min, sigma_max]."""
    center: float | None = None
    """Of ln σ, for the first two laws: default ln(sigma_data), and −0.6 for log_normal."""
    spread: float | None = None
    """Of ln σ, for the first two laws: default 0.5, and 1.6 for log_normal."""

    def __post_init__(self) -> None:
        if not (0 < self.sigma_min < self.sigma_max and self.sigma_data > 0):
            raise UsageError(
                f"sigma_min={self.sigma_min}, sigma_max={self.sigma_max}, sigma_data={self.sigma_data}: "
                "expected 0 < sigma_min < sigma_max and sigma_data > 0"
            )
        if self.law not in ("log_logistic", "log_normal", "log_uniform", "uniform"):
            raise UsageError(f"law={self.law!r} is not known; choose log_logistic, log_normal, log_uniform or uniform")

    def scales(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scales of signal and noise at a level."""
        return torch.ones_like(level, dtype=torch.float64), level.double()

    def rates(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivatives of signal and noise scale with respect to the level."""
        return torch.zeros_like(level, dtype=torch.float64), torch.ones_like(level, dtype=torch.float64)

    def draw(self, count: int, generator: Generators) -> Tensor:
        """Draw noise levels for training, [count]."""
        u = uniform([count], generator, like=torch.empty(0, dtype=torch.float64))
        low, high = self.cumulative(torch.tensor([self.sigma_min, self.sigma_max], dtype=torch.float64)).tolist()
        u = low + u * (high - low)
        if self.law == "uniform":
            return u
        if self.law == "log_uniform":
            return u.exp()
        center, spread = self._law()
        unit = torch.logit(u) if self.law == "log_logistic" else torch.special.ndtri(u)
        return (center + spread * unit).exp().clamp(self.sigma_min, self.sigma_max)

    def cumulative(self, sigma: Tensor) -> Tensor:
        """Return the law's distribution function before it is cut (for the two uniform laws: the variable that is
        uniform).
        """
        if self.law == "uniform":
            return sigma
        if self.law == "log_uniform":
            return sigma.log()
        center, spread = self._law()
        unit = (sigma.log() - center) / spread
        return unit.sigmoid() if self.law == "log_logistic" else torch.special.ndtr(unit)

    def scalings(self, level: Tensor) -> Scalings:
        """Return the scaling of each part."""
        sigma, data = level.double(), self.sigma_data
        total = sigma.square() + data**2
        c_skip, c_out = data**2 / total, sigma * data / total.sqrt()
        return Scalings(c_skip, c_out, total.rsqrt(), sigma.clamp(min=1e-20).log() / 4)

    def weight(self, level: Tensor, predicts: Predicts) -> Tensor:
        """EDM's 1/c_out² per squared error of the clean chunk: 1 for the residual, σ²/c_out² for the noise."""
        self._known(predicts)
        c_out = self.scalings(level).c_out
        if predicts == "residual":
            return torch.ones_like(c_out)
        return c_out.square().reciprocal() * (1 if predicts == "clean" else level.double().square())

    def _law(self) -> tuple[float, float]:
        normal = self.law == "log_normal"
        center = self.center if self.center is not None else (-0.6 if normal else math.log(self.sigma_data))
        return center, self.spread if self.spread is not None else (1.6 if normal else 0.5)


@dataclass(frozen=True)
class Linear(NoisePath):
    """a = t, b = 1 − t, level t in [0, 1], 0 being noise: flow matching. Lipman et al. 2023 (arXiv 2210.02747).

    Its velocity dx/dt is clean − noise. The network is told t.
    """

    law: Literal["uniform", "beta"] = "uniform"
    """Of training levels: evenly on [0, 1); or t = .999·(1 − s), s ~ Beta(1.5, 1), which favours the noisy end."""

    def __post_init__(self) -> None:
        if self.law not in ("uniform", "beta"):
            raise UsageError(f"law={self.law!r} is not known; choose uniform or beta")

    def levels(self, count: int) -> Tensor:
        """Levels of `count` steps from noise to clean: [count + 1] float64, rising from 0 to 1."""
        if count < 1:
            raise UsageError(f"count={count}; give at least one step")
        return torch.linspace(0, 1, count + 1, dtype=torch.float64)

    def scales(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scales of signal and noise at a level."""
        return level.double(), 1 - level.double()

    def rates(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivatives of signal and noise scale with respect to the level."""
        one = torch.ones_like(level, dtype=torch.float64)
        return one, -one

    def draw(self, count: int, generator: Generators) -> Tensor:
        """Draw noise levels for training, [count]."""
        u = uniform([count], generator, like=torch.empty(0, dtype=torch.float64))
        # The distribution function of Beta(3/2, 1) is s^{3/2}.
        return u if self.law == "uniform" else 0.999 * (1 - u.pow(2 / 3))


def rowwise(factor: Tensor, chunk: Tensor) -> Tensor:
    """Return a factor per row [B] in the type of `chunk` [B, ...] and with as many dimensions."""
    check_shapes("B", factor)
    if len(factor) != len(chunk):
        raise ValueError(f"{len(factor)} levels for {len(chunk)} rows; give one level per row")
    return factor.to(chunk.device, chunk.dtype).view(-1, *[1] * (chunk.dim() - 1))


@cache
def _betas(steps: int, schedule: str) -> Tensor:
    if schedule == "linear":
        return torch.linspace(1e-4, 0.02, steps, dtype=torch.float64)
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    alpha_bar = ((u + 0.008) / 1.008 * math.pi / 2).cos().square()
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)
