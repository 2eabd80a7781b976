"""Answers of citizens by formula, in place of a language model: the formula reads the text that a model would read.

Only the numbers in the prompt decide. A service labels the answers as scripted (`yes_no.scripted_yes_no`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

AGES = ("U19", "20t29", "30t39", "40t49", "50t64", "65A")
AGE_BIAS = (-1.2, -1.0, -0.7, -0.5, 0.0, 0.6)
AGE_WORDS = ("under 20", "20 to 29", "30 to 39", "40 to 49", "50 to 64", "65 or older")
ISOLATION_PROMPT = (
    "A person aged {age} lives in {borough}. A novel disease spreads in the city. This week there were {cases} cases "
    "per 10,000 people, a change of {change} % against the mean of the four weeks before. It is week {week} of the "
    "epidemic. Does this person isolate at home this week? Answer Yes or No, then give the reason in one sentence."
)
WORK_PROMPT = (
    "A person aged {age} lives in {borough} and earns {wage} wages. This month there were {cases} cases of a novel "
    "disease per 10,000 people, and the state pays a stimulus of {stimulus} dollars. Does this person go to work this "
    "month? Answer Yes or No, then give the reason in one sentence."
)
_NUMBER = r"(-?\d+(?:\.\d+)?)"


def p_isolate(age: int, cases_per_10k: float, growth: float, weeks: float) -> float:
    """Return the probability of isolation, σ(b_age + .8 · log1p(cases) + 1.2 · growth − .03 · weeks).

    Args:
        age: age group, 0 … 5.
        cases_per_10k: cases per 10,000 people.
        growth: change against the last month as a share, clipped to ±1.
        weeks: weeks since the start; isolation becomes rarer with time.
    """
    return _sigmoid(AGE_BIAS[age] + 0.8 * math.log1p(cases_per_10k) + 1.2 * max(-1.0, min(1.0, growth)) - 0.03 * weeks)


def p_work(cases_per_10k: float, stimulus: bool, low_wage: bool) -> float:
    """Return the probability of work, σ(1.4 − .5 · log1p(cases) − .9 · stimulus · low wage).

    Args:
        cases_per_10k: cases per 10,000 people.
        stimulus: whether a stimulus is paid.
        low_wage: whether the person earns low wages.
    """
    return _sigmoid(1.4 - 0.5 * math.log1p(cases_per_10k) - 0.9 * (stimulus and low_wage))


def read_citizen(text: str, ages: Sequence[str] = AGE_WORDS) -> float | None:
    """Return the probability of yes to ISOLATION_PROMPT or WORK_PROMPT, or to a rewording with the same numbers.

    A missing number counts as 0, a missing age as 50 to 64. None for a text that asks about neither isolation nor work.
    """
    lower = text.lower()
    age = next((place for place, word in enumerate(ages) if f"aged {word}" in lower), 4)
    cases = _after(rf"{_NUMBER} cases", lower)
    if "isolate" in lower:
        growth = _after(rf"change of {_NUMBER} %", lower) / 100
        return p_isolate(age, cases, growth, _after(rf"week {_NUMBER}", lower))
    if "go to work" in lower:
        return p_work(cases, _after(rf"stimulus of {_NUMBER}", lower) > 0, "earns low wages" in lower)
    return None


def _after(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found.group(1)) if found else 0.0


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
