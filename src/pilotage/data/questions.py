"""Questions with checkable answers from files: GSM8K, SVAMP, MATH, verl, choices, messages, or fields that you name."""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.data.rows import Rows, first_fields, place, read_rows
from pilotage.types import Item

Split = Literal["train", "held_out"]

TEMPLATE = "{question}\n\nReason step by step, then give the final answer within \\boxed{}."
"""Text of the prompt: `{question}` stands for the question, `{name}` for the field `name` of the row."""

ROLES = ("prompt", "answer", "solution", "difficulty", "choices")
"""Roles that a field of a row may have."""

_PROMPTS = ("question", "problem", "prompt", "instruction", "input", "query")
_CHATS = ("messages", "conversations")
_ANSWERS = (
    "answer",
    "final_answer",
    "ground_truth",
    "expected_answer",
    "target",
    "output",
    "answerKey",
    "correct_answer",
    "label",
    "completion",
    "response",
)
_CHOICES = ("choices", "options")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CALCULATOR = re.compile(r"<<[^<>]*>>")
_LAST_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,100})(?:\.[0-9]{1,100})?")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
_SPEAKERS = {"human": "user", "gpt": "assistant"}


class _BadRowError(Exception):
    """A row whose question or answer cannot be taken; the message says why."""


@dataclass(frozen=True)
class _Question:
    """A row as it is understood."""

    prompt: str
    answer: str
    solution: str = ""
    difficulty: int = 0
    messages: list[dict[str, str]] | None = None
    golds: tuple[str, ...] = ()
    """Further right answers, such as the text of the right choice beside its letter."""

    @property
    def id(self) -> str:
        return _hash(self.prompt, self.answer)


@dataclass(frozen=True)
class Index:
    """Facts about every question that are known without making its item."""

    ids: Sequence[str]
    prompts: np.ndarray
    """[question] uint64, a hash of the prompt, which also decides its split."""
    difficulties: np.ndarray
    """[question] int64."""

    @staticmethod
    def of(items: Sequence[Item]) -> Index:
        """Return the index of any items."""
        if isinstance(items, Questions):
            return items.facts
        return Index(
            [item.id for item in items],
            np.array([int(_hash("split", item.prompt), 16) for item in items], dtype=np.uint64),
            np.array([item.difficulty for item in items], dtype=np.int64),
        )


