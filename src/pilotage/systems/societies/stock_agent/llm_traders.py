"""Traders played by a language model, and the scripted stand-in for tests and trials. Needs the extra `llm`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pilotage.llm import BudgetReached, ChatRequest, Scripted, Service, Structured, say, structured
from pilotage.systems.societies.stock_agent.config import StockMarketConfig
from pilotage.systems.societies.stock_agent.env.forum import Post
from pilotage.systems.societies.stock_agent.env.views import Borrowing, MarketView, OrderIntent, TraderForecast
from pilotage.systems.societies.stock_agent.prompts import (
    Ask,
    ForecastReply,
    LoanReply,
    OrderReply,
    PostReply,
    Reply,
    instructions,
    question,
    read_facts,
)
from pilotage.training.llm_service import open_service

ExchangeLogger = Callable[[Mapping[str, Any]], None]
"""Receives an exchange with a language model, for a transcript."""
M = TypeVar("M", bound=Reply)


class ServiceTraders:
    """Traders played by a language model, which is asked for each trader by itself.

    The model is asked for a loan in the morning, for an order in the trader's turn, for a forecast and a post in the
    evening. An answer that cannot be used is asked for again with the reason, then counts as no action.
    """

    def __init__(
        self,
        service: Service,
        *,
        seed: int = 0,
        temperature: float | None = None,
        max_tokens: int = 300,
        repairs: int = 3,
        log: ExchangeLogger | None = None,
    ) -> None:
        """Create the traders.

        Args:
            service: the language model.
            seed: part of every request, so that runs of different seeds share no answers.
            temperature: sampling temperature.
            max_tokens: largest number of tokens of an answer.
            repairs: number of times an answer is asked for again.
            log: receives the exchanges with trader 0.
        """
        self.service, self.seed = service, seed
        self.temperature, self.max_tokens, self.repairs, self.log = temperature, max_tokens, repairs, log
        self.scripted = service.provider.source == "scripted"
        self.exhausted = ""
        self.counts = Counter[str]()

    # ---- decisions ---------------------------------------------------------------------------------------------------

    def borrow(self, view: MarketView) -> list[Borrowing | None]:
        """Return the loans of all traders, who are asked at the same time."""

        def check(trader: int, reply: LoanReply) -> str:
            intent = _borrowing(reply)
            return view.refuses_loan(trader, intent) if intent else ""

        replies = self._ask(view, self._active(view), "loan", LoanReply, LoanReply(loan="no"), check)
        intents = {trader: _borrowing(reply) for trader, reply in replies.items()}
        return [intents.get(trader) for trader in range(len(view.population.cash))]

    def open_session(self, view: MarketView) -> None:
        """Do nothing."""

    def order(self, view: MarketView, trader: int) -> OrderIntent | None:
        """Return the order of one trader's turn (None: hold)."""
        names = [firm.name for firm in view.firms]

        def check(trader: int, reply: OrderReply) -> str:
            if reply.action == "no":
                return ""
            if reply.stock not in names:
                return f"stock: choose one of {', '.join(names)}, got {reply.stock!r}"
            intent = _intent(reply, names)
            return view.refuses(trader, intent) if intent else ""

        replies = self._ask(view, [trader], "order", OrderReply, OrderReply(action="no"), check)
        return _intent(replies[trader], names) if trader in replies else None

    def forecast(self, view: MarketView) -> list[TraderForecast | None]:
        """Return each trader's forecast (None: no answer)."""
        names = [firm.name for firm in view.firms]

        def check(_: int, reply: ForecastReply) -> str:
            unknown = sorted({*reply.buy, *reply.sell} - set(names))
            return f"stock: choose of {', '.join(names)}, got {', '.join(unknown)}" if unknown else ""

        replies = self._ask(view, self._active(view), "forecast", ForecastReply, ForecastReply(), check)
        found: list[TraderForecast | None] = [None] * len(view.population.cash)
        for trader, reply in replies.items():
            buy, sell = (tuple(name in said for name in names) for said in (reply.buy, reply.sell))
            found[trader] = TraderForecast(buy, sell, reply.loan == "yes")
        return found

    def post(self, view: MarketView) -> list[Post]:
        """Return the posts of the day; an empty text is none."""
        replies = self._ask(view, self._active(view), "post", PostReply, PostReply(), lambda *_: "")
        return [
            Post(trader, tuple(reply.sentiment.get(firm.name, 0.0) for firm in view.firms), reply.text)
            for trader, reply in replies.items()
            if reply.text
        ]

    # ---- requests ----------------------------------------------------------------------------------------------------

    def _active(self, view: MarketView) -> list[int]:
        return [trader for trader, active in enumerate(view.exchange.ledger.active) if active]

    def _ask(
        self,
        view: MarketView,
        traders: Sequence[int],
        ask: Ask,
        model: type[M],
        nothing: M,
        check: Callable[[int, M], str],
    ) -> dict[int, M]:
        """Return a reply per trader, none after the budget is used up.

        Args:
            view: the market.
            traders: who is asked.
            ask: the question.
            model: form of the reply.
            nothing: reply that counts as no action.
            check: returns why a trader's reply cannot be carried out, or an empty text.
        """
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
            if self.log is not None and trader == 0:
                prompt = request.messages[-1].content
                self.log({"day": view.day, "who": f"trader 0, {ask}", "prompt": prompt, **_said(result)})
        return {trader: result.value for trader, result in zip(traders, results, strict=True)}

    def _request(self, view: MarketView, trader: int, ask: Ask) -> ChatRequest:
        return ChatRequest(
            say(question(view, trader, ask), instructions(view, trader)),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=self.seed,
            draw=trader,
        )

    def _count(self, result: Structured[M]) -> None:
        """Count an answer by the kind of what was wrong with it."""
        if result.how == "first":
            return
        kind, _, words = result.reason.partition(": ")
        self.counts[words.partition(":")[0] if kind == "refused" else kind] += 1
        self.counts["no_action"] += result.how == "fallback"

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, and why the traders act no more."""
        return {"counts": dict(self.counts), "exhausted": self.exhausted}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.counts, self.exhausted = Counter(state["counts"]), state["exhausted"]


def make_service(config: StockMarketConfig, directory: Path, seed: int) -> Service:
    """Open the language-model service; its replies are kept in the run, or in `config.reply_cache`."""
    return open_service(config, lambda: Scripted(scripted_trader_reply, "trader", seed), directory)


def make_traders(
    config: StockMarketConfig, service: Service, seed: int, log: ExchangeLogger | None = None
) -> ServiceTraders:
    """Build the traders of a configuration, all asked through one service."""
    return ServiceTraders(
        service,
        seed=seed,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        repairs=config.repairs,
        log=log,
    )


def scripted_trader_reply(request: ChatRequest, seed: int) -> Mapping[str, Any]:
    """Answer as the scripted stand-in, which buys what has fallen and sells what has risen, a little at random."""
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


def _intent(reply: OrderReply, names: Sequence[str]) -> OrderIntent | None:
    """Return the order of a reply, with its price rounded to whole cents."""
    if reply.action == "no":
        return None
    return OrderIntent(names.index(reply.stock), reply.action, reply.amount, round(100 * reply.price))


def _borrowing(reply: LoanReply) -> Borrowing | None:
    return Borrowing(reply.type, round(100 * reply.amount)) if reply.loan == "yes" else None


def _said(result: Structured[Any]) -> dict[str, Any]:
    record = getattr(result.answer, "record", None)
    return record() if record is not None else {"completion": "", "source": "", "model": "", "stop": "failed"}
