"""Claims of StockAgent (arXiv 2407.18957) on scripted traders; seeds are paired, and signs were fixed beforehand.

The paper's statements are qualitative and about language models; these say what the market must do when its traders
react to what they are shown. Each unit is a population with its random numbers, met by both arms. The signs follow from
the method and were written down before the runs that count; the traders' rules were tuned on other populations.
"""

from __future__ import annotations

from typing import Any

from pilotage.core.claims import Arm, Claim, Criterion
from pilotage.systems.societies.stock_agent import measures

MARKET = "stock-agent"
SEEDS = 20
COST = 9.0
"""CPU-seconds of a market of 50 traders and 264 days, as a run."""
FACTORS = "section on external factors"
MODELS = "section on different models"


def _effect(
    name: str,
    statement: str,
    source: str,
    metric: str,
    arms: tuple[str, str],
    commands: tuple[str, str],
    *,
    more: bool,
    **fields: Any,
) -> Claim:
    """Return a claim that the metric is higher (or lower) in the first arm's market than in the second's."""
    return Claim(
        name,
        statement,
        source,
        {arm: Arm(command) for arm, command in zip(arms, commands, strict=True)},
        metric,
        Criterion("better"),
        compare=arms,
        higher_is_better=more,
        unit="population",
        n=SEEDS,
        cost=COST,
        **fields,
    )


CLAIMS = [
    _effect(
        "rate cut: borrowing",
        "In the 22 days after the rate cut of day 78 traders borrow more than where the central bank does nothing.",
        FACTORS,
        "loans/after_78",
        ("decisions", "none"),
        (MARKET, f"{MARKET} --no-rate-events"),
        more=True,
        primary=True,
    ),
    _effect(
        "rate rise: borrowing",
        "In the 22 days after the rise of day 144 traders borrow less than where only the cut happened.",
        FACTORS,
        "borrowed",
        ("rise", "no rise"),
        (MARKET, MARKET),
        more=False,
        measure=measures.without_rise,
    ),
    _effect(
        "reports: price and valuation",
        "With quarterly reports prices stay nearer to the valuation.",
        FACTORS,
        "distance",
        ("reports", "none"),
        (MARKET, f"{MARKET} --no-reports"),
        more=False,
        primary=True,
    ),
    _effect(
        "forum: herding",
        "Where traders read one another's posts, their net orders are more alike.",
        FACTORS,
        "herding",
        ("forum", "none"),
        (MARKET, f"{MARKET} --no-forum"),
        more=True,
    ),
    _effect(
        "news: volatility",
        "With news of the economy daily returns vary more.",
        FACTORS,
        "volatility",
        ("news", "none"),
        (MARKET, f"{MARKET} --no-news"),
        more=True,
    ),
    Claim(
        "good surprise",
        "After a report with 20 % more profit the five-day return is higher, in at least 80 %.",
        FACTORS,
        {"good": Arm(MARKET)},
        "wrong",
        Criterion("rare", 0.2),
        unit="population",
        n=40,
        measure=measures.surprise,
        primary=True,
        cost=5.0,
        note="The response is the return less that of the same market without the surprise: day 78 also brings the "
        "rate cut and the report itself.",
    ),
    _effect(
        "styles: autocorrelation",
        "Returns of a market of trend followers continue more than those of a market of value-anchored traders.",
        MODELS,
        "autocorrelation",
        ("trend", "value"),
        (f"{MARKET} --traders trend", f"{MARKET} --traders value"),
        more=True,
    ),
    Claim(
        "styles: told apart",
        "A linear classifier, fitted to another mixed market, tells trend followers from value-anchored traders in at "
        "least 90 % by what they did.",
        MODELS,
        {"market": Arm(MARKET)},
        "at_least_90_percent",
        Criterion("exact"),
        unit="population",
        n=SEEDS,
        measure=measures.told_apart,
        cost=15.0,
    ),
    Claim(
        "names swapped",
        "When the firms change names and places, the orders follow the firm: its share of all orders stays within 5 "
        "points.",
        "section on test-set leakage",
        {"named": Arm(MARKET), "swapped": Arm(MARKET)},
        "share",
        Criterion("same", 0.05),
        compare=("named", "swapped"),
        unit="population",
        n=SEEDS,
        measure=measures.named,
        cost=2.0,
    ),
    Claim(
        "prices: size of moves",
        "The standard deviation of daily log-returns lies within the range of 90 % of years of real stocks, 0.008 to "
        "0.022, in 75 % of markets.",
        "not in the paper: real stocks, 2012 to 2017",
        {"market": Arm(MARKET)},
        "volatility_outside",
        Criterion("rare", 0.25),
        unit="population",
        n=SEEDS,
        measure=measures.stylised,
        cost=COST,
        note="Prices that come from trades alone need not vary like real ones.",
    ),
]
