"""A lint of what traders are told: nothing that a model could know from the real world's markets.

It finds names of a list, years and dates. It cannot prove that a text reminds no model of anything; the test that swaps
the firms' names does that for actions."""

from __future__ import annotations

import re

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
    """What in a text points to the real world, in order of appearance; case counts, for names are capitalised."""
    found = [match for pattern in (_WORDS, _TICKER, _YEAR) for match in pattern.finditer(text)]
    return [match.group() for match in sorted(found, key=lambda match: match.start())]
