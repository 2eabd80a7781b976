"""Forum on which traders post in the evening and which all read the next morning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError

MOST_CHARACTERS = 280
"""Number of characters of a post that are kept."""


@dataclass(frozen=True)
class Post:
    """A short message, with its tone towards each stock as a number."""

    trader: int
    sentiment: tuple[float, ...]
    """Tone towards each stock in [−1, 1], [stock]."""
    text: str

    def __post_init__(self) -> None:
        if not self.sentiment or any(not -1 <= value <= 1 for value in self.sentiment):
            raise UsageError(f"a post has a sentiment in [−1, 1] for each stock, got {self.sentiment}")


@dataclass(frozen=True)
class ForumDigest:
    """Yesterday's posts as shown to the traders at the start of a day."""

    posts: tuple[Post, ...]
    """Posts that are shown, in the order in which they were written."""
    written: int
    """Number of posts that were written."""

    def mean(self, stocks: int) -> np.ndarray:
        """Return the mean sentiment of the shown posts, [stock]; 0 without posts."""
        return np.mean([post.sentiment for post in self.posts], axis=0) if self.posts else np.zeros(stocks)

    def text(self) -> str:
        """Return the posts as text, with how many are shown of how many."""
        shown = f"{len(self.posts)} of {self.written} posts of yesterday are shown"
        return "\n".join([f"{shown}:", *(f"- {post.text}" for post in self.posts)]) if self.posts else "No posts."


class Forum:
    """Posts of one day; of more than `max_posts` a sample is drawn, the same for all readers."""

    def __init__(self, max_posts: int = 60) -> None:
        if max_posts < 1:
            raise UsageError(f"a forum shows 1 post or more, got {max_posts}")
        self.max_posts = max_posts
        self._posts: list[Post] = []

    def write(self, posts: Sequence[Post]) -> None:
        """Replace yesterday's posts by today's, cut to `MOST_CHARACTERS`."""
        self._posts = [
            post
            if len(post.text) <= MOST_CHARACTERS
            else Post(post.trader, post.sentiment, post.text[:MOST_CHARACTERS])
            for post in posts
        ]

    def read(self, generator: np.random.Generator) -> ForumDigest:
        """Return what is shown of the posts written last; draws only where there are more than `max_posts`."""
        if len(self._posts) <= self.max_posts:
            return ForumDigest(tuple(self._posts), len(self._posts))
        chosen = np.sort(generator.choice(len(self._posts), self.max_posts, replace=False))
        return ForumDigest(tuple(self._posts[index] for index in chosen), len(self._posts))

    def state_dict(self) -> dict[str, Any]:
        """Return the posts."""
        return {"posts": [[post.trader, list(post.sentiment), post.text] for post in self._posts]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the posts."""
        self._posts = [Post(int(trader), tuple(sentiment), text) for trader, sentiment, text in state["posts"]]
