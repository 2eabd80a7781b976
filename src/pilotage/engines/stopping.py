"""Why an answer ends: an end-of-sequence token, its token limit, the context, or a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.types import Request

BYTES_PER_CHARACTER = 4
"""A character of UTF-8 takes at most this many tokens of a byte-level vocabulary."""


def end_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Return end-of-sequence ids of the generation config, the config and the tokenizer, sorted."""
    found: set[int] = set()
    for source in (getattr(model, "generation_config", None), model.config, tokenizer):
        value = getattr(source, "eos_token_id", None)
        found.update([value] if isinstance(value, int) else value or [])
    return tuple(sorted(found))


def context_length(config: Any) -> int:
    """Return the largest number of positions of prompt and answer together, of a model with this configuration."""
    text = config.get_text_config()
    return int(getattr(text, "max_position_embeddings", None) or getattr(text, "context_length", None) or 2**31)


def check_request(request: Request, context: int, bos_id: int | None, prefix: int = 0) -> tuple[list[int], int]:
    """Return the prompt's ids and the number of tokens that the answer may have.

    Args:
        request: as given.
        context: most positions of prompt and answer together.
        bos_id: stands for an empty prompt.
        prefix: tokens of the parent handle that `request.ids` continues.

    Raises:
        UsageError: no answers or tokens asked for, an empty prompt without BOS, or a prompt that fills the context.
    """
    if request.n < 1 or request.max_tokens < 1:
        raise UsageError(f"a request needs n >= 1 and max_tokens >= 1; n={request.n}, max_tokens={request.max_tokens}")
    ids = [int(token) for token in request.ids]
    if not ids and prefix == 0:
        if bos_id is None:
            raise UsageError(
                "the prompt is empty and the tokenizer has no beginning-of-sequence token to stand for it; "
                "give a prompt of at least one token"
            )
        ids = [bos_id]
    length = prefix + len(ids)
    if length >= context:
        raise UsageError(
            f"the prompt has {length} tokens and the model's context {context}, which leaves no room for an answer; "
            "shorten the prompt or choose a model with a longer context"
        )
    return ids, min(request.max_tokens, context - length)


class StopStrings:
    """Finder of stop strings in answers that grow by one token at a time.

    Decoding text at every step would cost more than sampling, so only rows whose newest token can end a stop string
    are decoded, and only as many tokens as a stop string can span.
    """

    def __init__(self, stops: Sequence[str], decode: Callable[[list[int]], str], vocabulary: int) -> None:
        if any(not stop for stop in stops):
            raise UsageError("a stop string is empty; leave it out")
        self.stops = tuple(stops)
        self.decode = decode
        self.span = max((len(stop) for stop in stops), default=0) * BYTES_PER_CHARACTER + BYTES_PER_CHARACTER
        last = {stop[-1] for stop in stops}
        # A piece may lose its space when decoded alone, and "\ufffd" stands for part of a character: look closer there.
        always = any(character.isspace() for character in last)
        pieces = [] if always or not stops else [decode([token]) for token in range(vocabulary)]
        possible = [bool(last & set(piece)) or "\ufffd" in piece for piece in pieces] or [always] * vocabulary
        self.possible = torch.tensor(possible, dtype=torch.bool)

    def hits(self, tokens: Tensor, answers: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return which rows now end in a stop string.

        Args:
            tokens: [rows] newest token of each row.
            answers: [rows, T] int64, the answers so far, newest token included.
            lengths: [rows] tokens of each answer.

        Returns:
            [rows] bool.
        """
        found = np.zeros(len(answers), dtype=bool)
        for row in torch.nonzero(self.possible.to(tokens.device)[tokens]).flatten().tolist():
            tail = answers[row, max(0, lengths[row] - self.span) : lengths[row]]
            text = self.decode(tail.tolist())
            found[row] = any(stop in text for stop in self.stops)
        return found
