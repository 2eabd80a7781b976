"""The task of a text run: an embedded one by name, or questions of the user's own."""

from __future__ import annotations

from typing import Any

from pilotage.core.errors import UsageError
from pilotage.environments.text import text_task
from pilotage.training.language.config import TextConfig


def make_task(config: TextConfig) -> Any:
    """Return the source of prompts and the check of answers.

    Raises UsageError for unknown names and unreadable data.
    """
    if config.data is None:
        return text_task(config.task, config.difficulties or None)
    from pilotage.data.questions import TEMPLATE, QuestionTask, load_questions

    fields = parse_fields(config.fields)
    test = None if config.test_data is None else load_questions(config.test_data, fields=fields)
    return QuestionTask(
        load_questions(config.data, fields=fields),
        held_out=test,
        template=config.template or TEMPLATE,
        max_new_tokens=config.max_tokens or 512,
        name=config.data,
        difficulties=config.difficulties or None,
    )


def parse_fields(text: str) -> dict[str, str] | None:
    """`"prompt=question,answer=target"` as a dictionary; None for an empty text."""
    if not text.strip():
        return None
    fields = {}
    for pair in text.split(","):
        role, equals, name = pair.partition("=")
        if not equals:
            raise UsageError(f"fields={text!r}: cannot read {pair!r}; expected role=field, such as prompt=question")
        fields[role.strip()] = name.strip()
    return fields
