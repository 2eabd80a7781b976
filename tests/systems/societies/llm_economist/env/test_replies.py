from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilotage.systems.societies.llm_economist.env.replies import Refused, apply_delta, parse_delta, parse_vote


def reason(text, brackets=3):
    counts = Counter()
    found = parse_delta(text, brackets, counts)
    assert isinstance(found, Refused)
    assert counts == {f"refused/{found.reason}": 1}
    assert found.detail
    return found.reason


def test_a_delta_is_found_among_words_and_the_last_one_counts():
    text = 'I first thought {"DELTA": [20, 20, 20]} {oops} but no: {"WHY": {"a": 1}, "DELTA": [10, 0, -20]}. Done.'
    counts = Counter()
    assert parse_delta(text, 3, counts).tolist() == [10, 0, -20]
    assert counts["accepted"] == 1
    assert counts["clipped"] == counts["rounded"] == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("raise all rates by ten", "no_json"),
        ('{"DELTA": [10, 0', "no_json"),
        ('{"delta": [10, 0, 0]}', "no_key"),
        ('{"DELTA": 10}', "no_list"),
        ('{"DELTA": [10, 0]}', "length"),
        ('{"DELTA": [10, 0, 0, 0]}', "length"),
        ('{"DELTA": ["10%", 0, 0]}', "no_number"),
        ('{"DELTA": ["10", 0, 0]}', "no_number"),
        ('{"DELTA": [true, 0, 0]}', "no_number"),
        ('{"DELTA": [null, 0, 0]}', "no_number"),
        ('{"DELTA": [NaN, 0, 0]}', "no_number"),
        ('{"DELTA": [0, Infinity, 0]}', "no_number"),
        ('{"DELTA": [0.1, 0, 0]}', "fraction"),
        ('{"DELTA": [0, 0, -0.2]}', "fraction"),
        ("", "no_json"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(text, expected):
    assert reason(text) == expected


def test_points_are_clipped_and_rounded_and_both_are_counted():
    counts = Counter()
    assert parse_delta('{"DELTA": [50, -1e400, 7]}', 3, counts) is not None  # json reads 1e400 as infinity
    assert counts == {"refused/no_number": 1}
    assert parse_delta('{"DELTA": [50, -900, 7]}', 3, counts).tolist() == [20, -20, 10]
    assert counts["clipped"] == counts["rounded"] == counts["accepted"] == 1
    assert parse_delta('{"DELTA": [4, -16, 0]}', 3, counts).tolist() == [0, -20, 0]
    assert parse_delta('{"DELTA": [1' + "0" * 400 + ", 0, 0]}", 3, counts).tolist() == [20, 0, 0]
    assert parse_delta('{"DELTA": [1' + "0" * 5000 + ", 0, 0]}", 3).reason == "no_json"  # Python reads no such number


def test_rates_are_cut_at_the_border_and_never_turned_round():
    counts = Counter()
    rates = torch.tensor([90.0, 10.0, 50.0])
    assert apply_delta(rates, torch.tensor([20.0, -20.0, 10.0]), counts).tolist() == [100, 0, 60]
    assert apply_delta(rates, torch.tensor([10.0, -10.0, 0.0]), counts).tolist() == [100, 0, 50]
    assert counts["truncated"] == 1


@given(st.text())
def test_no_text_raises(text):
    assert isinstance(parse_delta(text, 3), Refused)
    assert isinstance(parse_vote(text, [1]), Refused)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: x == 0 or abs(x) >= 1), max_size=6))
def test_whatever_is_accepted_is_in_tens_within_twenty(entries):
    found = parse_delta(f'{{"DELTA": {entries}}}', len(entries))
    assert set(found.tolist()) <= {-20, -10, 0, 10, 20}


def test_votes_are_for_candidates_only():
    counts = Counter()
    assert parse_vote('{"LEADER": 7}', [3, 7], counts) == 7
    assert parse_vote('{"LEADER": null}', [3, 7], counts) is None
    for text in ('{"LEADER": 5}', '{"LEADER": "7"}', '{"LEADER": true}', '{"LEADER": [7]}'):
        assert parse_vote(text, [1, 7, 3], counts).reason == "no_candidate"
    assert parse_vote("seven", [3, 7], counts).reason == "no_json"
    assert counts == {"accepted": 1, "abstained": 1, "refused/no_candidate": 4, "refused/no_json": 1}


def test_a_draft_in_the_reasoning_is_no_answer() -> None:
    text = '<think>Maybe {"DELTA": [20, 20, 20]}? Too much.</think>{"DELTA": [10, 0, -20]}'
    found = parse_delta(text, 3)
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == [10, 0, -20]
    for unfinished in ('<think>Maybe {"DELTA": [20, 20, 20]}? But', '<think>{"DELTA": [20, 20, 20]}</think>'):
        assert isinstance(parse_delta(unfinished, 3), Refused)
    assert isinstance(parse_vote('<think>{"LEADER": 7}?', [7]), Refused)
