import pytest
from hypothesis import given, settings
from tests.rewards.temporal_logic.random_formulas import formulas

from pilotage.core.errors import UsageError
from pilotage.rewards.temporal_logic import (
    Always,
    And,
    Eventually,
    Implies,
    Linear,
    Not,
    Or,
    Predicate,
    Until,
    name,
    names,
    parse,
)

V, VMAX, X = name("v"), name("vmax"), name("x")


def test_the_text_of_the_card_is_read():
    formula = parse("always[0,5](v <= vmax) and eventually[0,10] always (offset >= dmin)")
    assert formula == Always(V <= VMAX, 0, 5) & Eventually(Always(name("offset") >= name("dmin")), 0, 10)
    assert names(formula) == ["v", "vmax", "offset", "dmin"]


@given(formulas())
@settings(max_examples=60)
def test_a_formula_written_and_read_is_the_same(formula):
    assert parse(str(formula)) == formula
    assert str(parse(str(formula))) == str(formula)


def test_functions_survive_the_round_trip():
    formula = parse("always (safe() -> x >= 0)", {"safe": len})
    assert parse(str(formula), {"safe": len}) == formula


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("x >= 1 and x >= 2 or x >= 3", Or((And((X >= 1, X >= 2)), X >= 3))),
        ("x >= 1 or x >= 2 and x >= 3", (X >= 1) | (X >= 2) & (X >= 3)),
        ("always x >= 1 and x >= 2", And((Always(X >= 1), X >= 2))),
        ("x >= 1 -> x >= 2 implies x >= 3", Implies(X >= 1, Implies(X >= 2, X >= 3))),
        ("not x >= 1 until[2,inf] x >= 2 and x >= 3", And((Until(~(X >= 1), X >= 2, 2), X >= 3))),
        ("((x >= 1))", X >= 1),
        ("eventually[3,3] not always[0,inf](x < 1)", Eventually(Not(Always(X <= 1)), 3, 3)),
        ("1 <= x <= 2", And((Predicate(Linear((), 1.0), "<=", X), X <= 2))),
        ("-2*v + vmax/4 - .5e1 > v - 1 + 3*2", Predicate(-2 * V + VMAX * 0.25 - 5, ">=", V + 5)),
        ("2 * v * 3 >= 0", 6 * V >= 0),
        (" x\n >=\t1 ", X >= 1),
    ],
)
def test_what_text_means(text, formula):
    assert parse(text) == formula


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("always[0,5](v <= )", 18, r"expected a number or a name, got '\)'"),
        ("always[0,5](v <= vmax", 22, r"expected '\)' to close the parenthesis, got 'the end'"),
        ("always[0;5](v <= vmax)", 9, "';' means nothing"),
        ("always[5,2](v <= vmax)", 7, r"the window \[5,2\] ends before it begins"),
        ("always[0,2.5](v <= vmax)", 10, "a whole number of steps, got '2.5'"),
        ("always[-1,2](v <= vmax)", 8, "a whole number of steps, got '-'"),
        ("v <= vmax vmin", 11, "expected the end, or one of until, and, or, ->; got 'vmin'"),
        ("v == 3", 3, "expected <= or >=, got '=='; equality is written as two inequalities"),
        ("v", 2, "expected <= or >=, got 'the end'"),
        ("3 <= 4", 1, "two numbers are compared"),
        ("v * vmax >= 0", 5, "predicates are linear"),
        ("2 / v >= 0", 5, "predicates are linear"),
        ("v / 0 >= 0", 5, "division by zero"),
        ("1e999 <= v", 1, "too large"),
        ("2*(v + 1) >= 0", 3, "multiply out parentheses"),
        ("G(v >= 0)", 1, "no operator or function 'G'; operators are always"),
        ("F[0,2](v >= 0)", 1, "no operator or function 'F'"),
        ("safe(v) and v >= 0", 6, r"expected '\)' because a function is called without arguments"),
        ("v >= 0 until v >= 1 until v >= 2", 21, "two untils"),
        ("v >= 0 and", 11, "expected a number or a name, got 'the end'"),
        ("v >= and", 6, "got 'and'"),
        ("", 1, "expected a number or a name"),
        ("(" * 200 + "v >= 0" + ")" * 200, 61, "nested deeper than 60"),
    ],
)
def test_errors_show_the_place(text, column, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse(text, {"safe": len})
    first, line, caret = str(caught.value).split("\n")
    assert f"column {column}:" in first
    assert line == f"  {text}"
    assert caret == " " * (column + 1) + "^"


def test_errors_in_several_lines_name_the_line():
    with pytest.raises(UsageError, match="line 2, column 8") as caught:
        parse("always (v <= 1)\nand (v => 2)")
    assert str(caught.value).split("\n")[1:] == ["  and (v => 2)", "         ^"]


def test_a_formula_is_no_truth_value():
    with pytest.raises(TypeError, match=r"join formulas with &"):
        bool((X >= 0) and (X <= 1))
    with pytest.raises(TypeError, match="a <= x <= b as"):
        0 <= X <= 1  # noqa: B015


@pytest.mark.parametrize(
    "build",
    [
        lambda: name("always"),
        lambda: name("2x"),
        lambda: name("v max"),
        lambda: Linear((("v", float("nan")),)),
        lambda: Always(X >= 0, 3, 2),
        lambda: Until(X >= 0, X >= 1, -1),
        lambda: Eventually(X >= 0, 0, 2.0),
        lambda: And((X >= 0,)),
        lambda: Predicate(X, "==", X),
        lambda: Predicate(Linear((), 1.0), ">=", Linear()),
        lambda: X * V,
    ],
)
def test_what_no_text_could_say_cannot_be_built(build):
    with pytest.raises(UsageError):
        build()
