"""Differentiable version of `epidemic`: same draws and values, with gradients.

The draws are those of the plain substeps, so that values are the same numbers. Beside the discrete state stands a
relaxed one: for every agent, whether it is susceptible and whether it was exposed on each of the last days, as floats
whose values are 0 and 1 and whose gradients are those of probabilities. Tomorrow's probabilities depend on them, so
gradients pass from day to day.

Which gradient a draw has is the choice of an estimator (`objectives.discrete_gradients`):

* left: through what happened, as it might not have happened. Only those who were ever infected carry gradients, which
  makes it cheap; an agent whose infection is taken away may be infected later from outside the household.
* straight_through: through what might have happened to every agent. Households make it far too large: an absent
  disease passes back and forth between their members.
* smoothed: the mean of left and right perturbations. Too small, since most agents are not at risk.
* score: no path at all, only the log-probability of what was drawn.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from pilotage.core.errors import UsageError
from pilotage.objectives import discrete_gradients
from pilotage.systems.societies.agent_torch.env.contacts import contacts
from pilotage.systems.societies.agent_torch.env.infection import died, infect, initial_days, progress
from pilotage.systems.societies.agent_torch.env.noise import Noise, thresholds
from pilotage.systems.societies.agent_torch.env.substeps import Action, State, Substep
from pilotage.systems.societies.agent_torch.env.world import World

Estimator = Literal["left", "straight_through", "smoothed", "score"]
_SLOPES = {"left": discrete_gradients.left_bernoulli, "smoothed": discrete_gradients.smoothed_bernoulli}


class Relaxation:
    """Relaxation that makes a state differentiable, with the substeps that keep it so.

    Relaxed columns hold the agents `present` [n] (ids): all agents, or with "left" those ever infected.

    Args:
        world: the whole population.
        estimator: see the module.
        cross_day: whether gradients pass from day to day; the authors' code has earlier days constant.
        recompute: whether contacts and probabilities are made again in the backward pass instead of being kept.

    Raises:
        UsageError: the estimator is unknown, or the world is a shard.
    """

    def __init__(self, world: World, estimator: Estimator, *, cross_day: bool, recompute: bool) -> None:
        if estimator not in get_args(Estimator):
            raise UsageError(f"the estimator is one of {', '.join(get_args(Estimator))}; got {estimator!r}")
        if estimator == "score" and world.disease.decision_days > 1:
            raise UsageError("the score function needs a decision a day: set decision_days=1, or another estimator")
        if len(world) != len(world.population):
            raise UsageError("gradients need the whole population in one process; use shards without them")
        self._world, self._estimator = world, estimator
        self._cross_day, self._recompute = cross_day, recompute
        self._receptive = world.disease.receptiveness.float()
        self._profile = world.disease.profile.tolist()
        self._progress, self._infect = progress(world), infect(world)
        self._fatality = torch.tensor(world.disease.fatality)

    def substeps(self) -> dict[str, Substep]:
        """Return the substeps that replace those of the same names."""
        return {"progress": self.progress, "infect": self.infect}

    def start(self, state: State, initial: Tensor, noise: Noise) -> State:
        """Return the initial state with its relaxed part; `initial` [ages]."""
        agents = self._world.owned()
        present = state["active"] if self._estimator == "left" else agents
        hard = (state["stage"] != 0).float()[present.long()]
        ill, log_p = self._drawn(hard, torch.ones_like(hard), initial.float().index_select(0, self._age(present)))
        since = initial_days(self._world, present, noise)
        relaxed = {f"exposed@{day % self._span}": ill * (since == day) for day in range(-self._span, 0)}
        slot = torch.full((len(agents),), -1, dtype=torch.int32)
        slot[present.long()] = torch.arange(len(present), dtype=torch.int32)
        mine = {"present": present, "slot": slot, "susceptible": 1 - ill, "log_probability": log_p}
        return state | relaxed | mine

    def progress(self, state: State, action: Action, noise: Noise) -> State:
        """Do the substep `progress` with counts that have gradients."""
        present = state["present"]
        leaves = state["infected_at"].index_select(0, present) == noise.step - self._span
        state = self._progress(state, action, noise)
        fatality = action.get("fatality", self._fatality)
        dies = torch.zeros(len(present))
        dies[leaves] = died(self._world, present[leaves], thresholds(fatality), noise).float()
        chance = fatality.float().index_select(0, self._age(present))
        deaths, log_p = self._drawn(dies, self._exposed(state, noise.step - self._span), chance, through=True)
        return state | {
            "new_cases": self._by_borough(present, self._exposed(state, noise.step - self._world.disease.exposed_days)),
            "new_deaths": self._by_borough(present, deaths),
            "log_probability": state["log_probability"] + log_p,
        }

    def infect(self, state: State, action: Action, noise: Noise) -> State:
        """Do the substep `infect` with gradients through the probability of being exposed."""
        carriers, day = state["active"], noise.step
        state = self._infect(state, action, noise)
        state = self._with_arrivals(state, day)
        present = state["present"]
        alone = self._world.isolating(present, state, action, noise)
        free, meets = self._free(alone, state, action, noise)
        contagious = torch.zeros(len(present))
        for since, weight in enumerate(self._profile):
            contagious = contagious + weight * self._exposed(state, day - since) if since and weight else contagious
        susceptible = state["susceptible"]
        if not self._cross_day:
            contagious, susceptible = contagious.detach(), susceptible.detach()
        # Not an argument: the backward pass may find later arrivals in it, which `_chances` passes over.
        chances = partial(self._chances, state["slot"])
        arguments = (present, contagious, free, meets, action["transmission"], noise)
        if self._recompute:
            chance, again = checkpoint(chances, *arguments, use_reentrant=False)
        else:
            chance, again = chances(*arguments)
        hard = (state["infected_at"].index_select(0, present) == day).float()
        exposed, log_p = self._drawn(hard, susceptible, chance, again=again)
        if self._estimator == "score":
            log_p = log_p + self._decisions(carriers, state, action, noise)
        return state | {
            "susceptible": state["susceptible"] - exposed,
            f"exposed@{day % self._span}": exposed,
            "new_exposed": self._by_borough(present, exposed),
            "log_probability": state["log_probability"] + log_p,
        }

    def _with_arrivals(self, state: State, day: int) -> State:
        """Add the agents infected today for the first time to the present ones."""
        if self._estimator != "left":
            return state
        new = state["active"]
        new = new[state["infected_at"].index_select(0, new) == day]
        count = len(state["present"])
        state["slot"][new.long()] = torch.arange(count, count + len(new), dtype=torch.int32)
        return state | {
            "present": torch.cat([state["present"], new]),
            "susceptible": pad(state["susceptible"], (0, len(new)), value=1.0),
            # Today's column is written below; new agents were not exposed before.
            f"exposed@{day % self._span}": torch.zeros(0),
        }

    def _chances(
        self,
        slot: Tensor,
        present: Tensor,
        contagious: Tensor,
        free: Tensor,
        meets: Tensor,
        transmission: Tensor,
        noise: Noise,
    ) -> tuple[Tensor, Tensor]:
        """Return the probability of being exposed today if susceptible, and the same without the household.

        free, meets [n]: 1 − isolate of the agent when contagious and when susceptible.
        """
        world = self._world
        home = torch.zeros_like(contagious)
        outside = torch.zeros_like(contagious)
        for met in contacts(world.population, world.disease, present, noise):
            source, target = slot.index_select(0, met.source), slot.index_select(0, met.target)
            both = (target >= 0) & (target < len(present))
            source, target = source[both], target[both]
            at_home = met.layer == "household"
            cut = not at_home or world.disease.isolation_at_home
            passed = (contagious * free if cut else contagious).index_select(0, source)
            passed = passed * world.disease.layer_weight(met.layer)
            passed = passed if met.weight is None else passed * met.weight[both]
            arrived = torch.zeros_like(contagious).index_add(0, target, passed)
            home, outside = (home + arrived, outside) if at_home else (home, outside + arrived)
        strength = transmission.float() * self._receptive.index_select(0, self._age(present))
        spared = torch.exp(-strength * outside)
        again = (meets * (1 - spared)).detach()
        spared_at_home = torch.exp(-strength * home)
        if world.disease.isolation_at_home:
            return meets * (1 - spared_at_home * spared), again
        return 1 - spared_at_home * (1 - meets * (1 - spared)), again

    def _free(self, alone: Tensor, state: State, action: Action, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return 1 − isolate [n] of the contagious and of the susceptible, with the gradient of the probability.

        Agents in quarantine have no gradient; for the susceptible the score function needs the probability.
        """
        present = state["present"]
        chance = action["isolation"].float().index_select(0, self._world.group.index_select(0, present).to(torch.int32))
        if "quarantined_until" in state:
            inside = state["quarantined_until"].index_select(0, present) > noise.step
            chance = chance * ~inside if self._estimator != "score" else torch.where(inside, 1.0, chance)
        if self._estimator == "score":
            return 1 - alone.float(), 1 - chance
        if self._estimator == "left":
            free = discrete_gradients.left_bernoulli(1 - alone.float(), 1 - chance)
        else:
            free = 1 - discrete_gradients.straight_through(alone.float(), chance)
        return free, free

    def _decisions(self, carriers: Tensor, state: State, action: Action, noise: Noise) -> Tensor:
        """Return the log-probability of the decisions of the contagious; `_chances` has that of the susceptible."""
        if "quarantined_until" in state:
            carriers = carriers[state["quarantined_until"].index_select(0, carriers) <= noise.step]
        alone = self._world.isolating(carriers, state, action, noise)
        group = self._world.group.index_select(0, carriers).to(torch.int32)
        chance = action["isolation"].float().index_select(0, group)
        return discrete_gradients.bernoulli_log_probability(alone.float(), chance).sum()

    def _drawn(
        self, hard: Tensor, at_risk: Tensor, chance: Tensor, *, again: Tensor | None = None, through: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return draws [n] with mean at_risk · chance and gradients, and (score function) their log-probability.

        again: with "left", the chance of a later infection for an agent whose earlier infection is taken away.
        through: the mean of the draw, not the draw, is what `at_risk` passes on.
        """
        if self._estimator == "score":
            there = at_risk.detach() > 0
            return hard, discrete_gradients.bernoulli_log_probability(hard[there], chance[there]).sum()
        slope = chance
        if self._estimator in _SLOPES and not through:
            slope = _SLOPES[self._estimator](hard, chance)
            slope = slope - slope.detach() + chance.detach()
        mean = at_risk * slope
        if self._estimator == "left" and again is not None:
            mean = at_risk.detach() * slope + (at_risk - at_risk.detach()) * again
        return discrete_gradients.straight_through(hard, mean), torch.zeros(())

    @property
    def _span(self) -> int:
        """Number of past days in the state."""
        return self._world.disease.days

    def _age(self, agents: Tensor) -> Tensor:
        return self._world.population.age.index_select(0, agents).to(torch.int32)

    def _exposed(self, state: State, day: int) -> Tensor:
        """Return [n] float: whether exposed on that day, one of the last `disease.days`."""
        column = state[f"exposed@{day % self._span}"]
        return pad(column, (0, len(state["present"]) - len(column)))

    def _by_borough(self, agents: Tensor, values: Tensor) -> Tensor:
        where = self._world.population.borough.index_select(0, agents).to(torch.int32)
        return torch.zeros(len(self._world.population.boroughs)).index_add(0, where, values)
