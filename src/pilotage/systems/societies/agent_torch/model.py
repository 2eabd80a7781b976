"""What is calibrated in an epidemic, as one module: R of every week, initial infections, alignment of behaviour."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pilotage.systems.societies.agent_torch.archetypes import Alignment, aligned
from pilotage.systems.societies.agent_torch.bounded import Bounded
from pilotage.systems.societies.agent_torch.calibration_network import CalibNN
from pilotage.systems.societies.agent_torch.config import EpidemicConfig
from pilotage.systems.societies.agent_torch.data.epidemic_series import features
from pilotage.systems.societies.agent_torch.env import Outcome, Parameters, simulate, weekly
from pilotage.systems.societies.agent_torch.scenario import Asked, World

Note = Callable[[str, str, Any], None]
LOOKED_BACK = 3
"""Last known weeks whose features the network reads."""
CARRIED = 2
"""Last known weeks whose mean R is taken for weeks to come."""
LARGEST_R = 20.0
FIRST_SCALES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.05)
"""Of what is said, how much is done at first; that which fits best is taken."""


class EpidemicModel(nn.Module):
    """Its `values` are one vector: R [known], share infected at first [ages], and scale and shift [sets] if aligned."""

    observed: Tensor

    def __init__(self, config: EpidemicConfig, world: World, asked: Asked, known: int, seed: int) -> None:
        super().__init__()
        self.known, self.ages = known, len(world.population.ages)
        middle = (config.r_low + config.r_high) / 2
        self.network: CalibNN | None = None
        self.transmission: Bounded | None = None
        reported = world.reported[:known]
        if config.parameters == "calibnn":
            self.register_buffer("observed", features(reported, population=world.people)[-LOOKED_BACK:])
            bounds = torch.tensor([config.r_low]), torch.tensor([config.r_high])
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.network = CalibNN(self.observed.shape[1], *bounds)
        else:
            self.transmission = Bounded(torch.full((known,), middle), config.r_low, config.r_high)
        # Ten days of infections are behind day 0; the first week's cases say how many they were.
        share = float(reported[0].sum() / config.reporting / world.people.sum()) * 10 / 7
        first = min(0.05, max(2 / len(world.population), share))
        self.initial = Bounded(torch.full((self.ages,), first), first / 4, 4 * first)
        self.alignment = Alignment(asked.sets) if config.behaviour == "aligned" else None

    def forward(self) -> Tensor:
        """The vector of values."""
        rates = self.network(self.observed, self.known)[:, 0] if self.network is not None else None
        if self.transmission is not None:
            rates = self.transmission()
        assert rates is not None
        parts = [rates, self.initial()]
        if self.alignment is not None:
            parts += [self.alignment.scale(), self.alignment.shift()]
        return torch.cat(parts)

    def named(self, values: Tensor) -> dict[str, Tensor]:
        """The parts of a vector by name."""
        sizes = [self.known, self.ages]
        names = ["transmission", "initial"]
        if self.alignment is not None:
            sets = (len(values) - sum(sizes)) // 2
            sizes, names = [*sizes, sets, sets], [*names, "scale", "shift"]
        return dict(zip(names, values.split(sizes), strict=True))

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest values, for searches; of R the configuration's even with a network."""
        if self.transmission is not None:
            low, high = [self.transmission.low], [self.transmission.high]
        else:
            assert self.network is not None
            low, high = [self.network.low.expand(self.known)], [self.network.high.expand(self.known)]
        rest: list[Bounded] = [self.initial]
        rest += [self.alignment.scale, self.alignment.shift] if self.alignment is not None else []
        return torch.cat([*low, *(part.low for part in rest)]), torch.cat([*high, *(part.high for part in rest)])

    def isolation(self, values: Mapping[str, Tensor], shares: Tensor) -> Tensor:
        """What people do [..., groups], from what was said."""
        if self.alignment is None:
            return shares
        sets = self.alignment.of
        return aligned(shares, values["scale"][sets], values["shift"][sets])


def carried(rates: Tensor, weeks: int, seed: int, *, step: float | None = None) -> Tensor:
    """R of weeks to come: from the mean of the last two known ones on, a random walk of log R. rates [known] -> [weeks]

    step: standard deviation of its steps; None: as those from week to week in the known weeks."""
    logs = rates.log()
    size = logs.diff().square().mean().sqrt() if len(rates) > 1 else torch.tensor(0.0)
    steps = torch.randn(weeks, generator=torch.Generator().manual_seed(seed))
    return (logs[-CARRIED:].exp().mean().log() + (size if step is None else step) * steps.cumsum(0)).exp()


