"""What the verifiable text tasks share: pools without duplicates, splits by hash, the grammar `steps,…#answer`."""

from __future__ import annotations

import hashlib
import random
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from pilotage.core.errors import UsageError
from pilotage.types import Item

Split = Literal["train", "held_out"]

HELD_OUT_SHARE = 5
"""One prompt in five is held out, chosen by its hash: the split is a property of the prompt, never of a seed."""

_ROOM = 4
"""Tokens beyond the longest gold answer."""


def content_hash(*parts: str) -> str:
    """16 hexadecimal digits that depend on the strings and on nothing else (not on the process, not on the order
    of generation).
    """
    return hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def split_of(prompt: str) -> Split:
    """Return the split to which a prompt belongs, whatever seed or pool drew it."""
    return "held_out" if int(content_hash("split", prompt), 16) % HELD_OUT_SHARE == 0 else "train"


class TextTask:
    """A generated task with several difficulties, whose answers a few lines of code can check.

    A completion is `steps` separated by commas, then `#answer`. Every difficulty is a stream of random prompts; a pool
    takes turns between the difficulties, so that it is balanced and its beginning does not depend on `count`.

    difficulties: those to draw from, a subset of `known_difficulties`; by default `default_difficulties`.
    Raises UsageError for a difficulty that the task does not have.
    """

    name: str
    known_difficulties: tuple[int, ...]
    default_difficulties: tuple[int, ...]
    vocabulary: str
    """Every character of its prompts and gold completions, each once."""
    instruction: str
    """The task in words, for models that were not trained on its notation."""
    isolate: bool = False
    """Whether `score` must run in a process that can be killed."""
    step_pattern: re.Pattern[str] | None
    """One step of a completion; None when completions have no steps."""
    answer_pattern: re.Pattern[str]

    def __init__(self, difficulties: Sequence[int] | None = None) -> None:
        chosen = tuple(self.default_difficulties if difficulties is None else difficulties)
        unknown = [difficulty for difficulty in chosen if difficulty not in self.known_difficulties]
        if unknown or not chosen or len(set(chosen)) != len(chosen):
            raise UsageError(
                f"task {self.name!r} was given the difficulties {list(chosen)}; it has "
                f"{list(self.known_difficulties)}: name at least one of them, none twice"
            )
        self.difficulties: tuple[int, ...] = tuple(sorted(chosen))

    # ---- what a task defines -------------------------------------------------------------------------------------

    def make(self, difficulty: int, rng: random.Random) -> Item:
        """Return a random item of a difficulty. `solution` is the gold completion, without an end-of-sequence mark."""
        raise NotImplementedError

    def longest(self, difficulty: int) -> int:
        """Return the characters of the longest gold completion of a difficulty."""
        raise NotImplementedError

    def right(self, item: Item, steps: str, answer: str) -> bool:
        """Return whether an answer, cut from its completion, is right. Here: the very characters that are expected."""
        del steps
        return answer == item.answer

    # ---- the protocol ----------------------------------------------------------------------------------------------

    @property
    def weights(self) -> Mapping[int, float]:
        """Return the share of each difficulty in warm-up by supervised learning.

        The i-th easiest has 1/i times the share of the easiest. A model warmed up this way has a graded profile (such
        as .9, .6, .3, .1) for reinforcement to raise.
        """
        total = sum(1 / rank for rank in range(1, len(self.difficulties) + 1))
        return {difficulty: 1 / rank / total for rank, difficulty in enumerate(self.difficulties, start=1)}

    def max_new(self, difficulty: int) -> int:
        """Return the tokens of the longest gold answer of a difficulty, end of sequence included, and a few more."""
        return self.longest(difficulty) + 1 + _ROOM

    def pool(self, count: int, split: Split, seed: int = 0) -> list[Item]:
        """Return `count` items with different prompts, difficulties in turn.

        `pool(n)` is the beginning of `pool(n + 1)`. A difficulty with too few different prompts gives all that it has
        (`add` has 100 of one digit, in both splits together) and the other difficulties fill up, so that the pool is
        then not balanced. When every difficulty runs dry the pool is shorter than `count`, with a warning: a prompt is
        never repeated.

        Raises UsageError for a negative count or an unknown split.
        """
        if count < 0:
            raise UsageError(f"a pool of {count} items was asked for; count must be 0 or more")
        if split not in get_args(Split):
            raise UsageError(f"split {split!r} was asked for; there are 'train' and 'held_out'")
        streams = {difficulty: self._stream(difficulty, split, seed) for difficulty in self.difficulties}
        items: list[Item] = []
        while len(items) < count and streams:
            for difficulty in tuple(streams):
                item = next(streams[difficulty], None)
                if item is None:
                    del streams[difficulty]
                elif len(items) < count:
                    items.append(item)
        if len(items) < count:
            warnings.warn(
                f"task {self.name!r} has only {len(items)} different {split} prompts at difficulties "
                f"{list(self.difficulties)}; {count} were asked for. Ask for fewer or add difficulties.",
                stacklevel=2,
            )
        return items

    def _stream(self, difficulty: int, split: Split, seed: int) -> Iterator[Item]:
        """Yield different items of one difficulty and split, until no new one turns up any more."""
        rng = random.Random(f"{self.name}/{difficulty}/{split}/{seed}")
        seen: set[str] = set()
        misses = 0
        # With S prompts in all, one that is missing stays so for 20 S draws in e^-20 of the cases.
        while misses < 2000 + 20 * HELD_OUT_SHARE * len(seen):
            item = self.make(difficulty, rng)
            if item.prompt in seen or split_of(item.prompt) != split:
                misses += 1
                continue
            misses = 0
            seen.add(item.prompt)
            yield item

    def score(self, item: Item, text: str) -> float:
        """Return 1.0 for a right answer, else 0.0. A text with no `#` or with more than one is wrong. Never raises."""
        parts = self._parts(text)
        return float(parts is not None and self.right(item, *parts))

    def partial(self, item: Item, text: str) -> float:
        """Return how much of an answer is right, in [0, 1]; 1.0 exactly where `score` is 1.0. Never raises."""
        return self.score(item, text)

    def well_formed(self, item: Item, text: str) -> bool:
        """Return whether a completion obeys the grammar: exactly one `#`, steps and answer of the right form.

        Never raises.
        """
        del item
        parts = self._parts(text)
        if parts is None or self.answer_pattern.fullmatch(parts[1]) is None:
            return False
        if self.step_pattern is None:
            return parts[0] == ""
        pattern = self.step_pattern
        return all(pattern.fullmatch(step) is not None for step in parts[0].split(","))

    def render_chat(self, item: Item) -> list[dict[str, str]]:
        """Return the item as chat messages, for models that know the task only by its description."""
        return [{"role": "user", "content": f"{self.instruction}\n\n{item.prompt}"}]

    # ---- for the tasks -----------------------------------------------------------------------------------------------

    def _item(
        self, difficulty: int, prompt: str, steps: str, answer: str, meta: Mapping[str, Any] | None = None
    ) -> Item:
        return Item(
            id=content_hash(self.name, prompt, answer),
            prompt=prompt,
            answer=answer,
            solution=f"{steps}#{answer}",
            difficulty=difficulty,
            meta=meta or {},
        )

    def _parts(self, text: str) -> tuple[str, str] | None:
        """Return (steps, answer) without the white space around them; None unless there is exactly one `#`."""
        if text.count("#") != 1:
            return None
        steps, answer = text.split("#")
        return steps.strip(), answer.strip()


def share_of_equal(given: Sequence[str], expected: Sequence[str]) -> float:
    """Return the share of positions that agree, counted from the right; what is missing or too much counts as wrong."""
    equal = sum(a == b for a, b in zip(reversed(given), reversed(expected), strict=False))
    return equal / max(len(given), len(expected), 1)
