"""Archetypes: people alike in what the prompt says about them are asked about once, and each then decides alone.

The prompt is a template with variables in braces. Those that are attributes of agents (age, borough, gender) define the
partition; the others (cases of the week) are filled in at every step. Agents of an archetype share its probability and
draw for themselves, which is what `isolation` of `env` does with a column per archetype."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
    """What an archetype answered: `llm.yes_no.Poll`."""

    @property
    def share(self) -> float:
        """Estimate of the probability of yes."""
        ...

    @property
    def said(self) -> str:
        """An answer in words."""
        ...


Ask = Callable[[Sequence[Conversation]], Sequence[Opinion]]
"""Opinions on questions, in order. Whoever answers asks equal questions once."""
Facts = Callable[[int, Any, Mapping[str, str]], Mapping[str, object]]
"""(week, what happened so far, labels of an archetype) -> dynamic variables of its prompt."""


@dataclass(frozen=True)
class Template:
    """A prompt with variables, and which of them are attributes of agents.

    Raises UsageError for an attribute without labels, braces that do not match, and variables without a name."""

    text: str
    attributes: Mapping[str, Sequence[str]]
    """Labels of every attribute that agents have; those that the text does not name define no partition."""
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
        return self._names  # type: ignore[attr-defined]

    @property
    def of_agents(self) -> tuple[str, ...]:
        """Variables that are attributes, in the order of the text: the partition."""
        return tuple(name for name in self.variables if name in self.attributes)

    @property
    def dynamic(self) -> tuple[str, ...]:
        """Variables that are filled in at every step."""
        return tuple(name for name in self.variables if name not in self.attributes)

    def archetypes(self) -> list[dict[str, str]]:
        """Labels of every archetype, the last attribute changing fastest; a single one if there is no partition."""
        labels = [self.attributes[name] for name in self.of_agents]
        return [dict(zip(self.of_agents, choice, strict=True)) for choice in product(*labels)]

    def groups(self, columns: Mapping[str, Tensor], agents: int) -> Tensor:
        """The archetype of each agent, from integer columns [N] of the attributes. -> [N] int64

        Raises UsageError for a column that is missing, of another length, or holds what has no label."""
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
        """The prompt. Raises UsageError for a dynamic variable without a value, and for a value that nobody asked for
        under nearly the same name."""
        if missing := [name for name in self.dynamic if name not in facts]:
            raise UsageError(
                f"the template has {{{missing[0]}}}, which is neither an attribute ({', '.join(self.attributes)}) nor "
                f"a fact of the step ({', '.join(facts)})"
            )
        return self.text.format(**{name: facts[name] for name in self.dynamic}, **archetype)


class Archetypes:
    """Behaviour of a population by archetype: probability of yes for each, asked anew every week.

    `(week, history) -> [archetypes]` float32 in [0, 1], the `Behaviour` of `env.simulate`. A week
    that was asked already is answered from `asked`: calibration replays the same behaviour.

    Args:
        template: the prompt.
        ask: who answers.
        facts: what happened, for the prompt; round numbers, so that equal situations are equal prompts.
        memory: exchanges of earlier weeks that an archetype is reminded of.
        present: [archetypes] bool: those that somebody belongs to; others are not asked and get 0.
        align: from [archetypes] to the same, such as `Alignment`; None: as asked."""

    def __init__(
        self,
        template: Template,
        ask: Ask,
        facts: Facts,
        *,
        memory: int = 0,
        present: Tensor | None = None,
        align: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.template, self.ask, self.facts, self.memory, self.align = template, ask, facts, memory, align
        self.archetypes = template.archetypes()
        self.present = torch.ones(len(self.archetypes), dtype=torch.bool) if present is None else present
        if memory < 0 or self.present.shape != (len(self.archetypes),):
            raise UsageError(
                f"memory is 0 or more and present [{len(self.archetypes)}], got {memory}, {list(self.present.shape)}"
            )
        self.asked: dict[int, Tensor] = {}
        self._exchanges: list[list[tuple[str, str]]] = [[] for _ in self.archetypes]

    def __call__(self, week: int, history: Any) -> Tensor:
        if week not in self.asked:
            self.asked[week] = self._opinions(week, history)
        shares = self.asked[week]
        return shares if self.align is None else self.align(shares)

    def questions(self, week: int, history: Any) -> list[Conversation]:
        """One per archetype that is present."""
        return [self._conversation(place, self._prompt(place, week, history)) for place in self._places()]

    def _opinions(self, week: int, history: Any) -> Tensor:
        places = self._places()
        prompts = [self._prompt(place, week, history) for place in places]
        asked = [self._conversation(place, prompt) for place, prompt in zip(places, prompts, strict=True)]
        shares = torch.zeros(len(self.archetypes))
        for place, prompt, opinion in zip(places, prompts, self.ask(asked), strict=True):
            shares[place] = opinion.share
            if self.memory and opinion.said:
                self._exchanges[place] = [*self._exchanges[place], (prompt, opinion.said)][-self.memory :]
        return shares

    def _places(self) -> list[int]:
        return [int(place) for place in self.present.nonzero()[:, 0]]

    def _prompt(self, place: int, week: int, history: Any) -> str:
        archetype = self.archetypes[place]
        return self.template.render(archetype, self.facts(week, history, archetype))

    def _conversation(self, place: int, prompt: str) -> Conversation:
        turns: list[Turn] = [("system", self.template.system)] if self.template.system else []
        for asked, said in self._exchanges[place]:
            turns += [("user", asked), ("assistant", said)]
        return (*turns, ("user", prompt))

    def state_dict(self) -> dict[str, Any]:
        weeks = sorted(self.asked)
        return {
            "weeks": weeks,
            "shares": [self.asked[week] for week in weeks],
            "exchanges": [[list(pair) for pair in pairs] for pairs in self._exchanges],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.asked = dict(zip(state["weeks"], state["shares"], strict=True))
        self._exchanges = [[(asked, said) for asked, said in pairs] for pairs in state["exchanges"]]


class Alignment(nn.Module):
    """clip(scale_g · p̂ + shift_g) into [0, 1], with a learnable scale and shift for each of a few sets of archetypes,
    such as age groups; AgentTorch's alignment of what a model says to what people do. Where the clip acts there is no
    gradient."""

    of: Tensor

    def __init__(self, of: Tensor, *, largest_scale: float = 2.0, largest_shift: float = 0.5) -> None:
        """of [archetypes]: the set of each, from 0. Scales begin at 1 in (0, largest), shifts at 0 within ± largest."""
        super().__init__()
        self.register_buffer("of", of.long())
        count = int(of.max()) + 1
        self.scale = Bounded(torch.ones(count), 0.0, largest_scale)
        self.shift = Bounded(torch.zeros(count), -largest_shift, largest_shift)

    def forward(self, shares: Tensor) -> Tensor:
        """[..., archetypes] -> the same."""
        return aligned(shares, self.scale()[self.of], self.shift()[self.of])


def aligned(shares: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """clip(scale · shares + shift) into [0, 1]; all broadcast."""
    return (scale * shares + shift).clamp(0, 1)


@dataclass(frozen=True)
class ByCases:
    """A rule instead of a model: whoever is cautious stays at home in a week after which cases were many.

    `(week, history) -> [groups]`: `cautious` of each group when last week's cases per 10,000 reach `threshold`, else 0.
    Each agent decides, as everywhere; no agent has a fraction of a decision."""

    cases_per_10k: Callable[[int, Any], float]
    """(week, history): of the week before."""
    groups: int
    threshold: float = 10.0
    cautious: float = 0.4
    """Share of people, in [0, 1]."""
    by_group: Mapping[int, float] = field(default_factory=dict)
    """Other shares for some groups."""

    def __call__(self, week: int, history: Any) -> Tensor:
        many = self.cases_per_10k(week, history) >= self.threshold
        shares = torch.full((self.groups,), self.cautious if many else 0.0)
        for group, share in self.by_group.items():
            shares[group] = share if many else 0.0
        return shares


def decide(shares: Tensor, groups: Tensor, generator: torch.Generator) -> Tensor:
    """Every agent's own draw with its archetype's probability. shares [G], groups [N] -> [N] bool"""
    return torch.rand(len(groups), generator=generator) < shares[groups.long()]
