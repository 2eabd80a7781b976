"""What a schedule brings when the configured workers live under it, habits and exploration included."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.random.streams import Streams
from pilotage.systems.societies.llm_economist.builders import make_workers
from pilotage.systems.societies.llm_economist.config import TaxDesignConfig
from pilotage.systems.societies.llm_economist.env.tax_years import simulate
from pilotage.systems.societies.llm_economist.scenario import World
from pilotage.systems.societies.llm_economist.scripted_planners import ConstantPlanner

NUMBERS = ("welfare", "hours", "output", "gini", "content")


def lived(config: TaxDesignConfig, world: World, rates: Tensor, seed: int, years: int = 4) -> dict[str, float]:
    """Means over the settled steps of `years` tax years under rates [B] that never change, but for the first year,
    by which habits have formed. Scripted workers only.

    Two schedules with one seed meet equal draws: workers' own streams, whatever the run's have drawn."""
    streams = Streams(seed)
    found = simulate(
        world.game,
        make_workers(config, world, streams.torch),
        ConstantPlanner(),
        streams.torch("loop"),
        years=years,
        tax_year=config.tax_year,
        start=rates,
        settled=config.settled,
        satisfaction=world.satisfaction,
    )
    size = config.tax_year
    step = torch.arange(years * size)
    counts = (step % size >= size - max(1, round(config.settled * size))) & (step >= (size if years > 1 else 0))
    table = {"welfare": found.step_welfare, **{name: getattr(found, name) for name in NUMBERS[1:]}}
    return {name: float(values[counts].mean()) for name, values in table.items()}
