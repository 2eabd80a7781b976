"""The generators of the package `reasoning-gym` (extra `reasoning-gym`) as tasks: `reasoning-gym:countdown`."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.environments.text.task import TextTask
from pilotage.types import Item

PREFIX = "reasoning-gym:"

_COMPACT: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "countdown": lambda meta: f"{','.join(map(str, meta['numbers']))}:{meta['target']}=",
    "chain_sum": lambda meta: f"{meta['expression'].replace(' ', '')}=",
    "basic_arithmetic": lambda meta: f"{meta['expression'].replace(' ', '')}=",
}
"""Short prompts for small models with few characters, made from an entry's metadata."""

_SUMS = re.compile(r"[0-9+\-*/(). ]*")
_LISTS = re.compile(r"[A-Za-z0-9_\s,'\"\[\]-]*")
_FUNCTIONS = r"(?:sin|cos|tan|exp|log|sqrt|asin|acos|atan|sinh|cosh|tanh|[A-Za-z])"
_ALGEBRA = re.compile(rf"(?:[0-9+\-*/^(), =]|[0-9]\.[0-9]|(?<![A-Za-z]){_FUNCTIONS}(?![A-Za-z]))*")
_EVALUATED: dict[str, re.Pattern[str]] = {
    "countdown": _SUMS,
    "puzzle24": _SUMS,
    "string_insertion": _LISTS,
    "spiral_matrix": _LISTS,
    "binary_matrix": _LISTS,
    "n_queens": _LISTS,
    "polynomial_multiplication": _ALGEBRA,
    "simple_integration": _ALGEBRA,
    "intermediate_integration": _ALGEBRA,
}
"""Generators whose scorer evaluates an answer as Python: what such an answer may consist of. No pattern admits a call
of anything but a mathematical function."""

_INDICES = 2**31


