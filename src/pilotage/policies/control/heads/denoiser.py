"""The head that denoises: any noise path, any network, any sampler that walks the path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.pieces import fill, load_piece, parse_term, split_values
from pilotage.networks.chunk_network import ChunkNetwork
from pilotage.objectives.denoising import chunk_error, fill_padding, weighted_rows
from pilotage.objectives.draws import Generators, normal
from pilotage.objectives.levels import SCHEDULES
from pilotage.objectives.noise_paths import Karras, Linear, NoisePath, Predicts, VariancePreserving, rowwise
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.heads.head import Head, PartMaker
from pilotage.policies.control.sampling.samplers import limit_of, sampler_for, takes_path
from pilotage.policies.control.sampling.sampling import Denoise, Guide, InitialSample


class Denoiser(Head):
    """Trained to predict `predicts` at levels of `path`; sampled by `sampler` in `steps` levels of `schedule`.

    Only the network is trained: sampler, steps, schedule and options may be changed at any time. Bench base:
    VariancePreserving, predicts="clean". Diffusion Policy: predicts="noise" and ddpm with 100 steps. BESO: Karras,
    "residual", "ddim_sigma" with 3 steps. Flow matching: Linear, "velocity", "flow_euler" (see `flow`).
    `schedule`: of σ, on a Karras path only. `levels`: exactly these instead. `sigma_min`: the least σ that is walked
    before 0, the path's unless given. `options`: further ones of the sampler.
    """

    takes_context = True

    def __init__(
        self,
        network: ChunkNetwork,
        path: NoisePath,
        *,
        predicts: Predicts = "clean",
        sampler: str = "ddpm",
        steps: int | None = None,
        schedule: str = "exponential",
        levels: Sequence[float] | None = None,
        sigma_min: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(network)
        self.path, self.predicts = path, predicts
        self.sampler, self.steps, self.schedule, self.levels, self.options = sampler, steps, schedule, levels, options
        self.sigma_min = sigma_min
        sampler_for(sampler, path, options)
        path.weight(torch.zeros(1), predicts)  # refuses what the path does not know
        if not network.takes_level:
            raise UsageError("a denoiser must be told the noise level; make its network with takes_level=True")

    @classmethod
    def build(cls, make: PartMaker, **options: Any) -> Denoiser:
        """Build the part to the sizes of the data."""
        if make.parts.context != "none":
            kind: Any = load_piece("context", make.parts.context)
            held: Denoiser = kind.build(make, **options)
            return held
        made: Denoiser = fill(cls, options, cls.configured(make))
        return made

    @staticmethod
    def configured(make: PartMaker) -> dict[str, Any]:
        """Return the arguments that the other parts of the configuration decide."""
        return {"network": make.network(), "path": make.noise_schedule(), **sampler_arguments(make.parts.sampler)}

    def action_limit(self) -> float | None:
        """Return the bound of the sampler."""
        return limit_of(sampler_for(self.sampler, self.path), self.options)

    def limit_reason(self) -> str:
        """Return what limits the actions and how the limit is lifted."""
        option = getattr(sampler_for(self.sampler, self.path), "limit", None)
        return f"the sampler {self.sampler} (--sampler {self.sampler}:{option}=none lifts it)"

    def warnings(self, actions: Tensor, constant: Tensor) -> Mapping[str, str]:
        """Return what the head warns about, as (kind, text)."""
        if not isinstance(self.path, Karras):
            return {}
        drowned = torch.nonzero((actions.std(0) < self.path.sigma_min) & ~constant).flatten().tolist()
        if not drowned:
            return {}
        return {
            "small actions": f"entries {drowned} of the normalised action vary less than the least noise, "
            f"{self.path.sigma_min}, and drown in it: scale actions (--action-scaling min_max) or lower sigma_min of "
            "--noise-schedule"
        }

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:
        """Return the loss of each window, [batch]."""
        clean = fill_padding(chunk, mask)
        level = self.path.draw(len(clean), generator).to(clean.device)
        noise = normal(clean.shape, generator, like=clean)
        output = self._predict(self.path.mix(clean, noise, level), level, condition)
        error = chunk_error(output, self.path.target(clean, noise, level, self.predicts), mask)
        return weighted_rows(error, self.path.weight(level, self.predicts))

    def sample(
        self,
        condition: Condition,
        generator: Generators,
        start: InitialSample | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Return chunks of actions, [batch, time, action]."""
        levels = self.sampling_levels() if start is None or start.levels is None else start.levels
        if start is None:
            x = self.first_scale(levels) * normal(self._noise_shape(condition), generator, like=condition.vector)
        else:
            x = start.chunk
        denoise = self.denoiser(condition)
        other = None if start is None else start.sampler
        sampler = sampler_for(other or self.sampler, self.path)
        path = {"path": self.path} if takes_path(sampler) else {}
        guided = denoise if guide is None else guide(denoise)
        return sampler(guided, levels, x, generator, **path, **({} if other else self.options or {}))

    def denoiser(self, condition: Condition) -> Denoise:
        """Return the denoiser under a condition."""

        def denoise(x: Tensor, level: Tensor) -> Tensor:
            return self.path.clean_of(self._predict(x, level, condition), x, level, self.predicts)

        return denoise

    def sampling_levels(self) -> Sequence[float] | Tensor:
        """Return the levels that `sample` walks when it is given no others."""
        if self.levels is not None:
            return self.levels
        if isinstance(self.path, VariancePreserving):
            return self.path.levels(self.steps)
        steps = 10 if self.steps is None else self.steps
        if isinstance(self.path, Linear):
            return self.path.levels(steps)
        if isinstance(self.path, Karras):
            if self.schedule not in SCHEDULES:
                raise UsageError(f"schedule={self.schedule!r} is not known; choose of {', '.join(SCHEDULES)}")
            least = self.path.sigma_min if self.sigma_min is None else self.sigma_min
            return SCHEDULES[self.schedule](steps, least, self.path.sigma_max)
        raise UsageError(f"a {type(self.path).__name__} path has no schedule; give the head its levels")

    def first_scale(self, levels: Sequence[float] | Tensor) -> float:
        """Standard deviation of the noise at the first of `levels`: σ on a Karras path, else 1."""
        return float(levels[0]) if isinstance(self.path, Karras) else 1.0

    def _predict(self, noisy: Tensor, level: Tensor, condition: Condition) -> Tensor:
        scaling = self.path.scalings(level)
        return self.network(rowwise(scaling.c_in, noisy) * noisy, scaling.c_noise.to(noisy.dtype), *condition)


def flow(network: ChunkNetwork, *, steps: int = 10, law: str = "uniform") -> Denoiser:
    """Flow matching: the velocity clean − noise on the straight path, Euler steps. Lipman et al. 2023."""
    return Denoiser(network, Linear(law), predicts="velocity", sampler="flow_euler", steps=steps)  # type: ignore[arg-type]


def sampler_arguments(sampler: str) -> dict[str, Any]:
    """Return how a `Denoiser` draws chunks, as its arguments, from `ddpm:steps=100` and the like."""
    term = parse_term(sampler)
    options = split_values(term.options)
    levels = options.pop("levels", None)
    return {
        "sampler": term.reference,
        "steps": options.pop("steps", None),
        "schedule": options.pop("schedule", "exponential"),
        "levels": levels if levels is None or isinstance(levels, tuple) else (levels,),
        "sigma_min": options.pop("sigma_min", None),
        "options": options,
    }
