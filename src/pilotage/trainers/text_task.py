"""The task of a text run: an embedded one by name, or questions of the user's own."""

from __future__ import annotations

from typing import Any

from pilotage.environments.text import text_task
from pilotage.trainers.text_config import TextConfig


def make_task(config: TextConfig) -> Any:
    """The source of prompts and the check of answers. Raises UsageError for unknown names and unreadable data."""
    if config.data is not None:
        from pilotage.data.questions import question_task

        return question_task(config.data, fields=config.fields)
    return text_task(config.task, config.levels or None)