class Questions(Sequence[Item]):
    """Questions of a source: all checked when they are loaded, each made into an item when it is asked for.

    `item.meta` holds every field of the row under its name, and "file", "line", "place" (both, as text), "question"
    (without a template), "messages" for chats, and "answers" where more than one answer is right.
    """

    def __init__(
        self, rows: Rows, read: Callable[[Mapping[str, Any]], _Question], facts: Index, at: np.ndarray
    ) -> None:
        self._rows, self._read, self.facts, self._at = rows, read, facts, at

    def __len__(self) -> int:
        return len(self._at)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        """Return the item at a position, or the items of a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = int(self._at[index])
        row = self._rows.row(at)
        question = self._read(row)
        meta: dict[str, Any] = {
            "question": question.prompt,
            "file": self._rows.file,
            "line": self._rows.number(at),
            **row,
            "place": place(self._rows, at),
        }
        # Another conversation of the row may show the answer, and prompts are made of this entry.
        meta.pop("messages", None)
        if question.messages is not None:
            meta["messages"] = question.messages
        if question.golds:
            meta["answers"] = (question.answer, *question.golds)
        return Item(question.id, question.prompt, question.answer, question.solution, question.difficulty, meta)


def load_questions(
    source: str | Path,
    *,
    fields: Mapping[str, str] | None = None,
    subset: str | None = None,
    split: str = "train",
    skip_bad: bool = False,
    needs_answer: bool = True,
) -> Questions:
    r"""Return the questions of a file, folder or data set, after every row was read once.

    Known by their fields: GSM8K (question, answer with `#### number`), SVAMP (Body, Question, Answer), MATH (problem,
    and answer or a solution with `\boxed{}`), verl (prompt as messages, reward_model.ground_truth), `messages` whose
    last turn is the assistant's, or a field each of the usual names for prompt and answer. Rows with `choices` or
    `options` are asked with them, and the right letter is the answer. Equal questions are merged, with a warning that
    counts them. `item.id` is a hash of question and answer.

    Args:
        source: see `pilotage.data.rows.read_rows`.
        fields: names of the fields for `ROLES`; "prompt" is needed, a dot goes into nested ones.
        subset: configuration of a data set.
        split: split of a data set.
        skip_bad: leave out rows whose question or answer cannot be taken, with a warning that counts and names them,
            instead of refusing the source.
        needs_answer: whether every row must have an answer; False where the reward does not look at it.

    Raises:
        UsageError: with file, line and field.
    """
    rows = read_rows(source, subset=subset, split=split)
    read = _layout(rows, fields, needs_answer)
    ids, prompts, difficulties, at, bad = [], [], [], [], []
    first: dict[int, str] = {}
    same = contradictory = 0
    for position, row in enumerate(rows.scan(read.columns)):
        try:
            question = read(row)
        except _BadRowError as error:
            bad.append((position, str(error)))
            continue
        prompt = int(_hash("split", question.prompt), 16)
        if prompt in first:
            same += first[prompt] == question.id
            contradictory += first[prompt] != question.id
            continue
        first[prompt] = question.id
        ids.append(first[prompt])
        prompts.append(prompt)
        difficulties.append(question.difficulty)
        at.append(position)
    if bad and (not skip_bad or not at):
        shown = "\n  ".join(f"{place(rows, position)}: {why}" for position, why in bad[:3])
        raise UsageError(
            f"{len(bad)} of {len(rows)} rows of {source} cannot be used:\n  {shown}\nCorrect them, name other fields "
            "(fields), or leave them out (skip_bad_rows)"
        )
    if bad:
        places = ", ".join(str(rows.number(position)) for position, _ in bad[:10]) + (", …" if len(bad) > 10 else "")
        warnings.warn(
            f"{len(bad)} of {len(rows)} rows of {source} are left out ({rows.kind} {places}), such as "
            f"{place(rows, bad[0][0])}: {bad[0][1]}",
            stacklevel=2,
        )
    if same or contradictory:
        warnings.warn(
            f"{source} repeats {same + contradictory} questions, {contradictory} of them with another answer; the "
            f"first of each is kept, {len(at)} in all",
            stacklevel=2,
        )
    index = Index(ids, np.array(prompts, dtype=np.uint64), np.array(difficulties, dtype=np.int64))
    return Questions(rows, read, index, np.array(at, dtype=np.int64))


# ---- formats ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """Which field of a row holds what."""

    prompt: str
    answer: str | None
    solution: str | None = None
    difficulty: str | None = None
    choices: str | None = None
    letters: tuple[str, ...] = ()
    """Fields that hold one choice each: "A", "B", …"""
    extra: str | None = None
    """A second part of the prompt, which may be empty."""
    joint: str | None = None
    """What stands between both parts; None: what a sentence's end asks for."""
    marked: bool = False
    """Whether every answer is marked by `####`."""
    needs_answer: bool = True
    names: tuple[str, ...] = field(default=(), repr=False)
    """Fields of the first rows."""

    @property
    def columns(self) -> set[str]:
        """Return the columns of a table that hold all of it."""
        named = (self.prompt, self.answer, self.solution, self.difficulty, self.choices, self.extra, *self.letters)
        return {name if name in self.names else name.split(".")[0] for name in named if name}

    def __call__(self, row: Mapping[str, Any]) -> _Question:
        """Return the question of a row."""
        prompt, messages, turn = self._prompt(row)
        difficulty = _difficulty(_field(row, self.difficulty)) if self.difficulty and self.difficulty in row else 0
        if self.difficulty and "." in self.difficulty and self.difficulty not in row:
            difficulty = _difficulty(_field(row, self.difficulty))
        solution = _text(row, self.solution) if self.solution and _filled(row, self.solution) else ""
        choices = self._choices(row)
        if choices is not None:
            listed = "\n".join(f"{label}. {text}" for label, text in choices)
            prompt = f"{prompt}\n\n{listed}\n\nAnswer with the letter of the right choice."
            if messages is not None:
                said = f"{messages[-1]['content']}\n\n{listed}\n\nAnswer with the letter of the right choice."
                messages = [*messages[:-1], {**messages[-1], "content": said}]
        golds: tuple[str, ...] = ()
        try:
            if choices is not None:
                answer, *others = _right_choice(row, self.answer, choices)
                golds = tuple(others)
            else:
                answer, worked = self._answer(row, turn, solution)
                solution = solution or worked
        except _BadRowError:
            if self.needs_answer:
                raise
            answer = ""
        if not answer and self.needs_answer:
            raise _BadRowError("the answer is empty")
        return _Question(prompt, answer, solution, difficulty, messages, golds)

    def _prompt(self, row: Mapping[str, Any]) -> tuple[str, list[dict[str, str]] | None, str | None]:
        """Return the prompt, its messages where it is a chat, and the assistant's turn that ends it."""
        value = _field(row, self.prompt)
        if not isinstance(value, list):
            text = _text(row, self.prompt, numbers=False)
            if self.extra and _filled(row, self.extra):
                joint = self.joint or (" " if text[-1] in ".?!," else ". ")
                text = text + joint + _text(row, self.extra, numbers=False)
            return text, None, None
        messages = [_message(message, self.prompt) for message in value]
        turn = messages.pop()["content"] if messages and messages[-1]["role"] == "assistant" else None
        if not messages:
            raise _BadRowError(f"field {self.prompt!r} has no messages of a user")
        return "\n\n".join(m["content"] for m in messages), messages, turn

    def _choices(self, row: Mapping[str, Any]) -> list[tuple[str, str]] | None:
        if self.letters:
            given = [(name, row[name]) for name in self.letters if row.get(name) not in (None, "")]
            return [(name, _checked(str(value), name)) for name, value in given] or None
        if self.choices is None or not _filled(row, self.choices):
            return None
        return _labelled(_field(row, self.choices), self.choices)

    def _answer(self, row: Mapping[str, Any], turn: str | None, solution: str) -> tuple[str, str]:
        """Return the gold answer, and the worked solution that stands before it in the same field."""
        if self.answer is not None and (_filled(row, self.answer) or not (solution or turn)):
            text, name = _answer_text(_field(row, self.answer), self.answer), self.answer
        elif turn is not None:
            text, name = _checked(turn, self.prompt), self.prompt
        elif solution and self.solution is not None:
            answer = _marked_answer(solution)
            if not answer:
                raise _BadRowError(f"field {self.solution!r} has no \\boxed{{answer}}: {solution[-60:]!r}")
            return answer, ""
        else:
            raise _BadRowError(f"there is no answer: the last turn of {self.prompt!r} is not the assistant's")
        if "####" in text:
            steps, _, answer = text.rpartition("####")
            answer = answer.strip()
            return answer.replace(",", ""), f"{_CALCULATOR.sub('', steps).strip()}\n#### {answer}"
        if self.marked:
            raise _BadRowError(f"field {name!r} has no '#### number': {text[-60:]!r}")
        boxed = last_boxed(text)
        return (text, "") if boxed is None else (boxed, text)


