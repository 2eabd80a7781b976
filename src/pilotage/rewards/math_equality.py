"""Whether two answers are mathematically equal: plain numbers at once, everything else by math-verify in a worker."""

from __future__ import annotations

import re
from fractions import Fraction

from pilotage.core.errors import UsageError
from pilotage.types import Item

_NUMBER = re.compile(
    r"\$?\s*([+-]?)((?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]{1,100})(?:\.[0-9]{1,100})?|\.[0-9]{1,100})\.?\s*\$?"
)
_SPACED_NUMBER = re.compile(r"[+-]?[0-9]{1,3}(?: [0-9]{3})+")
_MATHEMATICS = re.compile(r"(?<!\\)\$|\\boxed|\\\(|\\\[")
_LATEX_TEXT = re.compile(
    r"\\(?:begin|end)\s*\{[^{}]*\}|\\(?:text|mathrm|mbox|textbf|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+"
)
_WORD = re.compile(r"[A-Za-z]{2,}")
_BARE_LENGTH = 300
"""Characters up to which a text without words is taken for a formula."""


def plain_number(text: str) -> Fraction | None:
    """Return the value of a decimal number with or without thousands separators and dollar signs; None for all else."""
    match = _NUMBER.fullmatch(text.strip())
    return None if match is None else Fraction(match[1] + match[2].replace(",", ""))


def boxed(text: str) -> str | None:
    r"""Return the content of a text's only `\boxed{…}`, braces matched; None without one, with two, or unclosed."""
    if text.count("\\boxed") != 1:
        return None
    start = text.index("\\boxed") + len("\\boxed")
    content = text[start:].lstrip()
    depth = 0
    for position, character in enumerate(content):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return content[1:position].strip() if position else None
    return None


def final_answer(text: str) -> str | None:
    r"""Return the part of a text that plainly is its answer: its only `\boxed{…}`, what follows its last `#` (`####` of
    GSM8K, `#` of the text tasks), or the whole text when that is a number. None where only a parser can tell.
    """
    if "\\boxed" in text:
        return boxed(text)
    if "#" in text:
        return text.rpartition("#")[2].strip()
    return text.strip() if plain_number(text) is not None else None


def quick_verdict(gold: str, text: str) -> float | None:
    """1.0 or 0.0 where the answer of the text is a plain number or the very characters of `gold`, else None."""
    answer = final_answer(text)
    if answer is None:
        return None
    if answer and answer == gold.strip():
        return 1.0
    number, expected = plain_number(answer), plain_number(gold)
    if number is None or expected is None:
        return None
    return float(number == expected)


def as_formula(text: str) -> str:
    """Return a bare formula put into a box, so that the parser takes all of it; running text and marked formulas as
    they are.

    Without that, math-verify reads only the last number of `10, 4, 2`, and no LaTeX at all outside of `$`.
    """
    text = text.strip()
    if _MATHEMATICS.search(text) or "\n" in text or len(text) > _BARE_LENGTH:
        return text
    if plain_number(text) is not None or _SPACED_NUMBER.fullmatch(text) or _WORD.search(_LATEX_TEXT.sub("", text)):
        return text
    return rf"\boxed{{{text}}}"


MATH_VERSION = "math-verify 0.9.0, rules 1"
"""Recorded verdicts of other rules are not replayed: raise this with every change to this file."""


class MathEquality:
    """A judge for a WorkerPool: 1.0 when math-verify finds the text's answer equal to the item's, else 0.0.

    Equal as math-verify means it: `1/2` is `0.5`, order in a set does not matter, six decimals are compared.
    """

    def prepare(self) -> None:
        """Prepare what the batch needs."""
        try:
            import math_verify
        except ImportError as error:
            raise UsageError("mathematical equality needs math-verify: pip install 'pilotage[math]'") from error
        # The limits of math-verify rest on signals and do not stop a long single operation; ours kills the process.
        self._parse, self._verify = math_verify.parse, math_verify.verify
        self(r"It is $\frac{x^2+1}{2}$.", Item("", "", r"\frac{1}{2}+x"))

    def __call__(self, text: str, item: Item) -> float:
        """Return 1.0 for an answer that is mathematically equal to the gold answer, else 0.0."""
        answer = final_answer(text) if "#" in text and "\\boxed" not in text else text
        gold = self._parse(as_formula(item.answer), parsing_timeout=None)
        given = self._parse(as_formula(answer or ""), parsing_timeout=None)
        return float(self._verify(gold, given, timeout_seconds=None))
