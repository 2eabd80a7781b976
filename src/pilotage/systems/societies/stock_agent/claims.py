"""What StockAgent promises (arXiv 2407.18957), on scripted traders: paired seeds, the sign of each effect fixed before.

The paper's statements are qualitative and about language models; these say what the market must do when whoever trades
reacts to what it is shown. Each unit is a population with its luck, met by both arms. The signs come from the method
and were written down before the runs that count; rules of the traders were tuned on other populations. Those about
traders trained by PPO were written down before a market of 50 of them had been run. What needs a language model is
listed as not measured."""

from __future__ import annotations

from typing import Any

from pilotage.core.claims import Arm, Claim, Criterion
from pilotage.systems.societies.stock_agent import measures

MARKET = "stock-agent"
SEEDS = 20
LEARNED = f"{MARKET} --traders learned"
THIRD = f"{LEARNED} --learned-share 0.3333"
COST = 9.0
"""CPU-seconds of a market of 50 traders and 264 days, as a run."""


def _effect(
    name: str,
    statement: str,
    source: str,
    metric: str,
    arms: tuple[str, str],
    others: str,
    *,
    more: bool,
    **fields: Any,
) -> Claim:
    """A paired difference of two markets: the first arm has more (or less) of the metric than the second."""
    first, second = arms
    commands = {first: Arm(fields.pop("command", MARKET)), second: Arm(others)}
    return Claim(
        name,
        statement,
        source,
        commands,
        metric,
        Criterion("better"),
        compare=arms,
        higher_is_better=more,
        unit="population",
        n=SEEDS,
        **{"cost": COST, **fields},
    )


def _always(name: str, statement: str, source: str, metric: str, measure: Any, **fields: Any) -> Claim:
    """Something that holds in every population."""
    given = {"arms": {"market": Arm(MARKET)}, "unit": "population", "n": SEEDS, "cost": COST, **fields}
    return Claim(name, statement, source, metric=metric, criterion=Criterion("exact"), measure=measure, **given)


def _learned(name: str, statement: str, metric: str, against: str, more: bool) -> Claim:
    """A market of trained traders against one of scripted ones."""
    return _effect(
        f"learned: {name}",
        statement,
        "section on different models; card, claim 3",
        metric,
        ("learned", against),
        f"{MARKET} --traders {against}",
        more=more,
        command=LEARNED,
    )


def _surprise(arm: str, statement: str, primary: bool) -> Claim:
    return Claim(
        f"{arm} surprise",
        statement,
        "card, claim 2",
        {arm: Arm(MARKET)},
        "wrong",
        Criterion("rare", 0.2),
        unit="population",
        n=40,
        measure=measures.surprise,
        primary=primary,
        cost=5.0,
        note="The response is the return less that of the same market without the surprise: day 78 also brings the "
        "rate cut and the report itself.",
    )


def _like_real_prices(name: str, what: str, metric: str) -> Claim:
    low, high = measures.REAL[metric]
    return Claim(
        f"prices: {name}",
        f"The {what} lies within the range of 90 % of years of real stocks, {low} to {high}, in 75 % of markets.",
        "card, real parts: stylised facts",
        {"market": Arm(MARKET)},
        f"{metric} outside",
        Criterion("rare", 0.25),
        unit="population",
        n=SEEDS,
        measure=measures.stylised,
        cost=COST,
        note="The paper claims no such thing; it is asked because prices that come from trades alone need not have it.",
    )


def _unmeasured(name: str, statement: str, source: str, reason: str) -> Claim:
    arms = {"market": Arm(f"{MARKET} --traders llm")}
    return Claim(name, statement, source, arms, "distance", Criterion("exact"), tier="long", unmeasured=reason)


