"""PPO training of the trader network, in markets of which one half are scripted traders.

Policy and critic are in `model`; a step is one turn of one trader, and its reward is the change of the logarithm of net
wealth until its next turn, both at the last prices. A trader who leaves the market has terminated; the end of a market
truncates. Schulman et al. 2017 (arXiv 1707.06347), with generalised advantages. A network is trained once per kind of
market and shared by all seeds and arms as an artifact.
"""

from __future__ import annotations

import inspect
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.core.atomic_io import write_atomically
from pilotage.objectives.advantages import gae, leave_one_out
from pilotage.objectives.aggregation import token_mean, weighted_sum
from pilotage.objectives.critic import value_loss
from pilotage.objectives.normalisation import whiten
from pilotage.objectives.regularisers import entropy_bonus
from pilotage.objectives.surrogates import clip, clipped
from pilotage.random.streams import derive_seed
from pilotage.runs import artifact
from pilotage.systems.societies.stock_agent import env as market_package
from pilotage.systems.societies.stock_agent import learned_traders, model
from pilotage.systems.societies.stock_agent.config import StockMarketConfig
from pilotage.systems.societies.stock_agent.env.market import Market, make_market
from pilotage.systems.societies.stock_agent.env.scenario import DEFAULT, Scenario, load_scenario
from pilotage.systems.societies.stock_agent.learned_traders import (
    FEATURES,
    LEAST,
    ORDERS,
    Kind,
    LearnedTraders,
    Turn,
    wealth_changes,
)
from pilotage.systems.societies.stock_agent.model import TraderNetwork

KINDS: tuple[Kind, ...] = ("learned", "value", "learned", "trend")
"""Kinds of traders in the markets of the training, in turn."""
AGENTS, DAYS, MARKETS = 24, 88, 2
"""Traders, days (which hold two reports and a decision on rates) and markets of an update."""
SURPRISE = 0.2
"""Standard deviation of the surprise in one report of every firm, so that the network learns no fixed scenario."""
DISCOUNT, GAE_LAMBDA = 0.9, 0.9
EPOCHS, PARTS = 4, 6
"""Number of passes over an update's turns, and of parts into which the traders are divided in each."""
RATE, ENTROPY, VALUE = 5e-3, 0.003, 0.5
PERCENT = 100.0
"""Factor on rewards, which are learned from in per cent."""
HISTORY = "training.json"
"""File of the artifact that holds the metrics of each update."""
EXPLAINED = {
    "reward": "mean change of log wealth a turn, in per cent",
    "wealth": "mean change of log wealth over a market",
    "entropy": "of the policy, mean over turns, nats",
    "clipped": "part of the turns whose gradient the clip removed, mean over passes",
    "value_loss": "of the critic, mean over passes, squared per cent",
    "hold_rate": "turns without an order",
}


def training_settings(config: StockMarketConfig) -> dict[str, Any]:
    """Return the part of a configuration on which a trained trader depends, beside the scenario's file.

    Channels, surprises and the number of agents are not part of it: one trader plays in all arms of a comparison.
    """
    return {"updates": config.trader_updates, "sessions": config.sessions, "rule": config.rule}


