"""Probability of each of a few words as the beginning of an answer: one call in place of many draws."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pilotage.core.errors import UsageError
from pilotage.llm.chat import ChatAnswer


def first_token_shares(answer: ChatAnswer, words: Sequence[str]) -> tuple[dict[str, float], float]:
    """Return the probability of each word among `words`, and the total probability of tokens that stand for one.

    A token stands for a word when it is the word or its beginning, spaces before it and capitals aside; one that begins
    several words stands for none. Under a small covered probability the shares say little.

    Args:
        answer: to a request with `alternatives` of about 20; the log-probabilities are the model's at temperature 1.
        words: such as ("Yes", "No").

    Raises:
        UsageError: the answer carries no log-probabilities, or none of the alternatives stands for a word.
    """
    if not answer.tokens:
        raise UsageError(
            "the answer carries no log-probabilities; ask with alternatives=20, of a provider that has them"
        )
    first = answer.tokens[0]
    covered = dict.fromkeys(words, 0.0)
    for text, logp in {first.text: first.logp, **first.alternatives}.items():
        piece = text.strip().casefold()
        meant = [word for word in words if piece and word.casefold().startswith(piece)]
        if len(meant) == 1:
            covered[meant[0]] += math.exp(logp)
    total = sum(covered.values())
    if total == 0:
        raise UsageError(f"the answer begins with {first.text!r}, and no likely token stands for one of {list(words)}")
    return {word: share / total for word, share in covered.items()}, total
