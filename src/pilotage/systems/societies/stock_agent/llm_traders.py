"""Traders who are played by a language model, and the scripted stand-in that takes its place in tests and trials."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from pilotage.llm import BudgetReached, ChatRequest, Service, Structured, say, structured
from pilotage.systems.societies.stock_agent.env.forum import Post
from pilotage.systems.societies.stock_agent.env.views import Borrowing, Forecast, View, Wish
from pilotage.systems.societies.stock_agent.prompts import Ask, instructions, question, read_facts
from pilotage.systems.societies.stock_agent.replies import ForecastReply, LoanReply, OrderReply, PostReply

Note = Callable[[Mapping[str, Any]], None]
"""Takes what was said, for a transcript."""
M = TypeVar("M", bound=BaseModel)


class ServiceTraders:
    """Each trader is asked by itself: for a loan in the morning, for an order in its turn, for a forecast and a post in
    the evening. An answer that cannot be used is asked for again with the reason, then counts as no action."""

    def __init__(
        self,
        service: Service,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        max_tokens: int = 300,
        repairs: int = 3,
        note: Note | None = None,
    ) -> None:
        """seed: goes into every request, so that runs of different seeds share no answers; note: is given the
        exchanges with trader 0."""
        self.service, self.seed = service, seed
        self.temperature, self.max_tokens, self.repairs, self.note = temperature, max_tokens, repairs, note
        self.scripted = service.provider.source == "scripted"
        self.exhausted = ""
        self.counts = Counter[str]()

    # ---- what the market asks ----------------------------------------------------------------------------------------

    def borrow(self, view: View) -> list[Borrowing | None]:
        """All traders at a time, for none sees what another borrows."""

        def check(trader: int, reply: LoanReply) -> str:
            wish = _borrowing(reply)
            return view.refuses_loan(trader, wish) if wish else ""

        replies = self._ask(view, self._active(view), "loan", LoanReply, LoanReply(loan="no"), check)
        wishes = {trader: _borrowing(reply) for trader, reply in replies.items()}
        return [wishes.get(trader) for trader in range(len(view.population.cash))]

    def open_session(self, view: View) -> None:
        pass

    def order(self, view: View, trader: int) -> Wish | None:
        names = [firm.name for firm in view.firms]

        def check(trader: int, reply: OrderReply) -> str:
            if reply.action == "no":
                return ""
            if reply.stock not in names:
                return f"stock: choose one of {', '.join(names)}, got {reply.stock!r}"
            wish = _wish(reply, names)
            return view.refuses(trader, wish) if wish else ""

        replies = self._ask(view, [trader], "order", OrderReply, OrderReply(action="no"), check)
        return _wish(replies[trader], names) if trader in replies else None

    def foresee(self, view: View) -> list[Forecast | None]:
        names = [firm.name for firm in view.firms]

        def check(_: int, reply: ForecastReply) -> str:
            unknown = sorted({*reply.buy, *reply.sell} - set(names))
            return f"stock: choose of {', '.join(names)}, got {', '.join(unknown)}" if unknown else ""

        replies = self._ask(view, self._active(view), "forecast", ForecastReply, ForecastReply(), check)
        found: list[Forecast | None] = [None] * len(view.population.cash)
        for trader, reply in replies.items():
            buy, sell = (tuple(name in said for name in names) for said in (reply.buy, reply.sell))
            found[trader] = Forecast(buy, sell, reply.loan == "yes")
        return found

    def post(self, view: View) -> list[Post]:
        replies = self._ask(view, self._active(view), "post", PostReply, PostReply(), lambda *_: "")
        return [
            Post(trader, tuple(reply.sentiment.get(firm.name, 0.0) for firm in view.firms), reply.text)
            for trader, reply in replies.items()
            if reply.text
        ]

    # ---- how it asks -------------------------------------------------------------------------------------------------

    def _active(self, view: View) -> list[int]:
        return [trader for trader, active in enumerate(view.exchange.ledger.active) if active]

    def _ask(
        self,
        view: View,
        traders: Sequence[int],
        ask: Ask,
        model: type[M],
        nothing: M,
        check: Callable[[int, M], str],
    ) -> dict[int, M]:
        """A reply per trader; none once the budget is used up."""
        if self.exhausted:
            return {}
        requests = [self._request(view, trader, ask) for trader in traders]
        whose = dict(zip(requests, traders, strict=True))
        try:
            results = structured(
                self.service,
                requests,
                model,
                lambda *_: nothing,
                check=lambda request, reply: check(whose[request], reply),
                repairs=self.repairs,
            )
        except BudgetReached as stop:
            self.exhausted = str(stop)
            return {}
        for trader, request, result in zip(traders, requests, results, strict=True):
            self._count(result)
            if self.note is not None and trader == 0:
                prompt = request.messages[-1].content
                self.note({"day": view.day, "who": f"trader 0, {ask}", "prompt": prompt, **_said(result)})
        return {trader: result.value for trader, result in zip(traders, results, strict=True)}

    def _request(self, view: View, trader: int, ask: Ask) -> ChatRequest:
        return ChatRequest(
            say(question(view, trader, ask), instructions(view, trader)),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=self.seed,
            draw=trader,
        )

    def _count(self, result: Structured[M]) -> None:
        """By the kind of what was wrong with the first answer, or the last one where none could be used."""
        if result.how == "first":
            return
        kind, _, words = result.reason.partition(": ")
        self.counts[words.partition(":")[0] if kind == "refused" else kind] += 1
        self.counts["no action"] += result.how == "fallback"

    def state_dict(self) -> dict[str, Any]:
        return {"counts": dict(self.counts), "exhausted": self.exhausted}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.counts, self.exhausted = Counter(state["counts"]), state["exhausted"]


def play_trader(request: ChatRequest, seed: int) -> Mapping[str, Any]:
    """The stand-in: looks at the figures alone, buys what has fallen and sells what has risen, a little at random."""
    facts, chance = read_facts(request.messages[-1].content), random.Random(seed)
    prices: dict[str, float] = facts["last_prices"]
    rise = {name: closes[-1] / closes[0] - 1 for name, closes in facts["closing_prices_of_the_last_days"].items()}
    belief = {name: chance.gauss(-0.5 * rise[name], 0.05) for name in prices}
    stock = max(belief, key=lambda name: abs(belief[name]))
    if facts["ask"] == "loan":
        amount = round(0.05 * facts["may_borrow"], 2)
        if amount <= 0 or chance.random() > 0.05:
            return {"loan": "no"}
        return {"loan": "yes", "type": chance.randrange(3), "amount": amount}
    if facts["ask"] == "forecast":
        return {"buy": [n for n in belief if belief[n] > 0.05], "sell": [n for n in belief if belief[n] < -0.05]}
    if facts["ask"] == "post":
        word = "rise" if belief[stock] > 0 else "fall"
        tone = {name: round(max(-1.0, min(1.0, 10 * value)), 2) for name, value in belief.items()}
        return {"text": f"I expect {stock} to {word}.", "sentiment": tone}
    buys = belief[stock] > 0
    price = round(prices[stock] * (1 + (0.01 if buys else -0.01) * chance.random()), 2)
    amount = int(0.1 * facts["free_cash"] / price) if buys else int(0.2 * facts["shares"][stock])
    if amount < 1 or chance.random() < 0.3:
        return {"action": "no"}
    return {"action": "buy" if buys else "sell", "stock": stock, "amount": amount, "price": price}


def _wish(reply: OrderReply, names: Sequence[str]) -> Wish | None:
    """Prices are rounded to whole cents."""
    if reply.action == "no":
        return None
    return Wish(names.index(reply.stock), reply.action, reply.amount, round(100 * reply.price))


def _borrowing(reply: LoanReply) -> Borrowing | None:
    return Borrowing(reply.type, round(100 * reply.amount)) if reply.loan == "yes" else None


def _said(result: Structured[Any]) -> dict[str, Any]:
    record = getattr(result.answer, "record", None)
    return record() if record is not None else {"completion": "", "source": "", "model": "", "stop": "failed"}