def training_code() -> str:
    """Return the source text on which the training depends, for the artifact's key."""
    own = [inspect.getsource(module) for module in (sys.modules[__name__], model, learned_traders)]
    folder = Path(market_package.__file__).parent
    return "\n".join([*own, *(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py")))])


def make_learned(
    config: StockMarketConfig, find: Callable[..., Path] = artifact, directory: Path | None = None
) -> LearnedTraders:
    """Build the traders of a market in which `config.learned_share` are played by the trained network.

    Args:
        config: the configuration.
        find: finds or makes the artifact; a run's also records it.
        directory: directory of a run, which gets a copy of the training's metrics.
    """
    path = trained(config, find)
    if directory is not None:
        write_atomically(directory / HISTORY, (path / HISTORY).read_bytes())
    return LearnedTraders(TraderNetwork.load(path), kinds_of(config))


def trained(config: StockMarketConfig, find: Callable[..., Path] = artifact) -> Path:
    """Return the artifact of the network for this kind of market, which is trained where it was not yet."""
    inputs = [config.scenario or DEFAULT]  # the package's scenario may change from version to version
    return find(train_trader, training_settings(config), inputs, name="stock-trader", code=training_code())


def time_training(config: StockMarketConfig) -> float:
    """Estimate the seconds of a training from one market of it."""
    began = time.perf_counter()
    play_market(new_network(), load_scenario(config.scenario), 0, training_settings(config))
    return (time.perf_counter() - began) * MARKETS * config.trader_updates


def kinds_of(config: StockMarketConfig) -> list[Kind]:
    """Return the kind of each trader: at least one learned, spread evenly; the others alternate between both styles."""
    learned = max(1, round(config.learned_share * config.agents))
    others = 0
    kinds: list[Kind] = []
    for number in range(config.agents):
        if (number + 1) * learned // config.agents > number * learned // config.agents:
            kinds.append("learned")
        else:
            kinds.append("trend" if others % 2 else "value")
            others += 1
    return kinds


# ---- training --------------------------------------------------------------------------------------------------------


@dataclass
class Batch:
    """Turns of the learned traders; a row is one trader of one market."""

    observed: Tensor
    """Observations, [row, turn, stock, feature]."""
    allowed: Tensor
    """Orders that can be paid for, [row, turn, stock · order]."""
    choice: Tensor
    """Choices, [row, turn]; 0: hold."""
    mask: Tensor
    """Turns that were taken and rewarded, [row, turn]."""
    reward: Tensor
    """Rewards in per cent, [row, turn]."""
    last: Tensor
    """Whether a turn is the last rewarded one of its row, [row, turn]."""
    terminated: Tensor
    """Whether the trader had left the market after a turn, [row, turn]."""
    following: Tensor
    """Observation in the turn after the last, [row, stock, feature]."""
    session: Tensor
    """Number of the market and session, [row, turn]; turns of one number are rewarded by the same prices."""


def train_trader(directory: Path, settings: Mapping[str, Any], scenario: Path | None = None) -> None:
    """Train the network and write its files and `training.json` into `directory`."""
    world = load_scenario(scenario)
    network = new_network()
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    generator = torch.Generator().manual_seed(derive_seed(0, "trader passes"))
    history = []
    for update in range(settings["updates"]):
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - update / settings["updates"])
        played = [
            play_market(network, world, derive_seed(0, "trader training", update, number) % 2**32, settings)
            for number in range(MARKETS)
        ]
        batch = gather(played)
        numbers = _summary(played, batch)
        history.append({**numbers, **_improve(network, optimiser, batch, generator)})
    network.save(directory)
    (directory / HISTORY).write_text(json.dumps({"explained": EXPLAINED, "updates": history}, indent=1) + "\n")


def new_network() -> TraderNetwork:
    """Return an untrained network with fixed initial weights."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(0, "trader weights"))
        return TraderNetwork(FEATURES, len(ORDERS))


def play_market(
    network: TraderNetwork, world: Scenario, seed: int, settings: Mapping[str, Any]
) -> tuple[Market, list[Turn]]:
    """Simulate a market of the training; return it with the learned traders' turns."""
    chance = np.random.default_rng((seed, 8))
    for stock in range(len(world.companies)):
        days = [day for day in world.report_days if day <= DAYS]
        if days:
            size = float(np.clip(SURPRISE * chance.normal(), -0.6, 0.6))
            world = world.surprised(stock, days[int(chance.integers(len(days)))], size)
    turns: list[Turn] = []
    traders = LearnedTraders(network, (list(KINDS) * AGENTS)[:AGENTS], turns=turns)
    market = make_market(
        world, traders, agents=AGENTS, seed=seed, days=DAYS, sessions=settings["sessions"], rule=settings["rule"]
    )
    while not market.over:
        market.advance()
    return market, turns


def gather(played: list[tuple[Market, list[Turn]]]) -> Batch:
    """Arrange turns by trader; the last turn of a trader who stayed only gives the observation that followed."""
    rows = []
    for number, (market, turns) in enumerate(played):
        by_trader: dict[int, list[Turn]] = defaultdict(list)
        for turn in turns:
            by_trader[turn.trader].append(turn)
        rows += [(own, not market.exchange.ledger.active[trader], number) for trader, own in sorted(by_trader.items())]
    longest = max(len(own) for own, *_ in rows)
    stocks = rows[0][0][0].observed.shape[0]
    shape = (len(rows), longest)
    observed = np.zeros((*shape, stocks, FEATURES), np.float32)
    allowed = np.zeros((*shape, stocks * len(ORDERS)), bool)
    choice, reward = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    mask, last, terminated = (np.zeros(shape, bool) for _ in range(3))
    following = np.zeros((len(rows), stocks, FEATURES), np.float32)
    for row, (own, left, _) in enumerate(rows):
        wealth = [turn.wealth for turn in own] + ([float(np.log(LEAST))] if left else [])
        many = len(wealth) - 1
        for place, turn in enumerate(own[:many]):
            observed[row, place], allowed[row, place], choice[row, place] = turn.observed, turn.allowed, turn.choice
        reward[row, :many] = PERCENT * np.diff(wealth)
        mask[row, :many] = True
        following[row] = own[-1].observed
        if many:
            last[row, many - 1], terminated[row, many - 1] = True, left
    session = np.array([number for *_, number in rows])[:, None] * longest + np.arange(longest)
    arrays = (observed, allowed, choice, mask, reward, last, terminated, following, session)
    return Batch(*(torch.from_numpy(array) for array in arrays))


@torch.no_grad()
def estimate_advantages(network: TraderNetwork, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return present values, whitened advantages of the choices, and targets of the values, each [row, turn]."""
    value = network.value(batch.observed)
    following = torch.cat([value[:, 1:], value[:, :1]], 1)
    following = torch.where(batch.last, network.value(batch.following)[:, None], following)
    ended = batch.last | ~batch.mask
    reward, known = batch.reward, torch.where(batch.mask, value, 0.0)
    advantage = gae(
        reward, known, following, batch.terminated | ~batch.mask, ended, discount=DISCOUNT, gae_lambda=GAE_LAMBDA
    )
    # What all learned traders of a session gain or lose does not depend on the choice of one.
    apart = torch.zeros_like(advantage)
    apart[batch.mask] = leave_one_out(advantage[batch.mask], batch.session[batch.mask])
    return value, whiten(apart, batch.mask), advantage + value


def _improve(
    network: TraderNetwork, optimiser: torch.optim.Optimizer, batch: Batch, generator: torch.Generator
) -> dict[str, float]:
    """Update the network by PPO's passes over one batch; return the means of their metrics."""
    with torch.no_grad():
        old, _ = _odds(network, batch, slice(None))
        value, advantage, target = estimate_advantages(network, batch)
    found: dict[str, list[float]] = {"entropy": [], "clipped": [], "value_loss": []}
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(value), generator=generator).chunk(PARTS):
            mask = batch.mask[rows]
            coefficients = token_mean(mask)
            logp, entropy = _odds(network, batch, rows)
            surrogate = clip(logp, old[rows], advantage[rows], mask)
            off = value_loss(network.value(batch.observed[rows]), value[rows], target[rows], mask, clip=None)
            loss = surrogate + VALUE * off + ENTROPY * entropy_bonus(entropy, mask)
            optimiser.zero_grad()
            weighted_sum(loss, coefficients).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
            optimiser.step()
            removed = clipped(logp, old[rows], advantage[rows], mask)
            for name, each in (("entropy", entropy), ("clipped", removed.float()), ("value_loss", off)):
                found[name].append(float(weighted_sum(each.detach(), coefficients)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _odds(network: TraderNetwork, batch: Batch, rows: Any) -> tuple[Tensor, Tensor]:
    """Return log-probability of the choices and entropy of the selected rows, each [row, turn]."""
    logp = network.logits(batch.observed[rows], batch.allowed[rows]).log_softmax(-1)
    entropy = -(logp.exp() * logp).sum(-1)
    return logp.gather(-1, batch.choice[rows][..., None])[..., 0], entropy


def _summary(played: list[tuple[Market, list[Turn]]], batch: Batch) -> dict[str, float]:
    many = int(batch.mask.sum())
    changes = np.concatenate([wealth_changes(market) for market, _ in played])
    return {
        "reward": float(batch.reward[batch.mask].mean()) if many else 0.0,
        "wealth": float(changes.mean()),
        "hold_rate": float((batch.choice[batch.mask] == 0).float().mean()) if many else 1.0,
    }
