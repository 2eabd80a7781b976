"""Suggest the names that resemble one that was not found."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SYNONYMS = {
    "train": "run",
    "start": "run",
    "eval": "play",
    "evaluate": "play",
    "info": "show",
    "ls": "list",
    "learning_rate": "lr",
    "num_generations": "group_size",
    "answers": "group_size",
    "batch_size": "prompts_per_step",
    "max_completion_length": "max_tokens",
    "max_new_tokens": "max_tokens",
    "beta": "penalty",
    "num_steps": "steps",
    "max_steps": "steps",
    "epochs": "steps",
    "output_dir": "out",
    "model_name_or_path": "model",
    "dataset": "data",
    "levels": "difficulties",
    "world": "env",
    "chunk": "chunk_size",
}
"""Words of other libraries and of earlier versions for names of this one."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ` (did you mean 'a' or 'b'?)` with up to three of `names` that resemble `name`; empty when none does.

    The known word for the same thing comes first: 'lr' for 'learning_rate', '--lr' for '--learning-rate'.
    """
    by_folded = {candidate.lower(): candidate for candidate in names}
    dashes = "--" if name.startswith("--") else ""
    synonym = SYNONYMS.get(name.removeprefix("--").lower().replace("-", "_"), "")
    written = dashes + (synonym.replace("_", "-") if dashes else synonym)
    close = [by_folded[found] for found in difflib.get_close_matches(name.lower(), by_folded, n=3, cutoff=0.55)]
    if synonym and written in by_folded:
        close = list(dict.fromkeys([by_folded[written], *close]))[:3]
    return f" (did you mean {' or '.join(repr(c) for c in close)}?)" if close else ""
