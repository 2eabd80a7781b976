"""Parameters and outcome of an epidemic, and the actions of each day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.env.substeps import Action, State
from pilotage.systems.societies.agent_torch.env.world import World

WEEK = 7


@dataclass(frozen=True)
class Outcome:
    """Outcome of a simulation in persons (agents times the population's weight)."""

    exposed: Tensor
    """[days, boroughs] float32: infections of the day."""
    cases: Tensor
    """[days, boroughs]: those who fell ill (E to I), times the share that is reported."""
    deaths: Tensor
    """[days, boroughs]."""
    positives: Tensor | None = None
    """[days, boroughs]: positive results on the day they arrive, where there are tests."""
    state: State | None = None
    """The state after the last day, for a simulation that goes on."""
    log_probability: Tensor | None = None
    """Scalar, with the score-function estimator: log-probability of all that was drawn."""

    def then(self, later: Outcome) -> Outcome:
        """Return this outcome and a later one of the same simulation, joined."""
        exposed, cases, deaths = (
            torch.cat([getattr(self, name), getattr(later, name)]) for name in ("exposed", "cases", "deaths")
        )
        tested = self.positives is not None and later.positives is not None
        positives = torch.cat([self.positives, later.positives]) if tested else None  # type: ignore[list-item]
        return Outcome(exposed, cases, deaths, positives, later.state)


Behaviour = Callable[[int, Outcome], Tensor]
"""(week, history) -> [groups] probability of isolating on a day of this week."""


@dataclass(frozen=True)
class Parameters:
    """Parameters of an epidemic; any of the tensors may require gradients."""

    transmission: Tensor
    """[weeks] or scalar: R_w, 0 or more."""
    isolation: Tensor | Behaviour | None = None
    """[weeks, groups] or [groups]: probability of isolating on a day; or a function that is asked on the first day of
    each week; None: no agent isolates."""
    initial: Tensor | None = None
    """[ages] or scalar: share infected on day 0, on one of the days before; None: .001."""
    fatality: Tensor | None = None
    """[ages]: instead of the disease's."""
    reporting: Tensor | None = None
    """[weeks] or scalar: share of cases that are reported; None: all."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the parameters given as tensors, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def initial_shares(self, ages: int) -> Tensor:
        """Return the share infected at first by age group [ages]."""
        shares = torch.tensor(0.001) if self.initial is None else self.initial
        return _shares("initial", shares.expand(ages) if shares.dim() == 0 else shares, (ages,))


class Actions:
    """Actions of each day: transmission, reporting (scalars), isolation [groups], perhaps fatality [ages]."""

    def __init__(self, parameters: Parameters, world: World, last: int) -> None:
        """Check the parameters for the days before `last`. Raises UsageError where they do not cover them."""
        self._parameters, self._weeks = parameters, -(-last // WEEK)
        self._groups = int(world.group.max()) + 1
        transmission = self._series("transmission", parameters.transmission)
        if not (transmission.isfinite() & (transmission >= 0)).all():
            raise UsageError(f"transmission is R of each week, finite and 0 or more, got {transmission.tolist()}")
        self._transmission = transmission
        reporting = torch.tensor(1.0) if parameters.reporting is None else parameters.reporting
        self._reporting = _shares("reporting", self._series("reporting", reporting))
        self._fatality = parameters.fatality
        if self._fatality is not None:
            _shares("fatality", self._fatality, (len(world.population.ages),))
        if isinstance(parameters.isolation, Tensor):
            self._check_isolation(parameters.isolation)
        self._decided: tuple[int, Tensor] | None = None

    def __call__(self, day: int, history: Callable[[], Outcome]) -> Action:
        """Return the action of a day; `history` is called when behaviour is asked, once a week."""
        week = day // WEEK
        if self._decided is None or self._decided[0] != week:
            self._decided = week, self._isolation(week, history)
        action: Action = {
            "transmission": self._transmission[week],
            "isolation": self._decided[1],
            "reporting": self._reporting[week],
        }
        return action if self._fatality is None else action | {"fatality": self._fatality}

    def _isolation(self, week: int, history: Callable[[], Outcome]) -> Tensor:
        given = self._parameters.isolation
        if given is None:
            return torch.zeros(self._groups)
        if isinstance(given, Tensor):
            return given[week] if given.dim() == 2 else given
        answer = given(week, history())
        if answer.dim() != 1 or len(answer) < self._groups:
            raise UsageError(
                f"isolation(week, history) must return [groups] = [{self._groups}], got {list(answer.shape)}"
            )
        return _shares("isolation", answer)

    def _check_isolation(self, isolation: Tensor) -> None:
        _shares("isolation", isolation)
        if isolation.dim() not in (1, 2) or isolation.shape[-1] < self._groups:
            raise UsageError(
                f"isolation must be [weeks, groups] or [groups] with {self._groups} groups, got {list(isolation.shape)}"
            )
        if isolation.dim() == 2 and len(isolation) < self._weeks:
            raise UsageError(f"isolation covers {len(isolation)} weeks; {self._weeks} are simulated")

    def _series(self, name: str, values: Tensor) -> Tensor:
        if values.dim() == 0:
            return values.expand(self._weeks)
        if values.dim() != 1 or len(values) < self._weeks:
            raise UsageError(
                f"{name} must be [weeks] with at least {self._weeks} weeks, or a scalar; got {list(values.shape)}"
            )
        return values


def _shares(name: str, values: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    if shape is not None and values.shape != shape:
        raise UsageError(f"{name} must be {list(shape)}, got {list(values.shape)}")
    if not ((values >= 0) & (values <= 1)).all():
        raise UsageError(f"{name} holds probabilities, 0 to 1, got {values.detach().flatten()[:10].tolist()}")
    return values