class RGTask(TextTask):
    """Task of a generator of reasoning-gym, scored by its own scorer; only a full score (1.0) counts as right.

    generator: its name there, such as `countdown` (without the prefix).
    difficulties: levels of the generator's curriculum, from 0; None: one difficulty, 0, with its default settings.
    compact: whether prompts are short forms made from the metadata (for small models: countdown, chain_sum,
        basic_arithmetic); by default wherever there is one. `render_chat` always has the full question.
    settings: further settings of the generator (only without difficulties).

    An answer is what stands in the last `<answer>…</answer>`, else after the last `#`, else the whole text.
    Its scorers can be slow on hostile answers: `isolate` tells the rewards to run them in a worker.
    Raises UsageError when the package is absent, or for an unknown generator, difficulty or setting.
    """

    vocabulary = string.printable
    default_difficulties = (0,)
    isolate = True
    step_pattern = None
    answer_pattern = re.compile(r".+", re.DOTALL)
    instruction = "Put the final answer, and nothing else, between <answer> and </answer>."

    def __init__(
        self,
        generator: str,
        difficulties: Sequence[int] | None = None,
        *,
        compact: bool | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        factory = _factory()
        if generator not in factory.DATASETS:
            there = sorted(factory.DATASETS)
            hint = nearest(generator, there) or f"; it has {', '.join(there)}"
            raise UsageError(f"reasoning-gym has no generator {generator!r}{hint}")
        if compact and generator not in _COMPACT:
            raise UsageError(f"{generator!r} has no compact prompts; only {', '.join(sorted(_COMPACT))} have")
        if difficulties is not None and (settings or generator not in factory.CURRICULA):
            raise UsageError(
                f"{generator!r} was given difficulties, which exclude settings and need a curriculum: leave out one"
            )
        self.name = PREFIX + generator
        self.generator = generator
        self.compact = generator in _COMPACT if compact is None else compact
        self.settings = dict(settings or {})
        self.curriculum = difficulties is not None
        self.known_difficulties = tuple(range(_depth(factory, generator))) if difficulties is not None else (0,)
        super().__init__(difficulties)
        self._datasets: dict[int, Any] = {}
        self._longest: dict[int, int] = {}
        for difficulty in self.difficulties:
            self._dataset(difficulty)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_datasets": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for (
            difficulty
        ) in self.difficulties:  # now, so that the first answer that a worker scores does not pay for the import
            self._dataset(difficulty)

    def make(self, difficulty: int, rng: random.Random) -> Item:
        """Return a new item of a difficulty."""
        entry = self._dataset(difficulty)[rng.randrange(_INDICES)]
        prompt = _COMPACT[self.generator](entry["metadata"]) if self.compact else entry["question"]
        answer = str(entry["answer"])
        item = self._item(difficulty, prompt, "", answer, {"entry": entry})
        if "#" not in answer:
            return item
        return Item(item.id, prompt, answer, f"<answer>{answer}</answer>", difficulty, item.meta)

    def longest(self, difficulty: int) -> int:
        """Return twice the longest of 64 answers: the generators do not say how long theirs can be."""
        if difficulty not in self._longest:
            rng = random.Random(0)
            self._longest[difficulty] = 2 * max(len(self.make(difficulty, rng).solution) for _ in range(64))
        return self._longest[difficulty]

    def score(self, item: Item, text: str) -> float:
        """Return the score of an answer."""
        return float(self.partial(item, text) >= 1.0)

    def partial(self, item: Item, text: str) -> float:
        """Return the scorer's own number, which has partial credit (0.05 for a wrong countdown). Never raises."""
        answer = _cut(text)
        allowed = _EVALUATED.get(self.generator)
        if allowed is not None and allowed.fullmatch(answer) is None:
            return 0.0
        try:
            graded = float(self._dataset(item.difficulty).score_answer(answer, item.meta["entry"]))
        except Exception:  # a foreign scorer that stumbles over an answer has not found it right
            return 0.0
        return min(max(graded, 0.0), 1.0) if graded == graded else 0.0

    def well_formed(self, item: Item, text: str) -> bool:
        """Return whether there is exactly one `#`, or exactly one `<answer>…</answer>`, with something in it."""
        del item
        marks = len(_ANSWER.findall(text))
        return (marks == 1 or (marks == 0 and text.count("#") == 1)) and _cut(text) != ""

    def render_chat(self, item: Item) -> list[dict[str, str]]:
        """Return the text of a conversation, by the chat template."""
        question = item.meta["entry"]["question"]
        return [{"role": "user", "content": f"{question}\n\n{self.instruction}"}]

    def _dataset(self, difficulty: int) -> Any:
        if difficulty not in self._datasets:
            factory = _factory()
            seed = 0
            if self.curriculum:
                curriculum = factory.create_curriculum(self.generator)
                for name, attribute in curriculum.attributes.items():
                    curriculum.set_attr_level(name, min(difficulty, len(attribute.levels) - 1))
                config = curriculum.generate_configuration({"seed": seed, "size": 1})
                self._datasets[difficulty] = factory.DATASETS[self.generator][0](config=config)
            else:
                try:
                    self._datasets[difficulty] = factory.create_dataset(
                        self.generator, seed=seed, size=1, **self.settings
                    )
                except (TypeError, AssertionError, ValueError) as error:
                    raise UsageError(
                        f"reasoning-gym refuses {self.settings} for {self.generator!r}: {error}"
                    ) from error
        return self._datasets[difficulty]


_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def _cut(text: str) -> str:
    marked = _ANSWER.findall(text)
    return (marked[-1] if marked else text.rpartition("#")[2]).strip()


def _factory() -> Any:
    try:
        from reasoning_gym import factory
    except ImportError as error:
        raise UsageError(
            "tasks of reasoning-gym need the package of that name: pip install 'pilotage[reasoning-gym]'"
        ) from error
    return factory


def _depth(factory: Any, generator: str) -> int:
    attributes = factory.create_curriculum(generator).attributes.values()
    return max(len(attribute.levels) for attribute in attributes)
