"""Measures of LLM Economist's claims: runs of the game, and populations against the survey."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

QUICK = "--years 3 --tax-year 12 --updates 2"
"""Options added to a command in a quick pass."""
SAMPLE, QUICK_SAMPLE = 5_000, 300
CRITICAL = 1.95
"""Critical value of the Kolmogorov-Smirnov statistic times √n at p = .001."""
HELD_OUT = 5_000
"""Number of survey units with which sampled incomes are compared."""


def played(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return the result of one run of the arm's command."""
    del arm, unit
    command = f"{context.command} {QUICK}" if context.quick else None
    metrics: Mapping[str, float] = context.train(command=command).metrics
    return dict(metrics)


def incomes(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return Kolmogorov-Smirnov distances of incomes sampled from the fit.

    The distances are to the fit itself, and to one half of the survey, drawn by unit: wages of first earners, wages of
    couples, and all earned income.
    """
    del arm
    import torch

    from pilotage.systems.societies.llm_economist.env.population import GB2, ks_distance, read_tax_units

    count = QUICK_SAMPLE if context.quick else SAMPLE
    units = read_tax_units().working()
    generator = torch.Generator().manual_seed(unit)
    survey = units[torch.randperm(len(units), generator=generator)[:HELD_OUT]]
    growth = context.configuration().income_growth
    found = {}
    for who in ("primary", "unit", "earned"):
        sample = GB2().sample(count, generator)
        found[f"distance_to_{who}"] = ks_distance(sample, survey.earnings(who, growth))
        if who == "primary":
            found["distance_to_fit"] = ks_distance(sample, GB2().cdf)
    return {
        **found,
        "follows_the_fit": float(found["distance_to_fit"] * math.sqrt(count) < CRITICAL),
        "near_the_survey": float(found["distance_to_primary"] <= 0.1),
    }


def marginals(arm: str, unit: int, context: Any) -> dict[str, float]:
    """Return the p-value of a χ² test of 400 personas' ages (three groups) and statuses against the survey."""
    del arm
    import numpy as np
    import torch
    from scipy.stats import chisquare

    from pilotage.systems.societies.llm_economist.env.archetypes import make_archetypes
    from pilotage.systems.societies.llm_economist.env.population import population_of, read_tax_units, resample

    units = read_tax_units().working()
    earns = units.columns["wages_primary"] > 0
    units = units[earns.nonzero()[:, 0]]
    generator = torch.Generator().manual_seed(unit)
    growth = context.configuration().income_growth
    people = population_of(resample(units.earnings("primary", growth), 4000, generator))
    made = make_archetypes(people.skill, units, generator, growth=growth, bins=20, personas=20)
    statuses = ("single", "mjoint", "headhh")  # the others are too few for χ²

    def counts(ages: Any, status: Any) -> Any:
        groups = np.digitize(np.asarray(ages), (30, 45))
        names = np.asarray(status)
        return np.array([((groups == g) & (names == s)).sum() for g, s in product(range(3), statuses)])

    drawn = counts([p.age for p in made.personas], [p.status for p in made.personas])
    whole = counts(units.columns["age_head"].tolist(), units.status)
    p = float(chisquare(drawn, whole / whole.sum() * drawn.sum()).pvalue)
    return {"p": p, "fits": float(p >= 0.001)}
