import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rewards.temporal_logic.random_formulas import NAMES, Plain, formulas, simple

from pilotage.core.errors import UsageError
from pilotage.rewards.temporal_logic import (
    Always,
    And,
    Eventually,
    Function,
    Or,
    RobustnessReward,
    Until,
    fits,
    name,
    parse,
    robustness,
    robustness_trace,
    smoothing_bound,
)

HERE = Path(__file__).resolve().parent
ORACLE = json.loads((HERE / "rtamt.json").read_text())
X = name("x")


@st.composite
def trajectories(draw, longest=8):
    """Signals as lists; small whole numbers make ties."""
    steps = draw(st.integers(1, longest))
    values = st.integers(-2, 2).map(float) | st.floats(-3, 3, allow_subnormal=False)
    return {each: draw(st.lists(values, min_size=steps, max_size=steps)) for each in NAMES}


def tensors(signals, dtype=torch.float64):
    return {each: torch.tensor([row], dtype=dtype) for each, row in signals.items()}


# ---- exact values ----------------------------------------------------------------------------------------------------


def test_two_hundred_random_formulas_are_worth_what_rtamt_says():
    assert len(ORACLE["cases"]) == 200
    assert len({case["formula"] for case in ORACLE["cases"]}) >= 199
    for case in ORACLE["cases"]:
        formula = parse(case["formula"])
        assert fits(formula, len(case["signals"]["x"]))
        value = robustness(formula, tensors(case["signals"])).item()
        assert value == pytest.approx(case["robustness"], abs=1e-9, rel=0), case["formula"]


def test_the_answers_of_rtamt_are_of_the_pinned_versions():
    pins = (HERE.parents[2] / "constraints" / "oracles.txt").read_text()
    for package, version in ORACLE["versions"].items():
        assert f"{package}=={version}\n" in pins


@given(formulas(simple), trajectories())
@settings(max_examples=40)
def test_exact_values_are_those_of_a_trajectory_that_stays_at_its_last_step(formula, signals):
    trace = robustness_trace(formula, tensors(signals))[0]
    plain = Plain(signals)
    for t in range(len(signals["x"])):
        assert trace[t].item() == pytest.approx(plain.value(formula, t), abs=1e-12)
    assert robustness(formula, tensors(signals)).item() == trace[0].item()


def test_a_window_past_the_end_takes_the_last_step():
    signals = {"x": torch.tensor([[3.0, 2.0, 1.0]])}
    for operator in (Always, Eventually):
        assert robustness_trace(operator(X >= 0, 2, 4), signals).tolist() == [[1.0, 1.0, 1.0]]
        assert robustness(operator(X >= 0, 50, 60), signals).item() == 1.0
    assert robustness(Until(X >= 0, X >= 2, 50), signals).item() == -1.0
    assert fits(Always(X >= 0, 2, 40), 3)
    assert not fits(Always(X >= 0, 3, 4), 3)
    assert not fits(Always(Always(X >= 0, 2, 2), 0, 1), 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("always (x >= 0)", 1.0),
        ("eventually[1,2] (x >= 0)", 4.0),
        ("always[0,1] (x <= 2) or eventually (x >= 5)", -1.0),
        ("x >= 0 -> x <= 2", 0.0),
        ("x <= 4 until x >= 4", 0.0),
        ("x <= 3 until[2,3] x >= 2", -1.0),
        ("0 <= x <= 3", 1.0),
    ],
)
def test_reference_values(text, expected):
    assert robustness(parse(text), {"x": torch.tensor([[2.0, 4.0, 3.0, 1.0]])}).item() == expected


# ---- smooth values ---------------------------------------------------------------------------------------------------


@given(formulas(simple), trajectories(), st.sampled_from((0.7, 5.0, 100.0)))
@settings(max_examples=40)
def test_smooth_values_count_every_step_once_and_stay_within_the_bound(formula, signals, tau):
    trace = robustness_trace(formula, tensors(signals), tau=tau)[0]
    exact = robustness_trace(formula, tensors(signals))[0]
    smooth, steps = Plain(signals, tau), len(signals["x"])
    for t in range(steps):
        assert trace[t].item() == pytest.approx(smooth.value(formula, t), abs=1e-9)
    assert (trace - exact).abs().max().item() <= smoothing_bound(formula, steps, tau) + 1e-9


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=12), st.floats(0.1, 200))
@settings(max_examples=40)
def test_one_operator_differs_by_at_most_log_n_over_tau(values, tau):
    n = len(values)
    row = {"x": torch.tensor([values], dtype=torch.float64)}
    columns = {f"x{i}": torch.tensor([[value]], dtype=torch.float64) for i, value in enumerate(values)}
    joined = tuple(name(column) >= 0 for column in columns)
    for formula, signals, sign in (
        (Always(X >= 0), row, -1),
        (Eventually(X >= 0), row, 1),
        (Always(X >= 0, 0, n - 1), row, -1),
        (And(joined), columns, -1),
        (Or(joined), columns, 1),
    ):
        difference = robustness(formula, signals, tau=tau).item() - robustness(formula, signals).item()
        assert -1e-9 <= sign * difference <= math.log(n) / tau + 1e-9


def test_smooth_values_converge_to_the_exact_ones():
    for case in ORACLE["cases"][:60]:
        formula, signals = parse(case["formula"]), tensors(case["signals"])
        errors = [abs(robustness(formula, signals, tau=tau).item() - case["robustness"]) for tau in (1e2, 1e4, 1e6)]
        assert errors[-1] < 1e-5
        assert errors[-1] <= errors[0] + 1e-9


