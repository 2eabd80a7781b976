"""Scripted traders: rules that react to all they are shown, without a language model.

For trader i and stock j, with the valuation V_j of what is known, news s, the mean tone b_j of the posts shown and the
last price P_j, a value-anchored trader believes in

    v_ij = V_j · exp(bias_ij + c_i · s + f · b_j + ε_ij),    m_ij = log(v_ij / P_j) + k · imbalance of the book of j,

and a trend follower expects m_ij = g · (log-return of the last days) + a · log(V_j / P_j) + c_i · s + f · b_j + bias_ij
+ ε_ij + k · imbalance. So good news, praise, a raised valuation (a good report, a rate cut) and bids that outweigh asks
raise m_ij for both. Each then wants the share

    w_ij = clip((premium + m_ij) / (γ_i · risk), 0, 1), scaled down where they sum to more than 1,

of what it owns (less what is due within ten days), closes a part of the largest gap that exceeds its patience, and
offers Q · (1 + spread_i · U + urgency · U' · m_ij) or asks Q · (1 − spread_i · U + urgency · U' · m_ij), where m_ij
counts if it has the sign of the trade, and Q is the last price or a better quote of the book; the turn's m_ij is that
at Q, so that a trader buys sooner below the last price. It wants debts of appetite_i · max(0, largest m_ij − rate
of its loans a year) times its opening wealth, and posts with the tone tanh(m_ij / 0.1).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.systems.societies.stock_agent.env.forum import Post
from pilotage.systems.societies.stock_agent.env.ledger import LOAN_DAYS, MILLION
from pilotage.systems.societies.stock_agent.env.order_book import Side
from pilotage.systems.societies.stock_agent.env.views import Borrowing, MarketView, OrderIntent, TraderForecast

Style = Literal["value", "trend"]
STYLES: tuple[Style, ...] = ("value", "trend")
# By character, in the order of `CHARACTERS`: conservative, aggressive, balanced, growth-oriented.
AVERSION = np.array([4.0, 0.8, 2.0, 1.2])
"""Risk aversion γ."""
TO_NEWS = np.array([0.01, 0.04, 0.02, 0.03])
"""Weight of news c."""
APPETITE = np.array([1.0, 4.0, 2.0, 3.0])
"""Debt per unit of expected gain over the rate, as a multiple of opening wealth."""
PATIENCE = np.array([0.08, 0.02, 0.05, 0.03])
"""Gap, as a share of a trader's wealth, below which it holds."""


@dataclass(frozen=True)
class Rules:
    """Parameters that all scripted traders share."""

    premium: float = 0.06
    """Expected return of a stock without further information."""
    risk: float = 0.1
    """Variance scale of returns in the wanted share."""
    bias: float = 0.08
    """Standard deviation of the lasting disagreement about a stock."""
    noise: float = 0.04
    """Standard deviation of the noise ε of a session."""
    forum: float = 0.04
    """Weight f of the forum's tone."""
    book: float = 0.01
    """Weight k of the book's imbalance."""
    trend_days: int = 5
    """Number of days whose return a trend follower looks at."""
    trend: float = 0.7
    """Weight g of that return."""
    trend_most: float = 0.1
    """Soft bound of that log-return, which keeps bubbles finite."""
    anchor: float = 0.5
    """Weight a of the distance to the valuation, for trend followers."""
    speed: float = 0.3
    """Share of a gap that one order closes."""
    spread: tuple[float, float] = (0.001, 0.005)
    """Range of a trader's spread."""
    urgency: float = 0.05
    """Largest share of the expected return that is offered at once."""
    due_soon: int = 10
    """Number of days ahead for which repayments are kept in cash."""
    least_loan: float = 0.05
    """Smallest loan, as a multiple of opening wealth."""


