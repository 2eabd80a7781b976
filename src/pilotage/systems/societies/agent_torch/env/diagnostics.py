"""Tests and quarantine: two further substeps, to be put between `progress` and `infect`."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.systems.societies.agent_torch.env.disease import EXPOSED, INFECTED
from pilotage.systems.societies.agent_torch.env.infection import NEVER
from pilotage.systems.societies.agent_torch.env.noise import Noise, thresholds
from pilotage.systems.societies.agent_torch.env.substeps import Action, State, Substep, register
from pilotage.systems.societies.agent_torch.env.world import World

WITH_TESTS: tuple[str, ...] = ("progress", "test", "quarantine", "infect")


@register("test")
def tests(world: World) -> Substep:
    """Return the substep in which agents that fall ill, and a share of all others, take a test.

    Results arrive after a delay. Keeps positive_on [n] int16, the day of a positive result; counts
    `new_positives` [boroughs] on that day.
    """
    settings = world.diagnostics
    complies, screened = (thresholds(torch.tensor(p)) for p in (settings.compliance, settings.screening))
    rates = thresholds(torch.tensor([settings.false_positive, settings.true_positive]))

    def substep(state: State, _: Action, noise: Noise) -> State:
        positive_on = _column(state, "positive_on", world)
        active, local = state["active"], state["active"] - world.begin
        ill = active[state["infected_at"].index_select(0, local) == noise.step - world.disease.exposed_days]
        tested = ill[noise.random_bits("comply", ill) < complies]
        if settings.screening:
            agents = world.owned()
            tested = torch.cat([tested, agents[noise.random_bits("screen", agents) < screened]]).unique()
        place = (tested - world.begin).long()
        carries = (state["stage"][place] == EXPOSED) | (state["stage"][place] == INFECTED)
        # A result that is on its way is not replaced by another.
        place, tested, carries = (x[positive_on[place] < noise.step] for x in (place, tested, carries))
        positive = place[noise.random_bits("test", tested) < rates.index_select(0, carries.to(torch.int32))]
        positive_on[positive] = noise.step + settings.delay
        arrives = (positive_on == noise.step).nonzero()[:, 0].to(torch.int32) + world.begin
        return state | {"positive_on": positive_on, "new_positives": world.by_borough(arrives)}

    return substep


@register("quarantine")
def quarantine(world: World) -> Substep:
    """Return the substep in which agents with a positive result enter quarantine, and some leave it early.

    Keeps quarantined_until [n] int16, the first day that is free again; `World.isolating` looks at it.
    """
    settings = world.diagnostics
    goes, leaves = (thresholds(torch.tensor(p)) for p in (settings.quarantine_start, settings.quarantine_break))

    def substep(state: State, _: Action, noise: Noise) -> State:
        until = _column(state, "quarantined_until", world)
        inside = (until > noise.step).nonzero()[:, 0].to(torch.int32)
        out = inside[noise.random_bits("break quarantine", inside + world.begin) < leaves]
        until[out.long()] = noise.step
        results = (state["positive_on"] == noise.step).nonzero()[:, 0].to(torch.int32)
        entering = results[noise.random_bits("start quarantine", results + world.begin) < goes]
        until[entering.long()] = noise.step + settings.quarantine_days
        return state | {"quarantined_until": until}

    return substep


def _column(state: State, name: str, world: World) -> Tensor:
    return state[name] if name in state else torch.full((len(world),), NEVER, dtype=torch.int16)
