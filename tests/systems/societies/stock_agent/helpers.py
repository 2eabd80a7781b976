"""Helpers of the stock-market tests: markets in other units of money, and a lint of prompts."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np

from pilotage.systems.societies.stock_agent.env.companies import COLUMNS, Company
from pilotage.systems.societies.stock_agent.env.market import Market
from pilotage.systems.societies.stock_agent.env.population import draw_population
from pilotage.systems.societies.stock_agent.env.scenario import Scenario, load_scenario
from pilotage.systems.societies.stock_agent.env.views import Traders
from pilotage.systems.societies.stock_agent.prompts import MARK


def scaled_scenario(factor: float) -> Scenario:
    """Return the package's scenario with all money of the firms times `factor`."""

    def larger(company: Company) -> Company:
        changed: dict[str, Any] = {name: getattr(company, name) * factor for name in ("start_price", "debt")}
        changed |= {name: tuple(value * factor for value in getattr(company, name)) for name in COLUMNS}
        return replace(company, **changed)

    scenario = load_scenario()
    return replace(scenario, companies=tuple(larger(company) for company in scenario.companies))


def scaled_market(traders: Traders, factor: float, *, agents: int, seed: int, days: int, sessions: int = 3) -> Market:
    """Return a market in which all money, the traders' too, is `factor` times that of the package's scenario."""
    scenario = scaled_scenario(factor)
    people = draw_population(agents, load_scenario().prices, days, seed)
    cash = np.rint(people.cash * factor).astype(np.int64)
    debt = np.rint(people.debt * factor).astype(np.int64)
    wealth = cash + people.shares @ np.array(scenario.prices)
    people = replace(people, cash=cash, debt=np.minimum(debt, wealth), wealth=wealth)
    return Market(scenario, traders, people, seed=seed, days=days, sessions=sessions)


# ---- lint ------------------------------------------------------------------------------------------------------------

NAMES = re.findall(
    r"\S+",
    "Apple Microsoft Amazon Google Alphabet Meta Facebook Tesla Nvidia Intel IBM Oracle Netflix Samsung Sony Toyota "
    "Volkswagen Siemens BASF Bayer DuPont Dow SAP Adobe Salesforce Alibaba Tencent Huawei JPMorgan Goldman Citigroup "
    "Exxon Shell Chevron Boeing Airbus Walmart Pfizer Moderna AAPL MSFT AMZN GOOG GOOGL TSLA NVDA Nasdaq NYSE Nikkei "
    "DAX FTSE Euronext SSE Bloomberg Reuters Fed ECB Brexit COVID Lehman Enron GameStop Bitcoin America American "
    "China Chinese Europe European Japan Germany Britain Russia Ukraine January February April June July August "
    "September October November December Monday Tuesday Wednesday Thursday Friday",
)
PHRASES = ("S&P", "Dow Jones", "Hang Seng", "Wall Street", "Federal Reserve", "Bank of England", "Coca-Cola")
_WORDS = re.compile(rf"\b(?:{'|'.join(map(re.escape, NAMES))})\b|{'|'.join(map(re.escape, PHRASES))}")
_TICKER = re.compile(r"\$[A-Z]{1,5}\b|\b(?:NYSE|NASDAQ)\s*:\s*[A-Z]+")
_YEAR = re.compile(r"(?<![\d.,$%])(?:19|20)\d\d(?![\d%]|[.,]\d)")


def leaks(text: str) -> list[str]:
    """Return what in a text points to the real world; case counts, for names are capitalised."""
    return [match.group() for pattern in (_WORDS, _TICKER, _YEAR) for match in pattern.finditer(text)]


def prose(text: str) -> str:
    """Return a question without its facts, whose figures may look like years."""
    return "\n".join(line for line in text.splitlines() if not line.startswith(MARK))