def _layout(rows: Rows, named: Mapping[str, str] | None, needs_answer: bool) -> _Layout:
    """Return how rows are read, by the fields of the first hundred."""
    known = first_fields(rows)
    names = tuple(known)
    choices = next((name for name in _CHOICES if isinstance(known.get(name), list | Mapping | str)), None)
    letters = tuple(name for name in _LETTERS if name in known) if "A" in known and "B" in known else ()
    if named is not None:
        unknown = set(named) - set(ROLES)
        if unknown or "prompt" not in named or (needs_answer and "answer" not in named):
            raise UsageError(
                f"fields={dict(named)} was given; expected 'prompt' and 'answer' (unless the reward needs none), and "
                "perhaps 'solution', 'difficulty', 'choices'"
            )
        return _Layout(
            prompt=named["prompt"],
            answer=named.get("answer"),
            solution=named.get("solution"),
            difficulty=named.get("difficulty"),
            choices=(named.get("choices", choices or "") or None),
            letters=() if "choices" in named else letters,
            needs_answer=needs_answer,
            names=names,
        )
    if {"Body", "Question", "Answer"} <= known.keys():
        return _Layout("Body", "Answer", extra="Question", needs_answer=needs_answer, names=names)
    solution = "solution" if "solution" in known else None
    if "prompt" in known and "reward_model" in known:
        return _Layout("prompt", "reward_model.ground_truth", needs_answer=needs_answer, names=names)
    prompt = next((name for name in _PROMPTS if name in known), None) or next((n for n in _CHATS if n in known), None)
    answer = next((name for name in _ANSWERS if name in known), None)
    chat = isinstance(known.get(prompt or ""), list)
    if prompt is None or (answer is None and solution is None and not chat and needs_answer):
        role, expected = ("a prompt", (*_PROMPTS, *_CHATS)) if prompt is None else ("an answer", _ANSWERS)
        hint = next(filter(None, (nearest(name, expected) for name in known if name != prompt)), "")
        unless = "" if prompt is None else ", or train with a reward that needs no answer"
        raise UsageError(
            f"{place(rows, 0)} has no field for {role} ({', '.join(expected)}); its fields are "
            f"{', '.join(map(repr, known)) or 'none'}{hint}. Name them: fields={{'prompt': ..., 'answer': ...}} "
            f"(--fields prompt=…,answer=…){unless}"
        )
    marked = False
    if answer is not None and prompt == "question" and choices is None and not letters:
        head = (row.get(answer) for _, row in zip(range(1000), rows.scan({answer}), strict=False))
        marked = any("####" in value for value in head if isinstance(value, str))
    return _Layout(
        prompt=prompt,
        answer=answer,
        solution=solution,
        difficulty=next((name for name in ("difficulty", "level") if name in known), None),
        choices=choices,
        letters=letters,
        extra="input" if prompt == "instruction" and "input" in known else None,
        joint="\n\n",
        marked=marked,
        needs_answer=needs_answer,
        names=names,
    )


