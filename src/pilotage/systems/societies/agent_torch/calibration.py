"""Calibration of a simulator: values whose simulated weeks are near to the observed ones.

`Calibrator` follows the gradient of a differentiable simulator. `search` tries points instead, by CMA-ES or rejection.
Both know the simulator only as a function (values, seed) -> weekly counts.
"""

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


def mean_squared(simulated: Tensor, observed: Tensor) -> Tensor:
    """Return the mean squared difference over the mean squared observation, so that learning rates suit any counts."""
    return (simulated - observed).square().mean() / observed.square().mean().clamp(min=1e-12)


@dataclass(frozen=True)
class CalibrationStep:
    """Result of one update."""

    loss: float
    """Loss on the fitted weeks."""
    validation_loss: float
    """Loss on the validation weeks; NaN without any."""
    values: Tensor
    """Values that were simulated with."""


class Calibrator:
    """Adam on the squared error between simulated and observed weeks; its state is part of a checkpoint.

    Args:
        model: module whose output is the vector of values.
        simulate: see `Simulator`.
        observed: observed counts [weeks, places].
        num_validation_weeks: number of last weeks that are not fitted but choose the best step, so that a forecast
            from here has seen all observed weeks.
        lr: learning rate of Adam; the paper's are 5e-3 (epidemic) and 2e-3 (labour).
        betas: of Adam.
        decay_over: number of steps over which the learning rate falls to 0 along a cosine; None: it stays. With betas
            of .5 a step is about as long as the rate near the optimum too, so that the last values would not settle.
        seed: seed of the noise.
        fresh_noise: whether step k is simulated under `seed` + k; otherwise all under `seed`.

    Raises:
        UsageError: the observations are not finite, or there are too few weeks.
    """

    def __init__(
        self,
        model: nn.Module,
        simulate: Simulator,
        observed: Tensor,
        *,
        num_validation_weeks: int = 0,
        lr: float = 5e-3,
        betas: tuple[float, float] = (0.5, 0.5),
        decay_over: int | None = None,
        seed: int = 0,
        fresh_noise: bool = False,
    ) -> None:
        if observed.dim() != 2 or not 0 <= num_validation_weeks < len(observed) or not bool(observed.isfinite().all()):
            raise UsageError(
                f"expected finite observations [weeks, places] and fewer validation weeks than {len(observed)}, got "
                f"{list(observed.shape)} and {num_validation_weeks}"
            )
        self.model, self.simulate, self.observed = model, simulate, observed
        self.fitted = len(observed) - num_validation_weeks
        self.seed, self.fresh_noise = seed, fresh_noise
        self.lr, self.decay_over = lr, decay_over
        self.optimiser = torch.optim.Adam(model.parameters(), lr=lr, betas=betas)
        self.steps = 0
        self.best_value = float("inf")
        self.best: Tensor | None = None

    def step(self) -> CalibrationStep:
        """Simulate once and update once.

        `best` is kept by the loss on the validation weeks, or on the fitted ones where there are none.

        Raises:
            NonFinite: the loss or a gradient is not finite; the model is left as it was.
            UsageError: the simulation has another shape, or no gradient.
        """
        values = self.model()
        simulated = self.simulate(values, self.seed + self.steps if self.fresh_noise else self.seed)
        if simulated.shape != self.observed.shape:
            raise UsageError(f"simulated {list(simulated.shape)}, observed {list(self.observed.shape)} [weeks, places]")
        loss = mean_squared(simulated[: self.fitted], self.observed[: self.fitted])
        validates, validation_loss = self.fitted < len(self.observed), float("nan")
        if validates:
            validation_loss = float(mean_squared(simulated[self.fitted :].detach(), self.observed[self.fitted :]))
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
        criterion = validation_loss if validates else float(loss.detach())
        if criterion < self.best_value:
            self.best_value, self.best = criterion, values.detach().clone()
        if self.decay_over is not None:
            for group in self.optimiser.param_groups:
                group["lr"] = self.lr * (1 + math.cos(math.pi * min(1.0, self.steps / self.decay_over))) / 2
        self.optimiser.step()
        self.steps += 1
        return CalibrationStep(float(loss.detach()), validation_loss, values.detach())

    def state_dict(self) -> dict[str, Any]:
        """Return the state of model, optimiser and best step."""
        return {
            "model": dict(self.model.state_dict()),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.steps,
            "best_value": self.best_value,
            "best": self.best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `state_dict`."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps, self.best_value, self.best = int(state["steps"]), float(state["best_value"]), state["best"]


def warn_of_missing_gradients(model: nn.Module) -> list[str]:
    """Return the names of parameters that the last backward pass did not reach, and warn of them."""
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


def search(
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
) -> tuple[Tensor, Found]:
    """Calibrate without gradients.

    Args:
        simulate: see `Simulator`.
        observed: observed counts [weeks, places].
        low: lower bounds [values].
        high: upper bounds [values].
        generator: random numbers of the search.
        method: cma (CMA-ES) or abc (rejection).
        evaluations: number of simulations.
        start: values where CMA-ES begins; None: the middle.
        spread: first standard deviation of CMA-ES as a share of the range.
        seed: seed of all simulations.

    Returns:
        The best point of CMA-ES, or the mean of the accepted points of ABC; and the search in the unit box.
    """
    if low.dim() != 1 or low.shape != high.shape or not bool((low < high).all()):
        raise UsageError(f"bounds are [values] with low below high, got {list(low.shape)} and {list(high.shape)}")

    def score(points: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.stack(
                [-mean_squared(simulate(low + (high - low) * p, seed), observed) for p in points.float()]
            )

    if method == "cma":
        first = torch.full_like(low, 0.5) if start is None else (start - low) / (high - low)
        found = cma_es(score, first, generator, spread=spread, low=0.0, high=1.0, evaluations=evaluations)
        return low + (high - low) * found.point, found
    if method == "abc":
        accepted = reject(score, len(low), generator, evaluations=evaluations, share=max(0.05, 1 / evaluations))
        return low + (high - low) * accepted.mean(), accepted.found
    raise UsageError(f"the method {method!r} is not known; choose cma or abc")
