"""Calibration: parameters of a simulator such that what it gives is near to what was observed.

`Calibrator` goes down the gradient of a differentiable simulator. `searched` tries points instead, by CMA-ES or
rejection, with as many simulations. Both know the simulator only as a function (values, seed) -> weekly counts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pilotage.core.errors import NonFinite, UsageError
from pilotage.planning.box_search import Found, cma_es
from pilotage.systems.societies.agent_torch.approximate_bayes import reject

Simulator = Callable[[Tensor, int], Tensor]
"""(values, seed) -> simulated [weeks, places], differentiable in values where a gradient is wanted."""
Loss = Callable[[Tensor, Tensor], Tensor]


def mean_squared(simulated: Tensor, observed: Tensor) -> Tensor:
    """Mean of squared differences over that of squared observations, so that rates mean the same for any counts."""
    return (simulated - observed).square().mean() / observed.square().mean().clamp(min=1e-12)


@dataclass(frozen=True)
class Step:
    """One update."""

    loss: float
    """On the weeks that are fitted."""
    held_out: float
    """On the last weeks, which are not; NaN without any."""
    values: Tensor
    """What was simulated with."""


class Calibrator:
    """Adam on a loss between simulated and observed weeks. Its state is part of a checkpoint.

    Args:
        model: a module; `values()` makes the simulator's values from it.
        values: from nothing to values; the model itself when None (`Bounded`).
        simulate: see `Simulator`. It is given the number of the step as seed when `fresh_noise`, else always `seed`.
        observed: [weeks, places].
        held_out: this many last weeks are not fitted, only watched. What has looked at them includes the choice of the
            best step: a forecast from here has *seen* all observed weeks.
        rate, betas: of Adam; the paper's are 5e-3 (epidemic), 2e-3 (labour) and (.5, .5).
        decay_over: the rate falls to 0 along a cosine over so many steps; None: it stays. With betas of .5 a step is
            about as long as the rate however near the optimum is, so that without it the last values keep jumping.
        loss: of simulated and observed, both [weeks, places]."""

    def __init__(
        self,
        model: nn.Module,
        simulate: Simulator,
        observed: Tensor,
        *,
        values: Callable[[], Tensor] | None = None,
        held_out: int = 0,
        rate: float = 5e-3,
        betas: tuple[float, float] = (0.5, 0.5),
        decay_over: int | None = None,
        loss: Loss = mean_squared,
        seed: int = 0,
        fresh_noise: bool = False,
    ) -> None:
        if observed.dim() != 2 or not 0 <= held_out < len(observed) or not bool(observed.isfinite().all()):
            raise UsageError(
                f"expected finite observations [weeks, places] and fewer held-out weeks than {len(observed)}, got "
                f"{list(observed.shape)} and {held_out}"
            )
        self.model, self.simulate, self.observed = model, simulate, observed
        self.values = values if values is not None else model
        self.fitted, self.held_out, self.loss = len(observed) - held_out, held_out, loss
        self.seed, self.fresh_noise = seed, fresh_noise
        self.rate, self.decay_over = rate, decay_over
        self.optimiser = torch.optim.Adam(model.parameters(), lr=rate, betas=betas)
        self.steps = 0
        self.best_value = float("inf")
        self.best: Tensor | None = None

    @property
    def seen(self) -> int:
        """Weeks that played any part: for `systems.societies.agent_torch.forecast_scores.Forecast`."""
        return len(self.observed)

    def step(self) -> Step:
        """One simulation, one update. `best` is kept by the held-out loss, or the fitted one without held-out weeks.

        Raises NonFinite before an update that would spoil the model, UsageError for a simulation of another shape."""
        values = self.values()
        simulated = self.simulate(values, self.seed + self.steps if self.fresh_noise else self.seed)
        if simulated.shape != self.observed.shape:
            raise UsageError(f"simulated {list(simulated.shape)}, observed {list(self.observed.shape)} [weeks, places]")
        loss = self.loss(simulated[: self.fitted], self.observed[: self.fitted])
        held_out = float("nan")
        if self.held_out:
            held_out = float(self.loss(simulated[self.fitted :].detach(), self.observed[self.fitted :]))
        if not bool(loss.isfinite()):
            raise NonFinite(self.steps + 1, "calibration/loss", None, None)
        if not loss.requires_grad:
            raise UsageError("the simulation has no gradient in the values; simulate with differentiable=True")
        self.optimiser.zero_grad()
        loss.backward()
        if self.steps == 0:
            warn_of_missing_gradients(self.model)
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
                raise NonFinite(self.steps + 1, f"gradient of {name}", None, None)
        judged = held_out if self.held_out else float(loss.detach())
        if judged < self.best_value:
            self.best_value, self.best = judged, values.detach().clone()
        if self.decay_over is not None:
            for group in self.optimiser.param_groups:
                group["lr"] = self.rate * (1 + math.cos(math.pi * min(1.0, self.steps / self.decay_over))) / 2
        self.optimiser.step()
        self.steps += 1
        return Step(float(loss.detach()), held_out, values.detach())

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": dict(self.model.state_dict()),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.steps,
            "best_value": self.best_value,
            "best": self.best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps, self.best_value, self.best = int(state["steps"]), float(state["best_value"]), state["best"]


def warn_of_missing_gradients(model: nn.Module) -> list[str]:
    """Names of parameters that the last backward pass did not reach, with a warning if there are any."""
    missing = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not bool(parameter.grad.any()))
    ]
    if missing:
        warnings.warn(
            f"no gradient reaches {', '.join(missing)}: the optimiser will leave them as they are. They are not used, "
            "only used through something detached, or have no influence on what is fitted",
            UserWarning,
            stacklevel=2,
        )
    return missing


def searched(
    simulate: Simulator,
    observed: Tensor,
    low: Tensor,
    high: Tensor,
    generator: torch.Generator,
    *,
    method: Literal["cma", "abc"] = "cma",
    evaluations: int = 100,
    start: Tensor | None = None,
    spread: float = 0.2,
    seed: int = 0,
    loss: Loss = mean_squared,
) -> tuple[Tensor, Found]:
    """Values found without gradients: `evaluations` simulations under one seed.

    low, high [D]: bounds; start [D]: CMA-ES begins here, None: in the middle; spread: its first standard deviation as a
    share of the range. Returns the best point of CMA-ES or the mean of the accepted share of ABC, [D]; and the search
    in the unit box."""
    if low.dim() != 1 or low.shape != high.shape or not bool((low < high).all()):
        raise UsageError(f"bounds are [values] with low below high, got {list(low.shape)} and {list(high.shape)}")

    def score(points: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.stack([-loss(simulate(low + (high - low) * p, seed), observed) for p in points.float()])

    if method == "cma":
        first = torch.full_like(low, 0.5) if start is None else (start - low) / (high - low)
        found = cma_es(score, first, generator, spread=spread, low=0.0, high=1.0, evaluations=evaluations)
        return low + (high - low) * found.point, found
    if method == "abc":
        accepted = reject(score, len(low), generator, evaluations=evaluations, share=max(0.05, 1 / evaluations))
        return low + (high - low) * accepted.mean(), accepted.found
    raise UsageError(f"the method {method!r} is not known; choose cma or abc")
