"""A board on which traders post in the evening and which all read the next morning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError


@dataclass(frozen=True)
class Post:
    """A short message, with its tone towards each stock as a number."""

    trader: int
    sentiment: tuple[float, ...]
    """[S], each in [−1, 1]."""
    text: str

    def __post_init__(self) -> None:
        if not self.sentiment or any(not -1 <= value <= 1 for value in self.sentiment):
            raise UsageError(f"a post has a sentiment in [−1, 1] for each stock, got {self.sentiment}")


@dataclass(frozen=True)
class Morning:
    """What can be read on a morning."""

    posts: tuple[Post, ...]
    """Those shown, in the order in which they were posted."""
    written: int
    """How many there were."""

    def mean(self, stocks: int) -> np.ndarray:
        """[S] mean sentiment of what is shown; 0 where nothing is."""
        return np.mean([post.sentiment for post in self.posts], axis=0) if self.posts else np.zeros(stocks)

    def text(self) -> str:
        """As text, which begins with how many are shown of how many."""
        shown = f"{len(self.posts)} of {self.written} posts of yesterday are shown"
        return "\n".join([f"{shown}:", *(f"- {post.text}" for post in self.posts)]) if self.posts else "No posts."


class Forum:
    """Posts of one day. `most` are shown; if there are more, a sample is drawn, the same for all readers.

    most: posts shown a morning, 1 or more; longest: characters of a post that are kept."""

    def __init__(self, most: int = 60, longest: int = 280) -> None:
        if most < 1 or longest < 1:
            raise UsageError(f"a forum shows 1 post or more of 1 character or more, got {most} and {longest}")
        self.most, self.longest = most, longest
        self._posts: list[Post] = []

    def write(self, posts: Sequence[Post]) -> None:
        """Replaces yesterday's posts by today's."""
        self._posts = [
            post if len(post.text) <= self.longest else Post(post.trader, post.sentiment, post.text[: self.longest])
            for post in posts
        ]

    def read(self, generator: np.random.Generator) -> Morning:
        """What is shown of the posts written last; draws only where there are more than fit."""
        if len(self._posts) <= self.most:
            return Morning(tuple(self._posts), len(self._posts))
        chosen = np.sort(generator.choice(len(self._posts), self.most, replace=False))
        return Morning(tuple(self._posts[index] for index in chosen), len(self._posts))

    def state_dict(self) -> dict[str, Any]:
        return {"posts": [[post.trader, list(post.sentiment), post.text] for post in self._posts]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._posts = [Post(int(trader), tuple(sentiment), text) for trader, sentiment, text in state["posts"]]
