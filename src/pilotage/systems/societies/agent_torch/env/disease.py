"""The course of an infection: stages, how contagious each day is, whom it hits and whom it kills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from scipy.stats import gamma
from torch import Tensor

from pilotage.core.errors import UsageError

SUSCEPTIBLE, EXPOSED, INFECTED, RECOVERED, DEAD = range(5)
"""Stages S, E, I, R, M."""


def _layer_weights() -> dict[str, float]:
    return {"household": 0.6, "workplace": 0.4, "community": 0.4}


@dataclass(frozen=True)
class Disease:
    """Pathogen in a city; defaults are those of SARS-CoV-2 in AgentTorch (arXiv 2409.10568), six age groups.

    A susceptible agent i has the hazard λ_i = Σ_j R_w · s(age_i) · a(stage_j) · B_ij · G(t − t_j) / Ī(age_i) from the
    infected j that i meets, and is exposed with probability 1 − exp(−λ_i).
    """

    susceptibility: tuple[float, ...] = (0.52, 1.03, 1.03, 1.03, 1.11, 1.43)
    """s by age group: the nine values .35 .69 1.03 ×4 1.27 1.52 1.52 of ten-year groups, averaged over ours."""
    mean_contacts: tuple[float, ...] = (2.0, 3.0, 3.0, 3.0, 3.0, 4.0)
    """Ī by age group: child, adults, elder."""
    exposed_infectiousness: float = 0.33
    """a of E."""
    infected_infectiousness: float = 0.72
    """a of I."""
    generation_mean: float = 5.5
    """Days; mean of the gamma distribution behind G."""
    generation_sd: float = 2.4
    """Days."""
    exposed_days: int = 5
    """From exposure to I."""
    infected_days: int = 5
    """From I to R or M."""
    fatality: tuple[float, ...] = (2e-5, 1.1e-4, 3.7e-4, 1.2e-3, 5.2e-3, 0.04)
    """M by age group: of those who leave I, the share who die. From log10(percent) = −3.27 + .0524 · age (Levin et al.
    2020) at the ages 10, 25, 35, 45, 57 and 74."""
    layers: Mapping[str, float] = field(default_factory=_layer_weights)
    """B of a contact by layer, also of stored networks by name (1 if absent). With two contacts a day at work and two
    in the community, the sum of an adult's weights is about Ī = 3."""
    workplace_contacts: int = 2
    """Colleagues met a day, even; fewer at smaller workplaces."""
    community_contacts: int = 2
    """Strangers of the borough met a day, even."""
    isolation_at_home: bool = True
    """Whether isolation cuts contacts within the household too, as in the paper's equation."""
    decision_days: int = 1
    """Days for which a decision to isolate holds: 1 draws anew every day, 7 keeps it for a week."""

    def __post_init__(self) -> None:
        tables = {
            "susceptibility": self.susceptibility,
            "mean_contacts": self.mean_contacts,
            "fatality": self.fatality,
        }
        lengths = {name: len(table) for name, table in tables.items()}
        if len(set(lengths.values())) != 1:
            raise UsageError(f"tables by age group must have one length, got {lengths}")
        if min(self.susceptibility) < 0 or min(self.mean_contacts) <= 0 or not _are_shares(self.fatality):
            raise UsageError("susceptibility is 0 or more, mean_contacts above 0, fatality a probability, by age group")
        if self.exposed_days < 1 or self.infected_days < 1 or self.days > 100:
            raise UsageError(
                f"E and I last at least a day each and 100 together, got {self.exposed_days}, {self.infected_days}"
            )
        if self.generation_mean <= 0 or self.generation_sd <= 0:
            raise UsageError("generation_mean and generation_sd are days above 0")
        for name, number in (("workplace_contacts", self.workplace_contacts), ("community", self.community_contacts)):
            if number < 0 or number % 2:
                raise UsageError(f"{name}: contacts are mutual and come in pairs: give an even number, got {number}")
        if self.decision_days < 1:
            raise UsageError(f"decision_days is 1 or more, got {self.decision_days}")
        if any(not weight >= 0 for weight in self.layers.values()):
            raise UsageError(f"weights of layers are 0 or more, got {dict(self.layers)}")

    @property
    def days(self) -> int:
        """Return the days from exposure to R or M."""
        return self.exposed_days + self.infected_days

    @cached_property
    def profile(self) -> Tensor:
        """Return a(stage) · G by day since exposure, [days] float64; 0 on day 0. G(τ) = F(τ) − F(τ − 1)."""
        shape = (self.generation_mean / self.generation_sd) ** 2
        cdf = torch.from_numpy(gamma.cdf(range(self.days), shape, scale=self.generation_mean / shape))
        stage = torch.full((self.days,), self.infected_infectiousness, dtype=torch.float64)
        stage[: self.exposed_days] = self.exposed_infectiousness
        return stage * torch.cat([torch.zeros(1, dtype=torch.float64), cdf.diff()])

    @cached_property
    def receptiveness(self) -> Tensor:
        """Return s / Ī, [ages] float64."""
        return torch.tensor(self.susceptibility, dtype=torch.float64) / torch.tensor(self.mean_contacts)

    @cached_property
    def hazard(self) -> Tensor:
        """Return λ of one contact with R = 1 and B = 1, by days since the source's exposure, [days, ages] float64."""
        return self.profile[:, None] * self.receptiveness

    def layer_weight(self, name: str) -> float:
        """Return B of a layer."""
        return self.layers.get(name, 1.0)


@dataclass(frozen=True)
class Diagnostics:
    """Tests and quarantine; defaults are those of AgentTorch."""

    true_positive: float = 0.8
    """Share of positive results among those in E or I."""
    false_positive: float = 0.3
    """Share of positive results among others."""
    compliance: float = 0.95
    """Share of those falling ill who take a test."""
    screening: float = 0.0
    """Share of all people tested on any day, ill or not."""
    delay: int = 3
    """Days from test to result."""
    quarantine_start: float = 0.7
    """Share of those with a positive result who go into quarantine."""
    quarantine_break: float = 0.1
    """Share of those in quarantine who leave it on a day."""
    quarantine_days: int = 12

    def __post_init__(self) -> None:
        shares = {name: value for name, value in vars(self).items() if name not in ("delay", "quarantine_days")}
        if not _are_shares(tuple(shares.values())):
            raise UsageError(f"probabilities of testing and quarantine are 0 to 1, got {shares}")
        if self.delay < 0 or self.quarantine_days < 0:
            raise UsageError(f"days are 0 or more, got {self.delay} and {self.quarantine_days}")


def _are_shares(table: tuple[float, ...]) -> bool:
    return all(0 <= share <= 1 for share in table)