def _message(message: Any, field: str) -> dict[str, str]:
    """Return a chat message with its role and its text, which may stand in parts."""
    if isinstance(message, Mapping):
        role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
        if isinstance(content, list) and all(isinstance(p, Mapping) and p.get("type") == "text" for p in content):
            content = "".join(str(part.get("text", "")) for part in content)
        if isinstance(role, str) and isinstance(content, str):
            return {"role": _SPEAKERS.get(role, role), "content": _checked(content, field, strip=False)}
    raise _BadRowError(f"field {field!r} must hold messages with 'role' and 'content' (text), not {message!r:.80}")


def _labelled(value: Any, name: str) -> list[tuple[str, str]]:
    """Return (label, text) of every choice, from a list, a dictionary by letter, or lists of texts and labels."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except ValueError:
            raise _BadRowError(f"field {name!r} is no list of choices: {value!r:.60}") from None
    if isinstance(value, Mapping) and isinstance(value.get("text"), list):
        texts, labels = value["text"], value.get("label") or list(_LETTERS)
    elif isinstance(value, Mapping):
        labels, texts = list(value), list(value.values())
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) and "text" in one for one in value):
        texts, labels = [one["text"] for one in value], [one.get("label", _LETTERS[i]) for i, one in enumerate(value)]
    else:
        texts, labels = value, list(_LETTERS)
    plain = isinstance(texts, list) and all(isinstance(t, str | int | float) and not isinstance(t, bool) for t in texts)
    if not plain or not 2 <= len(texts) <= len(labels):
        raise _BadRowError(f"field {name!r} is {value!r:.60}; expected a list of at least two choices")
    return [(str(label), _checked(str(text), name)) for label, text in zip(labels, texts, strict=False)]


def _right_choice(row: Mapping[str, Any], name: str | None, choices: Sequence[tuple[str, str]]) -> list[str]:
    """Return the letter of the right choice, and its text where that cannot be taken for another choice."""
    if name is None:
        raise _BadRowError(f"there is no field for the right choice; expected one of {', '.join(_ANSWERS)}")
    value = _field(row, name)
    labels, texts = [label for label, _ in choices], [text for _, text in choices]
    found: set[int] = set()
    if isinstance(value, int) and not isinstance(value, bool):
        found = {value} if 0 <= value < len(choices) else {texts.index(str(value))} if str(value) in texts else set()
    elif isinstance(value, str) and value.strip():
        text = value.strip()
        letter = text.strip("().: ")
        if letter in labels or letter.upper() in labels:
            found = {labels.index(letter if letter in labels else letter.upper())}
        else:
            found = {i for i, choice in enumerate(texts) if choice == text}
            found |= {int(text)} if text.isascii() and text.isdigit() and int(text) < len(choices) else set()
    if len(found) != 1:
        many = "more than one of them" if found else "none of them"
        raise _BadRowError(
            f"field {name!r} is {value!r:.60}, which names {many}; expected a letter ({', '.join(labels)}), the text "
            f"of a choice or its number from 0 to {len(choices) - 1}"
        )
    (right,) = found
    alone = texts.count(texts[right]) == 1 and texts[right] not in labels
    return [labels[right], texts[right]] if alone else [labels[right]]


def _answer_text(value: Any, name: str) -> str:
    """Return an answer as text: a text, a number, the only entry of a list, or the assistant's last message."""
    if isinstance(value, Mapping) and set(value) == {"target"}:
        value = value["target"]
    if isinstance(value, list) and value and all(isinstance(one, Mapping) and "content" in one for one in value):
        return _message(value[-1], name)["content"].strip()
    if isinstance(value, list):
        if len(value) != 1:
            raise _BadRowError(f"field {name!r} holds {len(value)} answers; expected one")
        value = value[0]
    return _plain_text(value, name)


