"""Reading what a language model wrote: its reasoning apart from its answer.

Reasoning models think aloud in fields of their own or in the same text, between tags that differ by model. Rewards,
polls and structured replies all judge the answer alone, so that a draft inside the reasoning is never taken for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelText:
    """The parts of what a language model wrote."""

    reasoning: str
    """The reasoning of the model, without tags; empty for a model that wrote none."""
    answer: str
    """The text outside of the reasoning; empty when there is none."""
    complete: bool
    """False when there is reasoning and no answer: the reasoning was never closed, or nothing follows it."""


_TAGS = (
    *((f"<{name}>", f"</{name}>") for name in ("think", "thinking", "thought", "reasoning", "seed:think")),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
"""The opening and the closing tag of DeepSeek, Qwen and most others; Seed; Mistral; Kimi; OpenThinker; Command."""
_TAG = re.compile("|".join(re.escape(tag) for pair in _TAGS for tag in pair), re.IGNORECASE)
_KIND = {tag.lower(): kind for kind, pair in enumerate(_TAGS) for tag in pair}
_CLOSING = {pair[1].lower() for pair in _TAGS}
_CHANNEL = re.compile(
    r"<\|channel\|>\s*(?P<name>\w*)(?:(?!<\|message\|>|<\|channel\|>).){0,200}<\|message\|>", re.DOTALL
)
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
_STRIPPED_CHANNELS = re.compile(r"\s*analysis(?P<reasoning>.*?)assistantfinal(?P<answer>.*)", re.S)
"""The harmony format of gpt-oss after a decoder that leaves special tokens out."""


def read_model_text(text: str | None, reasoning: str | None = None) -> ModelText:
    """Return the reasoning and the answer of what a model wrote, whichever fields and tags it used.

    A closing tag without an opening one ends reasoning that began in the prompt: all before it is reasoning. A text
    without tags is an answer, and is returned unchanged; otherwise blanks around the answer are left out.

    Args:
        text: the content of the reply; None for none.
        reasoning: the reasoning of the reply where an endpoint gives it in a field of its own (`reasoning_content`,
            `reasoning`); None or empty for none.
    """
    text, thoughts = text or "", [reasoning] if reasoning else []
    split = _split_channels(text) if "<|channel|>" in text else _split_tags(text)
    if split is None:
        if not thoughts:
            return ModelText("", text, True)
        split = [], [text], True
    parts, answers, closed = split
    answer = "".join(answers).strip() if closed else ""
    thoughts += [part for part in parts if part.strip()]
    return ModelText("\n".join(part.strip() for part in thoughts), answer, bool(answer))


def _split_tags(text: str) -> tuple[list[str], list[str], bool] | None:
    """Return the parts of reasoning, those of the answer, and whether the reasoning was closed; None without any."""
    thoughts: list[str] = []
    answers: list[str] = []
    opened: int | None = None
    start = 0
    for tag in _TAG.finditer(text):
        name, part = tag[0].lower(), text[start : tag.start()]
        if opened is None and name in _CLOSING:
            thoughts += [*answers, part]
            answers = []
        elif opened is None:
            answers.append(part)
            opened = _KIND[name]
        elif name in _CLOSING and _KIND[name] == opened:
            thoughts.append(part)
            opened = None
        else:
            continue
        start = tag.end()
    if start == 0:
        stripped = _STRIPPED_CHANNELS.match(text)
        return None if stripped is None else ([stripped["reasoning"]], [stripped["answer"]], True)
    (answers if opened is None else thoughts).append(text[start:])
    return thoughts, answers, opened is None


def _split_channels(text: str) -> tuple[list[str], list[str], bool]:
    """Return what `_split_tags` returns, from the channels of the harmony format."""
    thoughts: list[str] = []
    answers: list[str] = []
    begin = 0
    for channel in _CHANNEL.finditer(text):
        if begin == 0:
            thoughts.append(_CHANNEL_END.split(text[: channel.start()])[0])
        begin = channel.end()
        end = _CHANNEL_END.search(text, begin)
        (answers if channel["name"] == "final" else thoughts).append(text[begin : end.start() if end else len(text)])
    return thoughts if begin else [text], answers, bool(answers)
