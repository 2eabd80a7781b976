"""PPO for a trader: it learns in markets of which one half are scripted traders; what it earns is log wealth.

Policy and critic are `trader_network`; a step is one turn of one trader, its reward the change of the
logarithm of net wealth until its next turn, both marked to the last prices. A trader who leaves the market has
terminated; the end of a market truncates. Schulman et al. 2017 (arXiv 1707.06347), with generalised advantages."""

from __future__ import annotations

import inspect
import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.objectives.advantages import gae, leave_one_out
from pilotage.objectives.aggregation import token_mean, weighted_sum
from pilotage.objectives.critic import value_loss
from pilotage.objectives.normalisation import whiten
from pilotage.objectives.regularisers import entropy_bonus
from pilotage.objectives.surrogates import clip, clipped
from pilotage.random.streams import derive_seed
from pilotage.systems.societies.stock_agent import env as market_package
from pilotage.systems.societies.stock_agent import learned_traders as market_learned
from pilotage.systems.societies.stock_agent import trader_network as learned_trader
from pilotage.systems.societies.stock_agent.config import StockMarketConfig
from pilotage.systems.societies.stock_agent.env.market import Market, make_market
from pilotage.systems.societies.stock_agent.env.scenario import Scenario, load_scenario
from pilotage.systems.societies.stock_agent.learned_traders import (
    FEATURES,
    LEAST,
    ORDERS,
    Kind,
    LearnedTraders,
    Turn,
    wealth_changes,
)
from pilotage.systems.societies.stock_agent.trader_network import TraderNetwork

KINDS: tuple[Kind, ...] = ("learned", "value", "learned", "trend")
"""Who trades in the markets of the training, by turns."""
AGENTS, DAYS, MARKETS = 24, 88, 2
"""Traders, days (which hold two reports and a decision on rates) and markets of an update."""
SURPRISE = 0.2
"""Standard deviation of the surprise in one report of every firm, so that no fixed story is learnt."""
DISCOUNT, TRACE = 0.9, 0.9
EPOCHS, PARTS = 4, 6
"""Passes over an update's turns, and the parts into which the traders are divided in each."""
RATE, ENTROPY, VALUE = 5e-3, 0.003, 0.5
PERCENT = 100.0
"""Rewards are learned from in per cent."""
HISTORY = "training.json"
"""The file of the artifact that holds what each update measured."""
EXPLAINED = {
    "reward": "mean change of log wealth a turn, in per cent",
    "wealth": "mean change of log wealth over a market",
    "entropy": "of the policy, mean over turns, nats",
    "clipped": "part of the turns whose gradient the clip removed, mean over passes",
    "value_loss": "of the critic, mean over passes, squared per cent",
    "hold_rate": "turns without an order",
}


def training_settings(config: StockMarketConfig) -> dict[str, Any]:
    """What a trained trader depends on, beside the scenario's file. Switches, surprises and the number of agents are
    not among it: one trader plays in all arms of a comparison."""
    return {"updates": config.trader_updates, "sessions": config.sessions, "rule": config.rule}


