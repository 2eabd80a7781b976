"""REINFORCE training of the planner network on copies of a tax game that are played side by side.

The baseline of a return is its mean over the copies (Williams 1992).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pilotage.core.configuration import config_to_dict
from pilotage.environments.economy.tax_schedule import bracket_of
from pilotage.random.streams import Streams, derive_seed
from pilotage.systems.societies.llm_economist.config import TaxDesignConfig
from pilotage.systems.societies.llm_economist.env.replies import apply_delta
from pilotage.systems.societies.llm_economist.model import CHANGES, PlannerObservation, RateNetwork
from pilotage.systems.societies.llm_economist.scenario import TaxWorld, make_world

POPULATIONS = 12
"""Number of populations in the training; their seeds are derived, so that no run's own population is among them."""
WORKERS = 200
"""Largest number of workers of such a population."""
COPIES, YEARS = 64, 16
DISCOUNT = 0.9
RATE, ENTROPY = 1e-2, 0.01
NOISE = 0.003
"""Relative noise on the observed welfare, which stands for the noise of workers who explore."""

_WORLD = frozenset(
    {
        *("incomes", "income_growth", "brackets", "edges", "year", "status", "hours_step", "cost", "delta", "swf"),
        *("weights_from", "floor", "altruistic", "adversarial", "cost_spread", "satisfaction", "updates"),
    }
)
"""Fields of the configuration on which a trained network depends, beside the number of workers."""


def training_config(config: TaxDesignConfig) -> dict[str, Any]:
    """Return the part of a configuration on which the trained network depends."""
    kept = {name: value for name, value in config_to_dict(config).items() if name in _WORLD}
    return {**kept, "agents": min(config.agents, WORKERS), "tax_units": str(config.tax_units or "")}


def train_planner(directory: Path, settings: Mapping[str, Any]) -> None:
    """Train a network for the world of `settings` (from `training_config`) and write it into `directory`."""
    given = {**settings, "edges": tuple(settings["edges"])}
    given["tax_units"] = Path(given["tax_units"]) if given["tax_units"] else None
    given.pop("format", None)
    config = replace(TaxDesignConfig(), **given)
    sources = Streams(derive_seed(0, "planner training"))
    worlds = [
        make_world(config, Streams(derive_seed(0, "planner training", number)).torch) for number in range(POPULATIONS)
    ]
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(0, "planner weights"))
        network = RateNetwork(len(worlds[0].game.edges))
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    generator = sources.torch("games")
    for update in range(config.updates):
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - update / config.updates)
        loss = _loss(network, worlds[update % POPULATIONS], generator)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    network.save(directory)


def _loss(network: RateNetwork, world: TaxWorld, generator: torch.Generator) -> Tensor:
    """Return the loss of `COPIES` games that begin with the same rates, drawn in tens."""
    brackets = network.brackets
    first = 10.0 * torch.randint(2, 10, (brackets,), generator=generator).double()
    rates = first.expand(COPIES, brackets)
    log_probability, entropy, gains = [], [], []
    before = best = rates
    # By shares of the first year's welfare: by shares of the year before, a crash and its recovery would be a gain.
    scale = world.score(first).abs().clamp(min=1e-9)
    seen_before = seen_best = welfare_before = torch.zeros(COPIES, dtype=torch.float64)
    for year in range(YEARS + 1):
        played = world.game.play(rates)
        welfare = world.welfare_of(played)
        if year:
            gains.append((welfare - welfare_before) / scale)
        if year == YEARS:
            break
        noise = NOISE * torch.randn(COPIES, generator=generator, dtype=torch.float64)
        seen = welfare * (1 + noise)
        if not year:
            seen_before = seen_best = seen
        better = seen >= seen_best
        best, seen_best = torch.where(better[:, None], rates, best), torch.maximum(seen, seen_best)
        observation = PlannerObservation(
            rates=rates,
            before=before,
            best=best,
            welfare=seen,
            welfare_before=seen_before,
            welfare_best=seen_best,
            people=_people(played.income, world.game.edges),
            hours=played.hours.mean(-1),
            progress=torch.full((COPIES,), (year + 1) / YEARS, dtype=torch.float64),
        )
        odds = network(observation.features()).log_softmax(-1)
        choice = torch.multinomial(odds.detach().exp().flatten(0, 1), 1, generator=generator).reshape(COPIES, brackets)
        log_probability.append(odds.gather(-1, choice[..., None])[..., 0].sum(-1))
        entropy.append(-(odds.exp() * odds).sum(-1).sum(-1))
        before, seen_before, welfare_before = rates, seen, welfare
        rates = apply_delta(rates, torch.tensor(CHANGES, dtype=torch.float64)[choice])
    returns = _discounted(torch.stack(gains)).float()
    advantage = returns - returns.mean(1, keepdim=True)
    advantage = advantage / advantage.std().clamp(min=1e-8)
    return -(torch.stack(log_probability) * advantage).mean() - ENTROPY * torch.stack(entropy).mean()


def _discounted(gains: Tensor) -> Tensor:
    """Return the discounted sums [year, game] of gains from each year on."""
    total, out = torch.zeros_like(gains[0]), []
    for gain in gains.flip(0):
        total = gain + DISCOUNT * total
        out.append(total)
    return torch.stack(out[::-1])


def _people(income: Tensor, edges: Tensor) -> Tensor:
    """Return the shares [game, bracket] of incomes [game, worker] by bracket."""
    return torch.nn.functional.one_hot(bracket_of(income, edges), len(edges)).double().mean(1)
