"""A tiny language policy with random weights that can chat."""

from __future__ import annotations

import string
from functools import cache
from typing import Any

from tests.engines.models import disturb

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@cache
def chatting(seed: int = 0) -> Any:
    """A policy of single characters; its context holds 256 of them."""
    from pilotage.policies.language.embedded import tiny_policy

    policy = tiny_policy("0.4M", string.printable[:95] + "\n", seed, context=256)
    policy.tokenizer.chat_template = TEMPLATE
    # As it is made, a model hardly looks at its prompt.
    disturb(policy.model, 0.15)
    return policy
