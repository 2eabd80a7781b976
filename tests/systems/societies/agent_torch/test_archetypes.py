"""Archetypes: partitions, prompts, history, alignment, the rule, and the scripted formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.archetypes import (
    Alignment,
    Archetypes,
    ByCases,
    Conversation,
    Template,
    aligned,
)
from pilotage.systems.societies.agent_torch.scripted import (
    AGE_WORDS,
    ISOLATION_PROMPT,
    WORK_PROMPT,
    p_isolate,
    p_work,
    read_citizen,
)

ATTRIBUTES = {"age": ("young", "old"), "borough": ("north", "east", "south"), "shoe": ("big", "small")}
TEMPLATE = Template("{age} in {borough}: {cases} cases?", ATTRIBUTES)


@dataclass
class Answer:
    share: float
    text: str = "Yes."


class Recorder:
    """Answers by place and remembers what it was asked."""

    def __init__(self) -> None:
        self.conversations: list[Conversation] = []

    def __call__(self, questions: Sequence[Conversation]) -> list[Answer]:
        self.conversations += questions
        return [Answer((place + 1) / 10, f"Yes, {place}.") for place in range(len(questions))]


def facts(week: int, _history: object, archetype: dict[str, str]) -> dict[str, object]:
    return {"cases": 10 * week + (archetype["borough"] == "east")}


def test_attributes_named_in_the_text_define_the_partition() -> None:
    assert TEMPLATE.of_agents == ("age", "borough")
    assert TEMPLATE.dynamic == ("cases",)
    assert len(TEMPLATE.archetypes()) == 6
    age, borough = torch.tensor([0, 1, 1, 0]), torch.tensor([2, 0, 1, 0], dtype=torch.uint8)
    groups = TEMPLATE.groups({"age": age, "borough": borough}, 4)
    found = [TEMPLATE.archetypes()[int(group)] for group in groups]
    assert found == [
        {"age": ("young", "old")[int(a)], "borough": ("north", "east", "south")[int(b)]}
        for a, b in zip(age, borough, strict=True)
    ]
    order = torch.randperm(4)
    assert torch.equal(TEMPLATE.groups({"age": age[order], "borough": borough[order]}, 4), groups[order])
    alone = Template("{cases}?", ATTRIBUTES)
    assert alone.archetypes() == [{}]
    assert alone.groups({}, 3).tolist() == [0, 0, 0]


def test_bad_templates_and_columns_are_refused() -> None:
    good = torch.zeros(2, dtype=torch.long)
    with pytest.raises(UsageError, match="needs the attribute borough"):
        TEMPLATE.groups({"age": good}, 2)
    with pytest.raises(UsageError, match="age holds 0 to 2; it has 2 labels"):
        TEMPLATE.groups({"age": torch.tensor([0, 2]), "borough": good}, 2)
    with pytest.raises(UsageError, match=r"must be \[2\] integers"):
        TEMPLATE.groups({"age": good.float(), "borough": good}, 2)
    with pytest.raises(UsageError, match="neither an attribute"):
        TEMPLATE.render({"age": "old", "borough": "east"}, {"case": 3})
    with pytest.raises(UsageError, match="braces"):
        Template("{age", ATTRIBUTES)
    with pytest.raises(UsageError, match="plain name"):
        Template("{age.__class__}", ATTRIBUTES)


def test_each_archetype_that_is_there_is_asked_once_a_week_with_its_own_facts() -> None:
    ask = Recorder()
    present = torch.tensor([True, True, False, False, True, False])
    behaviour = Archetypes(TEMPLATE, ask, facts, present=present)
    shares = behaviour(3, None)
    assert [turns[-1][1] for turns in ask.conversations] == [
        "young in north: 30 cases?",
        "young in east: 31 cases?",
        "old in east: 31 cases?",
    ]
    assert shares.tolist() == pytest.approx([0.1, 0.2, 0, 0, 0.3, 0])


def test_prompts_repeat_the_last_exchanges() -> None:
    behaviour = Archetypes(TEMPLATE, ask := Recorder(), facts, history_length=2)
    for week in range(4):
        behaviour(week, None)
    # East, young: the second archetype.
    assert ask.conversations[-5] == (
        ("user", "young in east: 11 cases?"),
        ("assistant", "Yes, 1."),
        ("user", "young in east: 21 cases?"),
        ("assistant", "Yes, 1."),
        ("user", "young in east: 31 cases?"),
    )


def test_alignment_begins_as_the_identity_and_has_gradients_by_set() -> None:
    of = torch.tensor([0, 0, 1])
    alignment = Alignment(of)
    shares = torch.tensor([[0.2, 0.5, 0.9]])
    scale, shift = alignment.scale()[alignment.of], alignment.shift()[alignment.of]
    assert torch.allclose(aligned(shares, scale, shift), shares, atol=1e-5)
    aligned(shares, scale, shift)[0, 2].backward()
    for part in (alignment.scale, alignment.shift):
        assert part.raw.grad[0] == 0
        assert part.raw.grad[1] > 0
    assert aligned(shares, torch.tensor(2.0), torch.tensor(-0.3)).tolist()[0] == pytest.approx([0.1, 0.7, 1.0])


def test_the_rule_decides_by_cases() -> None:
    rule = ByCases(lambda week, _: float(week), 3, threshold=5, cautious=0.4)
    assert rule(4, None).tolist() == [0, 0, 0]
    assert rule(5, None).tolist() == pytest.approx([0.4, 0.4, 0.4])


def test_citizens_read_what_the_prompts_say() -> None:
    template = Template(ISOLATION_PROMPT, {"age": AGE_WORDS, "borough": ("the Bronx",)})
    for age, archetype in enumerate(template.archetypes()):
        text = template.render(archetype, {"cases": 12.5, "change": -40, "week": 9})
        assert read_citizen(text) == pytest.approx(p_isolate(age, 12.5, -0.4, 9))
    work = WORK_PROMPT.format(age=AGE_WORDS[2], borough="Queens", wage="low", cases=30, stimulus=1200)
    assert read_citizen(work) == pytest.approx(p_work(30, True, True))
    assert read_citizen(work.replace("1200", "0")) == pytest.approx(p_work(30, False, True))
    assert read_citizen(work.replace("low wages", "high wages")) == pytest.approx(p_work(30, True, False))
    assert read_citizen("What is 3 + 4?") is None


def test_citizens_isolate_more_with_cases_growth_and_age_and_tire() -> None:
    base = p_isolate(2, 10, 0.0, 5)
    assert base < p_isolate(2, 20, 0.0, 5)
    assert base < p_isolate(2, 10, 0.5, 5)
    assert base < p_isolate(5, 10, 0.0, 5)
    assert base > p_isolate(2, 10, 0.0, 20)
    # By hand: σ(−.7 + .8·ln 11 + 0 − .15).
    assert base == pytest.approx(1 / (1 + 2.718281828 ** (0.7 - 0.8 * 2.397895273 + 0.15)))