def _field(row: Mapping[str, Any], name: str) -> Any:
    """Return the value under a name, dots going into nested objects."""
    value: Any = row
    for part in (name,) if name in row else name.split("."):
        if isinstance(value, str) and value[:1] == "{":
            try:
                value = json.loads(value)
            except ValueError:
                raise _BadRowError(f"no field {name!r}; {value!r:.60} is not JSON") from None
        if not isinstance(value, Mapping) or part not in value:
            there = list(value) if isinstance(value, Mapping) else []
            hint = nearest(part, map(str, there))
            raise _BadRowError(f"no field {name!r}{hint}; there are {', '.join(map(repr, there)) or 'none'}")
        value = value[part]
    return value


def _filled(row: Mapping[str, Any], name: str) -> bool:
    """Return whether a row has something under a name."""
    try:
        return _field(row, name) not in (None, "", [], {})
    except _BadRowError:
        return False


def _text(row: Mapping[str, Any], name: str, numbers: bool = True) -> str:
    return _plain_text(_field(row, name), name, numbers)


def _plain_text(value: Any, name: str, numbers: bool = True) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise _BadRowError(f"field {name!r} is {value}, which is no number; expected a text or a number")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal if numbers else str):
        raise _BadRowError(f"field {name!r} is {value!r:.60}; expected a text{' or a number' if numbers else ''}")
    text = _checked(str(value), name)
    if not text:
        raise _BadRowError(f"field {name!r} is empty")
    return text