class Epidemic:
    """A world with its behaviour, simulated from a model's values."""

    def __init__(self, config: EpidemicConfig, world: World, asked: Asked, known: int, seed: int = 0) -> None:
        """seed: of a network's first weights."""
        self.config, self.world, self.asked, self.known = config, world, asked, known
        self.model = EpidemicModel(config, world, asked, known, seed)
        self.reported = world.reported[:known]

    def said(self, note: Note | None = None) -> Tensor:
        """[known, groups]: shares that are asked for in the known weeks, which do not depend on a simulation.

        note: told of some questions of the first week and the last (who, prompt, poll)."""
        behaviour = self.asked.behaviour(note)
        groups = int(self.asked.groups.max()) + 1
        if behaviour is None:
            return torch.zeros(self.known, groups)
        return torch.stack([behaviour(week, None) for week in range(self.known)])

    def begin(self, said: Tensor, seed: int) -> None:
        """Begins the alignment at the one scale of FIRST_SCALES whose simulation is nearest to the reported log cases:
        where everybody does what was said, an epidemic may end at once, and then no gradient leads back."""
        if self.model.alignment is None:
            return
        target, off = torch.log1p(self.reported), []
        with torch.no_grad():
            for scale in FIRST_SCALES:
                self.model.alignment.scale.begin(scale)
                cases = self.weekly_cases(self.model(), seed, said)
                off.append(float((torch.log1p(cases) - target).square().mean()))
            self.model.alignment.scale.begin(FIRST_SCALES[off.index(min(off))])

    def weekly_cases(self, values: Tensor, seed: int, said: Tensor) -> Tensor:
        """[known, boroughs], with gradients where values [V] have some."""
        parts = self.model.named(values)
        gradients = values.requires_grad and torch.is_grad_enabled()
        outcome = self._simulated(parts, self.model.isolation(parts, said), self.known, seed, gradients=gradients)
        return weekly(outcome.cases)

    def week_on(self, parts: Mapping[str, Tensor], done: Tensor, seed: int, before: Outcome | None) -> Outcome:
        """One more known week of a simulation, or its first; behaviour done [known, groups]."""
        week = 0 if before is None else len(before.cases) // 7
        later = self._simulated(parts, done, week + 1, seed, before=before)
        return later if before is None else before.then(later)

    def free(
        self,
        values: Tensor,
        seed: int,
        said: Tensor,
        weeks: int,
        *,
        before: Outcome | None = None,
        log_rate: float = 0.0,
        step: float | None = None,
        heard: Callable[[Tensor], Tensor] | None = None,
    ) -> Outcome:
        """So many weeks from the first: known weeks as calibrated, later ones with R that wanders on from the last and
        with people who answer to what the simulation reports.

        before: the known weeks, where they were simulated already. log_rate, step: of the R that wanders on, over the
        calibrated one. heard: what weekly cases [weeks, boroughs] are reported, of those simulated; None: those."""
        parts = {name: part.detach() for name, part in self.model.named(values.detach()).items()}
        done = self.model.isolation(parts, said)
        behaviour = self.asked.behaviour(heard=heard) if weeks > self.known else None
        rates = parts["transmission"]
        later = carried(rates, max(0, weeks - self.known), seed, step=step) * math.exp(log_rate)

        def isolation(week: int, history: Outcome) -> Tensor:
            if week < self.known:
                return done[week]
            if behaviour is None:
                return torch.zeros(said.shape[1])
            return self.model.isolation(parts, behaviour(week, history))

        if before is not None and weeks <= self.known:
            return before
        known = {**parts, "transmission": torch.cat([rates, later]).clamp(max=LARGEST_R)}
        after = self._simulated(known, isolation, weeks, seed, before=before)
        return after if before is None else before.then(after)

    def changed(
        self,
        parts: Mapping[str, Tensor],
        isolation: Tensor,
        seed: int,
        fatality: Tensor | None = None,
    ) -> Outcome:
        """The known weeks with other values or behaviour [known, groups]."""
        return self._simulated(parts, isolation, self.known, seed, fatality=fatality)

    def _simulated(
        self,
        parts: Mapping[str, Tensor],
        isolation: object,
        weeks: int,
        seed: int,
        *,
        gradients: bool = False,
        fatality: Tensor | None = None,
        before: Outcome | None = None,
    ) -> Outcome:
        """Up to the week `weeks`; with `before`, only what comes after it."""
        begun = 0 if before is None else len(before.cases)
        return simulate(
            self.world.population,
            Parameters(
                parts["transmission"],
                isolation,  # type: ignore[arg-type]
                parts["initial"],
                fatality=fatality,
                reporting=torch.tensor(self.config.reporting),
            ),
            days=7 * weeks - begun,
            seed=seed,
            groups=self.asked.groups,
            start=None if before is None else (begun, before),
            differentiable=gradients,
        )
