"""Questions with checkable answers from files: GSM8K, SVAMP, MATH, verl, or fields that you name."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.data.rows import Row, read_rows
from pilotage.types import Item

Split = Literal["train", "held_out"]

TEMPLATE = "{question}\n\nReason step by step, then give the final answer within \\boxed{}."
"""What a model is asked: `{question}` stands for the question."""

_PROMPTS = ("question", "problem", "prompt", "instruction", "input")
_ANSWERS = ("answer", "final_answer", "ground_truth", "expected_answer", "target", "output", "label")
_CALCULATOR = re.compile(r"<<[^<>]*>>")
_LAST_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,100})(?:\.[0-9]{1,100})?")


class _BadRowError(Exception):
    """A row whose question or answer cannot be taken; the message says why."""


def load_questions(
    source: str | Path,
    *,
    fields: Mapping[str, str] | None = None,
    subset: str | None = None,
    split: str = "train",
    skip_bad: bool = False,
) -> list[Item]:
    r"""Return the questions of a file, folder or data set (see `pilotage.data.rows.read_rows`) as items.

    Known by their fields: GSM8K (question, answer with `#### number`), SVAMP (Body, Question, Answer), MATH (problem,
    and answer or a solution with `\boxed{}`), verl (prompt as messages, reward_model.ground_truth), or a field each of
    the usual names for prompt and answer.

    fields: names of the fields for "prompt" and "answer", and optionally "solution" and "difficulty"; a dot goes into
        nested ones.
    subset, split: of a data set.
    skip_bad: leave out rows whose question or answer cannot be extracted, with a warning, instead of refusing them.
    Equal questions are merged, with a warning that counts them. `item.id` is a hash of question and answer;
    `item.meta["messages"]` are the chat messages where the row has some, `item.meta["place"]` says where it stood.
    Raises UsageError that names file, line and field.
    """
    rows = read_rows(source, subset=subset, split=split)
    read = _reader(rows, fields)
    items: list[Item] = []
    bad: list[str] = []
    for place, row in rows:
        try:
            items.append(read(place, row))
        except _BadRowError as error:
            bad.append(f"{place}: {error}")
    if bad and (not skip_bad or not items):
        shown = "\n  ".join(bad[:3])
        raise UsageError(
            f"{len(bad)} of {len(rows)} rows of {source} cannot be used:\n  {shown}\nMend them, name other fields, or "
            "leave them out (skip_bad)"
        )
    if bad:
        warnings.warn(f"{len(bad)} of {len(rows)} rows of {source} are left out, such as {bad[0]}", stacklevel=2)
    return _merged(items, source)


def _merged(items: list[Item], source: str | Path) -> list[Item]:
    first: dict[str, Item] = {}
    same = contradictory = 0
    for item in items:
        earlier = first.setdefault(item.prompt, item)
        if earlier is not item:
            same += earlier.answer == item.answer
            contradictory += earlier.answer != item.answer
    if same or contradictory:
        warnings.warn(
            f"{source} repeats {same + contradictory} questions, {contradictory} of them with another answer; the "
            f"first of each is kept, {len(first)} in all",
            stacklevel=3,
        )
    return list(first.values())


# ---- formats ---------------------------------------------------------------------------------------------------------


def _reader(rows: Sequence[Row], fields: Mapping[str, str] | None) -> Callable[[str, dict[str, Any]], Item]:
    """How to read a row, by the fields of the first one."""
    place, row = rows[0]
    if fields is not None:
        unknown = set(fields) - {"prompt", "answer", "solution", "difficulty"}
        if unknown or not {"prompt", "answer"} <= set(fields):
            raise UsageError(
                f"fields={dict(fields)} was given; expected 'prompt' and 'answer', and perhaps 'solution', 'difficulty'"
            )
        return _generic(dict(fields))
    if {"Body", "Question", "Answer"} <= row.keys():
        return _svamp
    if "problem" in row and ("solution" in row or "answer" in row):
        return _mathematics
    if "prompt" in row and isinstance(row.get("reward_model"), Mapping):
        return _generic({"prompt": "prompt", "answer": "reward_model.ground_truth"})
    if "question" in row and any("####" in str(r.get("answer")) for _, r in rows):
        return _gsm8k
    prompt = next((name for name in _PROMPTS if name in row), None)
    answer = next((name for name in _ANSWERS if name in row), None)
    if prompt is None or answer is None:
        role, names = ("a prompt", _PROMPTS) if prompt is None else ("an answer", _ANSWERS)
        missing = f"{role} ({', '.join(names)})"
        hint = next(filter(None, (nearest(name, names) for name in row)), "")
        raise UsageError(
            f"{place} has no field for {missing}; its fields are {', '.join(map(repr, row)) or 'none'}{hint}. Name "
            "them: fields={'prompt': ..., 'answer': ...}"
        )
    return _generic({"prompt": prompt, "answer": answer})


def _gsm8k(place: str, row: dict[str, Any]) -> Item:
    worked = _text(row, "answer")
    if "####" not in worked:
        raise _BadRowError(f"field 'answer' has no '#### number': {worked[-60:]!r}")
    steps, _, answer = worked.rpartition("####")
    solution = f"{_CALCULATOR.sub('', steps).strip()}\n#### {answer.strip()}"
    return _item(place, _text(row, "question"), answer.strip().replace(",", ""), solution)


def _svamp(place: str, row: dict[str, Any]) -> Item:
    body = _text(row, "Body")
    joint = " " if body[-1] in ".?!," else ". "
    return _item(place, body + joint + _text(row, "Question"), _text(row, "Answer"))


def _mathematics(place: str, row: dict[str, Any]) -> Item:
    solution = _text(row, "solution") if row.get("solution") else ""
    if row.get("answer") is not None:
        answer = _text(row, "answer")
    else:
        found = last_boxed(solution)
        if not found:
            raise _BadRowError(f"field 'solution' has no \\boxed{{answer}}: {solution[-60:]!r}")
        answer = found
    return _item(place, _text(row, "problem"), answer, solution, _difficulty(row.get("level")))


def _generic(fields: dict[str, str]) -> Callable[[str, dict[str, Any]], Item]:
    def read(place: str, row: dict[str, Any]) -> Item:
        prompt = _field(row, fields["prompt"])
        answer = _text(row, fields["answer"])
        solution = _text(row, fields["solution"]) if "solution" in fields else ""
        difficulty = _difficulty(_field(row, fields["difficulty"])) if "difficulty" in fields else 0
        if not isinstance(prompt, list):
            return _item(place, _text(row, fields["prompt"]), answer, solution, difficulty)
        messages = [_message(message, fields["prompt"]) for message in prompt]
        if not messages:
            raise _BadRowError(f"field {fields['prompt']!r} has no messages")
        return _item(place, "\n\n".join(m["content"] for m in messages), answer, solution, difficulty, messages)

    return read


def _message(message: Any, field: str) -> dict[str, str]:
    if not isinstance(message, Mapping) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
        raise _BadRowError(f"field {field!r} must hold messages with 'role' and 'content', not {message!r:.80}")
    return {"role": message["role"], "content": message["content"]}


def _item(
    place: str,
    question: str,
    answer: str,
    solution: str = "",
    difficulty: int = 0,
    messages: list[dict[str, str]] | None = None,
) -> Item:
    if not answer:
        raise _BadRowError("the answer is empty")
    meta: dict[str, Any] = {"question": question, "place": place}
    if messages is not None:
        meta["messages"] = messages
    return Item(_hash(question, answer), question, answer, solution, difficulty, meta)


def _field(row: Mapping[str, Any], name: str) -> Any:
    """The value under a name, dots going into nested objects."""
    value: Any = row
    for part in (name,) if name in row else name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            there = list(value) if isinstance(value, Mapping) else []
            hint = nearest(part, map(str, there))
            raise _BadRowError(f"no field {name!r}{hint}; there are {', '.join(map(repr, there)) or 'none'}")
        value = value[part]
    return value


def _text(row: Mapping[str, Any], name: str) -> str:
    value = _field(row, name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise _BadRowError(f"field {name!r} is {value!r:.60}; expected a text or a number")
    text = str(value).strip()
    if not text:
        raise _BadRowError(f"field {name!r} is empty")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _BadRowError(f"field {name!r} holds half of a surrogate pair, which no tokenizer can encode")
    return text


def _difficulty(value: Any) -> int:
    """Return the number in a difficulty such as 3 or "Level 3"; 0 where there is none."""
    digits = re.search(r"[0-9]{1,9}", str(value))
    return int(digits[0]) if digits else 0


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
    """Loaded questions as a Task. Which split a question belongs to depends on its text alone.

    items: from `load_questions`. held_out: further items that serve as the held-out split (a test file); None: a share
        of `held_out_share` of `items`, chosen by hash. A question in both is only held out, with a warning.
    template: what the model is asked, with `{question}`; rows that are chat messages stay as they are.
    max_new_tokens: limit of an answer. name: for reports. difficulties: those to use; None: all.
    verify: `(gold, text) -> score`, the check behind `score`; by default the last number, or the characters of the
        boxed answer. Rewards use `verifier` instead: mathematical equality in workers.
    Raises UsageError for no items, a template without `{question}`, or a share outside [0, 1).
    """

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
        if "{question}" not in template:
            raise UsageError(f"the template {template!r} lacks '{{question}}', the place of the question")
        if not 0 <= held_out_share < 1 or max_new_tokens < 1:
            raise UsageError(
                f"held_out_share={held_out_share}, max_new_tokens={max_new_tokens} were given; expected a share in "
                "[0, 1) and at least 1 token"
            )
        self.name, self._template, self._max_new, self._verify = name, template, max_new_tokens, verify
        there = sorted({item.difficulty for item in items})
        if difficulties is not None and not set(difficulties) <= set(there):
            raise UsageError(f"difficulties {list(difficulties)} were asked for; the questions have {there}")
        chosen = [item for item in items if difficulties is None or item.difficulty in difficulties]
        if not chosen:
            raise UsageError(f"task {name!r} has no questions")
        self.difficulties: tuple[int, ...] = tuple(sorted({item.difficulty for item in chosen}))
        if held_out is None:
            parts = [_hash("split", item.prompt) for item in chosen]
            apart = [int(part, 16) < held_out_share * 2**64 for part in parts]
            train = [item for item, out in zip(chosen, apart, strict=True) if not out]
            test = [item for item, out in zip(chosen, apart, strict=True) if out]
        else:
            test = list(held_out)
            known = {item.prompt for item in test}
            train = [item for item in chosen if item.prompt not in known]
            if len(train) < len(chosen):
                warnings.warn(
                    f"{len(chosen) - len(train)} training questions of {name!r} are held out, too; they are not "
                    "trained on",
                    stacklevel=2,
                )
        self._pools: dict[str, list[Item]] = {
            "train": [self._asked(item) for item in train],
            "held_out": [self._asked(item) for item in test],
        }

    @property
    def vocabulary(self) -> str:
        """Return every character of prompts, solutions and answers."""
        used: set[str] = set()
        for item in (*self._pools["train"], *self._pools["held_out"]):
            used.update(item.prompt, item.solution, item.answer)
        return "".join(sorted(used))

    def pool(self, count: int, split: Split, seed: int = 0) -> list[Item]:
        """`count` different items in an order that depends on the seed; a smaller pool is the beginning of a larger.

        There may be fewer, with a warning.
        """
        if split not in get_args(Split) or count < 0:
            raise UsageError(f"pool({count}, {split!r}): expected a count of 0 or more, 'train' or 'held_out'")
        there = sorted(self._pools[split], key=lambda item: _hash(str(seed), item.id))
        if count > len(there):
            warnings.warn(
                f"task {self.name!r} has {len(there)} {split} questions; {count} were asked for", stacklevel=2
            )
        return there[:count]

    def score(self, item: Item, text: str) -> float:
        """1.0 or 0.0: the quick check (see `verify`). Never raises by itself."""
        return plainly_equal(item.answer, text) if self._verify is None else self._verify(item.answer, text)

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
        prompt = self._template.replace("{question}", item.prompt)
        meta = {**item.meta, "messages": [{"role": "user", "content": prompt}]}
        return Item(item.id, prompt, item.answer, item.solution, item.difficulty, meta)


def plainly_equal(gold: str, text: str) -> float:
    """1.0 when the boxed answer, what follows the last `#`, or else the last number of a text has the characters or
    the decimal value of `gold`; else 0.0.
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
    """A decimal number without separators, sign + and superfluous zeros."""
    text = number.replace(",", "").lstrip("+")
    sign, text = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    whole = whole.lstrip("0") or "0"
    return (sign if (whole, fraction) != ("0", "") else "") + whole + (f".{fraction}" if fraction else "")


def _hash(*parts: str) -> str:
    return hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
