r"""Whether two answers are mathematically equal: plain numbers at once, everything else by math-verify in a worker.

What counts as the answer of a text, in this order: the content of `<answer>…</answer>`; its only `\boxed{…}` or
`\fbox{…}`; the rest of the line after its last `#` or `####`; the rest of its last line "Answer: …"; its formulas
between dollar signs; the last formula or number of its running text. Markdown marks around an answer, thin spaces in
numbers and signs of other alphabets make no difference.
"""

from __future__ import annotations

import re
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.types import Item

_NUMBER = re.compile(r"\$?\s*([+-]?)([1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)\.?\s*\$?")
_SPACED_NUMBER = re.compile(r"[+-]?[0-9]{1,3}(?: [0-9]{3})+")
_MATHEMATICS = re.compile(r"(?<!\\)\$|\\boxed|\\\(|\\\[")
_LATEX_TEXT = re.compile(
    r"\\(?:begin|end)\s*\{[^{}]*\}|\\(?:text|mathrm|mbox|textbf|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+"
)
_WORD = re.compile(r"[A-Za-z]{2,}")
_BARE_LENGTH = 300
"""Characters up to which a text without words is taken for a formula."""

_FRAME = re.compile(r"\\[fc]box(?![A-Za-z])|\\framebox(?![A-Za-z])")
_THIN_SPACE = re.compile(r"(?<=[0-9])(?:\\[,;:!]|\{,\}|[\u2009\u202f\u00a0])(?=[0-9]{3}(?![0-9]))")
_SIGNS = str.maketrans({"\u2212": "-", "\u2013": "-", "\u00d7": "*", "\u22c5": "*", "\u2044": "/"})
_POWERS = str.maketrans({"\u00b2": "^2", "\u00b3": "^3"})
_MARKS = (
    re.compile(r"(?<![\w*])\*\*(?=[^\s*])([^*\n]+)(?<=\S)\*\*(?![\w*])"),
    re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]+)(?<=\S)\*(?![\w*])"),
    re.compile(r"(?<![\w\\}])__(?=[^\s_])([^_\n]+)(?<=\S)__(?!\w)"),
    re.compile(r"(?<![\w\\}])_(?=[^\s_{])([^_\n]+)(?<=\S)_(?!\w)"),
    re.compile(r"`([^`\n]+)`"),
)
"""Bold, italic and code of Markdown; an asterisk between factors is none of them."""
_FENCE = re.compile(r"^```\w*$", re.MULTILINE)

_ANSWER_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_ANSWER_LINE = re.compile(
    r"^[ \t>•-]*(?:the[ \t]+)?(?:final[ \t]+)?(?:answer|result|solution)(?:[ \t]+is)?[ \t]*[:=]\s*(\S.*)$",
    re.MULTILINE | re.IGNORECASE,
)
_REMARK = re.compile(r"\.\s+(?=[A-Z(])|\s\((?=[A-Za-z]{2})|(?<=\$)\.\s|(?<=[0-9]),?\s+(?:not|but|since|because)\s")
"""Where a remark begins behind an answer: 12 (not 13)."""
_HEADING = re.compile(r"(?:[A-Za-z]|[0-9]+[.)]\s)[^0-9]*")
"""What follows `#` in a heading of Markdown, as opposed to an answer: words, or their number and words."""

_SHORT_TEXT = re.compile(r"(?:\\text\s*\{)?[^\W\d_]+(?:[ '-][^\W\d_]+){0,3}\}?")

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?"
_LETTER = r"(?<![A-Za-z])[A-Za-z](?![A-Za-z'’])"
_ATOM = rf"(?:[+-]?\(){{0,8}}[+-]?(?:{_DIGITS}(?:[a-zA-Z](?![a-zA-Z]))?|{_LETTER})[²³]?\)*(?:\s?%)?"
_OPERATOR = r"\s*(?:\*\*|<=|>=|[-+*/^=<>≤≥÷])\s*|:|(?=\()"
_FORMULA = re.compile(rf"{_ATOM}(?:(?:{_OPERATOR}){_ATOM})*")
_LIST = re.compile(rf"[+-]?{_DIGITS}(?:(?:,\s+(?:and\s+|or\s+)?[+-]?{_DIGITS})+|(?:\s+[+-]?{_DIGITS}){{2,}})(?=\W*$)")
_LONGEST_SENTENCE = 1000
"""Characters at the end of a running text in which its last formula is looked for."""

TOLERANCE = 1e-4
"""Largest relative difference between equal numbers when one of them is rounded (0.428571 for 3/7)."""
EXACT = 1e-12
"""The same when neither is."""


