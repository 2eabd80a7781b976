"""What is calibrated in an epidemic, as one module: R of every week, initial infections, alignment of behaviour."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pilotage.systems.societies.agent_torch.archetypes import Alignment, aligned
from pilotage.systems.societies.agent_torch.bounded import Bounded
from pilotage.systems.societies.agent_torch.calibration_network import CalibNN
from pilotage.systems.societies.agent_torch.config import EpidemicConfig
from pilotage.systems.societies.agent_torch.data.epidemic_series import features
from pilotage.systems.societies.agent_torch.env import Outcome, Parameters, simulate, weekly
from pilotage.systems.societies.agent_torch.scenario import LLMBehaviour, LogPoll, Scenario

FEATURE_WEEKS = 3
"""Number of last observed weeks whose features the network reads."""
EXTRAPOLATED_FROM = 2
"""Number of last observed weeks whose mean R is the start of R in later weeks."""
LARGEST_R = 20.0
FIRST_SCALES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.05)
"""Scales of the alignment that are tried before the first update."""


class EpidemicModel(nn.Module):
    """Module with all calibrated values, whose output is one vector.

    The vector is R [observed weeks], the share infected at first [ages], and with alignment a scale and a shift [sets].
    """

    observed: Tensor

    def __init__(
        self, config: EpidemicConfig, scenario: Scenario, behaviour: LLMBehaviour, observed_weeks: int, seed: int
    ) -> None:
        super().__init__()
        self.observed_weeks, self.ages = observed_weeks, len(scenario.population.ages)
        middle = (config.r_low + config.r_high) / 2
        self.network: CalibNN | None = None
        self.transmission: Bounded | None = None
        reported = scenario.reported[:observed_weeks]
        if config.parameters == "calibnn":
            self.register_buffer("observed", features(reported, population=scenario.people)[-FEATURE_WEEKS:])
            bounds = torch.tensor([config.r_low]), torch.tensor([config.r_high])
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.network = CalibNN(self.observed.shape[1], *bounds)
        else:
            self.transmission = Bounded(torch.full((observed_weeks,), middle), config.r_low, config.r_high)
        # Agents ill on day 0 were infected in the ten days before; the first week's cases estimate their number.
        share = float(reported[0].sum() / config.reporting / scenario.people.sum()) * 10 / 7
        first = min(0.05, max(2 / len(scenario.population), share))
        self.initial = Bounded(torch.full((self.ages,), first), first / 4, 4 * first)
        self.alignment = Alignment(behaviour.sets) if config.behaviour == "aligned" else None

    def forward(self) -> Tensor:
        """Return the vector of values."""
        rates = self.network(self.observed, self.observed_weeks)[:, 0] if self.network is not None else None
        if self.transmission is not None:
            rates = self.transmission()
        assert rates is not None
        parts = [rates, self.initial()]
        if self.alignment is not None:
            parts += [self.alignment.scale(), self.alignment.shift()]
        return torch.cat(parts)

    def split(self, values: Tensor) -> dict[str, Tensor]:
        """Return the parts of a vector of values by name."""
        sizes = [self.observed_weeks, self.ages]
        names = ["transmission", "initial"]
        if self.alignment is not None:
            sets = (len(values) - sum(sizes)) // 2
            sizes, names = [*sizes, sets, sets], [*names, "scale", "shift"]
        return dict(zip(names, values.split(sizes), strict=True))

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the lowest and the highest values, for searches; with a network those of R from the configuration."""
        if self.transmission is not None:
            low, high = [self.transmission.low], [self.transmission.high]
        else:
            assert self.network is not None
            weeks = self.observed_weeks
            low, high = [self.network.low.expand(weeks)], [self.network.high.expand(weeks)]
        rest: list[Bounded] = [self.initial]
        rest += [self.alignment.scale, self.alignment.shift] if self.alignment is not None else []
        return torch.cat([*low, *(part.low for part in rest)]), torch.cat([*high, *(part.high for part in rest)])

    def isolation(self, values: Mapping[str, Tensor], stated: Tensor) -> Tensor:
        """Return the probability of isolation [..., groups] from the stated one; aligned where alignment is on."""
        if self.alignment is None:
            return stated
        sets = self.alignment.of
        return aligned(stated, values["scale"][sets], values["shift"][sets])


def extrapolate_r(rates: Tensor, weeks: int, seed: int, *, drift: float | None = None) -> Tensor:
    """Extrapolate R by a random walk of log R that starts at the mean of the last two observed weeks.

    Args:
        rates: R of the observed weeks, [observed weeks].
        weeks: number of weeks to extrapolate.
        seed: seed of the walk.
        drift: standard deviation of its steps; None: that of the changes between observed weeks.

    Returns:
        R [weeks].
    """
    logs = rates.log()
    size = logs.diff().square().mean().sqrt() if len(rates) > 1 else torch.tensor(0.0)
    steps = torch.randn(weeks, generator=torch.Generator().manual_seed(seed))
    start = logs[-EXTRAPOLATED_FROM:].exp().mean().log()
    return (start + (size if drift is None else drift) * steps.cumsum(0)).exp()


