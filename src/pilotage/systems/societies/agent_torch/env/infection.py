"""The epidemic's two substeps: the course of the disease, and infection.

Only infected agents are followed, with their contacts. Every contact is tried on its own with probability
1 − exp(−λ of that contact); no infection by any of them has probability exp(−Σλ), the equation of `Disease`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.systems.societies.agent_torch.env.contacts import Contacts, contacts
from pilotage.systems.societies.agent_torch.env.disease import DEAD, EXPOSED, INFECTED, RECOVERED, SUSCEPTIBLE
from pilotage.systems.societies.agent_torch.env.noise import Noise, thresholds
from pilotage.systems.societies.agent_torch.env.substeps import Action, State, Substep, register
from pilotage.systems.societies.agent_torch.env.world import World

NEVER = torch.iinfo(torch.int16).min
"""Day of exposure of agents that were never exposed."""


def initial_state(world: World, initial: Tensor, noise: Noise) -> State:
    """Return the initial state: a share by age group [ages] was exposed on one of the days before day 0.

    Keys: stage [n] uint8, infected_at [n] int16 (day, negative before day 0), active [A] int32 (ids of E and I).
    """
    agents = world.owned()
    age = world.population.age[world.begin : world.end]
    chosen = (
        noise.random_bits("initial", agents) < thresholds(initial).index_select(0, age.to(torch.int32))
    ).nonzero()[:, 0]
    stage = torch.zeros(len(world), dtype=torch.uint8)
    infected_at = torch.full((len(world),), NEVER, dtype=torch.int16)
    active = agents[chosen]
    infected_at[chosen] = initial_days(world, active, noise).to(torch.int16)
    stage[chosen] = torch.where(infected_at[chosen] > -world.disease.exposed_days, EXPOSED, INFECTED).to(torch.uint8)
    return {"stage": stage, "infected_at": infected_at, "active": active}


def initial_days(world: World, agents: Tensor, noise: Noise) -> Tensor:
    """Draw the day of exposure of the agents that are ill at the start, -1, …, -(days − 1), [agents] int32."""
    return -1 - noise.random_bits("initial day", agents) % (world.disease.days - 1)


@register("progress")
def progress(world: World) -> Substep:
    """Return the substep in which E becomes I, and I becomes R or M; counts `new_cases` and `new_deaths` [boroughs]."""
    disease = world.disease
    fatal = thresholds(torch.tensor(disease.fatality, dtype=torch.float64))

    def substep(state: State, action: Action, noise: Noise) -> State:
        stage, active = state["stage"], state["active"]
        since = noise.step - state["infected_at"].index_select(0, active - world.begin).to(torch.int32)
        falls_ill, leaves = active[since == disease.exposed_days], active[since >= disease.days]
        stage[(falls_ill - world.begin).long()] = INFECTED
        chances = thresholds(action["fatality"]) if "fatality" in action else fatal
        dies = died(world, leaves, chances, noise)
        stage[(leaves - world.begin).long()] = torch.where(dies, DEAD, RECOVERED).to(torch.uint8)
        return state | {
            "active": active[since < disease.days],
            "new_cases": world.by_borough(falls_ill),
            "new_deaths": world.by_borough(leaves[dies]),
        }

    return substep


def died(world: World, leaves: Tensor, chances: Tensor, noise: Noise) -> Tensor:
    """Draw which of the agents that leave I die, [agents] bool; `chances` are `thresholds` [ages]."""
    age = world.population.age.index_select(0, leaves)
    return noise.random_bits("death", leaves) < chances.index_select(0, age.to(torch.int32))


@register("infect")
def infect(world: World) -> Substep:
    """Return the substep in which the contagious meet their contacts; counts `new_exposed` [boroughs]."""

    def substep(state: State, action: Action, noise: Noise) -> State:
        return received(world, state, action, noise, *emitted(world, state, action, noise))

    return substep


def emitted(world: World, state: State, action: Action, noise: Noise) -> tuple[Tensor, Tensor]:
    """Return the ids, with repetitions, of agents of any shard that the infected of this shard would infect.

    -> [H] int32 by contacts that the isolation of the target prevents, [H'] int32 by others
    """
    active = state["active"]
    active = active[state["infected_at"].index_select(0, active - world.begin) < noise.step]
    alone = world.isolating(active, state, action, noise)
    at_home = not world.disease.isolation_at_home
    cut: list[Tensor] = [active[:0]]
    kept: list[Tensor] = [active[:0]]
    for met in contacts(world.population, world.disease, active[~alone], noise):
        hits = _infected(world, state, action, noise, met)
        (kept if at_home and met.layer == "household" else cut).append(hits)
    if at_home:
        for met in contacts(world.population, world.disease, active[alone], noise):
            if met.layer != "household":
                break
            kept.append(_infected(world, state, action, noise, met))
    return torch.cat(cut), torch.cat(kept)


def _infected(world: World, state: State, action: Action, noise: Noise, met: Contacts) -> Tensor:
    """Return the targets of the contacts that would infect a susceptible agent."""
    since = noise.step - state["infected_at"].index_select(0, met.source - world.begin).to(torch.int32)
    age = world.population.age.index_select(0, met.target).to(torch.int32)
    disease = world.disease
    hazard = action["transmission"].detach().double() * disease.layer_weight(met.layer) * disease.hazard
    cell = since * hazard.shape[1] + age
    drawn = noise.random_bits(met.layer, met.source, met.target, index=met.index)
    if met.weight is None:
        chance = thresholds(-torch.expm1(-hazard)).flatten().index_select(0, cell)
    else:
        chance = thresholds(-torch.expm1(-hazard.flatten().index_select(0, cell) * met.weight))
    return met.target[drawn < chance]


def received(world: World, state: State, action: Action, noise: Noise, cut: Tensor, kept: Tensor) -> State:
    """Infect the susceptible agents of this shard among the `emitted` ones that do not isolate, or were met at home."""
    cut = cut[~world.isolating(cut, state, action, noise)]
    hit = torch.cat([cut, kept])
    local = (hit - world.begin).long()
    new = local[state["stage"][local] == SUSCEPTIBLE].unique()
    state["stage"][new] = EXPOSED
    state["infected_at"][new] = noise.step
    agents = (new + world.begin).to(torch.int32)
    return state | {"active": torch.cat([state["active"], agents]), "new_exposed": world.by_borough(agents)}
