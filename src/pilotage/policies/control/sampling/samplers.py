"""Samplers by name, and what they have in common.

A sampler is `sampler(denoise, levels, x, generator, **options) -> x`: it starts from `x` [B, ...] at the first level
and calls `denoise(x, level [B]) -> clean estimate` once or twice per level. It knows no network. Randomness comes from
`generator`: one, or a sequence of one per row; with the latter a row's result does not depend on the other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.objectives.draws import Generators
from pilotage.objectives.noise_paths import Karras, Linear, NoisePath, VariancePreserving
from pilotage.policies.control.sampling.discrete_samplers import ddim, ddpm
from pilotage.policies.control.sampling.sampling import Denoise, level_rows
from pilotage.policies.control.sampling.sigma_samplers import (
    ddim_sigma,
    dpm_solver_2m,
    dpm_solver_2s,
    euler,
    euler_ancestral,
    heun,
)


def flow_euler(denoise: Denoise, levels: Tensor | Sequence[float], x: Tensor, generator: Generators | None) -> Tensor:  # noqa: ARG001
    """dx/dt = (D − x)/(1 − t) in Euler steps over rising `levels` of t that end with 1; deterministic.

    Equal to x + Δt·v for a velocity field v. Lipman et al. 2023 (arXiv 2210.02747).
    """
    times = [float(level) for level in levels]
    if len(times) < 2 or times[-1] != 1 or times[0] < 0 or any(a >= b for a, b in pairwise(times)):
        raise UsageError(f"levels {times}: expected two or more in [0, 1] that rise strictly and end with 1")
    for now, then in pairwise(times):
        clean = denoise(x, level_rows(now, x))
        x = x + (then - now) / (1 - now) * (clean - x)
    return x


@dataclass(frozen=True)
class Sampler:
    """A sampler with the kind of path whose levels it walks."""

    function: Callable[..., Tensor]
    path: type[NoisePath]
    takes_path: bool = False
    """Whether it needs the path itself, for its factors."""


SAMPLERS: dict[str, Sampler] = {
    "ddpm": Sampler(ddpm, VariancePreserving, takes_path=True),
    "ddim": Sampler(ddim, VariancePreserving, takes_path=True),
    "flow_euler": Sampler(flow_euler, Linear),
    "ddim_sigma": Sampler(ddim_sigma, Karras),
    "euler": Sampler(euler, Karras),
    "euler_ancestral": Sampler(euler_ancestral, Karras),
    "heun": Sampler(heun, Karras),
    "dpm_solver_2s": Sampler(dpm_solver_2s, Karras),
    "dpm_solver_2m": Sampler(dpm_solver_2m, Karras),
}
"""Others join by `SAMPLERS["mine"] = Sampler(function, path)`."""


def sampler_for(name: str, path: NoisePath) -> Sampler:
    """Return the sampler called `name`. Raises UsageError when there is none, or it walks another kind of path."""
    fitting = [known for known, sampler in SAMPLERS.items() if isinstance(path, sampler.path)]
    if name not in fitting:
        what = "walks another kind of path" if name in SAMPLERS else "is not known"
        raise UsageError(f"sampler {name!r} {what}; on a {type(path).__name__} path choose of {', '.join(fitting)}")
    return SAMPLERS[name]
