"""Simulation of an epidemic: `simulate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.env.differentiable import Estimator, Relaxation
from pilotage.systems.societies.agent_torch.env.disease import Diagnostics, Disease
from pilotage.systems.societies.agent_torch.env.gradient_watch import watched
from pilotage.systems.societies.agent_torch.env.infection import initial_state
from pilotage.systems.societies.agent_torch.env.noise import Noise
from pilotage.systems.societies.agent_torch.env.parameters import WEEK, Actions, Outcome, Parameters
from pilotage.systems.societies.agent_torch.env.people import Population
from pilotage.systems.societies.agent_torch.env.substeps import State, Substep, copied, episode, made
from pilotage.systems.societies.agent_torch.env.world import World

SUBSTEPS: tuple[str, ...] = ("progress", "infect")


def simulate(
    population: Population,
    parameters: Parameters,
    *,
    days: int,
    seed: int,
    disease: Disease | None = None,
    groups: Tensor | None = None,
    diagnostics: Diagnostics | None = None,
    substeps: Sequence[str | Substep] = SUBSTEPS,
    differentiable: bool = False,
    estimator: Estimator = "left",
    cross_day: bool = True,
    recompute: bool = False,
    start: tuple[int, Outcome] | None = None,
) -> Outcome:
    """Simulate an epidemic.

    Args:
        population: the agents.
        parameters: R, isolation, initial infections; see `Parameters`.
        days: number of days; week w is the days 7w … 7w + 6.
        seed: seed of all noise. Two simulations under one seed differ only where their parameters make a difference.
        disease: the pathogen; None: the defaults.
        groups: [N] integers: the column of `isolation` of each agent; None: its age group.
        diagnostics: settings of the substeps `test` and `quarantine`; None: the defaults.
        substeps: substeps of a day, in order: registered names or functions.
        differentiable: whether gradients reach the parameters; memory then grows with days. Values do not change.
        estimator: estimator of the gradient: left, straight_through or smoothed (see `differentiable`), or
            score, which gives only `log_probability` for `objectives.discrete_gradients.score_function`.
        cross_day: whether gradients pass from day to day; False shows what is lost without.
        recompute: make contacts again in the backward pass: less memory, more time.
        start: (day, outcome before it), to go on from there; `initial` is not used then. Behaviour is asked again, so
            that with a function for `isolation` it must be the first day of a week.

    Returns:
        Outcome of the simulated days.

    Raises:
        UsageError: the parameters do not fit the population or the days.
    """
    if days < 1:
        raise UsageError(f"at least one day is simulated, got {days}")
    disease = Disease() if disease is None else disease
    world = World(population, disease, population.age if groups is None else groups, diagnostics or Diagnostics())
    first = 0 if start is None else start[0]
    actions = Actions(parameters, world, first + days)
    chosen: Sequence[str | Substep] = substeps
    if start is None:
        state = initial_state(world, initial := parameters.initial_shares(len(population.ages)), Noise(seed, -1))
    else:
        state = _goes_on(*start, parameters)
    if differentiable:
        if start is not None:
            raise UsageError("gradients begin on day 0: `start` goes on from a state without them")
        relaxation = Relaxation(world, estimator, cross_day=cross_day, recompute=recompute)
        state = relaxation.start(state, initial, Noise(seed, -1))
        with_gradients = relaxation.substeps()
        chosen = [with_gradients.get(name, name) if isinstance(name, str) else name for name in substeps]
    record = OutcomeRecorder(world, state, None if start is None else start[1])
    with torch.set_grad_enabled(differentiable):
        days_done = episode(
            state,
            made(chosen, world),
            lambda day, _: record.act(actions, day),
            days=range(first, first + days),
            seed=seed,
        )
        for after in days_done:
            record.add(after)
        outcome = record.outcome()
    if not differentiable:
        return outcome
    if estimator == "score":
        return replace(outcome, log_probability=outcome.state["log_probability"] if outcome.state else None)
    curves = {name: getattr(outcome, name) for name in ("exposed", "cases", "deaths")}
    curves = watched(curves, parameters.tensors())
    return replace(outcome, exposed=curves["exposed"], cases=curves["cases"], deaths=curves["deaths"])


def _goes_on(day: int, before: Outcome, parameters: Parameters) -> State:
    if before.state is None:
        raise UsageError("the outcome to go on from has no state")
    if callable(parameters.isolation) and day % WEEK:
        raise UsageError(
            f"behaviour is asked on the first day of a week, and day {day} is none: go on from a multiple of 7"
        )
    return copied(before.state)


class OutcomeRecorder:
    """Recorder of daily counts."""

    def __init__(self, world: World, state: State, before: Outcome | None = None) -> None:
        self._world, self._state, self._before = world, state, before
        self._days: dict[str, list[Tensor]] = {"new_exposed": [], "new_cases": [], "new_deaths": []}
        self._positives: list[Tensor] = []
        self._reporting: list[Tensor] = []

    def act(self, actions: Actions, day: int) -> dict[str, Tensor]:
        """Return the action of the day; behaviour is given the history so far."""
        action = actions(day, self._history)
        self._reporting.append(action["reporting"])
        return action

    def add(self, state: State) -> None:
        """Add the counts of a day."""
        self._state = state
        for name, column in self._days.items():
            column.append(state[name])
        if "new_positives" in state:
            self._positives.append(state["new_positives"])

    def _history(self) -> Outcome:
        return self.outcome() if self._before is None else self._before.then(self.outcome())

    def outcome(self) -> Outcome:
        """Return the outcome so far."""
        weight, boroughs = self._world.population.weight, len(self._world.population.boroughs)
        exposed, cases, deaths = (
            weight * torch.stack(column).float() if column else torch.zeros(0, boroughs)
            for column in self._days.values()
        )
        if len(cases):
            cases = cases * torch.stack(self._reporting[: len(cases)])[:, None]
        positives = weight * torch.stack(self._positives).float() if self._positives else None
        return Outcome(exposed, cases, deaths, positives, self._state)


def weekly(daily: Tensor) -> Tensor:
    """Return sums of seven days [weeks, …] of [days, …]; days after the last whole week are left out."""
    weeks = len(daily) // WEEK
    return daily[: weeks * WEEK].unflatten(0, (weeks, WEEK)).sum(1)
