"""The task of a text run: an embedded one by name, or questions of the user's own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.pieces import PieceChoice, parse_sum
from pilotage.environments.text import text_task
from pilotage.training.language.config import TextConfig
from pilotage.types import Item

_COMPARE = ("exact", "math", "partial")
"""Rewards that compare a reply with the answer of the data."""


def make_task(config: TextConfig) -> Any:
    """Return the source of prompts and the check of answers.

    Raises UsageError for unknown names and unreadable data.
    """
    if config.data is None:
        return text_task(config.task, config.difficulties or None)
    if config.model.startswith("embedded:") and config.pretrain_to_accuracy > 0:
        raise UsageError(
            f"{config.model} is first trained on an embedded task and reads its characters alone; your own questions "
            "need a language model: give --model with a Hugging Face name or folder"
        )
    from pilotage.data.questions import TEMPLATE, QuestionTask, load_questions

    options: dict[str, Any] = {
        "fields": parse_fields(config.fields),
        "subset": config.subset or None,
        "skip_bad": config.skip_bad_rows,
        "needs_answer": needs_answer(config.reward),
    }
    test = None if config.test_data is None else load_questions(config.test_data, split=config.test_split, **options)
    task = QuestionTask(
        load_questions(config.data, split=config.split, **options),
        held_out=test,
        template=config.template or TEMPLATE,
        max_new_tokens=config.max_tokens or 512,
        name=config.data,
        difficulties=config.difficulties or None,
    )
    if not task.pool(1, "held_out"):
        raise UsageError(f"{config.data} has no questions to hold out; give two or more, or a file of them (test_data)")
    return task


def needs_answer(reward: PieceChoice) -> bool:
    """Return whether a reward looks at the answers of the data; one of your own is not known to."""
    return isinstance(reward, str) and any(term.reference in _COMPARE for term in parse_sum(reward))


def fitting_items(
    items: Sequence[Item], encode: Callable[[Item], Sequence[int]], context: int, leave_out: bool = False
) -> list[Item]:
    """Return the items whose prompts leave room for an answer in the model's context.

    Args:
        items: the prompts, those of data with their place.
        encode: gives the token ids of an item's prompt.
        context: most tokens of prompt and answer together.
        leave_out: whether prompts that are too long are left out, with a warning, instead of refused.

    Raises:
        UsageError: with the places of the prompts that are too long, or when none fits.
    """
    # A text so long need not be encoded to know.
    lengths = [len(item.prompt) if len(item.prompt) > 1000 * context else len(encode(item)) for item in items]
    long = [(item, length) for item, length in zip(items, lengths, strict=True) if length >= context]
    if not long:
        return list(items)
    shown = ", ".join(f"{item.meta.get('place', item.id)} ({length} tokens)" for item, length in long[:3])
    text = f"{len(long)} of {len(items)} prompts fill the model's context of {context} tokens: {shown}"
    if not leave_out or len(long) == len(items):
        raise UsageError(f"{text}; shorten them, leave them out (--skip-bad-rows) or use a model with a longer context")
    warnings.warn(f"{text}; they are left out", stacklevel=2)
    return [item for item, length in zip(items, lengths, strict=True) if length < context]


def parse_fields(text: str) -> dict[str, str] | None:
    """Return `"prompt=question,answer=target"` as a dictionary; None for an empty text."""
    if not text.strip():
        return None
    fields = {}
    for pair in text.split(","):
        role, equals, name = pair.partition("=")
        if not equals:
            raise UsageError(f"fields={text!r}: cannot read {pair!r}; expected role=field, such as prompt=question")
        fields[role.strip()] = name.strip()
    return fields
