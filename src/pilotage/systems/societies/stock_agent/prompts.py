"""Prompts and replies of a language model that plays a trader. Needs the extra `llm`.

Prose says what happened; figures of the moment stand in one line of JSON after FACTS. No real firm, index, date or
price occurs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pilotage.core.errors import UsageError
from pilotage.systems.societies.stock_agent.env.ledger import LOAN_DAYS, MILLION
from pilotage.systems.societies.stock_agent.env.population import CHARACTERS
from pilotage.systems.societies.stock_agent.env.views import MarketView

try:
    from pydantic import BaseModel, ConfigDict, Field
except ModuleNotFoundError as error:
    raise UsageError("a language model as a service needs the extra llm: pip install 'pilotage[llm]'") from error

Ask = Literal["loan", "order", "forecast", "post"]
MARK = "FACTS "
DESCRIBED = {
    "conservative": "You are a conservative investor: you dislike losses more than you like gains, and hold cash.",
    "aggressive": "You are an aggressive investor: you take large positions, and loans, when you see a chance.",
    "balanced": "You are a balanced investor: you weigh gains and losses alike and spread your money.",
    "growth-oriented": "You are a growth-oriented investor: you look for firms that will earn far more than today.",
}
ANSWERS: Mapping[Ask, str] = {
    "loan": 'Do you take a loan this morning? Answer {"loan": "no"} or, for a loan, {"loan": "yes", "type": 0, '
    '"amount": 1000.0}. type: its place in loan_types; amount: dollars, above 0 and up to may_borrow.',
    "order": 'It is your turn in this session. Answer {"action": "no"} or one order such as {"action": "buy", "stock": '
    '"NAME", "amount": 100, "price": 1.5}. action: buy or sell; amount: whole shares, no more than free_cash pays at '
    "this price, or than you own and have not offered; price: dollars, the most that you pay or the least that you "
    "take.",
    "forecast": 'The day is over. What do you expect to do tomorrow? Answer {"buy": ["NAME"], "sell": [], "loan": '
    '"no"} with the stocks that you expect to buy and to sell.',
    "post": "The day is over. Write a message of one or two sentences for the forum, which all read tomorrow. Answer {"
    '"text": "...", "sentiment": {"NAME": 0.0}}. sentiment: what you feel about each stock, -1 (bad) to 1 (good). An '
    "empty text posts nothing.",
}


def instructions(view: MarketView, trader: int) -> str:
    """Return the system message: the trader's character and the form of answers."""
    character = CHARACTERS[view.population.character[trader]]
    names = " and ".join(f"stock {firm.name}" for firm in view.firms)
    return (
        f"You trade on a simulated market with {names}, which exist nowhere else. {DESCRIBED[character]} Money is in "
        "dollars. Answer with one JSON object and nothing else."
    )


def question(view: MarketView, trader: int, ask: Ask) -> str:
    """Return the user message: what happened, the facts, and the question."""
    parts = [f"It is day {view.day} of the market."]
    if ask == "order" and view.session == 1:
        parts += [f"{firm.story}\nStatements of {firm.name}:\n{firm.history}" for firm in view.firms]
    if view.session <= 1:
        parts += [f"Report of today: {firm.report}" for firm in view.firms if firm.report]
    parts += [text for text in (view.announcement, view.news) if text]
    if ask in ("loan", "order") and view.day > 1:
        parts.append(view.digest.text())
    parts.append(MARK + json.dumps(facts(view, trader, ask)))
    answer = ANSWERS[ask].replace("NAME", view.firms[0].name)
    return "\n\n".join([*parts, answer])


def facts(view: MarketView, trader: int, ask: Ask) -> dict[str, Any]:
    """Return figures in dollars and shares: the trader's own account, prices, loans, and the books."""
    ledger = view.exchange.ledger
    names = [firm.name for firm in view.firms]
    debts = [
        {"amount": loan.principal / 100, "rate": loan.rate / MILLION, "due_on_day": loan.due}
        for loan in ledger.loans
        if loan.trader == trader
    ]
    found: dict[str, Any] = {
        "ask": ask,
        "day": view.day,
        "free_cash": int(ledger.cash[trader]) / 100,
        "shares": dict(zip(names, ledger.shares[trader].tolist(), strict=True)),
        "offered_in_the_book": dict(zip(names, ledger.shares_aside[trader].tolist(), strict=True)),
        "debts": debts,
        "last_prices": {name: price / 100 for name, price in zip(names, view.prices, strict=True)},
        "closing_prices_of_the_last_days": {
            name: [close[stock] / 100 for close in view.closes[-6:]] for stock, name in enumerate(names)
        },
        "loan_types": [
            {"days": days, "yearly_rate": rate / MILLION} for days, rate in zip(LOAN_DAYS, view.rates, strict=True)
        ],
        "may_borrow": int(view.limit()[trader]) / 100,
    }
    if ask == "order":
        found["session"] = view.session
        found["books"] = {
            name: {
                side: [[price / 100, amount] for price, amount in book.depth("buy" if side == "bids" else "sell", 5)]
                for side in ("bids", "asks")
            }
            for name, book in zip(names, view.exchange.books, strict=True)
        }
    return found


def read_facts(text: str) -> dict[str, Any]:
    """Return the facts in a question, for a scripted stand-in."""
    line = next(line for line in text.splitlines() if line.startswith(MARK))
    found: dict[str, Any] = json.loads(line.removeprefix(MARK))
    return found


# ---- replies ---------------------------------------------------------------------------------------------------------

Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Reply(BaseModel):
    """Reply of a trader. The docstrings of replies are part of the requests to the model."""

    model_config = ConfigDict(extra="forbid")


class OrderReply(Reply):
    """One order, or none."""

    action: Literal["buy", "sell", "no"]
    stock: str = ""
    """Name of the stock."""
    amount: Whole = 0
    """Shares."""
    price: Number = 0.0
    """Dollars."""


class LoanReply(Reply):
    """One loan, or none."""

    loan: Literal["yes", "no"]
    type: Whole = 0
    """Type of the loan: 0, 1 or 2."""
    amount: Number = 0.0
    """Dollars."""


class ForecastReply(Reply):
    """What the trader expects to do tomorrow."""

    buy: list[str] = []
    """Names of stocks."""
    sell: list[str] = []
    loan: Literal["yes", "no"] = "no"


class PostReply(Reply):
    """A message for the forum; an empty text is no message."""

    text: str = ""
    sentiment: dict[str, Annotated[Number, Field(ge=-1, le=1)]] = {}
    """Tone towards each stock by name, −1 to 1."""