CLAIMS = [
    _effect(
        "rate cut: borrowing",
        "In the 22 days after the rate cut of day 78 traders borrow more than where the central bank does nothing.",
        "section on external factors; card, claim 1",
        "loans/after 78",
        ("decisions", "none"),
        f"{MARKET} --no-rate-events",
        more=True,
        primary=True,
    ),
    _effect(
        "rate rise: borrowing",
        "In the 22 days after the rise of day 144 traders borrow less than where only the cut happened.",
        "section on external factors; card, claim 1",
        "borrowed",
        ("rise", "no rise"),
        MARKET,
        more=False,
        measure=measures.without_rise,
    ),
    _effect(
        "reports: price and valuation",
        "With quarterly reports prices stay nearer to the valuation.",
        "section on external factors; card, claim 1",
        "distance",
        ("reports", "none"),
        f"{MARKET} --no-reports",
        more=False,
        primary=True,
    ),
    _effect(
        "forum: herding",
        "Where traders read one another's posts, their net orders are more alike.",
        "section on external factors; card, claim 1",
        "herding",
        ("forum", "none"),
        f"{MARKET} --no-forum",
        more=True,
    ),
    _effect(
        "news: volatility",
        "With news of the economy daily returns vary more.",
        "section on external factors; card, claim 1",
        "volatility",
        ("news", "none"),
        f"{MARKET} --no-news",
        more=True,
    ),
    _surprise("good", "After a report with 20 % more profit the five-day return is higher, in at least 80 %.", True),
    _surprise("bad", "After a report with 20 % less profit the five-day return is lower, in at least 80 %.", False),
    _effect(
        "styles: autocorrelation",
        "Returns of a market of trend followers continue more than those of a market of value-anchored traders.",
        "section on different models; card, claim 3",
        "autocorrelation",
        ("trend", "value"),
        f"{MARKET} --traders value",
        more=True,
        command=f"{MARKET} --traders trend",
    ),
    _effect(
        "styles: holding",
        "Value-anchored traders pass their turn more often than trend followers.",
        "section on different models; card, claim 3",
        "hold_rate",
        ("value", "trend"),
        f"{MARKET} --traders trend",
        more=True,
        command=f"{MARKET} --traders value",
    ),
    _effect(
        "styles: concentration",
        "Trend followers hold more in one stock than value-anchored traders.",
        "section on different models; card, claim 3",
        "concentration",
        ("trend", "value"),
        f"{MARKET} --traders value",
        more=True,
        command=f"{MARKET} --traders trend",
    ),
    _always(
        "styles: told apart",
        "A linear classifier, fitted to another mixed market, tells trend followers from value-anchored traders in at "
        "least 90 % by what they did.",
        "section on different models; card, claim 3",
        "at least 90 %",
        measures.told_apart,
        cost=15.0,
    ),
    _effect(
        "styles: order size",
        "Trend followers place larger orders than value-anchored traders.",
        "section on different models; card, claim 3",
        "order_size",
        ("trend", "value"),
        f"{MARKET} --traders value",
        more=True,
        command=f"{MARKET} --traders trend",
    ),
    _learned(
        "order size", "Trained traders place larger orders than value-anchored ones.", "order_size", "value", True
    ),
    _learned(
        "holding", "Trained traders pass their turn less often than value-anchored ones.", "hold_rate", "value", False
    ),
    _learned(
        "concentration",
        "Trained traders, who have no lasting opinion of a stock, hold less in one than value-anchored ones.",
        "concentration",
        "value",
        False,
    ),
    _learned(
        "autocorrelation",
        "Returns of a market of trained traders continue less than those of a market of trend followers.",
        "autocorrelation",
        "trend",
        False,
    ),
    _effect(
        "learned: gain",
        "In markets of which one half are scripted traders, traders who were trained there gain more log wealth than "
        "before their training.",
        "card, claim 3",
        "gain/learned",
        ("trained", "untrained"),
        f"{LEARNED} --learned-share 0.5 --agents 24 --days 88 --trader-updates 0",
        more=True,
        command=f"{LEARNED} --learned-share 0.5 --agents 24 --days 88",
        cost=2.0,
    ),
    _always(
        "a trained trader is told apart",
        "A linear classifier, fitted to another market of value-anchored, trend-following and trained traders, tells "
        "the trained ones from the others in at least 90 %.",
        "section on different models; card, claim 3",
        "learned at least 90 %",
        measures.kinds_told_apart,
        arms={"mixed": Arm(f"{THIRD} --days 132")},
        cost=8.0,
    ),
    _always(
        "three kinds told apart",
        "The same classifier, for three kinds, gives at least 90 % of the traders their right one.",
        "section on different models; card, claim 3",
        "at least 90 %",
        measures.kinds_told_apart,
        arms={"mixed": Arm(f"{THIRD} --days 132")},
        cost=8.0,
    ),
    _always(
        "pure markets told apart",
        "Where every market has traders of one kind only, a linear classifier that knows three other markets gives at "
        "least 90 % of the traders their right kind.",
        "section on different models; card, claim 3",
        "at least 90 %",
        measures.pure_told_apart,
        arms={"pure": Arm(f"{LEARNED} --agents 30 --days 66")},
        cost=4.0,
        note="30 traders and 66 days, for six markets a population; the other claim about kinds has 50 and 132.",
    ),
    Claim(
        "names swapped",
        "When the firms change names and places, the orders follow the firm: its share of all orders stays within 5 "
        "points.",
        "section on test-set leakage; card, claim 4",
        {"named": Arm(MARKET), "swapped": Arm(MARKET)},
        "share",
        Criterion("same", 0.05),
        compare=("named", "swapped"),
        unit="population",
        n=SEEDS,
        measure=measures.named,
        cost=2.0,
    ),
    _always(
        "prices scaled",
        "All money times 7.3 leaves the orders of the first session as they are in relative terms, cents aside.",
        "section on test-set leakage; card, claim 4",
        "invariant",
        measures.scaled,
        cost=1.0,
    ),
    _always(
        "prompts name nothing real",
        "No message to a language model holds a real firm, ticker, index, year or date.",
        "section on test-set leakage; card, claim 4",
        "clean",
        measures.prompts_clean,
        n=3,
        needs=("llm",),
        cost=10.0,
    ),
    _always(
        "conservation",
        "Shares of each stock stay what they were, and cash changes by loans, repayments, interest and exits alone.",
        "card, claim 5",
        "conserved",
        measures.conserved,
    ),
    _effect(
        "a loud poster: herding",
        "One who praises a stock in a tenth of the posts, every other month, makes net orders more alike.",
        "card, claim 6",
        "herding",
        ("loud", "quiet"),
        MARKET,
        more=True,
        command=f"{MARKET} --loud 0.1",
    ),
    _effect(
        "matching: fill rate",
        "A double auction trades a larger part of what is ordered than matching of equal prices.",
        "card, traps",
        "fill_rate",
        ("continuous", "exact"),
        f"{MARKET} --rule exact",
        more=True,
    ),
    _like_real_prices("fat tails", "excess kurtosis of daily returns", "kurtosis"),
    _like_real_prices("clustered volatility", "autocorrelation of absolute daily returns", "autocorrelation/absolute"),
    _like_real_prices("no memory", "autocorrelation of daily returns", "autocorrelation"),
    _like_real_prices("size of moves", "standard deviation of daily log-returns", "volatility"),
    _unmeasured(
        "two language models differ",
        "Two language models give different order sizes, hold rates, concentration and price paths.",
        "section on different models; card, claim 3",
        "needs two language models: about 79,200 calls per market of 50 traders",
    ),
    _unmeasured(
        "a language model remembers no prices",
        "A language model's actions swap with the firms' names and stay when prices are scaled.",
        "section on test-set leakage; card, claim 4",
        "needs a language model; `named` and `scaled` measure the scripted traders",
    ),
]
