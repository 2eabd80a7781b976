"""A small language policy with a tokenizer of characters."""

from __future__ import annotations

from tests.engines.models import random_model

from pilotage.policies.language.embedded import character_tokenizer
from pilotage.policies.language.policy import LanguagePolicy

VOCABULARY = "0123456789+-= ?abcdefghijklmnopqrstuv"
"""As many characters as the random models have tokens, less the four special ones."""


def small_policy(kind: str = "llama") -> LanguagePolicy:
    return LanguagePolicy(random_model(kind), character_tokenizer(VOCABULARY), "small")
