"""The configuration of a simulated stock market, and what can be asked of its runs. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pilotage.core.errors import UsageError
from pilotage.core.system import Result
from pilotage.llm.options import ServiceOptions

TradersName = Literal["mixed", "value", "trend", "learned", "llm"]


@dataclass(frozen=True)
class StockMarketConfig(ServiceOptions):
    """A market of fictitious firms, who trades on it, and what they learn from outside"""

    agents: int = 50
    """Traders, 2 or more (paper: 50 to 200)."""
    days: int = 264
    """Trading days, 22 a month."""
    sessions: int = 3
    """A day; in each every trader has one turn, in random order."""
    traders: TradersName = "mixed"
    """value: scripted, believe in valuations; trend: scripted, follow the last days; mixed: both, by turns; learned: a
    small network, trained by PPO in markets of scripted traders (once, for all seeds); llm: a language model, or its
    scripted stand-in."""
    learned_share: float = 1.0
    """With `--traders learned`: which part of the traders is played by the network; the others are scripted, mixed."""
    trader_updates: int = 28
    """Updates of the network's training; 0: it trades as it was drawn."""
    rule: Literal["continuous", "exact"] = "continuous"
    """How orders match: continuous: a double auction by price and time; exact: only equal prices trade, as in the
    paper's code."""
    scenario: Path | None = None
    """YAML file with firms, rates, reports, events and news; none: the firms A and B that come along."""
    rate_events: bool = True
    """Whether the central bank's decisions happen."""
    reports: bool = True
    """Whether quarterly reports are published."""
    forum: bool = True
    """Whether traders read what the others posted yesterday."""
    news: bool = True
    """Whether traders read news of the economy."""
    shown: int = 60
    """Most posts shown on a morning."""
    loud: float = 0.0
    """Share of posts of one who praises the first stock without reason, every other month; 0: nobody does."""
    surprise: float = 0.0
    """Profit of one report is 1 + surprise times as high."""
    surprise_stock: int = 0
    """From 0."""
    surprise_day: int = 78
    """A day of a report."""
    max_tokens: int = 300
    """Most tokens of an answer."""
    repairs: int = 3
    """How often an answer that cannot be used is asked for again before it counts as no action."""
    checkpoint_every: int = 22
    """Days between checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.agents < 2 or min(self.days, self.sessions, self.checkpoint_every, self.shown) < 1 or self.repairs < 0:
            raise UsageError(
                "expected 2 or more agents, 1 or more days, sessions, days between checkpoints and posts shown, and 0 "
                f"or more repairs, got {self.agents}, {self.days}, {self.sessions}, {self.checkpoint_every}, "
                f"{self.shown} and {self.repairs}"
            )
        if not 0 < self.learned_share <= 1 or self.trader_updates < 0:
            raise UsageError(
                "--learned-share lies in (0, 1] and --trader-updates is 0 or more, got "
                f"{self.learned_share} and {self.trader_updates}"
            )
        if not 0 <= self.loud < 1 or self.surprise <= -5:
            raise UsageError(f"--loud lies in [0, 1) and --surprise above −5, got {self.loud} and {self.surprise}")

    @property
    def asks_a_model(self) -> bool:
        """Whether traders are played by a language model, or by its stand-in."""
        return self.traders == "llm"


def run(config: StockMarketConfig, run: Any) -> Result:
    """Play the days; the simulation is imported only now."""
    from pilotage.systems.societies.stock_agent.train import play

    return play(config, run)


def forecast(config: StockMarketConfig) -> Mapping[str, Any]:
    """Days, turns, the most calls of a model, and seconds from a few timed days."""
    from pilotage.systems.societies.stock_agent.actions import forecast as timed

    return timed(config)


def counterfactual(config: StockMarketConfig, run: Path, off: str = "rate_events", seeds: int = 10) -> Any:
    """What a switch changes: pairs of markets of one seed, as it was run and with the switch off, 95 % intervals.

    off: rate_events, reports, forum or news. seeds: populations, each with and without; the first is the run's own."""
    from pilotage.systems.societies.stock_agent.actions import counterfactual as compared

    return compared(config, run, off, seeds)


ACTIONS: Mapping[str, Callable[..., Any]] = {"estimate_cost": forecast, "counterfactual": counterfactual}
