"""Simulation of a population in shards, each with a part of the agents.

Every shard has the static facts of all agents, and the state of its own. On a day every shard follows its infected and
sends the agents that they would infect to the shards of these, which decide. Since noise belongs to agents and not to
processes, the results are the same numbers as in one process, for any cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.env.disease import Diagnostics, Disease
from pilotage.systems.societies.agent_torch.env.epidemic import SUBSTEPS, OutcomeRecorder
from pilotage.systems.societies.agent_torch.env.infection import emitted, initial_state, received
from pilotage.systems.societies.agent_torch.env.noise import Noise
from pilotage.systems.societies.agent_torch.env.parameters import Actions, Outcome, Parameters
from pilotage.systems.societies.agent_torch.env.people import Population
from pilotage.systems.societies.agent_torch.env.substeps import Action, State, Substep, made
from pilotage.systems.societies.agent_torch.env.world import World

Facts = tuple[World, Sequence[int], Sequence[str | Substep]]
"""The whole world; cuts: the first agents of all shards, then N; substeps of a day before `infect`."""
Hits = tuple[Tensor, Tensor]
"""Ids of agents that contacts would infect: by contacts that isolation prevents, by others."""


class Shard:
    """Shard of the agents, with their state."""

    def __init__(self, world: World, cuts: Sequence[int], before: Sequence[str | Substep], index: int) -> None:
        """Set up shard `index`; the other arguments are those of `Facts`."""
        self._world = replace(world, begin=cuts[index], end=cuts[index + 1])
        self._edges = torch.tensor(list(cuts[1:-1]), dtype=torch.int32)
        self._before = made(before, self._world)
        self._state: State = {}

    def start(self, initial: Tensor, seed: int) -> None:
        """Set the initial state; `initial` [ages]."""
        self._state = initial_state(self._world, initial, Noise(seed, -1))

    def emit(self, action: Action, day: int, seed: int) -> list[Hits]:
        """Do the substeps before infection, and return the agents that the shard's infected would infect, by shard."""
        noise = Noise(seed, day)
        for substep in self._before:
            self._state = substep(self._state, action, noise)
        cut, kept = (self._sorted(hits) for hits in emitted(self._world, self._state, action, noise))
        return list(zip(cut, kept, strict=True))

    def receive(self, action: Action, day: int, seed: int, hits: Sequence[Hits]) -> dict[str, Tensor]:
        """Infect the shard's agents and return the counts of the day [boroughs]."""
        cut, kept = (torch.cat(column) for column in zip(*hits, strict=True))
        self._state = received(self._world, self._state, action, Noise(seed, day), cut, kept)
        return _counts(self._state)

    def state(self) -> State:
        """Return the state of the shard's agents."""
        return self._state

    def _sorted(self, hits: Tensor) -> list[Tensor]:
        owner = torch.bucketize(hits, self._edges, right=True)
        return [hits[owner == index] for index in range(len(self._edges) + 1)]


class LocalShards:
    """Workers that run all shards in this process, one after the other."""

    def __init__(self, facts: Facts, count: int) -> None:
        self._shards = [Shard(*facts, index) for index in range(count)]

    def call(self, method: str, arguments: Sequence[Sequence[Any]]) -> list[Any]:
        """Call `method` of every shard, with its own arguments; return the results in the order of the shards."""
        return [getattr(shard, method)(*given) for shard, given in zip(self._shards, arguments, strict=True)]

    def close(self) -> None:
        """Do nothing."""


class RayShards:
    """Workers as Ray actors, one per shard; the population is put into the object store once."""

    def __init__(self, facts: Facts, count: int) -> None:
        """Start the actors. Raises UsageError where Ray is missing."""
        try:
            import ray
        except ImportError as error:
            raise UsageError("shards on Ray need the extra `ray`: pip install 'pilotage[ray]'") from error
        self._ray, self._mine = ray, not ray.is_initialized()
        if self._mine:
            ray.init(include_dashboard=False, log_to_driver=False)
        actor: Any = ray.remote(Shard)
        stored = [ray.put(fact) for fact in facts]
        self._shards = [actor.options(num_cpus=1).remote(*stored, index) for index in range(count)]

    def call(self, method: str, arguments: Sequence[Sequence[Any]]) -> list[Any]:
        """Call as `LocalShards.call`, in parallel."""
        calls = [getattr(shard, method).remote(*given) for shard, given in zip(self._shards, arguments, strict=True)]
        return self._ray.get(calls)

    def close(self) -> None:
        """End the actors, and Ray if it was started here."""
        for shard in self._shards:
            self._ray.kill(shard)
        if self._mine:
            self._ray.shutdown()


def cut_evenly(agents: int, shards: int) -> list[int]:
    """Return the first agents of the shards, then `agents`. Raises UsageError for more shards than agents."""
    if not 1 <= shards <= agents:
        raise UsageError(f"{shards} shards of {agents} agents were asked for; give 1 to {agents}")
    return [agents * index // shards for index in range(shards + 1)]


def simulate_in_shards(
    population: Population,
    parameters: Parameters,
    *,
    days: int,
    seed: int,
    shards: int,
    disease: Disease | None = None,
    groups: Tensor | None = None,
    diagnostics: Diagnostics | None = None,
    substeps: Sequence[str | Substep] = SUBSTEPS,
    workers: Callable[[Facts, int], LocalShards | RayShards] = LocalShards,
) -> Outcome:
    """Simulate an epidemic without gradients in shards, with the same numbers as `simulate`.

    Further substeps are given the agents of one shard.

    Args:
        population: as in `simulate`.
        parameters: as in `simulate`.
        days: as in `simulate`.
        seed: as in `simulate`.
        shards: number of shards.
        disease: as in `simulate`.
        groups: as in `simulate`.
        diagnostics: as in `simulate`.
        substeps: as in `simulate`; the last one is `infect`.
        workers: LocalShards, or RayShards for a process each, on one machine or several.

    Raises:
        UsageError: as `simulate`, and unless `infect` is the last substep.
    """
    if days < 1:
        raise UsageError(f"at least one day is simulated, got {days}")
    if not substeps or substeps[-1] != "infect":
        raise UsageError(f"in shards the last substep is infect, the only one that looks at others; got {substeps}")
    groups = population.age if groups is None else groups
    world = World(population, disease or Disease(), groups, diagnostics or Diagnostics())
    actions = Actions(parameters, world, days)
    initial = parameters.initial_shares(len(population.ages)).detach()
    cuts = cut_evenly(len(population), shards)
    running = workers((world, cuts, tuple(substeps[:-1])), shards)
    try:
        running.call("start", [(initial, seed)] * shards)
        record = OutcomeRecorder(world, {})
        for day in range(days):
            action = {name: value.detach() for name, value in record.act(actions, day).items()}
            sent = running.call("emit", [(action, day, seed)] * shards)
            counts = running.call("receive", [(action, day, seed, list(hits)) for hits in zip(*sent, strict=True)])
            total = {name: torch.stack([count[name] for count in counts]).sum(0) for name in counts[0]}
            record.add(total)
        states = running.call("state", [()] * shards)
    finally:
        running.close()
    joined = {name: torch.cat([state[name] for state in states]) for name in states[0] if name not in total}
    return replace(record.outcome(), state=joined | total)


def _counts(state: State) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name.startswith("new_")}