def training_code() -> str:
    """The text on which the result depends, for the artifact's key: how it trades and learns, and the whole market."""
    own = [inspect.getsource(module) for module in (sys.modules[__name__], learned_trader, market_learned)]
    folder = Path(market_package.__file__).parent
    return "\n".join([*own, *(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py")))])


@dataclass
class Batch:
    """R rows, one per trader and market, of T turns."""

    seen: Tensor
    """[R, T, S, F]."""
    allowed: Tensor
    """[R, T, S·K]."""
    choice: Tensor
    """[R, T]."""
    mask: Tensor
    """[R, T] turns that were taken and rewarded."""
    reward: Tensor
    """[R, T] in per cent."""
    last: Tensor
    """[R, T] the last rewarded turn of a row."""
    terminated: Tensor
    """[R, T] after which the trader had left the market."""
    following: Tensor
    """[R, S, F] what was seen in the turn after the last."""
    session: Tensor
    """[R, T] number of the market and session: turns of one number are paid by the same change of prices."""


def train_trader(directory: Path, settings: Mapping[str, Any], scenario: Path | None = None) -> None:
    """The maker of the artifact: the network's files and `training.json`."""
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
    """As it is before any training, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(0, "trader weights"))
        return TraderNetwork(FEATURES, len(ORDERS))


def play_market(
    network: TraderNetwork, world: Scenario, seed: int, settings: Mapping[str, Any]
) -> tuple[Market, list[Turn]]:
    """A market of the training after its last day, and the learned traders' turns."""
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
    """Turns by trader; the last one of whoever stayed only says what followed."""
    rows = []
    for number, (market, turns) in enumerate(played):
        by_trader: dict[int, list[Turn]] = defaultdict(list)
        for turn in turns:
            by_trader[turn.trader].append(turn)
        rows += [(own, not market.exchange.ledger.active[trader], number) for trader, own in sorted(by_trader.items())]
    longest = max(len(own) for own, *_ in rows)
    stocks = rows[0][0][0].seen.shape[0]
    shape = (len(rows), longest)
    seen = np.zeros((*shape, stocks, FEATURES), np.float32)
    allowed = np.zeros((*shape, stocks * len(ORDERS)), bool)
    choice, reward = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    mask, last, terminated = (np.zeros(shape, bool) for _ in range(3))
    following = np.zeros((len(rows), stocks, FEATURES), np.float32)
    for row, (own, left, _) in enumerate(rows):
        wealth = [turn.wealth for turn in own] + ([float(np.log(LEAST))] if left else [])
        many = len(wealth) - 1
        for place, turn in enumerate(own[:many]):
            seen[row, place], allowed[row, place], choice[row, place] = turn.seen, turn.allowed, turn.choice
        reward[row, :many] = PERCENT * np.diff(wealth)
        mask[row, :many] = True
        following[row] = own[-1].seen
        if many:
            last[row, many - 1], terminated[row, many - 1] = True, left
    session = np.array([number for *_, number in rows])[:, None] * longest + np.arange(longest)
    arrays = (seen, allowed, choice, mask, reward, last, terminated, following, session)
    return Batch(*(torch.from_numpy(array) for array in arrays))


@torch.no_grad()
def judged(network: TraderNetwork, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """[R, T] values now, whitened advantages of what was done, and targets of the values."""
    value = network.value(batch.seen)
    following = torch.cat([value[:, 1:], value[:, :1]], 1)
    following = torch.where(batch.last, network.value(batch.following)[:, None], following)
    ended = batch.last | ~batch.mask
    reward, known = batch.reward, torch.where(batch.mask, value, 0.0)
    advantage = gae(
        reward, known, following, batch.terminated | ~batch.mask, ended, discount=DISCOUNT, gae_lambda=TRACE
    )
    # What all learned traders of a session gain or lose is the market's luck, not their choice.
    apart = torch.zeros_like(advantage)
    apart[batch.mask] = leave_one_out(advantage[batch.mask], batch.session[batch.mask])
    return value, whiten(apart, batch.mask), advantage + value


def _improve(
    network: TraderNetwork, optimiser: torch.optim.Optimizer, batch: Batch, generator: torch.Generator
) -> dict[str, float]:
    """PPO's passes over one batch; means of what they measured."""
    with torch.no_grad():
        old, _ = _odds(network, batch, slice(None))
        value, advantage, target = judged(network, batch)
    found: dict[str, list[float]] = {"entropy": [], "clipped": [], "value_loss": []}
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(value), generator=generator).chunk(PARTS):
            mask = batch.mask[rows]
            coefficients = token_mean(mask)
            logp, entropy = _odds(network, batch, rows)
            surrogate = clip(logp, old[rows], advantage[rows], mask)
            off = value_loss(network.value(batch.seen[rows]), value[rows], target[rows], mask, clip=None)
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
    """[r, T] log-probability of what was done, and entropy."""
    logp = network.logits(batch.seen[rows], batch.allowed[rows]).log_softmax(-1)
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