def plain_number(text: str) -> str | None:
    """Return a decimal number without separators, dollar signs and superfluous zeros; None for all else.

    Equal numbers give equal texts, however many digits they have.
    """
    match = _NUMBER.fullmatch(_tidy_number(text).strip())
    if match is None:
        return None
    whole, _, fraction = match[2].replace(",", "").partition(".")
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    sign = "-" if match[1] == "-" and (whole, fraction) != ("0", "") else ""
    return sign + whole + (f".{fraction}" if fraction else "")


def _tidy_number(text: str) -> str:
    return _THIN_SPACE.sub("", text.translate(_SIGNS))


def tidy(text: str) -> str:
    """Return a text without Markdown marks and thin spaces in numbers, with ASCII signs and each frame as a box."""
    text = _FRAME.sub(r"\\boxed", _tidy_number(text))
    for mark in _MARKS:
        text = mark.sub(r"\1", text)
    return _FENCE.sub("", text)


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
            return re.sub(r"(?<!\\)\$", " ", content[1:position]).strip() if position else None
    return None


def _without_dollars(text: str) -> str:
    text = text.strip()
    inner = text[1:-1]
    return inner.strip() if len(text) > 2 and text[0] == text[-1] == "$" and "$" not in inner else text


def marked_answer(text: str) -> str | None:
    r"""Return what a tidied text marks as its answer, without a `\boxed{…}` around it; None without a mark."""
    tags = list(_ANSWER_TAG.finditer(text))
    tagged = len(tags) > 1 and not tags[-2][1] and bool(tags[-1][1])
    if tagged:
        text = text[tags[-2].end() : tags[-1].start()].strip()
    if "\\boxed" in text:
        return boxed(text)
    if "#" in text:
        rest = text.rpartition("#")[2].strip()
        line, _, after = rest.partition("\n")
        if not after.strip() or not _HEADING.fullmatch(line):
            return _without_remark(line)
        text = after
    lines = _ANSWER_LINE.findall(text)
    if lines:
        return _without_remark(lines[-1])
    return text if tagged else None


def _without_remark(line: str) -> str:
    """Return the answer at the beginning of a line, without dollar signs around it and without what is said of it."""
    return _without_dollars(_REMARK.split(line.strip(), maxsplit=1)[0])


def final_answer(text: str) -> str | None:
    r"""Return the part of a text that plainly is its answer; None where only a parser can tell."""
    text = tidy(text)
    found = marked_answer(text)
    if found is None and "\\boxed" not in text and plain_number(text) is not None:
        return text.strip()
    return found


def quick_verdict(gold: str, text: str) -> float | None:
    """1.0 or 0.0 where the answer of the text is a plain number or the very characters of `gold`, else None."""
    answer = final_answer(text)
    if answer is None:
        return None
    if answer and answer in (gold.strip(), tidy(gold).strip()):
        return 1.0
    number, expected = plain_number(answer), plain_number(gold)
    if number is None or expected is None:
        return None
    return float(number == expected)


def as_formula(text: str) -> str:
    """Return the formula of a text put into a box, so that the parser takes all of it; other texts as they are.

    Without that, math-verify reads only the last number of `10, 4, 2` or of `the line is x + y = 0`, and no LaTeX at
    all outside of `$`.
    """
    text = text.strip()
    if _MATHEMATICS.search(text) or plain_number(text) is not None or _SPACED_NUMBER.fullmatch(text):
        return text
    if "\n" not in text and len(text) <= _BARE_LENGTH and not _WORD.search(_LATEX_TEXT.sub("", text)):
        return rf"\boxed{{{text}}}"
    if "\\" in text:
        return text
    found = last_formula(text)
    return text if found is None else rf"\boxed{{{found}}}"


def last_formula(text: str) -> str | None:
    """Return the last formula of running text, such as `3x + 4y = 0`, or the list of numbers at its end.

    None when it ends in a plain number, or in none.
    """
    text = text[-_LONGEST_SENTENCE:]
    numbers = _LIST.search(text)
    if numbers is not None and not _SPACED_NUMBER.fullmatch(numbers[0]):
        return ", ".join(re.findall(rf"[+-]?{_DIGITS}", numbers[0]))
    found = [match[0] for match in _FORMULA.finditer(text) if re.search("[0-9]", match[0])]
    if not found:
        return None
    last = found[-1].replace("**", "^").translate(_POWERS)
    if last.count("(") != last.count(")"):
        last = last.strip("()")
    if plain_number(last.rstrip("% ")) is not None or not re.search(r"[^\w.,%²³()\s]", found[-1].lstrip("+-")):
        return None
    return None if last.count("(") != last.count(")") else last.replace("%", r"\%")