class ScriptedTraders:
    """Traders by the rules above, each value-anchored or trend-following."""

    scripted = True
    exhausted = ""

    def __init__(self, styles: Sequence[Style], rules: Rules | None = None) -> None:
        """Create traders with these styles, [trader]."""
        unknown = sorted(set(styles) - set(STYLES))
        if unknown or not styles:
            raise UsageError(f"a scripted trader's style is {' or '.join(STYLES)}, got {unknown or 'none'}")
        self.styles, self.rules = tuple(styles), rules or Rules()
        self.counts = Counter[str]()
        self._trend = np.array([style == "trend" for style in styles])

    # ---- what they believe -------------------------------------------------------------------------------------------

    def expected(self, view: MarketView) -> np.ndarray:
        """Return expected log-returns m, [trader, stock], without the imbalance of the books."""
        rules, shape = self.rules, (len(self.styles), len(view.firms))
        lasting = np.random.default_rng((view.seed, 2)).normal(0, rules.bias, shape)
        passing = np.random.default_rng((view.seed, 3, view.day, view.session)).normal(0, rules.noise, shape)
        prices = np.array(view.prices, float)
        gap = np.log(np.array([firm.value for firm in view.firms]) / prices)
        before = np.array(view.closes[max(0, len(view.closes) - 1 - rules.trend_days)], float)
        tone = TO_NEWS[view.population.character][:, None] * view.sentiment + rules.forum * view.digest.mean(shape[1])
        seen = rules.trend_most * np.tanh(np.log(prices / before) / rules.trend_most)
        trend = rules.trend * seen + rules.anchor * gap
        return np.where(self._trend[:, None], trend, gap) + lasting + tone + passing

    def wanted(self, view: MarketView, expected: np.ndarray) -> np.ndarray:
        """Return the wanted shares w of a trader's wealth in each stock, [trader, stock]."""
        aversion = AVERSION[view.population.character][:, None]
        weight = np.clip((self.rules.premium + expected) / (aversion * self.rules.risk), 0, 1)
        return weight / np.maximum(weight.sum(1, keepdims=True), 1)

    def _gaps(self, view: MarketView, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the cents by which holdings fall short, [trader, stock], and each trader's wealth, [trader]."""
        ledger, prices = view.exchange.ledger, np.array(view.prices, float)
        held = (ledger.shares + ledger.shares_aside)[:-1] * prices
        owned = (ledger.cash + ledger.cash_aside)[:-1] + held.sum(1) - self._due(view)
        owned = np.maximum(owned, 1.0)
        return self.wanted(view, expected) * owned[:, None] - held, owned

    def _due(self, view: MarketView) -> np.ndarray:
        """Return the cents of principal that are due soon, [trader]."""
        due = np.zeros(len(self.styles))
        for loan in view.exchange.ledger.loans:
            if loan.due <= view.day + self.rules.due_soon:
                due[loan.trader] += loan.principal
        return due

    def _debt_gap(self, view: MarketView, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[N] cents by which debts fall short of what is wanted, and the type of loan that each prefers."""
        population = view.population
        kind = np.random.default_rng((view.seed, 4)).integers(0, len(LOAN_DAYS), len(self.styles))
        gain = np.maximum(expected.max(1) - np.array(view.rates)[kind] / MILLION, 0)
        wanted = np.minimum(APPETITE[population.character] * gain, 1.0) * population.wealth
        gap = wanted - view.exchange.ledger.owed()
        return np.where(gap >= self.rules.least_loan * population.wealth, gap, 0.0), kind

    # ---- what they do ------------------------------------------------------------------------------------------------

    def borrow(self, view: MarketView) -> list[Borrowing | None]:
        """Return each trader's loan before the sessions (None: no loan)."""
        gap, kinds = self._debt_gap(view, self.expected(view))
        amounts = np.minimum(gap, view.limit()).astype(np.int64).tolist()
        return [
            Borrowing(kind, amount) if amount else None for kind, amount in zip(kinds.tolist(), amounts, strict=True)
        ]

    def open_session(self, view: MarketView) -> None:
        """Compute expectations and draw the prices' random steps of a session."""
        self._expected = self.expected(view).tolist()
        self._due_now = self._due(view).tolist()
        generator = np.random.default_rng((view.seed, 5, view.day, view.session))
        spread = np.random.default_rng((view.seed, 6)).uniform(*self.rules.spread, len(self.styles))
        self._move = (spread * generator.random(len(self.styles))).tolist()
        self._urgency = (self.rules.urgency * generator.random(len(self.styles))).tolist()

    def order(self, view: MarketView, trader: int) -> OrderIntent | None:
        """Return the order of one trader's turn (None: hold)."""
        ledger, rules, prices = view.exchange.ledger, self.rules, view.prices
        aversion, patience = self._character(view, trader)
        quotes = [_quote(view, stock) for stock in range(len(prices))]
        expected = [
            m + rules.book * _imbalance(view, stock) + math.log(prices[stock] / quotes[stock])
            for stock, m in enumerate(self._expected[trader])
        ]
        weight = [min(max((rules.premium + m) / (aversion * rules.risk), 0.0), 1.0) for m in expected]
        free, aside = ledger.shares[trader].tolist(), ledger.shares_aside[trader].tolist()
        held = [(a + b) * price for a, b, price in zip(free, aside, prices, strict=True)]
        cash = int(ledger.cash[trader])
        owned = max(cash + int(ledger.cash_aside[trader]) + sum(held) - self._due_now[trader], 1.0)
        scale = owned / max(sum(weight), 1.0)
        gap = [w * scale - h for w, h in zip(weight, held, strict=True)]
        stock = max(range(len(gap)), key=lambda stock: abs(gap[stock]))
        if abs(gap[stock]) < patience * owned:
            return None
        side: Side = "buy" if gap[stock] > 0 else "sell"
        price = self._price(trader, side, quotes[stock], expected[stock])
        if side == "buy":
            amount = int(min(rules.speed * gap[stock], cash - self._due_now[trader]) // price)
        else:
            amount = min(int(-rules.speed * gap[stock] // price) + 1, free[stock])
        return OrderIntent(stock, side, amount, price) if amount > 0 else None

    def _character(self, view: MarketView, trader: int) -> tuple[float, float]:
        """Return γ and the patience of a trader."""
        character = view.population.character[trader]
        return float(AVERSION[character]), float(PATIENCE[character])

    def _price(self, trader: int, side: Side, quote: int, expected: float) -> int:
        """Return the limit in cents; the step from the quote grows with the expected return."""
        sign = 1 if side == "buy" else -1
        step = self._move[trader] + self._urgency[trader] * max(sign * expected, 0.0)
        return max(1, round(quote * (1 + sign * step)))

    def forecast(self, view: MarketView) -> list[TraderForecast | None]:
        """Return each trader's forecast after the sessions."""
        expected = self.expected(view)
        gap, owned = self._gaps(view, expected)
        strong = np.abs(gap) >= (PATIENCE[view.population.character] * owned)[:, None]
        loans = self._debt_gap(view, expected)[0] > 0
        buys, sells = (strong & (gap > 0)).tolist(), (strong & (gap < 0)).tolist()
        return [
            TraderForecast(tuple(buy), tuple(sell), bool(loan))
            for buy, sell, loan in zip(buys, sells, loans, strict=True)
        ]

    def post(self, view: MarketView) -> list[Post]:
        """Return each trader's post of the day."""
        tones = np.tanh(self.expected(view) / 0.1).round(3).tolist()
        return [Post(trader, tuple(tone), _words(view, tone)) for trader, tone in enumerate(tones)]

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state: the rules remember nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""


def _imbalance(view: MarketView, stock: int) -> float:
    """Return bids less asks over both, in shares, −1 to 1; 0 for an empty book."""
    bids, asks = view.exchange.books[stock].open["buy"], view.exchange.books[stock].open["sell"]
    return (bids - asks) / (bids + asks) if bids + asks else 0.0


def _quote(view: MarketView, stock: int) -> int:
    """Return the last price in cents, or the best ask below it, or the best bid above it.

    So the price moves, too, where all traders want to sell, or all want to buy.
    """
    book, last = view.exchange.books[stock], view.prices[stock]
    ask, bid = book.best("sell"), book.best("buy")
    if ask is not None and ask < last:
        return ask
    return bid if bid is not None and bid > last else last


def _words(view: MarketView, tones: Sequence[float]) -> str:
    """Return the text of a post."""
    said = [
        f"{firm.name} looks {'cheap' if tone > 0.3 else 'dear' if tone < -0.3 else 'fairly priced'} at "
        f"{price / 100:.2f}"
        for firm, tone, price in zip(view.firms, tones, view.prices, strict=True)
    ]
    return "; ".join(said) + "."