# ---- gradients -------------------------------------------------------------------------------------------------------


@given(formulas(simple), trajectories(), st.sampled_from((None, 1.0, 100.0)), st.sampled_from((1.0, 1e4)))
@settings(max_examples=40)
def test_gradients_are_finite_everywhere(formula, signals, tau, scale):
    rows = {each: (row * scale).requires_grad_() for each, row in tensors(signals, torch.float32).items()}
    value = robustness_trace(formula, rows, tau=tau)
    assert value.isfinite().all()
    value.sum().backward()
    assert all(row.grad is None or row.grad.isfinite().all() for row in rows.values())


@pytest.mark.parametrize("case", range(3, 60, 8))
def test_smooth_gradients_are_those_of_finite_differences(case):
    formula = parse(ORACLE["cases"][case]["formula"])
    rows = [row.requires_grad_() for row in tensors(ORACLE["cases"][case]["signals"]).values()]

    def value(*signals):
        return robustness_trace(formula, dict(zip(NAMES, signals, strict=True)), tau=2.0)

    assert torch.autograd.gradcheck(value, rows, atol=1e-6)


def test_the_gradient_of_a_tie_is_shared_not_lost():
    row = torch.ones(1, 4, requires_grad=True)
    for tau in (None, 100.0):
        (gradient,) = torch.autograd.grad(robustness(Always(X >= 0), {"x": row}, tau=tau).sum(), row)
        assert gradient.sum().item() == pytest.approx(1.0, abs=1e-4)


# ---- parameters, batches, functions ----------------------------------------------------------------------------------


def test_parameters_are_numbers_or_one_value_per_trajectory():
    generator = torch.Generator().manual_seed(0)
    formula = parse("always (low <= x) and eventually[0,3] (x - 2*y >= high)")
    signals = {each: torch.randn(5, 7, generator=generator) for each in "xy"}
    high = torch.randn(5, generator=generator).requires_grad_()
    together = robustness(formula, signals, {"low": -1.0, "high": high})
    alone = [
        robustness(formula, {each: row[i : i + 1] for each, row in signals.items()}, {"low": -1.0, "high": high[i]})
        for i in range(5)
    ]
    torch.testing.assert_close(together, torch.cat(alone))
    (gradient,) = torch.autograd.grad(robustness(parse("always (x >= high)"), signals, {"high": high}).sum(), high)
    assert gradient.tolist() == [-1.0] * 5


def test_leading_dimensions_broadcast():
    signals = {"x": torch.arange(6.0).reshape(2, 1, 3), "y": torch.zeros(4, 3)}
    value = robustness(parse("always (x >= y) and x <= cap"), signals, {"cap": torch.arange(4.0)})
    assert value.shape == (2, 4)
    assert value[1].tolist() == [-3.0, -2.0, -1.0, 0.0]
    assert robustness_trace(parse("1 <= cap"), {"x": torch.zeros(2, 3)}, {"cap": 2.0}).tolist() == [[1.0] * 3] * 2


def test_a_function_of_ones_own_sees_all_steps_signals_and_parameters():
    def rising(values):
        return torch.diff(values["x"], append=values["x"][..., -1:]) - values["least"]

    formula = parse("always[0,1] rising()", {"rising": rising})
    assert formula == Always(Function("rising", rising), 0, 1)
    signals = {"x": torch.tensor([[0.0, 1.0, 3.0, 3.0]])}
    assert robustness(formula, signals, {"least": 0.5}).item() == 0.5
    with pytest.raises(UsageError, match=r"rising\(\) gave \[1\]"):
        robustness(Function("rising", lambda values: values["x"].sum(-1)), signals)


def test_a_formula_is_a_reward_for_trajectories():
    reward = RobustnessReward(parse("always (v <= vmax)"), lambda s: {"v": s[..., 3]}, {"vmax": 2.0}, limit=1.5)
    states = torch.zeros(2, 5, 4)
    states[1, 2, 3] = 9.0
    assert reward(states).tolist() == [1.5, -1.5]


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "signals", "parameters", "message"),
    [
        ("speed >= 0", {"sped": torch.zeros(1, 3)}, {}, "did you mean .sped"),
        ("x >= 0", {}, {}, "no signals"),
        ("x >= 0", {"x": torch.zeros(1, 3), "y": torch.zeros(1, 4)}, {}, "same T"),
        ("x >= 0", {"x": torch.zeros(1, 0)}, {}, "at least 1"),
        ("x >= 0", {"x": torch.tensor([[1.0, math.nan]])}, {}, "not finite"),
        ("x >= 0", {"x": torch.tensor([[1.0, math.inf]])}, {}, "clip"),
        ("x >= 0", {"x": torch.zeros(1, 3, dtype=torch.int64)}, {}, "floating point"),
        ("x >= 0", {"x": torch.zeros(1, 3)}, {"x": 1.0}, "as a signal and as a parameter"),
        ("x >= b", {"x": torch.zeros(1, 3)}, {"b": math.nan}, "'b' is not finite"),
        ("x >= b", {"x": torch.zeros(2, 3)}, {"b": torch.zeros(3)}, "do not broadcast"),
    ],
)
def test_what_does_not_fit_is_refused(text, signals, parameters, message):
    with pytest.raises(UsageError, match=message):
        robustness(parse(text), signals, parameters)


@pytest.mark.parametrize("tau", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_must_be_positive(tau):
    with pytest.raises(UsageError, match="tau"):
        robustness(X >= 0, {"x": torch.zeros(1, 3)}, tau=tau)
