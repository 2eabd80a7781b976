"""The grammar of pieces, and the checks that run before training."""

from __future__ import annotations

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.core.pieces import Term, check_columns, parse_chain, parse_sum, parse_term, resolve


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("mvar", Term("mvar", {})),
        ("mvar:alpha=0.1,size=5", Term("mvar", {"alpha": 0.1, "size": 5})),
        ("0.5*mvar:alpha=0.1", Term("mvar", {"alpha": 0.1}, 0.5)),
        ("-1*grpo", Term("grpo", {}, -1.0)),
        ("my.py:advantage", Term("my.py:advantage", {})),
        ("my_package.module:advantage", Term("my_package.module:advantage", {})),
        ("my.py:advantage:scale=2", Term("my.py:advantage", {"scale": 2})),
        ("conflict:divide-by-conflicts=true", Term("conflict", {"divide_by_conflicts": True})),
        ("kl:kind=k3,limit=none", Term("kl", {"kind": "k3", "limit": None})),
        ("1e-3*kl", Term("kl", {}, 1e-3)),
        ("format:pattern='a+b*:c=d,e then f'", Term("format", {"pattern": "a+b*:c=d,e then f"})),
        ("2*f:a=\"it's\",b='3',c=3", Term("f", {"a": "it's", "b": "3", "c": 3}, 2.0)),
        ("my folder/a b.py:f:x=1", Term("my folder/a b.py:f", {"x": 1})),
    ],
)
def test_a_term_is_read(text, term):
    assert parse_term(text) == term


def test_sums_and_chains_are_read():
    assert [t.reference for t in parse_sum("0.5*grpo+0.5*my.py:mine")] == ["grpo", "my.py:mine"]
    assert parse_sum("1e+2*grpo")[0].weight == 100.0
    assert [t.options for t in parse_sum("f:p='a+b'+g:p=\"c+d\"")] == [{"p": "a+b"}, {"p": "c+d"}]
    assert [t.reference for t in parse_chain("entropy_shape:gamma=0.1 then whiten")] == ["entropy_shape", "whiten"]


@pytest.mark.parametrize("text", ["", "a b", "*grpo", "mvar:alpha=1:beta=2"])
def test_what_cannot_be_read_is_refused(text):
    with pytest.raises(UsageError):
        parse_term(text)


def test_a_wrong_name_suggests_the_nearest_one():
    with pytest.raises(UsageError, match="zscore"):
        resolve("advantage", parse_term("zscor"))


def test_a_name_of_another_slot_says_which():
    with pytest.raises(UsageError, match="slot filter"):
        resolve("advantage", parse_term("informative"))


def test_a_wrong_option_suggests_the_nearest_one():
    with pytest.raises(UsageError, match="'alpha'"):
        resolve("advantage", parse_term("mvar:alpa=0.1"))


def test_a_missing_option_is_named():
    with pytest.raises(UsageError, match="maximum"):
        resolve("aggregate", parse_term("const_norm"))


def test_arguments_are_columns_and_keywords_are_options():
    def advantage(reward, group, level=None, *, scale=1.0):
        assert len(group)
        return reward * scale if level is None else reward * level * scale

    piece = resolve("advantage", advantage)
    assert piece.needs == ("reward", "group")
    assert piece.accepts == ("level",)
    columns = {"reward": torch.tensor([1.0]), "group": torch.tensor([0]), "level": torch.tensor([3.0])}
    assert piece(columns.__getitem__) == 1.0
    assert piece(columns.__getitem__, columns.__contains__) == 3.0


def test_a_function_from_a_file_is_found(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def advantage(reward, *, scale=1.0):\n    return reward * scale\n")
    piece = resolve("advantage", parse_term(f"{path}:advantage:scale=3"))
    assert piece({"reward": torch.tensor([2.0])}.__getitem__) == 6.0
    with pytest.raises(UsageError, match="has no 'advantag'"):
        resolve("advantage", parse_term(f"{path}:advantag"))
    with pytest.raises(UsageError, match="there is no file"):
        resolve("advantage", parse_term(f"{tmp_path / 'absent.py'}:advantage"))


def test_a_column_that_no_piece_writes_names_the_piece_that_would():
    def piece(bundle):
        return bundle

    with pytest.raises(UsageError, match="the advantage piece 'mvar' would write it"):
        check_columns([resolve("advantage", piece)], ["reward"])
    with pytest.raises(UsageError, match="no piece writes"):
        check_columns([resolve("advantage", piece)], ["reward"])


def test_refused_combinations_are_refused():
    pieces = [
        resolve("filter", parse_term("informative")),
        resolve("advantage", parse_term("mvar:size=2")),
    ]
    with pytest.raises(UsageError, match=r"'mvar' cannot be combined with 'informative'"):
        check_columns(pieces, ["reward", "correctness", "group", "generator"])
