"""Epidemics: a day of a full city, cost by size and by day, and the same epidemic with an object per agent (mesa).

mesa is no dependency; without it its lines are not measured."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.child import Turn
from benchmarks.harness import Figure, Side, Target, alternate, column, figure

NAME = "population"
TARGETS = {
    "full city, a day": Target(2.5 / 1.5),
    "memory, full city": Target(1.0),
    "linear": Target(1.5, at_most=True),
    "flat": Target(1.3, at_most=True),
}
CITY = 8_336_817
MEMORY = 3 * 1024
"""MiB that the full city may take without gradients."""
STRENGTH, SHARE = 3.3, 0.004
"""R, and the share infected on day 0: about as many are ill on every day of the first months."""
CONTACTS = 6


def ours(turn: Turn, *, agents: int, days: int, skip: int = 0, differentiable: bool = False) -> None:
    """A repetition simulates `days` days; the first also those before `skip`."""
    import torch

    from pilotage.systems.societies.agent_torch.env import Parameters, simulate, tiny_city

    city = tiny_city(agents)
    weeks = (skip + days) // 7 + 1
    parameters = Parameters(
        torch.full((weeks,), STRENGTH, requires_grad=differentiable), torch.full((6,), 0.1), torch.full((6,), SHARE)
    )
    before = (skip, simulate(city, parameters, days=skip, seed=0)) if skip else None

    def repetition() -> dict[str, float]:
        outcome = simulate(city, parameters, days=days, seed=0, start=before, differentiable=differentiable)
        if differentiable:
            outcome.cases.sum().backward()
        return {"days": days, "ill": float(len(outcome.state["active"])), "exposed": float(outcome.exposed.sum())}

    turn.serve(repetition)


def plain(turn: Turn, *, agents: int, days: int) -> None:
    """What one writes first: every agent meets its six by rolled index on every day, whoever is ill."""
    import torch

    from pilotage.systems.societies.agent_torch.env import Disease, tiny_city

    age = tiny_city(agents).age.long()
    disease = Disease()
    profile, receptive = disease.profile.float(), disease.receptiveness.float()[age]
    generator = torch.Generator().manual_seed(0)
    infected_at = torch.full((agents,), -1000, dtype=torch.int16)
    chosen = torch.rand(agents, generator=generator) < SHARE
    infected_at[chosen] = torch.randint(-9, 0, (int(chosen.sum()),), generator=generator, dtype=torch.int16)

    def day(today: int) -> int:
        since = today - infected_at
        ill = (since > 0) & (since < disease.days)
        sent = torch.where(ill, profile[since.clamp(0, disease.days - 1).long()], torch.zeros(()))
        sent = torch.where(torch.rand(agents, generator=generator) < 0.1, torch.zeros(()), sent)
        arrived = torch.zeros(agents)
        for _ in range(CONTACTS):
            arrived += 0.45 * sent.roll(int(torch.randint(1, agents, (1,), generator=generator)))
        chance = -torch.expm1(-STRENGTH * receptive * arrived)
        new = (torch.rand(agents, generator=generator) < 0.9 * chance) & (infected_at == -1000)
        infected_at[new] = today
        return int(new.sum())

    def repetition() -> dict[str, float]:
        infected_at[infected_at >= 0] = -1000
        return {"days": days, "exposed": float(sum(day(today) for today in range(days)))}

    turn.serve(repetition)


def with_mesa(turn: Turn, *, agents: int, days: int) -> None:
    """The same rules with an object per agent: only the ill act, as in ours."""
    import random

    import mesa

    from pilotage.systems.societies.agent_torch.env import Disease, tiny_city

    disease, town = Disease(), tiny_city(agents)
    profile = disease.profile.tolist()
    receptive = disease.receptiveness.tolist()
    assert town.workplaces is not None
    home, place = town.households.of.tolist(), town.workplaces.of.tolist()

    class Person(mesa.Agent):
        def __init__(self, model: Any, index: int) -> None:
            super().__init__(model)
            self.age, self.borough = int(town.age[index]), int(town.borough[index])
            self.home, self.place = home[index], place[index]
            self.infected_at: int | None = None

        def step(self) -> None:
            if self.infected_at is None:
                return
            since = self.model.day - self.infected_at
            if not 0 < since < disease.days or self.model.draw() < 0.1:
                return
            draw, model = self.model.draw, self.model
            for other in model.homes[self.home]:
                self.meet(other, 0.6, since, draw)
            if self.place >= 0:
                for _ in range(2):
                    self.meet(model.chance.choice(model.places[self.place]), 0.4, since, draw)
            for _ in range(2):
                self.meet(model.chance.choice(model.boroughs[self.borough]), 0.4, since, draw)

        def meet(self, other: Any, weight: float, since: int, draw: Any) -> None:
            hazard = STRENGTH * weight * profile[since] * receptive[other.age]
            if other.infected_at is None and draw() < hazard and draw() >= 0.1:
                other.infected_at = self.model.day

    class City(mesa.Model):
        def __init__(self) -> None:
            super().__init__(seed=0)
            self.day, self.chance = 0, random.Random(0)
            self.draw = self.chance.random
            self.homes: dict[int, list[Any]] = {}
            self.places: dict[int, list[Any]] = {}
            self.boroughs: dict[int, list[Any]] = {}
            for index in range(agents):
                person = Person(self, index)
                self.homes.setdefault(person.home, []).append(person)
                self.places.setdefault(person.place, []).append(person)
                self.boroughs.setdefault(person.borough, []).append(person)
                if self.draw() < SHARE:
                    person.infected_at = -self.chance.randint(1, 9)

        def step(self) -> None:
            self.agents.shuffle_do("step")
            self.day += 1

    city = City()

    def repetition() -> dict[str, float]:
        for person in city.agents:
            if person.infected_at is not None and person.infected_at >= 0:
                person.infected_at = None
        city.day = 0
        for _ in range(days):
            city.step()
        return {"days": days, "exposed": float(sum((p.infected_at or -1) >= 0 for p in city.agents))}

    turn.serve(repetition)


def daily(readings: list[dict[str, float]]) -> list[float]:
    """Seconds a day of every round."""
    return [reading["seconds"] / reading["days"] for reading in readings]


def measure(quick: bool) -> Iterator[Figure]:
    """Seconds of a simulated day, one thread."""
    full, days, rounds = (20_000, 2, 2) if quick else (CITY, 3, 3)
    mine, first = alternate(
        [
            Side("benchmarks.population:ours", {"agents": full, "days": days}),
            Side("benchmarks.population:plain", {"agents": full, "days": days}),
        ],
        threads=1,
        rounds=rounds,
    )
    ill = f"{full:,} agents, {mine[0]['ill']:,.0f} of them ill"
    yield figure(
        f"{NAME}/full city, a day/1 thread",
        daily(mine),
        daily(first),
        peer_version="a plain dense version",
        note=f"seconds; {ill}",
    )
    yield figure(
        f"{NAME}/memory, full city/1 thread",
        [max(column(mine, "peak_mib"))],
        [float(MEMORY)],
        peer_version="the bound",
        note="MiB resident at most, imports and the making of the city included",
    )
    yield from by_size(quick)
    yield from by_day(quick)
    yield from against_mesa(quick)


def by_size(quick: bool) -> Iterator[Figure]:
    """Cost of an agent-day in a large city over that in a small one."""
    small, large = (5_000, 20_000) if quick else (100_000, CITY)
    few, many = alternate(
        [Side("benchmarks.population:ours", {"agents": size, "days": 10}) for size in (small, large)],
        threads=1,
        rounds=2 if quick else 3,
    )
    yield figure(
        f"{NAME}/linear/{small:,} to {large:,}",
        [seconds / small * 1e9 for seconds in daily(few)],
        [seconds / large * 1e9 for seconds in daily(many)],
        peer_version=f"ours at {large:,}",
        note="ns per agent-day",
    )


def by_day(quick: bool) -> Iterator[Figure]:
    """Cost of a late day over that of an early one, per person who is ill."""
    agents, late = (5_000, 14) if quick else (1_000_000, 120)
    early_side, late_side = alternate(
        [Side("benchmarks.population:ours", {"agents": agents, "days": 10, "skip": skip}) for skip in (0, late)],
        threads=1,
        rounds=2 if quick else 3,
    )
    yield figure(
        f"{NAME}/flat/day {late} over day 0",
        [1e6 * s / r["ill"] for s, r in zip(daily(early_side), early_side, strict=True)],
        [1e6 * s / r["ill"] for s, r in zip(daily(late_side), late_side, strict=True)],
        peer_version=f"ours from day {late}",
        note=f"µs a day and person ill, {agents:,} agents",
    )


def against_mesa(quick: bool) -> Iterator[Figure]:
    """The same rules with an object per agent."""
    if importlib.util.find_spec("mesa") is None:
        print(f"{NAME}: mesa is not installed, its lines are not measured (pip install mesa)", file=sys.stderr)
        return
    from importlib.metadata import version

    for agents in (2_000,) if quick else (10_000, 100_000):
        settings = {"agents": agents, "days": 2 if quick else 10}
        mine, theirs = alternate(
            [Side("benchmarks.population:ours", settings), Side("benchmarks.population:with_mesa", settings)],
            threads=1,
            rounds=2 if quick else 3,
        )
        yield figure(
            f"{NAME}/mesa/{agents:,} agents",
            daily(mine),
            daily(theirs),
            peer_version=f"mesa {version('mesa')}",
            note=f"seconds a day; {mine[0]['exposed']:.0f} and {theirs[0]['exposed']:.0f} infections in "
            f"{settings['days']} days",
        )
