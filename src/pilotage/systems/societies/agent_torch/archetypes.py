"""Archetypes: agents with the same attributes in the prompt are asked about once, and each then draws for itself.

The prompt is a template with variables in braces. Variables that are attributes of agents (age, borough) define the
partition; the others (cases of the week) are filled in at every step. Agents of an archetype share its probability,
and `isolation` of `env` has a column per archetype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from string import Formatter
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.bounded import Bounded

Turn = tuple[Literal["system", "user", "assistant"], str]
Conversation = tuple[Turn, ...]


class Opinion(Protocol):
    """Answer of an archetype, such as a `yes_no.Poll`."""

    @property
    def share(self) -> float:
        """Return an estimate of the probability of yes."""
        ...

    @property
    def text(self) -> str:
        """Return an answer in words."""
        ...


Ask = Callable[[Sequence[Conversation]], Sequence[Opinion]]
"""Answers to questions, in order; equal questions may be asked once."""
Facts = Callable[[int, Any, Mapping[str, str]], Mapping[str, object]]
"""(week, history, labels of an archetype) -> dynamic variables of its prompt."""


@dataclass(frozen=True)
class Template:
    """Prompt with variables, some of which are attributes of agents.

    Raises:
        UsageError: an attribute has no labels, braces do not match, or a variable has no name.
    """

    text: str
    attributes: Mapping[str, Sequence[str]]
    """Labels of every attribute of the agents; attributes that the text does not name define no partition."""
    system: str = ""
    """Instructions before the first turn."""

    def __post_init__(self) -> None:
        try:
            names = [name for _, name, _, _ in Formatter().parse(self.text) if name is not None]
        except ValueError as error:
            raise UsageError(f"the template's braces do not match: {error}") from None
        if wrong := [name for name in names if not name.isidentifier()]:
            raise UsageError(f"a variable of a template is a plain name in braces, got {{{wrong[0]}}}")
        if empty := [name for name in names if name in self.attributes and not self.attributes[name]]:
            raise UsageError(f"the attribute {empty[0]} has no labels")
        object.__setattr__(self, "_names", tuple(dict.fromkeys(names)))

    @property
    def variables(self) -> tuple[str, ...]:
        """Return the variables in the order of the text."""
        return self._names  # type: ignore[attr-defined]

    @property
    def of_agents(self) -> tuple[str, ...]:
        """Return the variables that are attributes, in the order of the text: the partition."""
        return tuple(name for name in self.variables if name in self.attributes)

    @property
    def dynamic(self) -> tuple[str, ...]:
        """Return the variables that are filled in at every step."""
        return tuple(name for name in self.variables if name not in self.attributes)

    def archetypes(self) -> list[dict[str, str]]:
        """Return the labels of every archetype, the last attribute changing fastest."""
        labels = [self.attributes[name] for name in self.of_agents]
        return [dict(zip(self.of_agents, choice, strict=True)) for choice in product(*labels)]

    def groups(self, columns: Mapping[str, Tensor], agents: int) -> Tensor:
        """Return the archetype of each agent, [agents] int64, from integer columns [agents] of the attributes.

        Raises UsageError for a column that is missing, has another length, or holds a number without a label.
        """
        group = torch.zeros(agents, dtype=torch.int64)
        for name in self.of_agents:
            if name not in columns:
                raise UsageError(f"the template needs the attribute {name}; agents have {', '.join(columns) or 'none'}")
            column, count = columns[name], len(self.attributes[name])
            if column.shape != (agents,) or column.is_floating_point():
                raise UsageError(f"{name} must be [{agents}] integers, got {list(column.shape)} {column.dtype}")
            if agents and not 0 <= int(column.min()) <= int(column.max()) < count:
                raise UsageError(
                    f"{name} holds {int(column.min())} to {int(column.max())}; it has {count} labels, from 0 on"
                )
            group = group * count + column.long()
        return group

    def render(self, archetype: Mapping[str, str], facts: Mapping[str, object]) -> str:
        """Return the prompt of an archetype. Raises UsageError for a dynamic variable without a value."""
        if missing := [name for name in self.dynamic if name not in facts]:
            raise UsageError(
                f"the template has {{{missing[0]}}}, which is neither an attribute ({', '.join(self.attributes)}) nor "
                f"a fact of the step ({', '.join(facts)})"
            )
        return self.text.format(**{name: facts[name] for name in self.dynamic}, **archetype)


class Archetypes:
    """Behaviour of a population by archetype: the stated probability of yes of each, asked every week.

    Called as `(week, history) -> [archetypes]` float32 in [0, 1], the `Behaviour` of `env.simulate`.

    Args:
        template: the prompt.
        ask: answers questions.
        facts: dynamic variables of the prompt; round numbers, so that equal situations give equal prompts.
        history_length: number of earlier questions and answers that the prompt of an archetype repeats.
        present: [archetypes] bool: archetypes with at least one agent; others are not asked and get 0. None: all.
    """

    def __init__(
        self,
        template: Template,
        ask: Ask,
        facts: Facts,
        *,
        history_length: int = 0,
        present: Tensor | None = None,
    ) -> None:
        self.template, self.ask, self.facts, self.history_length = template, ask, facts, history_length
        self.archetypes = template.archetypes()
        self.present = torch.ones(len(self.archetypes), dtype=torch.bool) if present is None else present
        if history_length < 0 or self.present.shape != (len(self.archetypes),):
            raise UsageError(
                f"history_length is 0 or more and present [{len(self.archetypes)}], got {history_length} and "
                f"{list(self.present.shape)}"
            )
        self._exchanges: list[list[tuple[str, str]]] = [[] for _ in self.archetypes]

    def __call__(self, week: int, history: Any) -> Tensor:
        """Ask every archetype and return the stated probabilities [archetypes]."""
        places = [int(place) for place in self.present.nonzero()[:, 0]]
        prompts = [self._prompt(place, week, history) for place in places]
        asked = [self._conversation(place, prompt) for place, prompt in zip(places, prompts, strict=True)]
        shares = torch.zeros(len(self.archetypes))
        for place, prompt, opinion in zip(places, prompts, self.ask(asked), strict=True):
            shares[place] = opinion.share
            if self.history_length and opinion.text:
                self._exchanges[place] = [*self._exchanges[place], (prompt, opinion.text)][-self.history_length :]
        return shares

    def _prompt(self, place: int, week: int, history: Any) -> str:
        archetype = self.archetypes[place]
        return self.template.render(archetype, self.facts(week, history, archetype))

    def _conversation(self, place: int, prompt: str) -> Conversation:
        turns: list[Turn] = [("system", self.template.system)] if self.template.system else []
        for question, answer in self._exchanges[place]:
            turns += [("user", question), ("assistant", answer)]
        return (*turns, ("user", prompt))


class Alignment(nn.Module):
    """Learnable alignment of stated probabilities to behaviour: clip(scale · stated + shift) into [0, 1].

    Each set of archetypes, such as an age group, has its own scale and shift. Where the clip acts there is no gradient.

    Args:
        of: [archetypes]: index of the set of each archetype.
        largest_scale: scales lie in (0, largest_scale) and begin at 1.
        largest_shift: shifts lie within ± largest_shift and begin at 0.
    """

    of: Tensor

    def __init__(self, of: Tensor, *, largest_scale: float = 2.0, largest_shift: float = 0.5) -> None:
        super().__init__()
        self.register_buffer("of", of.long())
        count = int(of.max()) + 1
        self.scale = Bounded(torch.ones(count), 0.0, largest_scale)
        self.shift = Bounded(torch.zeros(count), -largest_shift, largest_shift)


def aligned(stated: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return clip(scale · stated + shift) into [0, 1]; all broadcast."""
    return (scale * stated + shift).clamp(0, 1)


@dataclass(frozen=True)
class ByCases:
    """Rule instead of a model: a share of people isolates in a week after many cases.

    Called as `(week, history) -> [groups]`: `cautious` when last week's cases per 10,000 reach `threshold`, else 0.
    """

    cases_per_10k: Callable[[int, Any], float]
    """(week, history) -> cases per 10,000 people in the week before."""
    groups: int
    threshold: float = 10.0
    cautious: float = 0.4
    """Share of people, in [0, 1]."""

    def __call__(self, week: int, history: Any) -> Tensor:
        """Return the share of each group that isolates [groups]."""
        many = self.cases_per_10k(week, history) >= self.threshold
        return torch.full((self.groups,), self.cautious if many else 0.0)