class Epidemic:
    """Simulator of a scenario with its behaviour, from the values of a model.

    Args:
        config: the configuration.
        scenario: the city and its reported cases.
        behaviour: answers to who isolates.
        observed_weeks: number of weeks that may be seen.
        seed: seed of a network's first weights.
    """

    def __init__(
        self, config: EpidemicConfig, scenario: Scenario, behaviour: LLMBehaviour, observed_weeks: int, seed: int = 0
    ) -> None:
        self.config, self.scenario, self.behaviour = config, scenario, behaviour
        self.observed_weeks = observed_weeks
        self.model = EpidemicModel(config, scenario, behaviour, observed_weeks, seed)
        self.reported = scenario.reported[:observed_weeks]

    def ask(self, log_poll: LogPoll | None = None) -> Tensor:
        """Return the stated probabilities [observed weeks, groups], which do not depend on a simulation.

        log_poll: called with (who, prompt, poll) for some questions of each week.
        """
        decide = self.behaviour.build(log_poll)
        groups = int(self.behaviour.groups.max()) + 1
        if decide is None:
            return torch.zeros(self.observed_weeks, groups)
        return torch.stack([decide(week, None) for week in range(self.observed_weeks)])

    def initialise_alignment(self, stated: Tensor, seed: int) -> None:
        """Set the alignment's scale to the one of FIRST_SCALES whose simulation is nearest to the reported log cases.

        If all agents do what they state, an epidemic may end at once, and no gradient would lead back.
        """
        if self.model.alignment is None:
            return
        target, off = torch.log1p(self.reported), []
        with torch.no_grad():
            for scale in FIRST_SCALES:
                self.model.alignment.scale.fill(scale)
                cases = self.weekly_cases(self.model(), seed, stated)
                off.append(float((torch.log1p(cases) - target).square().mean()))
            self.model.alignment.scale.fill(FIRST_SCALES[off.index(min(off))])

    def weekly_cases(self, values: Tensor, seed: int, stated: Tensor) -> Tensor:
        """Simulate the cases of the observed weeks.

        Args:
            values: [values]; gradients reach them where they require some.
            seed: seed of the noise.
            stated: stated probabilities [observed weeks, groups].

        Returns:
            Cases [observed weeks, boroughs].
        """
        parts = self.model.split(values)
        gradients = values.requires_grad and torch.is_grad_enabled()
        done = self.model.isolation(parts, stated)
        return weekly(self._simulate(parts, done, self.observed_weeks, seed, gradients=gradients).cases)

    def simulate_week(self, parts: Mapping[str, Tensor], done: Tensor, seed: int, before: Outcome | None) -> Outcome:
        """Simulate one more observed week, or the first one.

        Args:
            parts: values by name.
            done: probability of isolation [observed weeks, groups].
            seed: seed of the week's noise.
            before: the weeks before; None: there are none.

        Returns:
            All weeks up to the new one.
        """
        week = 0 if before is None else len(before.cases) // 7
        later = self._simulate(parts, done, week + 1, seed, before=before)
        return later if before is None else before.then(later)

    def simulate_ahead(
        self,
        values: Tensor,
        seed: int,
        stated: Tensor,
        weeks: int,
        *,
        before: Outcome | None = None,
        log_rate: float = 0.0,
        drift: float | None = None,
        received: Callable[[Tensor], Tensor] | None = None,
    ) -> Outcome:
        """Simulate the observed weeks as calibrated, and later weeks with extrapolated R and behaviour that answers.

        Args:
            values: calibrated values.
            seed: seed of the noise.
            stated: stated probabilities [observed weeks, groups].
            weeks: number of weeks from the first one on.
            before: the observed weeks, where they were simulated already.
            log_rate: logarithm of the later R over the calibrated R.
            drift: see `extrapolate_r`.
            received: from simulated cases [weeks, boroughs] to those that agents hear of; None: the same.
        """
        observed = self.observed_weeks
        parts = {name: part.detach() for name, part in self.model.split(values.detach()).items()}
        done = self.model.isolation(parts, stated)
        decide = self.behaviour.build(received=received) if weeks > observed else None
        rates = parts["transmission"]
        later = extrapolate_r(rates, max(0, weeks - observed), seed, drift=drift) * math.exp(log_rate)

        def isolation(week: int, history: Outcome) -> Tensor:
            if week < observed:
                return done[week]
            if decide is None:
                return torch.zeros(stated.shape[1])
            return self.model.isolation(parts, decide(week, history))

        if before is not None and weeks <= observed:
            return before
        extended = {**parts, "transmission": torch.cat([rates, later]).clamp(max=LARGEST_R)}
        after = self._simulate(extended, isolation, weeks, seed, before=before)
        return after if before is None else before.then(after)

    def simulate_observed(
        self, parts: Mapping[str, Tensor], done: Tensor, seed: int, fatality: Tensor | None = None
    ) -> Outcome:
        """Simulate the observed weeks with given values and behaviour.

        Args:
            parts: values by name.
            done: probability of isolation [observed weeks, groups].
            seed: seed of the noise.
            fatality: [ages]; None: the disease's.
        """
        return self._simulate(parts, done, self.observed_weeks, seed, fatality=fatality)

    def _simulate(
        self,
        parts: Mapping[str, Tensor],
        isolation: Tensor | Callable[[int, Outcome], Tensor],
        weeks: int,
        seed: int,
        *,
        gradients: bool = False,
        fatality: Tensor | None = None,
        before: Outcome | None = None,
    ) -> Outcome:
        """Simulate up to week `weeks`; with `before`, return only the days after it."""
        begun = 0 if before is None else len(before.cases)
        return simulate(
            self.scenario.population,
            Parameters(
                parts["transmission"],
                isolation,
                parts["initial"],
                fatality=fatality,
                reporting=torch.tensor(self.config.reporting),
            ),
            days=7 * weeks - begun,
            seed=seed,
            groups=self.behaviour.groups,
            start=None if before is None else (begun, before),
            differentiable=gradients,
        )
