"""Samplers by name, what they have in common, and the one that walks a flow.

A sampler is `sampler(denoise, levels, x, generator, **options) -> x`: it starts from `x` [B, ...] at the first level
and calls `denoise(x, level [B]) -> clean estimate` once or twice per level. It knows no network. Randomness comes from
`generator`: one, or a sequence of one per row; with the latter a row's result does not depend on the other rows.

Samplers are the pieces of the slot `denoising_sampler`. Each declares (`core.pieces.declare`) the kind of `path` whose
levels it walks, and as `limit` the option that bounds what it answers, where it has one. A sampler that takes `path`
is given the path itself, for its factors.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.pieces import declare, load_piece, piece_options
from pilotage.core.registry import find_pieces
from pilotage.objectives.draws import Generators
from pilotage.objectives.noise_paths import Linear, NoisePath
from pilotage.policies.control.sampling.sampling import Denoise, level_rows

SLOT = "denoising_sampler"


@declare(path=Linear)
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


def sampler_for(name: str, path: NoisePath, options: Mapping[str, Any] | None = None) -> Callable[..., Tensor]:
    """Return the sampler called `name`, or the user's own ("module:function").

    Args:
        name: a piece of the slot `denoising_sampler`.
        path: the path whose levels it shall walk.
        options: further arguments that it will be called with.

    Raises:
        UsageError: when there is none, it walks another kind of path, or it has no such option.
    """
    pieces = find_pieces(SLOT)
    fitting = [known for known in pieces if isinstance(path, _path_of(load_piece(SLOT, known)))]
    if name not in pieces and ":" not in name:
        what = f"is not known{nearest(name, pieces)}"
    elif isinstance(path, _path_of(load_piece(SLOT, name))):
        what = ""
    else:
        what = "walks another kind of path"
    if what:
        raise UsageError(f"sampler {name!r} {what}; on a {type(path).__name__} path choose of {', '.join(fitting)}")
    sampler = load_piece(SLOT, name)
    settable = [option for option in piece_options(sampler) if option != "path"]
    for option in options or ():
        if option not in settable:
            raise UsageError(
                f"the sampler {name!r} has no option {option!r}{nearest(option, settable)}; beside steps, schedule, "
                f"levels and sigma_min it has {', '.join(settable) or 'none'}"
            )
    return sampler


def takes_path(sampler: Callable[..., Tensor]) -> bool:
    """Return whether a sampler is given the path itself."""
    return "path" in inspect.signature(sampler).parameters


def limit_of(sampler: Callable[..., Tensor], options: Mapping[str, Any] | None = None) -> float | None:
    """Return the bound on what a sampler with these options answers, ± in normalised units; None: there is none."""
    name = getattr(sampler, "limit", None)
    if name is None:
        return None
    found: float | None = (options or {}).get(name, piece_options(sampler)[name].default)
    return found


def _path_of(sampler: Callable[..., Tensor]) -> type[NoisePath]:
    """Return the kind of path that a sampler walks; one that declares none walks any."""
    declared: type[NoisePath] = getattr(sampler, "path", NoisePath)
    return declared