def _checked(text: str, name: str, strip: bool = True) -> str:
    """Return a text without the white space around it. Raises _BadRowError for what no tokenizer can encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _BadRowError(f"field {name!r} holds half of a surrogate pair, which no tokenizer can encode") from None
    return text.strip() if strip else text


def _difficulty(value: Any) -> int:
    """Return the number in a difficulty such as 3 or "Level 3"; 0 where there is none."""
    digits = re.search(r"[0-9]{1,9}", str(value))
    return int(digits[0]) if digits else 0


def _marked_answer(text: str) -> str | None:
    r"""Return what stands after the last `####`, else in the last `\boxed{}`; None without either."""
    return text.rpartition("####")[2].strip().replace(",", "") if "####" in text else last_boxed(text)


def last_boxed(text: str) -> str | None:
    r"""Return the content of the last `\boxed{…}` (or `\boxed x`), braces matched; None without one or its end."""
    start = text.rfind("\\boxed")
    if start < 0:
        return None
    rest = text[start + len("\\boxed") :].lstrip()
    if not rest.startswith("{"):
        return rest.split("$")[0].split()[0] if rest.split("$")[0].split() else None
    depth = 0
    for position, character in enumerate(rest):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return rest[1:position].strip()
    return None


# ---- the task --------------------------------------------------------------------------------------------------------


class QuestionTask:
    """Loaded questions as a Task. Which split a question belongs to depends on its text alone."""

    verifier = "math"
    """The reward that `exact` stands for."""

    def __init__(
        self,
        items: Sequence[Item],
        *,
        held_out: Sequence[Item] | None = None,
        held_out_share: float = 0.1,
        template: str = TEMPLATE,
        max_new_tokens: int = 512,
        name: str = "questions",
        difficulties: Sequence[int] | None = None,
        verify: Callable[[str, str], float] | None = None,
    ) -> None:
        """Divide questions into those to train on and those held out.

        Args:
            items: from `load_questions`.
            held_out: further items that serve as the held-out split (a test file); None: a share of `items`, chosen by
                hash. A question in both is only held out, with a warning.
            held_out_share: that share, in [0, 1).
            template: what the model is asked, with `{question}` and perhaps `{name}` for the field `name` of the row;
                rows that are chat messages stay as they are.
            max_new_tokens: limit of an answer.
            name: for reports.
            difficulties: those to use; None: all.
            verify: `(gold, text) -> score`, the check behind `score`; by default the last number, or the characters of
                the boxed answer. Rewards use `verifier` instead: mathematical equality in workers.

        Raises:
            UsageError: for no items, a template without `{question}`, or a share outside [0, 1).
        """
        if "{question}" not in template:
            raise UsageError(f"the template {template!r} lacks '{{question}}', the place of the question")
        if not 0 <= held_out_share < 1 or max_new_tokens < 1:
            raise UsageError(
                f"held_out_share={held_out_share}, max_new_tokens={max_new_tokens} were given; expected a share in "
                "[0, 1) and at least 1 token"
            )
        self.name, self._template, self._max_new, self._verify = name, template, max_new_tokens, verify
        index = Index.of(items)
        there = sorted({int(one) for one in index.difficulties})
        if difficulties is not None and not set(difficulties) <= set(there):
            raise UsageError(f"difficulties {list(difficulties)} were asked for; the questions have {there}")
        chosen = np.arange(len(items))
        if difficulties is not None:
            chosen = np.flatnonzero(np.isin(index.difficulties, list(difficulties)))
        if not chosen.size:
            raise UsageError(f"task {name!r} has no questions")
        self.difficulties: tuple[int, ...] = tuple(sorted({int(one) for one in index.difficulties[chosen]}))
        if held_out is None:
            limit = held_out_share * 2**64
            apart = np.array([int(prompt) < limit for prompt in index.prompts[chosen]])
            if held_out_share and len(chosen) > 1 and not apart.any():
                apart[index.prompts[chosen].argmin()] = True  # a small set has something held out, too
            test = (items, index, chosen[apart])
        else:
            other = Index.of(held_out)
            apart = np.isin(index.prompts[chosen], other.prompts)
            test = (held_out, other, np.arange(len(held_out)))
            if apart.any():
                warnings.warn(
                    f"{int(apart.sum())} training questions of {name!r} are held out, too; they are not trained on",
                    stacklevel=2,
                )
        self._pools: dict[str, tuple[Sequence[Item], Index, np.ndarray]] = {
            "train": (items, index, chosen[~apart]),
            "held_out": test,
        }

    @property
    def vocabulary(self) -> str:
        """Return every character of prompts, solutions and answers."""
        used: set[str] = set()
        for items, _, positions in self._pools.values():
            for item in (self._asked(items[int(position)]) for position in positions):
                used.update(item.prompt, item.solution, item.answer)
        return "".join(sorted(used))

    def pool(self, count: int, split: Split, seed: int = 0) -> list[Item]:
        """Return `count` different items in an order that depends on the seed, or all there are, with a warning.

        A smaller pool is the beginning of a larger one.
        """
        if split not in get_args(Split) or count < 0:
            raise UsageError(f"pool({count}, {split!r}): expected a count of 0 or more, 'train' or 'held_out'")
        items, index, positions = self._pools[split]
        there = sorted(positions.tolist(), key=lambda position: _hash(str(seed), index.ids[position]))
        if count > len(there):
            warnings.warn(
                f"task {self.name!r} has {len(there)} {split} questions; {count} were asked for, so all are used",
                stacklevel=2,
            )
        return [self._asked(items[position]) for position in there[:count]]

    def score(self, item: Item, text: str) -> float:
        """Return 1.0 or 0.0 by the quick check (see `verify`), against every answer that counts. Never raises."""
        check = self._verify or plainly_equal
        return max(check(gold, text) for gold in item.meta.get("answers", (item.answer,)))

    def max_new(self, difficulty: int) -> int:
        """Return the limit that was given, for every difficulty."""
        del difficulty
        return self._max_new

    def render_chat(self, item: Item) -> list[dict[str, str]]:
        """Return the item as chat messages: those of the row, or the prompt as one message of the user."""
        return list(item.meta["messages"])

    def _asked(self, item: Item) -> Item:
        if "messages" in item.meta:
            return item
        prompt = _PLACEHOLDER.sub(lambda found: self._filled(item, found), self._template)
        meta = {**item.meta, "messages": [{"role": "user", "content": prompt}]}
        return Item(item.id, prompt, item.answer, item.solution, item.difficulty, meta)

    def _filled(self, item: Item, found: re.Match[str]) -> str:
        """Return what stands for `{name}` in the template: a field of the row, or the very characters."""
        if found[1] == "question":
            return item.prompt
        value = item.meta.get(found[1])
        return str(value) if isinstance(value, str | int | float) else found[0]


def plainly_equal(gold: str, text: str) -> float:
    """Return 1.0 when a text's answer has the characters or the decimal value of `gold`; else 0.0.

    The answer is what is boxed, what follows the last `#`, or else the last number of the text.
    """
    found = last_boxed(text)
    if found is None and "#" in text:
        found = text.rpartition("#")[2].strip()
    if found is not None and found == gold:
        return 1.0
    numbers = _LAST_NUMBER.findall(text if found is None else found)
    expected = _LAST_NUMBER.fullmatch(gold)
    if not numbers or expected is None:
        return 0.0
    return float(_plain(numbers[-1]) == _plain(gold))


def _plain(number: str) -> str:
    """Return a decimal number without separators, sign + and superfluous zeros."""
    text = number.replace(",", "").lstrip("+")
    sign, text = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    whole = whole.lstrip("0") or "0"
    return (sign if (whole, fraction) != ("0", "") else "") + whole + (f".{fraction}" if fraction else "")


def _hash(*parts: str) -> str:
    return hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
