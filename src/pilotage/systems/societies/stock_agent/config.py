"""Configuration of a simulated stock market. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pilotage.core.configuration import INPUT_FILE
from pilotage.core.ranges import NonNegativeInt, PositiveInt, Range
from pilotage.llm.options import ServiceOptions

TradersName = Literal["mixed", "value", "trend", "learned", "llm"]


@dataclass(frozen=True)
class StockMarketConfig(ServiceOptions):
    """A market of fictitious firms, its traders, and the information that reaches them"""

    agents: Annotated[int, Range("[2, inf)")] = 50
    """Number of traders, 2 or more (paper: 50 to 200)."""
    days: PositiveInt = 264
    """Number of trading days, 22 a month."""
    sessions: PositiveInt = 3
    """Number of sessions a day; in each every trader has one turn, in random order."""
    traders: TradersName = "mixed"
    """value: scripted, anchored to valuations; trend: scripted, following the last days; mixed: both, alternating;
    learned: a small network, trained by PPO in markets of scripted traders (once, for all seeds); llm: a language
    model, or its scripted stand-in."""
    learned_share: Annotated[float, Range("(0, 1]")] = 1.0
    """Share of traders played by the network with `--traders learned`, in (0, 1]; the others are scripted and mixed."""
    trader_updates: NonNegativeInt = 28
    """Number of updates of the network's training; 0: an untrained network."""
    rule: Literal["continuous", "exact"] = "continuous"
    """Matching of orders. continuous: a double auction by price and time; exact: only equal prices trade, as in the
    paper's code."""
    scenario: Annotated[Path | None, INPUT_FILE] = None
    """YAML file with firms, rates, reports, events and news; none: the firms A and B of the package."""
    rate_events: bool = True
    """Whether the central bank's decisions happen."""
    reports: bool = True
    """Whether quarterly reports are published."""
    forum: bool = True
    """Whether traders read what the others posted yesterday."""
    news: bool = True
    """Whether traders read news of the economy."""
    max_posts: PositiveInt = 60
    """Largest number of yesterday's posts that are shown."""
    spam_share: Annotated[float, Range("[0, 1)")] = 0.0
    """Share of posts, in [0, 1), by an author who praises the first stock without reason, every other month."""
    surprise: Annotated[float, Range("(-5, inf)")] = 0.0
    """Relative change of the profit in one report: the profit is 1 + surprise times as high."""
    surprise_stock: NonNegativeInt = 0
    """Index of the stock that is surprised, from 0."""
    surprise_day: int = 78
    """Report day of the surprise."""
    max_tokens: PositiveInt = 300
    """Largest number of tokens of an answer."""
    repairs: NonNegativeInt = 3
    """Number of times an answer that cannot be used is asked for again before it counts as no action."""
    checkpoint_every: PositiveInt = 22
    """Number of days between checkpoints."""

    @property
    def asks_a_model(self) -> bool:
        """Return whether traders are played by a language model or its scripted stand-in."""
        return self.traders == "llm"
