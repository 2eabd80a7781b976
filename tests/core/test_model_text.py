"""Reasoning and answer of what models write, for the tags and fields of each family of models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage.core.model_text import ModelText, read_model_text

HARMONY = "<|channel|>analysis<|message|>6*7, {}<|end|><|start|>assistant<|channel|>final<|message|>{}"


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>Maybe 41? No.</think>\n\nIt is 42.", "Maybe 41? No.", "It is 42."),
        ("<think>\n\n</think>\n\nYes", "", "Yes"),
        ("<THINKING>a</THINKING> b", "a", "b"),
        ("<thought>a</thought>b", "a", "b"),
        ("<reasoning>\na\n</reasoning>\n<answer>b</answer>", "a", "<answer>b</answer>"),
        ("[THINK]a[/THINK]b", "a", "b"),
        ("<seed:think>a</seed:think>b", "a", "b"),
        ("◁think▷a◁/think▷b", "a", "b"),
        ("<|begin_of_thought|>a<|end_of_thought|>b", "a", "b"),
        ("<|START_THINKING|>a<|END_THINKING|>b", "a", "b"),
        ("began in the prompt</think>b", "began in the prompt", "b"),
        ("41</think>no, 43</think>42", "41\nno, 43", "42"),
        ("<think>I use <think> tags</think> a</think>b", "I use <think> tags\na", "b"),
        ("<think>a <reasoning>b</reasoning> c</think>d", "a <reasoning>b</reasoning> c", "d"),
        ("Sure. <think>a</think>No.<think>b</think> Yes.", "a\nb", "Sure. No. Yes."),
        (HARMONY.format("no", "42<|return|>"), "6*7, no", "42"),
        (HARMONY.format("no", "42"), "6*7, no", "42"),
        ("6*7<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>{}<|return|>", "6*7", "{}"),
        ("<|channel|>commentary to=f<|message|>x<|call|><|channel|>final<|message|>y", "x", "y"),
        ("analysisWe need 6*7.assistantfinalIt is 42.", "We need 6*7.", "It is 42."),
    ],
)
def test_reasoning_and_answer_are_told_apart(text: str, reasoning: str, answer: str) -> None:
    assert read_model_text(text) == ModelText(reasoning, answer, complete=True)


@pytest.mark.parametrize(
    "text",
    [
        "<think>6*7 is 42, but let me check",
        "<think>",
        "The answer is 42. <think>Or is it",
        "<think>first</think>42<think>second",
        "<thinking>closed by another tag</think>42",
        "<think>nothing follows 42</think>\n",
        "</think>",
        "[THINK]42",
        "<|channel|>analysis<|message|>It is 42",
        "<|channel|>analysis<|message|>It is 42<|end|><|start|>assistant",
        "<|channel|>ana",
        "<|channel|>commentary<|message|>42<|end|>",
    ],
)
def test_reasoning_without_an_answer_is_incomplete_and_its_drafts_are_no_answer(text: str) -> None:
    read = read_model_text(text)
    assert not read.complete
    assert read.answer == ""


def test_a_field_of_the_reply_holds_the_reasoning() -> None:
    assert read_model_text("42", "6*7") == ModelText("6*7", "42", complete=True)
    assert read_model_text(None, "6*7") == ModelText("6*7", "", complete=False)
    assert read_model_text(" ", '{"hours": 40}') == ModelText('{"hours": 40}', "", complete=False)
    assert read_model_text("<think>b</think>42", "a") == ModelText("a\nb", "42", complete=True)
    assert read_model_text("<think>b 42", "a") == ModelText("a\nb 42", "", complete=False)


def test_nothing_at_all_is_an_empty_answer() -> None:
    assert read_model_text(None) == read_model_text("", "") == ModelText("", "", complete=True)


@given(st.text(st.characters(exclude_characters="<[◁")))
def test_a_text_without_tags_is_its_own_answer(text: str) -> None:
    assert read_model_text(text + ".") == ModelText("", text + ".", complete=True)


@given(st.lists(st.sampled_from(["<think>", "</think>", "[THINK]", "<|channel|>", "<|message|>", "final", "4", " "])))
def test_every_text_is_read(parts: list[str]) -> None:
    read = read_model_text("".join(parts))
    assert read.complete or read.answer == ""


def test_many_tags_are_read_in_linear_time() -> None:
    for tag in ("<think>", "</think>", "<|channel|>", "<|channel|>final<|message|>", "<think></think>"):
        assert read_model_text(tag * 50_000).answer == ""