MATH_VERSION = "math-verify 0.9.0, rules 2"
"""Recorded scores of other rules are not used again: raise this with every change to this file."""


class MathEquality:
    """Scorer for workers: 1.0 when math-verify finds the text's answer equal to the item's, else 0.0.

    Equal as math-verify means it: `1/2` is `0.5`, order in a set does not matter, six decimals are compared; beside
    that, numbers must agree relative to their size. An answer that the parser cannot read, or fails on, is wrong; a
    gold answer of a few words is compared word by word.
    """

    answer_only = True
    identity = MATH_VERSION

    @staticmethod
    def quick(item: Item, text: str) -> float | None:
        """Return the score where no parser is needed: 1.0 or 0.0, else None."""
        found = [quick_verdict(gold, text) for gold in right_answers(item)]
        return 1.0 if 1.0 in found else None if None in found else 0.0

    def prepare(self) -> None:
        """Load the parser and answer once. Raises UsageError where math-verify is not installed."""
        try:
            import math_verify
            from math_verify import grader
        except ImportError as error:
            raise UsageError("mathematical equality needs math-verify: pip install 'pilotage[math]'") from error
        # The one place where math-verify compares with an absolute tolerance; sets and equations come through it too.
        rounded = getattr(grader.sympy_numeric_eq, "rounded", grader.sympy_numeric_eq)

        def relative(a: Any, b: Any, float_rounding: int, numeric_precision: int) -> bool:
            if not rounded(a, b, float_rounding, numeric_precision):
                return False
            return nearly_equal(a, b) or nearly_equal(grader.get_pct_val(a, a), grader.get_pct_val(b, b))

        relative.rounded = rounded  # type: ignore[attr-defined]
        grader.sympy_numeric_eq = relative
        # The limits of math-verify rest on signals and do not stop a long single operation; ours kills the process.
        self._parse, self._verify = math_verify.parse, math_verify.verify
        self(r"It is $\frac{x^2+1}{2}$.", Item("", "", r"\frac{1}{2}+x"))

    def __call__(self, text: str, item: Item) -> float | None:
        """Return 1.0 for an answer that is mathematically equal to a right one, else 0.0; None without a right one."""
        golds = [gold for gold in right_answers(item) if gold.strip()]
        return max((self._equal(gold, text) for gold in golds), default=None)

    def _equal(self, right: str, text: str) -> float:
        text = tidy(text)
        answer = marked_answer(text)
        if answer is None:
            answer = text
        elif boxed(text) == answer:
            answer = rf"\boxed{{{answer}}}"
        gold = self._parse(as_formula(tidy(right)), parsing_timeout=None)
        if not gold:
            return float(is_read_at_once(right) and _words(answer) == _words(right) != [])
        try:
            given = self._parse(as_formula(answer), parsing_timeout=None)
            return float(self._verify(gold, given, timeout_seconds=None))
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
            return 0.0  # such as a number with more digits than Python turns into an integer


def right_answers(item: Item) -> tuple[str, ...]:
    """Return the answers of which each is right: those that the data lists, else the item's own."""
    several = item.meta.get("answers")
    return several if isinstance(several, tuple) else (item.answer,)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", re.sub(r"\\[A-Za-z]+", " ", text).casefold())


def is_read_at_once(gold: str) -> bool:
    """Return whether a gold answer needs no parser: a plain number, or up to four words."""
    return plain_number(gold) is not None or _SHORT_TEXT.fullmatch(gold.strip()) is not None


def nearly_equal(a: Any, b: Any) -> bool:
    """Return whether two expressions of sympy agree relative to their size, where they have numeric values.

    Rational numbers must be equal; expressions with variables must agree at points of their variables.
    """
    import sympy

    if not (isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr)):
        return True
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    rounded = a.has(sympy.Float) or b.has(sympy.Float)
    for offset in (1, 2) if symbols else (0,):
        point = {symbol: sympy.Rational(7 * (position + offset), 5) for position, symbol in enumerate(symbols)}
        left, right = (expression.subs(point).doit() for expression in (a, b))
        if left.is_Rational and right.is_Rational:
            if left != right:
                return False
            continue
        left, right = left.evalf(30), right.evalf(30)
        if not (left.is_number and right.is_number and left.is_finite and right.is_finite):
            continue
        size = max(abs(left), abs(right))
        if size and abs(left - right) > (TOLERANCE if rounded else EXACT) * size:
            return False
    return True
